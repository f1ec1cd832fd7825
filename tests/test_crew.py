"""What a call may not notice: that it shares its task with others."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Coroutine
from contextvars import ContextVar
from inspect import iscoroutine
from traceback import walk_tb
from typing import Any
from weakref import WeakSet

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from safeconc import ErrGroup, FanOut, _crew, fan_out
from safeconc._crew import MAX_IDLE, driven

_colour: ContextVar[str] = ContextVar("_colour", default="none")

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def _echo(item: int) -> int:
    await checkpoint()
    return item


def _task() -> int:
    return anyio.get_current_task().id


def _workers() -> list[str | None]:
    names = [task.name for task in anyio.get_running_tasks()]
    return [name for name in names if name is not None and "worker" in name]


def _native_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


# Workers


async def test_a_worker_takes_many_items() -> None:
    """Calls one after the other run in one task: what they cost is no task each."""

    async def fn(item: int) -> int:
        await checkpoint()
        return _task()

    assert len(set(await fan_out(fn, range(10), limit=1))) == 1


async def test_a_worker_has_the_name_of_its_block() -> None:
    """Dumps say whose worker it is."""
    names: list[str | None] = []

    async def fn(item: int) -> None:
        names.append(anyio.get_current_task().name)

    await fan_out(fn, [1], limit=1, name="pages")

    assert names == ["pages: worker"]


async def test_a_failed_call_retires_its_worker() -> None:
    """Who comes next gets a task that nothing was left behind in."""

    async def fn(item: int) -> int:
        await checkpoint()
        tasks.append(_task())
        if item == 1:
            raise ValueError
        return item

    tasks: list[int] = []
    await fan_out(fn, range(4), limit=1, return_exceptions=True)

    first, second, third, fourth = tasks
    assert first == second
    assert third == fourth
    assert second != third


async def test_idle_workers_beyond_some_end() -> None:
    """Workers that nobody needs any more are parked, but not all of them."""
    go = anyio.Event()

    async def fn(item: int) -> None:
        await go.wait()

    async with FanOut(fn, range(1000), limit=100, buffer=0):
        await anyio.wait_all_tasks_blocked()
        busy = len(_workers())
        go.set()
        await anyio.wait_all_tasks_blocked()
        idle = len(_workers())

    assert busy == 100
    assert idle == MAX_IDLE


async def test_parked_workers_are_called_before_new_ones_are_made() -> None:
    """A stream with a slow consumer keeps the crew that it has."""
    tasks: set[int] = set()

    async def fn(item: int) -> int:
        tasks.add(_task())
        await checkpoint()
        return item

    async with FanOut(fn, range(50), limit=2, buffer=0) as results:
        async for _ in results:
            await anyio.wait_all_tasks_blocked()

    assert len(tasks) <= 3


@on_asyncio
async def test_a_stranger_cannot_cancel_a_parked_worker_into_a_failure() -> None:
    """Who kept the task of a call that is over spoils that worker, nothing else."""
    tasks: list[asyncio.Task[Any]] = []

    async def fn(item: int) -> int:
        await checkpoint()
        if not tasks:
            tasks.append(_native_task())
        return item

    async with FanOut(fn, range(6), limit=1, buffer=0) as results:
        await anyio.wait_all_tasks_blocked()
        tasks[0].cancel()
        await anyio.wait_all_tasks_blocked()

        assert [item async for item in results] == list(range(6))
    assert tasks[0].done()


@on_asyncio
# The wrapper that anyio puts around a coroutine is closed before it awaits it.
@pytest.mark.filterwarnings("ignore:coroutine.*was never awaited:RuntimeWarning")
@pytest.mark.parametrize("is_async", [False, True], ids=["worker", "feeder"])
async def test_a_worker_cancelled_before_it_began_has_failed(is_async: bool) -> None:
    """A block whose worker never came does not wait for it for ever."""

    async def generate() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    before = asyncio.all_tasks()

    with pytest.raises(anyio.TaskCancelled):
        items: Any = generate() if is_async else range(3)
        async with FanOut(_echo, items, limit=1) as results:
            for task in asyncio.all_tasks() - before:
                task.cancel()
            await anext(results)
    gc.collect()  # while the warning is ignored


async def test_cancelling_one_reused_child_cancels_no_other() -> None:
    """A worker is spoiled by the cancellation, its successor is not."""
    async with ErrGroup(limit=1, reuse=True) as group:
        first = await group.go(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        second = await group.go(_echo, 5)

    assert second.result() == 5
    with pytest.raises(anyio.TaskCancelled):
        first.result()


async def test_reused_children_have_the_contextvars_of_their_go() -> None:
    """A worker goes from one caller's values to another's, and back to none."""

    async def look() -> str:
        seen = _colour.get()
        _colour.set("a child's")
        await checkpoint()
        return seen

    async with ErrGroup(limit=1, reuse=True) as group:
        tasks = [await group.go(look)]
        for colour in ("red", "red", "blue"):
            _colour.set(colour)
            tasks.append(await group.go(look))

    assert [task.result() for task in tasks] == ["none", "red", "red", "blue"]


async def test_a_reused_child_is_known_as_a_member() -> None:
    """A child that waits in go() of its own full group is told so."""

    async def parent() -> None:
        await group.go(_echo, 1)

    with pytest.raises(RuntimeError, match="every slot"):
        async with ErrGroup(limit=1, reuse=True) as group:
            await group.go(parent)


# What works inside of a call


@pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="PyPy keeps the context of a cancellation in a plain task, too",
)
async def test_an_error_after_a_timeout_has_no_context() -> None:
    """A cancellation that the call has dealt with explains nothing that comes later."""

    async def fn(item: int) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        raise ValueError(item)

    with pytest.raises(ValueError) as caught:
        await fan_out(fn, [1], limit=1)

    assert caught.value.__context__ is None


async def test_an_error_in_cleanup_has_the_cancellation_as_context() -> None:
    """What Python chains in a plain task, it chains here."""

    async def fn(item: int) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError(item)

    with pytest.raises(ValueError) as caught:
        await fan_out(fn, [1], limit=1)

    assert isinstance(caught.value.__context__, anyio.get_cancelled_exc_class())


@pytest.mark.virtual_clock
@on_asyncio
async def test_asyncio_timeouts_work() -> None:
    """They cancel the task, and take the cancellation back."""

    async def fn(item: int) -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(item)
        except TimeoutError:
            return "late"
        return "in time"

    assert await fan_out(fn, [0, 5, 0, 5], limit=1) == [
        "in time",
        "late",
        "in time",
        "late",
    ]


@pytest.mark.virtual_clock
async def test_scopes_and_deadlines_work() -> None:
    """A scope of the call ends the call's awaits, and nobody else's."""

    async def fn(item: int) -> bool:
        with anyio.move_on_after(2) as scope:
            await anyio.sleep(item)
        return scope.cancelled_caught

    results = await fan_out(fn, [1, 3, 1, 3], limit=2)

    assert results == [False, True, False, True]


async def test_task_groups_work() -> None:
    """A call may start tasks of its own; they see its contextvars."""
    seen: list[str] = []

    async def child() -> None:
        await checkpoint()
        seen.append(_colour.get())

    async def fn(item: int) -> None:
        _colour.set(f"item {item}")
        async with anyio.create_task_group() as tg:
            tg.start_soon(child)
            await checkpoint()

    await fan_out(fn, range(3), limit=1)

    assert seen == ["item 0", "item 1", "item 2"]


async def test_threads_work() -> None:
    """A thread that a call waits for sees the call's contextvars."""

    async def fn(item: int) -> str:
        _colour.set(f"item {item}")
        return await anyio.to_thread.run_sync(_colour.get)

    assert await fan_out(fn, range(2), limit=1) == ["item 0", "item 1"]


async def test_async_generators_work() -> None:
    """A generator that a call leaves behind is closed by the loop, as ever."""
    events: list[str] = []

    async def generate() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await checkpoint()
            events.append("closed")

    async def fn(item: int) -> None:
        generator = generate()
        async for _ in generator:
            await checkpoint()
            break
        await generator.aclose()  # type: ignore[attr-defined]

    await fan_out(fn, range(2), limit=1)

    assert events == ["closed"] * 2


async def test_a_cancelled_call_cleans_up_in_its_own_contextvars() -> None:
    """Its values are there to the end."""
    seen: list[str] = []

    async def fn(item: int) -> None:
        _colour.set(f"item {item}")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
            seen.append(_colour.get())

    async with FanOut(fn, range(2), limit=2):
        await anyio.wait_all_tasks_blocked()

    assert sorted(seen) == ["item 0", "item 1"]


# Stacks


def _stack(coroutine: object) -> list[str]:
    """Name the functions from a task's outermost to its innermost frame."""
    names: list[str] = []
    while iscoroutine(coroutine):
        names.append(coroutine.__name__)
        awaited = coroutine.cr_await
        coroutine = driven(awaited) or awaited
    return names


def _root() -> Coroutine[Any, Any, Any]:
    """Return the coroutine of the current task."""
    task: Any = None
    if anyio.get_current_task().id:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            import trio

            return trio.lowlevel.current_task().coro
    coroutine: Coroutine[Any, Any, Any] = task.get_coro()
    return coroutine


async def test_a_stack_walk_sees_through_the_driver() -> None:
    """From the worker's task it comes to the call, and to what the call awaits."""
    roots: list[Any] = []

    async def outer(item: int) -> None:
        roots.append(_root())
        await checkpoint()
        await inner()

    async def inner() -> None:
        await anyio.sleep_forever()

    async with FanOut(outer, [1], limit=1):
        await anyio.wait_all_tasks_blocked()
        names = _stack(roots[0])

    assert names.index("outer") + 1 == names.index("inner")
    assert "sleep_forever" in names[names.index("inner") :]


async def test_only_a_driver_at_work_is_driven() -> None:
    """For anything else, the walk goes its usual way."""
    roots: list[Any] = []

    async def fn(item: int) -> None:
        roots.append(_root())
        await anyio.sleep_forever()

    async with FanOut(fn, [1], limit=1):
        await anyio.wait_all_tasks_blocked()
        awaited = [roots[0]]
        while iscoroutine(awaited[-1]):
            awaited.append(awaited[-1].cr_await)
        at_work = driven(awaited[-1])

    assert at_work is not None
    assert driven(awaited[-1]) is None
    assert driven(None) is None
    assert driven(iter(())) is None
    assert driven(character for character in "") is None


async def test_a_cancellation_has_no_frame_of_ours() -> None:
    """Its traceback begins in the call, and has no entry of the machinery below."""
    tracebacks: list[list[str]] = []

    async def fn(item: int) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as exc:
            entries = walk_tb(exc.__traceback__)
            tracebacks.append([frame.f_code.co_name for frame, _ in entries])
            raise

    async with FanOut(fn, [1], limit=1):
        await anyio.wait_all_tasks_blocked()

    assert tracebacks[0][0] == "fn"
    assert "drive" not in tracebacks[0]


async def test_a_parked_worker_keeps_no_value() -> None:
    """What the last call returned is gone when the consumer has dropped it."""

    class Thing:
        pass

    made: list[int] = []
    freed: list[int] = []

    class Counted(Thing):
        def __init__(self, item: int) -> None:
            self.item = item
            made.append(item)

        def __del__(self) -> None:
            freed.append(self.item)

    async def fn(item: int) -> Counted:
        await checkpoint()
        return Counted(item)

    async with FanOut(fn, range(3), limit=1, buffer=0) as results:
        for _ in range(3):
            await anext(results)
        await anyio.wait_all_tasks_blocked()
        gc.collect()

        assert made == freed == [0, 1, 2]


async def test_a_worker_at_its_next_call_keeps_no_value() -> None:
    """What was returned is gone when the consumer has dropped it."""

    class Thing:
        pass

    alive: WeakSet[Thing] = WeakSet()

    async def fn(item: int) -> Thing:
        await (anyio.sleep_forever() if item else checkpoint())
        alive.add(thing := Thing())
        return thing

    async with FanOut(fn, range(2), limit=1) as results:
        await anext(results)
        await anyio.wait_all_tasks_blocked()
        gc.collect()

        assert not alive


async def test_calls_are_apart_where_contextvars_cannot_be_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then each call gets a fresh copy, whatever the one before it did."""
    monkeypatch.setattr(_crew, "referents", _crew._untold)

    async def fn(item: int) -> str:
        before = _colour.get()
        _colour.set(str(item))
        return before

    assert await fan_out(fn, range(3), limit=1) == ["none"] * 3


@pytest.mark.parametrize("flag, told", [(1, False), (0, True), (None, True)])
def test_free_threads_are_not_stopped_to_compare(
    monkeypatch: pytest.MonkeyPatch, flag: int | None, told: bool
) -> None:
    """To look at what an object refers to stops all threads of such a build."""
    if sys.implementation.name != "cpython":
        told = False

    def get_config_var(name: str) -> int | None:
        assert name == "Py_GIL_DISABLED"
        return flag

    monkeypatch.setattr("sysconfig.get_config_var", get_config_var)

    assert _crew._can_tell() is told
