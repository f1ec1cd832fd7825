"""What a child may not notice: that others run, or ran, in the same task."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from types import CoroutineType, GeneratorType
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from safeconc import ErrGroup, Task
from safeconc._crew import MAX_IDLE, driven
from tests.harness import on_asyncio, on_trio


@pytest.fixture(params=[False, True], ids=["tasks", "workers"])
def reuse(request: pytest.FixtureRequest) -> bool:
    """Run the children either way: what is promised is the same."""
    choice: bool = request.param
    return choice


def _workers() -> list[anyio.TaskInfo]:
    return [
        task
        for task in anyio.get_running_tasks()
        if task.name is not None and task.name.endswith(": worker")
    ]


async def give(value: int) -> int:
    """Wait a moment, then return *value*."""
    await checkpoint()
    return value


# Reuse


async def test_sequential_children_share_one_worker() -> None:
    """A worker that has finished one child takes the next."""
    tasks: set[int] = set()

    async def look() -> None:
        await checkpoint()
        tasks.add(anyio.get_current_task().id)

    async with ErrGroup(limit=None, reuse=True) as group:
        for _ in range(20):
            await (await group.go(look))
        assert len(_workers()) == 1

    assert len(tasks) == 1
    assert _workers() == []


async def test_children_have_tasks_of_their_own_by_default() -> None:
    """Without reuse, nobody can meet another child's task."""
    tasks: list[int] = []

    async def look() -> None:
        tasks.append(anyio.get_current_task().id)
        await anyio.sleep(0.01)

    async with ErrGroup(limit=None) as group:
        for _ in range(20):
            await group.go(look)

    assert len(set(tasks)) == 20


async def test_children_that_wait_run_side_by_side() -> None:
    """As many workers as there are children that wait: reuse costs no concurrency."""
    async with ErrGroup(limit=None, reuse=True) as group:
        for _ in range(20):
            group.go_nowait(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()

        assert len(_workers()) == 20
        group.cancel()


async def test_idle_workers_are_at_most_64() -> None:
    """A burst leaves no more than that parked."""
    gate = anyio.Event()
    async with ErrGroup(limit=None, reuse=True) as group:
        for _ in range(MAX_IDLE + 36):
            group.go_nowait(gate.wait)
        await anyio.wait_all_tasks_blocked()
        at_work = len(_workers())
        gate.set()
        await anyio.wait_all_tasks_blocked()

        assert MAX_IDLE == 64
        assert at_work == MAX_IDLE + 36
        assert len(_workers()) == MAX_IDLE


async def test_dumps_name_the_childs_task() -> None:
    """A task of its own has the child's name, a worker that of its group."""
    names: list[str | None] = []

    async def look() -> None:
        names.append(anyio.get_current_task().name)

    async with ErrGroup(limit=None, name="crawl") as group:
        await group.go(look, name="a")
    async with ErrGroup(limit=None, reuse=True, name="crawl") as group:
        await group.go(look, name="a")

    assert names == ["a", "crawl: worker"]


# Spoilt workers


async def test_cancelled_child_does_not_harm_the_next(reuse: bool) -> None:
    """A cancellation that comes while a child finishes is for that child alone."""
    gate = anyio.Event()

    async def stubborn() -> int:
        with anyio.CancelScope(shield=True):
            await gate.wait()
        return 1

    async with ErrGroup(limit=None, reuse=reuse) as group:
        first = await group.go(stubborn)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await checkpoint()
        gate.set()
        others = [group.go_nowait(give, number) for number in range(3)]

    assert first.result() == 1
    assert [task.result() for task in others] == [0, 1, 2]


async def test_child_that_cancels_itself_does_not_harm_the_next(reuse: bool) -> None:
    """Not even when it returns before the cancellation reaches it."""
    own: list[Any] = []

    async def stop() -> int:
        own[0].cancel()
        return 1

    async with ErrGroup(limit=None, reuse=reuse) as group:
        own.append(group.go_nowait(stop))
        other = group.go_nowait(give, 2)

    assert own[0].result() == 1
    assert other.result() == 2


@on_asyncio
async def test_pending_cancellation_retires_the_worker(reuse: bool) -> None:
    """A child that asks for a cancellation and returns leaves it to nobody."""

    async def leave_pending() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return 1

    async with ErrGroup(limit=None, reuse=reuse) as group:
        first = group.go_nowait(leave_pending)
        others = [group.go_nowait(give, number) for number in range(3)]
        await anyio.wait_all_tasks_blocked()
        later = await group.go(give, 3)

    assert first.result() == 1
    assert [task.result() for task in others] == [0, 1, 2]
    assert later.result() == 3


@on_asyncio
async def test_uncancelled_count_retires_the_worker() -> None:
    """The count that a swallowed cancellation leaves behind, nobody inherits."""
    counts: list[int] = []

    async def swallow() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await checkpoint()
        except asyncio.CancelledError:
            pass

    async def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())

    async with ErrGroup(limit=None, reuse=True) as group:
        group.go_nowait(swallow)
        group.go_nowait(look)

    assert counts == [0]


@on_asyncio
async def test_late_cancellation_of_a_kept_task_hits_no_later_child() -> None:
    """Who kept ``current_task()`` too long ends at most a worker that is parked."""
    kept: list[asyncio.Task[Any]] = []

    async def keep() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)

    async with ErrGroup(limit=None, reuse=True) as group:
        await group.go(keep)
        await anyio.wait_all_tasks_blocked()
        kept[0].cancel()
        await anyio.wait_all_tasks_blocked()
        assert _workers() == []
        task = await group.go(give, 1)

    assert task.result() == 1


async def test_stopped_child_frees_its_slot(reuse: bool) -> None:
    """The next child has the slot of a cancelled one, on another worker if need be."""
    async with ErrGroup(limit=1, reuse=reuse) as group:
        task = await group.go(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        other = await group.go(give, 1)

    assert other.result() == 1


# What works inside a child


async def test_scopes_work_inside_children(reuse: bool) -> None:
    """A child's own cancel scope ends with the child's own code."""
    seen: list[bool] = []

    async def work() -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        seen.append(scope.cancelled_caught)
        await checkpoint()

    async with ErrGroup(limit=1, reuse=reuse) as group:
        for _ in range(3):
            await group.go(work)

    assert seen == [True] * 3


@on_asyncio
async def test_asyncio_timeout_works_inside_children(reuse: bool) -> None:
    """So does asyncio's own timeout, and it spoils no worker."""
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(0.1)
        except TimeoutError:
            seen.append("timeout")
        await asyncio.sleep(0.01)

    async with ErrGroup(limit=1, reuse=reuse) as group:
        for _ in range(3):
            await group.go(work)
        await anyio.wait_all_tasks_blocked()
        assert len(_workers()) == reuse

    assert seen == ["timeout"] * 3


async def test_task_groups_work_inside_children(reuse: bool) -> None:
    """A child may have children by other means."""
    seen: list[int] = []

    async def leaf(number: int) -> None:
        await anyio.sleep(0.01)
        seen.append(number)

    async def work(first: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leaf, first)
            tasks.start_soon(leaf, first + 1)

    async with ErrGroup(limit=1, reuse=reuse) as group:
        await group.go(work, 0)
        await group.go(work, 2)

    assert sorted(seen) == [0, 1, 2, 3]


async def test_async_generators_work_inside_children(reuse: bool) -> None:
    """Iterated to the end, or left early and closed."""
    closed: list[int] = []

    async def count() -> AsyncGenerator[int]:
        try:
            with anyio.CancelScope():
                for number in range(3):
                    await checkpoint()
                    yield number
        finally:
            await checkpoint()
            closed.append(1)

    async def work(stop: int) -> list[int]:
        seen: list[int] = []
        numbers = count()
        async for number in numbers:
            seen.append(number)
            if number == stop:
                break
        await numbers.aclose()
        return seen

    async with ErrGroup(limit=1, reuse=reuse) as group:
        tasks = [await group.go(work, stop) for stop in (9, 1)]

    assert [task.result() for task in tasks] == [[0, 1, 2], [0, 1]]
    assert closed == [1, 1]


async def test_threads_work_inside_children(reuse: bool) -> None:
    """A child may wait for a thread."""
    async with ErrGroup(limit=1, reuse=reuse) as group:
        tasks = [await group.go(anyio.to_thread.run_sync, lambda: 7) for _ in range(3)]

    assert [task.result() for task in tasks] == [7, 7, 7]


async def test_what_is_thrown_in_reaches_the_child_bare(reuse: bool) -> None:
    """What the loop throws is no "during the handling of" for the child's code."""
    contexts: list[BaseException | None] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as exc:
            contexts.append(exc.__context__)
            raise

    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(work)
        await anyio.wait_all_tasks_blocked()
        task.cancel()

    assert contexts == [None]


# Nothing stays


async def test_result_dies_with_its_task_handle(reuse: bool) -> None:
    """An idle worker keeps nothing of its last child."""

    class Big:
        pass

    async def make() -> Big:
        await checkpoint()
        return Big()

    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(make)
        watch = weakref.ref(await task)
        await anyio.wait_all_tasks_blocked()
        del task
        gc.collect()

        assert watch() is None


async def test_ended_children_are_forgotten(reuse: bool) -> None:
    """A long-lived group does not grow with what it ran."""
    async with ErrGroup(limit=1, reuse=reuse) as group:
        watches = [weakref.ref(await group.go(give, number)) for number in range(10)]
        await anyio.wait_all_tasks_blocked()
        gc.collect()

        assert [watch for watch in watches if watch() is not None] == []


# Seen from outside


def _walk(awaited: Any) -> Iterator[str]:
    """Walk a stack of awaits, as a dump does, through the driver as well."""
    while awaited is not None:
        job = driven(awaited)
        if job is not None:
            awaited = job
        elif isinstance(awaited, CoroutineType):
            yield awaited.cr_code.co_name
            awaited = awaited.cr_await
        elif isinstance(awaited, GeneratorType):
            yield awaited.gi_code.co_name
            return  # one of the event loop's own: the end of the stack
        else:
            return


async def outer() -> None:
    """Be a child with a stack."""
    await inner()


async def inner() -> None:
    """Be the end of it."""
    await anyio.sleep_forever()


async def test_stack_walk_reaches_the_innermost_await(reuse: bool) -> None:
    """A dump shows where a child is, also behind the worker that runs it."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go(outer)
        await anyio.wait_all_tasks_blocked()
        stacks = [list(_walk(task.coro)) for task in anyio.get_running_tasks()]
        group.cancel()

    assert any(
        "outer" in stack and stack.index("outer") == stack.index("inner") - 1
        for stack in stacks
    )


@on_trio
async def test_await_frames_of_trio_show_the_child() -> None:
    """A task of its own is no riddle to trio's own dumps."""
    async with ErrGroup(limit=None) as group:
        await group.go(outer, name="nap")
        await anyio.wait_all_tasks_blocked()
        root = trio.lowlevel.current_root_task()
        assert root is not None
        (task,) = [task for task in _descendants(root) if task.name == "nap"]
        frames = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
        group.cancel()

    assert frames.index("inner") == frames.index("outer") + 1


def _descendants(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _descendants(child)


@on_asyncio
@pytest.mark.skipif(sys.version_info < (3, 14), reason="the call graph came with 3.14")
async def test_call_graph_of_asyncio_shows_the_child() -> None:
    """Nor is it one to those of asyncio."""
    async with ErrGroup(limit=None) as group:
        await group.go(outer, name="nap")
        await anyio.wait_all_tasks_blocked()
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "nap"]
        format_call_graph: Any = getattr(asyncio, "format_call_graph")  # noqa: B009
        graph: str = format_call_graph(task)
        group.cancel()

    assert "outer" in graph
    assert "inner" in graph


async def test_cancelling_a_child_in_the_queue_compares_no_contextvars() -> None:
    """What users keep in them may refuse to be compared."""

    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    var: ContextVar[Array] = ContextVar("var")
    async with ErrGroup(limit=None, reuse=True) as group:
        tasks: list[Task[None]] = []
        for _ in range(2):
            var.set(Array())
            tasks.append(group.go_nowait(checkpoint))
        tasks[1].cancel()

    assert [task.done for task in tasks] == [True, True]
    with pytest.raises(anyio.TaskCancelled):
        tasks[1].result()
