"""Starting children, waiting for a slot, and having their results."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum
from functools import partial
from typing import Any
from unittest.mock import ANY

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import ErrGroup, ErrGroupStatistics, Task, check, current_context


@pytest.fixture(params=[False, True], ids=["tasks", "workers"])
def reuse(request: pytest.FixtureRequest) -> bool:
    """Run the children either way: what is promised is the same."""
    choice: bool = request.param
    return choice


async def give(value: int) -> int:
    """Wait a moment, then return *value*."""
    await checkpoint()
    return value


async def noop() -> None:
    """Do nothing, and do not wait for it."""


# Results


async def test_awaiter_that_gives_up_does_not_stop_the_child(reuse: bool) -> None:
    """Cancelling one who waits concerns nobody else."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(anyio.sleep, 0.1)
        with anyio.move_on_after(0.01) as scope:
            await task

    assert scope.cancelled_caught
    assert task.exception() is None


@pytest.mark.virtual_clock
async def test_block_waits_for_its_children(reuse: bool) -> None:
    """When the block has been left, every child has ended."""
    start = anyio.current_time()

    async with ErrGroup(limit=None, reuse=reuse) as group:
        tasks = [await group.go(anyio.sleep, delay) for delay in (3, 1, 2)]

    assert all(task.done for task in tasks)
    assert anyio.current_time() - start == 3


async def test_awaitable_that_is_no_coroutine_will_do(reuse: bool) -> None:
    """The function may return anything that can be awaited."""

    class Seven:
        def __await__(self) -> Any:
            return give(7).__await__()

    def make() -> Seven:
        return Seven()

    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(make)

    assert task.result() == 7


# Names


class _Callable:
    async def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "fn, expected",
    [
        (noop, "noop"),
        (partial(partial(give), 1), "give"),
        (_Callable(), "_Callable"),
    ],
    ids=["function", "partial", "object"],
)
async def test_child_is_named_after_its_function(
    reuse: bool, fn: Callable[[], Any], expected: str
) -> None:
    """The name that shows in dumps is that of what was passed."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(fn)

    assert task.name == expected


async def test_repr_tells_name_and_state(reuse: bool) -> None:
    """A task tells how it is doing."""
    failed: Task[None] | None = None
    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no"):
        async with group:
            task = await group.go(anyio.sleep, 0.01)
            assert repr(task) == "<Task sleep running>"
            await task
            assert repr(task) == "<Task sleep finished>"
            stopped = await group.go(anyio.sleep, 0.01)
            await anyio.wait_all_tasks_blocked()
            stopped.cancel()
            assert repr(stopped) == "<Task sleep cancelling>"
            await anyio.wait_all_tasks_blocked()
            assert repr(stopped) == "<Task sleep cancelled>"
            failed = await group.go(_raise, ValueError("no"))

    assert repr(failed) == "<Task _raise failed: ValueError('no')>"


async def _raise(error: BaseException) -> None:
    raise error


# Slots


async def test_never_more_children_than_the_limit(reuse: bool) -> None:
    """The limit holds at every moment, and is used to the full."""
    now = 0
    seen: list[int] = []

    async def work() -> None:
        nonlocal now
        now += 1
        seen.append(now)
        await anyio.sleep(0.01)
        now -= 1

    async with ErrGroup(limit=3, reuse=reuse) as group:
        for _ in range(10):
            await group.go(work)

    assert max(seen) == 3
    assert len(seen) == 10


@pytest.mark.virtual_clock
async def test_go_waits_for_a_free_slot(reuse: bool) -> None:
    """A full group slows its caller down: that is the backpressure."""
    start = anyio.current_time()
    starts: list[float] = []
    async with ErrGroup(limit=2, reuse=reuse) as group:
        for _ in range(5):
            await group.go(anyio.sleep, 10)
            starts.append(anyio.current_time() - start)

    assert starts == [0, 0, 10, 10, 20]


async def test_newcomer_does_not_barge(reuse: bool) -> None:
    """A slot that comes free is the first waiter's, not that of who looks next."""
    async with ErrGroup(limit=1, reuse=reuse) as group:
        blocker = await group.go(anyio.sleep_forever)
        async with anyio.create_task_group() as askers:
            askers.start_soon(group.go, give, 1)
            await anyio.wait_all_tasks_blocked()
            blocker.cancel()
            while group.statistics().waiting:
                await checkpoint()

            with pytest.raises(anyio.WouldBlock):
                group.go_nowait(give, 2)


async def test_failed_call_of_the_function_gives_the_slot_back(reuse: bool) -> None:
    """A call that never made a child takes no slot and fails nobody."""
    async with ErrGroup(limit=1, reuse=reuse) as group:
        with pytest.raises(TypeError, match="argument"):
            await group.go(give)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        task = group.go_nowait(give, 1)

    assert task.result() == 1


@pytest.mark.virtual_clock
async def test_holder_that_gave_up_waiting_is_in_no_circle(reuse: bool) -> None:
    """A member whose call timed out does not count as one that waits."""

    async def impatient() -> None:
        with anyio.move_on_after(1):
            await group.go(noop)
        await anyio.sleep(5)

    async def ask() -> None:
        await anyio.sleep(2)
        await group.go(noop)

    async with ErrGroup(limit=2, reuse=reuse) as group:
        await group.go(impatient)
        task = await group.go(ask)

    assert task.exception() is None


# Services


@pytest.mark.virtual_clock
async def test_background_child_is_not_waited_for(reuse: bool) -> None:
    """A service ends with the block, as a cancelled child."""
    start = anyio.current_time()
    async with ErrGroup(limit=1, reuse=reuse) as group:
        service = await group.go_background(anyio.sleep_forever)
        await group.go(anyio.sleep, 3)

    assert anyio.current_time() - start == 3
    with pytest.raises(anyio.TaskCancelled):
        service.result()


async def test_background_child_is_awaited_when_stopped(reuse: bool) -> None:
    """The block is over when the service has tidied up."""
    tidy = False

    async def serve() -> None:
        nonlocal tidy
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            tidy = True

    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go_background(serve)
        await anyio.wait_all_tasks_blocked()

    assert tidy


@pytest.mark.virtual_clock
async def test_services_live_while_children_do(reuse: bool) -> None:
    """The body's end alone stops no service: children may need it."""
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            await anyio.sleep(1)
            ticks.append(1)

    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go_background(tick)
        await group.go(anyio.sleep, 3.5)

    assert len(ticks) == 3


# Statistics


async def test_statistics_count_what_there_is(reuse: bool) -> None:
    """Children, services and waiting calls, each by its own number."""
    during: list[ErrGroupStatistics] = []
    async with ErrGroup(limit=1, reuse=reuse) as group:
        await group.go(anyio.sleep, 0.01)
        await group.go_background(anyio.sleep_forever)
        async with anyio.create_task_group() as askers:
            askers.start_soon(group.go, noop)
            await anyio.wait_all_tasks_blocked()
            during.append(group.statistics())

    assert during[0] == ErrGroupStatistics(
        running=1, background=1, waiting=1, started=2, failed=0
    )
    assert group.statistics() == ErrGroupStatistics(
        running=0, background=0, waiting=0, started=3, failed=0
    )


# Where context flows


VAR: ContextVar[str] = ContextVar("VAR", default="unset")


async def test_what_a_child_sets_nobody_else_sees(reuse: bool) -> None:
    """Not the caller, and not the next child on the same worker."""
    seen: list[str] = []

    async def look() -> None:
        seen.append(VAR.get())
        VAR.set("child")
        await checkpoint()
        VAR.set("child, later")
        assert VAR.get() == "child, later"

    VAR.set("caller")
    async with ErrGroup(limit=1, reuse=reuse) as group:
        for _ in range(3):
            await group.go(look)

    assert seen == ["caller"] * 3
    assert VAR.get() == "caller"


class _Level(StrEnum):
    LOW = "low"


@pytest.mark.parametrize(
    "value, equal",
    [(1, True), (0.0, -0.0), ("low", _Level.LOW), (object(), ANY), ((), []), ([], [])],
    ids=repr,
)
async def test_equal_value_that_a_child_sets_nobody_else_sees(
    reuse: bool, value: object, equal: object
) -> None:
    """Equal is not the same: the next child gets what its caller has."""
    variable: ContextVar[object] = ContextVar("variable")
    seen: list[bool] = []

    async def look() -> None:
        seen.append(variable.get() is value)
        variable.set(equal)

    variable.set(value)
    async with ErrGroup(limit=1, reuse=reuse) as group:
        for _ in range(3):
            await group.go(look)

    assert seen == [True] * 3


async def test_the_call_itself_runs_in_the_childs_copy(reuse: bool) -> None:
    """A plain function that returns an awaitable sets variables for the child only."""

    def make() -> Any:
        VAR.set("made")
        return look()

    async def look() -> str:
        return VAR.get()

    VAR.set("caller")
    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(make)

    assert task.result() == "made"
    assert VAR.get() == "caller"


async def test_ambient_context_of_a_child_is_the_groups(reuse: bool) -> None:
    """``current_context()`` in children of both kinds is ``group.context``."""
    seen: list[object] = []

    async def look() -> None:
        seen.append(current_context())

    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go(look)
        await group.go_background(look)
        assert current_context() is group.context
        await anyio.wait_all_tasks_blocked()

    assert seen == [group.context, group.context]


async def test_thread_of_a_child_sees_the_groups_end(reuse: bool) -> None:
    """A thread that a child started learns of the cancellation by ``check()``."""
    started = threading.Event()
    told: list[str] = []

    def work() -> None:
        started.set()
        context = current_context()
        assert context is not None
        assert context.wait()
        try:
            check()
        except Exception as exc:
            told.append(str(exc))

    async with ErrGroup(limit=None, reuse=reuse, name="crawl") as group:
        await group.go(anyio.to_thread.run_sync, work)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(started.wait)
        group.cancel()

    assert told == ["crawl was cancelled"]


# Every await is a checkpoint


@pytest.mark.parametrize("method", ["go", "go_background"])
async def test_starting_a_child_is_a_checkpoint(reuse: bool, method: str) -> None:
    """A cancelled call starts nothing, though a slot is free."""
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    async with ErrGroup(limit=None, reuse=reuse) as group:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await getattr(group, method)(note)
            pytest.fail("went on in a cancelled scope")

    assert scope.cancelled_caught
    assert ran == []
    assert group.statistics().started == 0


async def test_awaiting_a_finished_child_is_a_checkpoint(reuse: bool) -> None:
    """Even a result that is there is not had in a cancelled scope."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(give, 1)
        await task
        with anyio.CancelScope() as scope:
            scope.cancel()
            await task
            pytest.fail("went on in a cancelled scope")

    assert scope.cancelled_caught


async def test_entering_is_a_checkpoint(reuse: bool) -> None:
    """A cancelled caller does not come into the block."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with ErrGroup(limit=None, reuse=reuse):
            pytest.fail("went on in a cancelled scope")

    assert scope.cancelled_caught


@pytest.mark.parametrize("method", ["go", "go_background"])
async def test_starting_children_lets_others_run(reuse: bool, method: str) -> None:
    """A loop of calls that need not wait does not starve the event loop."""
    seen: list[int] = []
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as others:
        others.start_soon(count)
        await checkpoint()
        async with ErrGroup(limit=None, reuse=reuse) as group:
            for _ in range(1000):
                await getattr(group, method)(noop)
            seen.append(turns)
        others.cancel_scope.cancel()

    assert seen[0] >= 5


async def test_awaiting_finished_children_lets_others_run(reuse: bool) -> None:
    """Fresh objects share one budget per loop."""
    seen: list[int] = []
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with ErrGroup(limit=None, reuse=reuse) as group:
        tasks = [group.go_nowait(noop) for _ in range(1000)]
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as others:
            others.start_soon(count)
            for task in tasks:
                await task
            seen.append(turns)
            others.cancel_scope.cancel()

    assert seen[0] >= 5


async def test_children_that_never_wait_let_others_run(reuse: bool) -> None:
    """A queue full of jobs that need not wait does not keep the loop to itself."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go_background(count)
        await checkpoint()
        seen: list[int] = []
        for _ in range(1000):
            group.go_nowait(_note, seen, lambda: turns)

    assert len(seen) == 1000
    assert reuse is False or seen[-1] - seen[0] >= 5


async def _note(seen: list[int], count: Callable[[], int]) -> None:
    seen.append(count())


# Bad input


METHODS = pytest.mark.parametrize("method", ["go", "go_nowait", "go_background"])


async def _start(group: ErrGroup, method: str, fn: Any) -> Any:
    made = getattr(group, method)(fn)
    return made if method == "go_nowait" else await made


@METHODS
async def test_sync_function_is_refused(reuse: bool, method: str) -> None:
    """A function that returns no awaitable is pointed to ``to_thread``."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        with pytest.raises(TypeError, match=r"not a coroutine function.*to_thread"):
            await _start(group, method, lambda: 7)

    assert group.statistics().running == group.statistics().background == 0


@METHODS
async def test_starting_after_a_cancellation_is_refused(
    reuse: bool, method: str
) -> None:
    """A task outside of the block hears of the end before the block is left."""
    refused: list[str] = []

    async def ask(group: ErrGroup) -> None:
        try:
            await _start(group, method, noop)
        except RuntimeError as exc:
            refused.append(str(exc))

    async with anyio.create_task_group() as outside:
        async with ErrGroup(limit=None, reuse=reuse) as group:
            group.cancel()
            with anyio.CancelScope(shield=True):
                outside.start_soon(ask, group)
                await anyio.wait_all_tasks_blocked()

    assert refused == [
        "this ErrGroup has ended; start work inside its 'async with' block"
    ]


async def test_foreign_task_may_start_children(reuse: bool) -> None:
    """Any task of the loop may call ``go``: the child is the group's."""
    started: list[Any] = []

    async def ask(group: ErrGroup) -> None:
        started.append(await group.go(give, 1))

    async with ErrGroup(limit=None, reuse=reuse) as group:
        async with anyio.create_task_group() as outside:
            outside.start_soon(ask, group)

    assert started[0].result() == 1


@METHODS
async def test_starting_from_a_plain_thread_is_refused(
    reuse: bool, method: str
) -> None:
    """A thread has no task to start a child from, and is told so."""
    refused: list[str] = []

    def ask() -> None:
        made = None
        try:
            made = getattr(group, method)(noop)
            if method != "go_nowait":
                made.send(None)
        except RuntimeError as exc:
            refused.append(str(exc))

    async with ErrGroup(limit=None, reuse=reuse) as group:
        await anyio.to_thread.run_sync(ask)

    assert len(refused) == 1
    assert "loop" in refused[0]


@METHODS
async def test_starting_from_another_loop_is_refused(reuse: bool, method: str) -> None:
    """Another event loop cannot start a child here, and is told whose group it is."""
    refused: list[str] = []

    async def ask() -> None:
        try:
            await _start(group, method, noop)
        except RuntimeError as exc:
            refused.append(str(exc))

    async with ErrGroup(limit=None, reuse=reuse, name="ours") as group:
        for backend in ("asyncio", "trio"):
            await anyio.to_thread.run_sync(partial(anyio.run, ask, backend=backend))

    assert len(refused) == 2
    assert all("'ours' belongs to another event loop" in text for text in refused)


async def test_child_cancelled_before_it_began_does_not_begin(reuse: bool) -> None:
    """Not even up to its first await, on a task of its own or on a worker."""
    begun: list[int] = []

    async def begin() -> None:
        begun.append(1)

    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = group.go_nowait(begin)
        task.cancel()

    assert begun == []
    assert repr(task).endswith("begin cancelled>")
