"""The same promise in every world: in tasks of asyncio and of trio, and in threads.

A test is written once, as ``async def``, and gets a ``world`` to take the primitives
from::

    @in_every_world
    async def test_results_come_in_order(world: World) -> None:
        async def double(item: int) -> int:
            await world.pause()
            return 2 * item

        assert await world.fan_out(double, [1, 2, 3], limit=2) == [2, 4, 6]

In the world of threads what is awaited blocks: the coroutine of the test never
suspends, and one ``send`` runs it to its end, in the calling thread. ``async with``
enters the ``with`` of the primitive, ``async for`` its ``for``, and a coroutine
function that is passed to a primitive is run to its end by the thread that calls it.
"""

import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from types import FunctionType
from typing import Any, TypeVar, final

import anyio
import anyio.lowlevel
import pytest

import safeconc
from safeconc import Context, ContextCancelled, check, current_context, threads
from tests.conftest import UVLOOP, VirtualClockEventLoop

R = TypeVar("R")
Test = Callable[..., Coroutine[Any, Any, None]]

AWAITED = {
    "consume",
    "crawl",
    "every",
    "fan_out",
    "go",
    "go_background",
    "receive",
    "send",
    "wait",
}
"""What is awaited in tasks and blocks in threads."""


class World:
    """Where a test runs, and the primitives there."""

    name: str
    """``asyncio``, ``trio`` or ``threads``, or one of these with an addition."""

    cancelled: type[BaseException]
    """How a member sees that its block has ended."""

    def __getattr__(self, name: str) -> Any:
        """Return what goes by *name* in this world's package."""
        raise NotImplementedError

    def run(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run *main* to its end, in this world."""
        raise NotImplementedError

    def event(self) -> Any:
        """Make something to wait for, by ``await event.wait()`` until ``event.set()``.

        The end of the surrounding block ends the wait.
        """
        raise NotImplementedError

    def context(self, *parents: Context, **options: Any) -> Any:
        """Make a :class:`Context` to be entered by ``async with``."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Let others run, and see the end of the block."""
        raise NotImplementedError

    async def sleep_forever(self) -> None:
        """Wait for the end of the block."""
        raise NotImplementedError

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds, which is somebody else's doing."""
        while not condition():
            await self.pause()


@final
class Tasks(World):
    """Tasks of one event loop.

    :param reuse: whether the children of a group run on workers.
    """

    def __init__(self, backend: str, *, reuse: bool = False) -> None:
        self.name = f"{backend}-workers" if reuse else backend
        self._backend = backend
        self._reuse = reuse

    def __getattr__(self, name: str) -> Any:
        """Take it as it is, but for the choice that this world makes."""
        if name == "ErrGroup":
            return partial(safeconc.ErrGroup, reuse=self._reuse)
        return getattr(safeconc, name)

    @property
    def cancelled(self) -> type[BaseException]:  # type: ignore[override]
        """Each backend has its own."""
        return anyio.get_cancelled_exc_class()

    def run(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run *main* in a loop of its own, in virtual time."""
        options: dict[str, Any]
        if self._backend == "trio":
            from trio.testing import MockClock

            options = {"clock": MockClock(autojump_threshold=0)}
        elif UVLOOP:
            options = {"use_uvloop": True}
        else:
            options = {"loop_factory": VirtualClockEventLoop}
        return anyio.run(main, backend=self._backend, backend_options=options)

    def event(self) -> Any:
        """Anyio has it."""
        return anyio.Event()

    def context(self, *parents: Context, **options: Any) -> Any:
        """Make it."""
        return Context(*parents, **options)

    async def pause(self) -> None:
        """Make a turn of the loop."""
        await anyio.lowlevel.checkpoint()

    async def sleep_forever(self) -> None:
        """Wait for the scope."""
        await anyio.sleep_forever()


@final
class Threads(World):
    """Real threads: the test's own, and those that the primitives start."""

    name = "threads"
    cancelled = ContextCancelled

    def __getattr__(self, name: str) -> Any:
        """Make it awaitable."""
        return getattr(Facade(threads), name)

    def run(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run *main* in the calling thread."""
        return drive(main())

    def event(self) -> Any:
        """Make one that sees the end of the ambient context."""
        return _ThreadEvent()

    def context(self, *parents: Context, **options: Any) -> Any:
        """Make one whose ``with`` is entered by ``async with``."""
        return Facade(Context(*parents, **options))

    async def pause(self) -> None:
        """Offer the interpreter to other threads."""
        time.sleep(0)  # noqa: ASYNC251 - there is no loop here
        check()

    async def sleep_forever(self) -> None:
        """Wait for the ambient context."""
        context = current_context()
        assert context is not None
        context.wait()
        context.check()


@final
class _ThreadEvent:
    def __init__(self) -> None:
        self._set = Context.root()

    def set(self) -> None:
        self._set.cancel()

    def is_set(self) -> bool:
        return self._set.done

    async def wait(self) -> None:
        ambient = current_context()
        Context(self._set, *([] if ambient is None else [ambient])).wait()
        check()


@final
class Facade:
    """What blocks, to be awaited."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if name in AWAITED:
            return partial(_awaited, value)
        if isinstance(value, type) or name.endswith("_nowait"):
            return partial(_made, value)
        return value

    async def __aenter__(self) -> "Facade":
        self._thing.__enter__()
        return self

    async def __aexit__(self, *info: object) -> bool | None:
        stop: bool | None = self._thing.__exit__(*info)
        return stop

    def __aiter__(self) -> AsyncIterator[Any]:
        return _Steps(iter(self._thing))

    def __await__(self) -> Any:
        return _awaited(self._thing.wait).__await__()

    def __repr__(self) -> str:
        return repr(self._thing)


@final
class _Steps:
    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __aiter__(self) -> "_Steps":
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration from None


async def _awaited(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return _made(fn, *args, **options)


def _made(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    if isinstance(fn, FunctionType):  # one of ours, and knows no facades
        args = tuple(each._thing if isinstance(each, Facade) else each for each in args)
    made = fn(*map(blocking, args), **options)
    ours = type(made).__module__.partition(".")[0] == "safeconc"
    return Facade(made) if ours else made


def blocking(fn: Any) -> Any:
    """Make of a coroutine function one that blocks; leave all else as it is."""
    if isinstance(fn, partial):
        return partial(blocking(fn.func), *fn.args, **fn.keywords)
    if not iscoroutinefunction(fn):
        return fn

    @functools.wraps(fn)
    def run(*args: Any, **options: Any) -> Any:
        return drive(fn(*args, **options))

    return run


def drive(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    coroutine.close()
    pytest.fail("it awaits what does not block, and would suspend")


_IN_TASKS: list[Callable[[], World]] = [
    partial(Tasks, "asyncio"),
    partial(Tasks, "trio"),
]
_ON_WORKERS: list[Callable[[], World]] = [
    partial(Tasks, "asyncio", reuse=True),
    partial(Tasks, "trio", reuse=True),
]


def _in_worlds(worlds: list[Callable[[], World]]) -> Callable[[Test], Any]:
    made = [make() for make in worlds]

    def decorate(test: Test) -> Any:
        @functools.wraps(test)
        def run(world: World, **arguments: Any) -> None:
            world.run(partial(test, world=world, **arguments))

        return pytest.mark.parametrize(
            "world", [pytest.param(world, id=world.name) for world in made]
        )(run)

    return decorate


in_every_world = _in_worlds([*_IN_TASKS, Threads])
"""Run a test in tasks of asyncio, in tasks of trio, and in threads."""

in_every_group = _in_worlds([*_IN_TASKS, *_ON_WORKERS, Threads])
"""Run a test there, too, and in tasks with groups that reuse their workers."""
