"""Cancel a scenario at every instant at which it can be cancelled.

A scenario is an async function that uses a primitive; this runs it again and
again, and cancels it each time at another suspension, until it has none left. All
tasks count, not only the scenario's own: a task that hands something over comes to
its next suspension after the hand-over and before the task that was woken runs, so
a cancellation in the very turn of a wake-up is among the instants. Timers are the
other thing that wakes; for them there is an attack that lands with them.

To add a scenario, decorate it, in any test module that :func:`cancel_everywhere` is
called from::

    @scenario(reuse=[False, True])
    async def all_is_done(stage: Stage, *, reuse: bool) -> None:
        async with ErrGroup(limit=2, reuse=reuse) as group:
            stage.owns(group)
            for item in range(4):
                await stage.attempt(group.go, job, stage, item)

        assert sorted(stage.ended) == [0, 1, 2, 3]

What stands at its end holds for a run that came so far; what must hold after every
run goes to :meth:`Stage.afterwards`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from types import TracebackType, coroutine
from typing import Any, Self, TypeVar, final

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from safeconc import ContextCancelled

R = TypeVar("R")
P = TypeVar("P")
F = TypeVar("F", bound=Callable[..., Awaitable[None]])

UNIT = 0.001
"""Seconds that a scenario sleeps; some attacks land that much later."""

STRIDE = int(os.environ.get("SAFECONC_TEST_STRIDE", "1"))
"""Every so many instants there is an attack; more than one where each takes long."""

ENOUGH = 1000
"""A scenario with more suspensions than this one does not end."""


class Planned(Exception):  # noqa: N818 - a part of the play
    """The error that a scenario may end with."""


@dataclass(frozen=True)
class Attack:
    """A way to cancel."""

    target: str
    """``scope`` around the scenario, its ``task`` (natively, on asyncio), what it
    ``owns``, or only the ``call`` that it attempts, by a scope or a ``task call``;
    or ``nobody``."""

    with_timers: bool = False
    """Not at once, but together with the timers that are being set now."""

    def __str__(self) -> str:
        return self.target.replace(" ", "_") + "_with_timers" * self.with_timers


ATTACKS = (
    Attack("scope"),
    Attack("scope", with_timers=True),
    Attack("owned"),
    Attack("call"),
    Attack("call", with_timers=True),
)

NATIVE_ATTACKS = (
    Attack("task"),
    Attack("task", with_timers=True),
    Attack("task call"),
    Attack("task call", with_timers=True),
)
"""Those that only asyncio knows."""

NO_ATTACK = Attack("nobody")
"""Lets a scenario run to its end."""

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
"""Run a test on asyncio alone."""

on_trio = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
"""Run a test on trio alone."""


Scenario = Callable[["Stage"], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {}
"""What :func:`scenario` registered, by name."""


def scenario(**choices: Iterable[object]) -> Callable[[F], F]:
    """Register a scenario, once for each combination of *choices*, its arguments."""

    def register(fn: F) -> F:
        for values in product(*choices.values()):
            arguments = dict(zip(choices, values, strict=True))
            chosen = "-".join(
                f"{name}={getattr(value, '__name__', value)}"
                for name, value in arguments.items()
            )
            SCENARIOS[f"{fn.__name__}-{chosen}"] = partial(fn, **arguments)
        return fn

    return register


@final
class Stage:
    """One run of a scenario, and what the scenario knows of it.

    :ivar whole: nothing that the scenario owns has been cancelled.
    :ivar begun: the items of the jobs so far, in order.
    :ivar ended: those whose jobs have ended.
    """

    def __init__(self, attack: Attack, instant: int) -> None:
        self._attack = attack
        self._instant = instant
        self._passed = 0
        self._playing = False
        self._owned: list[Any] = []
        self._checks: list[Callable[[], object]] = []
        self._scope = anyio.CancelScope()
        self._call: anyio.CancelScope | None = None
        self._task: asyncio.Task[Any] | None = None
        self._native = attack.target.startswith("task")
        self._asked = self._arrived = 0
        self._late: asyncio.TimerHandle | None = None
        self.whole = True
        self.begun: list[Any] = []
        self.ended: list[Any] = []

    # For scenarios

    def owns(self, primitive: P) -> P:
        """Have *primitive* cancelled, if it can be, and see that it gave all back."""
        self._owned.append(primitive)
        return primitive

    def afterwards(self, check: Callable[[], object]) -> None:
        """Have *check* called after the run, however that ended."""
        self._checks.append(check)

    def job(self, item: object) -> "Job":
        """Note, by a ``with`` block, that the work on *item* begins and ends."""
        return Job(self, item)

    async def attempt(self, call: Callable[..., Awaitable[R]], *args: Any) -> R:
        """Return what ``call(*args)`` returns; call it again whenever it was cancelled.

        Cancelled means not done: so this does it once.
        """
        while True:
            try:
                with anyio.CancelScope() as self._call:
                    return await call(*args)
            except asyncio.CancelledError:
                if self._attack.target != "task call" or self._arrived == self._asked:
                    raise
                self._note_arrival()
            finally:
                self._call = None

    # For the harness

    async def play(self, scenario: Scenario) -> int:
        """Run *scenario*; return at how many instants it could be attacked."""
        before = _tasks()
        with _watched(self._pass):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._play, scenario)

        assert _tasks() == before
        assert sorted(map(repr, self.begun)) == sorted(map(repr, self.ended))
        assert len(set(self.begun)) == len(self.begun)
        for owned in self._owned:
            if hasattr(owned, "statistics"):
                held = asdict(owned.statistics())
                assert not any(held.get(name) for name in _HELD), held
        for check in self._checks:
            check()
        return self._passed

    async def _play(self, scenario: Scenario) -> None:
        if _is_asyncio():
            self._task = asyncio.current_task()
        with self._scope:
            self._playing = True
            try:
                await scenario(self)
            except Planned:
                pass
            except ContextCancelled:
                assert self._attack.target == "owned"
            except asyncio.CancelledError:
                if not self._native or self._arrived == self._asked:
                    raise
                self._note_arrival()
            finally:
                self._playing = False
        if self._late is not None:
            self._late.cancel()
        if self._arrived < self._asked:
            # It came too late to undo anything: then it comes now.
            try:
                await checkpoint()
            except asyncio.CancelledError:
                self._note_arrival()

        assert self._arrived == self._asked
        assert self._task is None or self._task.cancelling() == 0
        await checkpoint()

    def _note_arrival(self) -> None:
        assert self._task is not None
        self._arrived += 1
        self._task.uncancel()

    def _pass(self) -> None:
        """Pass one instant, and attack if it is the one."""
        if self._playing:
            self._passed += 1
            if self._passed == self._instant + 1:
                self._strike()

    def _strike(self) -> None:
        late = self._attack.with_timers
        target = self._attack.target
        if target == "owned":
            for owned in self._owned:
                if hasattr(owned, "cancel"):
                    self.whole = False
                    owned.cancel()
        elif not self._native:
            scope = {"scope": self._scope, "call": self._call}.get(target)
            if scope is not None and late:
                scope.deadline = anyio.current_time() + UNIT
            elif scope is not None:
                scope.cancel()
        elif late:
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(UNIT, self._cancel_task)
        else:
            self._cancel_task()

    def _cancel_task(self) -> None:
        if self._attack.target == "task" or self._call is not None:
            assert self._task is not None
            self._task.cancel()
            self._asked += 1


_HELD = ("running", "background", "waiting")
"""What a primitive's statistics may not count any more after its block."""


@final
class Job:
    """The work on one item."""

    def __init__(self, stage: Stage, item: object) -> None:
        self._stage = stage
        self._item = item

    def __enter__(self) -> Self:
        self._stage.begun.append(self._item)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stage.ended.append(self._item)


async def cancel_everywhere(scenario: Scenario, attack: Attack) -> None:
    """Play *scenario*, with *attack* at one instant after the other."""
    for instant in range(0, ENOUGH, STRIDE):
        if await play(scenario, attack, instant) <= instant:
            return
    pytest.fail("the scenario does not end")


async def play(scenario: Scenario, attack: Attack = NO_ATTACK, instant: int = 0) -> int:
    """Play *scenario* once; return at how many instants it could be attacked."""
    try:
        return await Stage(attack, instant).play(scenario)
    except BaseException as exc:
        exc.add_note(f"{attack} at instant {instant}")
        raise


def _is_asyncio() -> bool:
    return issubclass(anyio.get_cancelled_exc_class(), asyncio.CancelledError)


def _tasks() -> set[int]:
    return {task.id for task in anyio.get_running_tasks()}


def _watched(passed: Callable[[], None]) -> AbstractContextManager[object]:
    """Have *passed* called after each step of each task that is started meanwhile."""
    return _AsyncioWatch(passed) if _is_asyncio() else _TrioWatch(passed)


@final
class _AsyncioWatch:
    """A task factory that looks at what each task does."""

    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed

    def __enter__(self) -> None:
        asyncio.get_running_loop().set_task_factory(self._make_task)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().set_task_factory(None)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(self._watch(coro), loop=loop, **options)

    async def _watch(self, coro: Coroutine[Any, Any, Any]) -> object:
        return await self._steps(coro)

    @coroutine
    def _steps(
        self, coro: Coroutine[Any, Any, Any]
    ) -> Generator[object, object, object]:
        step = partial(coro.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            finally:
                self._passed()
            try:
                sent = yield waits_for
            except BaseException as exc:
                step = partial(coro.throw, exc)
            else:
                step = partial(coro.send, sent)


@final
class _TrioWatch(trio.abc.Instrument):
    """An instrument that is told of each step."""

    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed

    @override
    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._passed()

    def __enter__(self) -> None:
        trio.lowlevel.add_instrument(self)

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)
