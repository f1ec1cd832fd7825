"""What a Context does to the task whose block it binds."""

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint

from safeconc import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    ErrGroup,
    check,
    current_context,
    fan_out,
)
from tests.conftest import VirtualClockEventLoop
from tests.harness import on_asyncio

on_trio = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)


def _in_thread(fn: Callable[[], object]) -> None:
    """Call *fn* in a thread while this one, with its event loop, stands still."""
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


def _clock() -> Callable[[], float]:
    """Find the clock of the running loop, to be asked where no loop is running."""
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_clock().current_time
    return asyncio.get_running_loop().time


async def _call(fn: Callable[[], object]) -> None:
    """Call *fn* in a task of its own."""
    fn()


def _collect() -> None:
    """Have what is unreachable go: PyPy needs more than one round."""
    for _ in range(3):
        gc.collect()


# What is cut short


@pytest.mark.virtual_clock
async def test_block_ends_exactly_at_the_deadline() -> None:
    """Its body is cut short in that instant, and the block raises the error."""
    ctx = Context(timeout=5)

    with pytest.raises(DeadlineExceeded) as caught:
        async with ctx:
            await anyio.sleep_forever()
    assert caught.value is ctx.err
    assert anyio.current_time() == 5


@pytest.mark.virtual_clock
async def test_deadline_is_absolute() -> None:
    """It is a reading of the clock of the running loop."""
    await anyio.sleep(10)

    with pytest.raises(DeadlineExceeded):
        async with Context(deadline=12.5):
            await anyio.sleep_forever()
    assert anyio.current_time() == 12.5


@pytest.mark.virtual_clock
async def test_time_runs_from_the_making_not_from_the_entering() -> None:
    """A Context made early has less left when its block begins."""
    ctx = Context(timeout=5)
    await anyio.sleep(3)

    with pytest.raises(DeadlineExceeded):
        async with ctx:
            await anyio.sleep_forever()
    assert anyio.current_time() == 5


async def test_block_is_cut_short_by_cancel() -> None:
    """It raises the context's error, from the cause."""
    cause = ValueError()
    ctx = Context()

    with pytest.raises(ContextCancelled) as caught:
        async with ctx:
            ctx.cancel(cause)
            await anyio.sleep_forever()
    assert caught.value is ctx.err
    assert caught.value.__cause__ is cause


async def test_block_is_cut_short_by_another_task() -> None:
    """Whoever holds the context may cancel it."""
    async with anyio.create_task_group() as tg:
        with pytest.raises(ContextCancelled):
            async with Context() as ctx:
                tg.start_soon(_call, ctx.cancel)
                await anyio.sleep_forever()


async def test_block_is_cut_short_by_a_thread() -> None:
    """Touching the loop is left to the loop, so any thread may cancel."""
    cause = ValueError()

    with pytest.raises(ContextCancelled) as caught:
        async with Context() as ctx:
            _in_thread(lambda: ctx.cancel(cause))
            await anyio.sleep_forever()
    assert caught.value.__cause__ is cause


async def test_sleeping_loop_is_woken_by_a_thread() -> None:
    """It need not wait for its next timer."""
    ctx = Context()
    thread = threading.Thread(target=ctx.cancel)

    with pytest.raises(ContextCancelled):
        async with ctx:
            thread.start()
            await anyio.sleep_forever()
    thread.join()


async def test_block_is_cut_short_by_a_parent() -> None:
    """The error is the child's own, with the parent's cause."""
    cause = ValueError()
    parent, child = Context(), None

    with pytest.raises(ContextCancelled) as caught:
        async with Context(parent, name="child") as child:
            parent.cancel(cause)
            await anyio.sleep_forever()
    assert child is not None
    assert caught.value is child.err
    assert caught.value.__cause__ is cause


async def test_block_of_an_ended_context_ends_at_its_first_await() -> None:
    """It begins, since its statements up to there need no context."""
    ctx = Context()
    ctx.cancel()
    seen: list[str] = []

    with pytest.raises(ContextCancelled):
        async with ctx:
            seen.append("began")
            await checkpoint()
            seen.append("went on")
    assert seen == ["began"]


@pytest.mark.virtual_clock
async def test_block_of_an_expired_context_ends_at_its_first_await() -> None:
    """Zero seconds are no seconds."""
    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=0):
            await anyio.sleep(1)
    assert anyio.current_time() == 0


async def test_body_that_finished_raises_nothing() -> None:
    """Also when the context had ended before, as long as no await was cut short."""
    async with Context() as ctx:
        ctx.cancel()

    assert ctx.done


@pytest.mark.virtual_clock
async def test_body_that_finished_late_raises_nothing() -> None:
    """A deadline that passed during the last, shielded, await cuts nothing short."""
    async with Context(timeout=5) as ctx:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(8)

    assert type(ctx.err) is DeadlineExceeded


async def test_cancel_does_not_reach_beyond_the_block() -> None:
    """A wake-up that is still on its way finds the block left."""
    async with Context() as ctx:
        ctx.cancel()

    await checkpoint()
    await checkpoint()


async def test_error_beats_the_cancellation() -> None:
    """What the body raises when it is cut short is what the block raises."""
    error = ValueError()

    with pytest.raises(ValueError) as caught:
        async with Context() as ctx:
            ctx.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
async def test_error_of_the_body_passes(error: type[BaseException]) -> None:
    """It is that very object, and the context is over."""
    raised = error()
    ctx = Context()

    with pytest.raises(error) as caught:
        async with ctx:
            raise raised
    assert caught.value is raised
    assert ctx.done


async def test_error_in_a_group_with_cancellations_passes() -> None:
    """A task group inside the block loses its cancelled children, not its error."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Context() as ctx:
            async with anyio.create_task_group() as tg:
                tg.start_soon(anyio.sleep_forever)
                ctx.cancel()
                try:
                    await checkpoint()
                    await anyio.sleep_forever()
                finally:
                    raise ValueError
    assert [type(each) for each in caught.value.exceptions] == [ValueError]


# Nested blocks


@pytest.mark.virtual_clock
@pytest.mark.parametrize("inner, outer", [(3, 5), (5, 3), (3, 3)])
async def test_block_whose_deadline_comes_first_is_the_one_cut_short(
    inner: float, outer: float
) -> None:
    """With equal deadlines it is the outer one: nothing is left to go on with."""
    passed: list[str] = []
    first = Context(timeout=outer)
    second: Context | None = None

    with pytest.raises(DeadlineExceeded) as caught:
        async with first:
            second = Context(timeout=inner)
            try:
                async with second:
                    await anyio.sleep_forever()
            except DeadlineExceeded:
                passed.append("inner")
                raise
    assert second is not None
    assert anyio.current_time() == 3
    assert passed == (["inner"] if inner < outer else [])
    assert caught.value is (second.err if inner < outer else first.err)


async def test_end_of_the_outer_context_cuts_the_outer_block_short() -> None:
    """The inner block lets the cancellation pass: it is not the inner's to report."""
    outer = Context()
    seen: list[BaseException] = []

    with pytest.raises(ContextCancelled) as caught:
        async with outer:
            try:
                async with Context():
                    outer.cancel()
                    await anyio.sleep_forever()
            except BaseException as exc:
                seen.append(exc)
                raise
    assert caught.value is outer.err
    assert [type(each) for each in seen] == [anyio.get_cancelled_exc_class()]


async def test_outer_block_goes_on_after_the_inner_one_was_cut_short() -> None:
    """An error that was handled is over."""
    async with Context() as outer:
        with pytest.raises(ContextCancelled):
            async with Context() as inner:
                inner.cancel()
                await anyio.sleep_forever()
        await checkpoint()

        assert not outer.done


# Cancellation from outside


async def test_outer_scope_passes_through() -> None:
    """The block of a cancelled scope raises the scope's cancellation, not its own."""
    ctx = Context()

    with anyio.CancelScope() as scope:
        async with ctx:
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert str(ctx.err) == "Context is over: the block it belongs to has been left"


async def test_outer_scope_passes_when_the_context_ended_too() -> None:
    """Raising its own error would make a failure of a cancellation."""
    with anyio.CancelScope() as scope:
        async with Context() as ctx:
            ctx.cancel()
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught


@on_asyncio
@pytest.mark.parametrize("order", ["task", "task context", "context task"])
async def test_native_cancellation_passes_through(order: str) -> None:
    """``Task.cancel()`` ends the task as cancelled, whatever the context does."""
    ctx = Context()

    async def job() -> None:
        async with ctx:
            await anyio.sleep_forever()

    task = asyncio.create_task(job())
    await asyncio.sleep(0)
    for each in order.split():
        if each == "task":
            task.cancel()
        else:
            ctx.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_block_inside_a_shield_is_bound_all_the_same() -> None:
    """A shield keeps out what is outside of it; the context is inside."""
    with pytest.raises(ContextCancelled):
        with anyio.CancelScope(shield=True):
            async with Context() as ctx:
                ctx.cancel()
                await anyio.sleep_forever()


# Leaving


async def test_leaving_ends_it_and_its_children() -> None:
    """Nothing that was derived inside outlives the block."""
    async with Context() as ctx:
        child = Context()

    assert (ctx.done, child.done) == (True, True)


async def test_leaving_restores_the_ambient_context() -> None:
    """However the block was left."""
    async with Context() as outer:
        async with Context() as inner:
            innermost = current_context()
        after_end = current_context()
        with pytest.raises(ValueError):
            async with Context():
                raise ValueError
        after_error = current_context()

    assert innermost is inner
    assert after_end is after_error is outer
    assert current_context() is None


@pytest.mark.parametrize("when", ["inside", "after"])
async def test_entered_once(when: str) -> None:
    """A second ``async with`` is refused, during the first one and afterwards."""
    ctx = Context()
    async with ctx:
        if when == "inside":
            with pytest.raises(RuntimeError, match="entered before"):
                await ctx.__aenter__()
            assert current_context() is ctx

    if when == "after":
        with pytest.raises(RuntimeError, match="entered before"):
            await ctx.__aenter__()
        assert current_context() is None


@pytest.mark.parametrize("is_open", [False, True], ids=["before", "inside"])
async def test_with_is_refused_in_a_task(*, is_open: bool) -> None:
    """It would not bind the task; the context can still be entered rightly."""
    ctx = Context()

    with pytest.raises(RuntimeError, match="write 'async with'"):
        with Context() if is_open else ctx:
            pytest.fail("entered")
    async with ctx:
        assert current_context() is ctx


@on_asyncio
async def test_with_is_allowed_in_a_callback_of_the_loop() -> None:
    """A callback is no task: it has no await that could be cut short."""
    seen: list[Context | None] = []

    def callback() -> None:
        with Context():
            seen.append(current_context())
        seen.append(current_context())

    asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0)

    assert isinstance(seen[0], Context)
    assert seen[1] is None


# Our own awaits


async def _wait_cancelled(ctx: Context) -> object:
    await ctx.wait_cancelled()
    return None


async def _go(ctx: Context) -> object:
    async with ErrGroup(limit=None) as group:
        await group.go(checkpoint)
        pytest.fail("started")


async def _fan_out(ctx: Context) -> object:
    return await fan_out(_never, [1], limit=1)


async def _never(item: int) -> None:
    pytest.fail("called")


async def _nested(ctx: Context) -> object:
    async with Context():
        pytest.fail("entered")


@pytest.mark.parametrize("operation", [_wait_cancelled, _go, _fan_out, _nested])
@pytest.mark.parametrize("by", ["itself", "its parent", "a thread"])
async def test_own_awaits_do_not_wait_for_the_loop_to_be_told(
    by: str, operation: Callable[[Context], Awaitable[object]]
) -> None:
    """They look at the state, so none passes after the context has ended."""
    parent = Context()

    with pytest.raises(ContextCancelled):
        async with Context(parent) as ctx:
            if by == "a thread":
                _in_thread(ctx.cancel)
            else:
                (ctx if by == "itself" else parent).cancel()
            await operation(ctx)
            pytest.fail("passed")


async def test_own_awaits_see_the_end_of_an_outer_block() -> None:
    """The block that is cut short is the one whose context ended."""
    outer = Context()

    with pytest.raises(ContextCancelled) as caught:
        async with outer:
            async with Context() as inner:
                outer.cancel()
                await inner.wait_cancelled()
                pytest.fail("passed")
    assert caught.value is outer.err


async def test_own_awaits_are_shielded_like_any_other() -> None:
    """A cleanup may use them after the context has ended."""
    seen: list[str] = []

    with pytest.raises(ContextCancelled):
        async with Context() as ctx:
            ctx.cancel()
            with anyio.CancelScope(shield=True):
                await ctx.wait_cancelled()
                seen.append("cleaned up")
            await ctx.wait_cancelled()
    assert seen == ["cleaned up"]


async def test_own_awaits_of_a_task_that_only_inherited_the_context() -> None:
    """It is not in the block, so it is not cut short; what it derives has ended."""
    seen: list[str] = []

    async def job() -> None:
        await release.wait()
        await root.wait_cancelled()
        try:
            async with Context():
                await checkpoint()
        except ContextCancelled:
            seen.append("derived")

    release = anyio.Event()
    root = Context.root()
    root.cancel()
    async with anyio.create_task_group() as tg:
        async with Context():
            tg.start_soon(job)
        release.set()

    assert seen == ["derived"]


async def test_own_awaits_under_an_ended_context_of_a_thread() -> None:
    """A thread's block binds no task, so there is nothing to deliver."""
    thread_ctx = Context()

    async def main() -> str:
        await Context.root(timeout=0).wait_cancelled()
        return "passed"

    def thread() -> None:
        with thread_ctx:
            thread_ctx.cancel()
            passed.append(anyio.run(main))

    passed: list[str] = []
    _in_thread(thread)

    assert passed == ["passed"]


def test_own_awaits_know_their_loop_again_after_another_one_ran() -> None:
    """Two loops may take turns in one thread."""

    async def job() -> None:
        async with Context() as ctx:
            await release.wait()
            ctx.cancel()
            await ctx.wait_cancelled()
            pytest.fail("passed")

    async def start() -> asyncio.Task[None]:
        task = asyncio.create_task(job())
        await asyncio.sleep(0)
        return task

    async def derive() -> None:
        async with Context(timeout=5):
            pass

    async def finish() -> None:
        release.set()
        await task

    release = asyncio.Event()
    with (
        asyncio.Runner(loop_factory=VirtualClockEventLoop) as runner,
        asyncio.Runner(loop_factory=VirtualClockEventLoop) as other,
    ):
        task = runner.run(start())
        other.run(derive())

        with pytest.raises(ContextCancelled):
            runner.run(finish())


@pytest.mark.timeout(5)  # were it to look at each path, it would never return
async def test_own_awaits_look_at_merged_parents_once() -> None:
    """Contexts that were merged over and over cost no more than there are."""
    one = other = Context()
    for _ in range(30):
        one, other = Context(one, other), Context(one, other)

    with pytest.raises(ContextCancelled):
        async with Context(one, other) as ctx:
            ctx.cancel()
            await ctx.wait_cancelled()
            pytest.fail("passed")


# The checkpoint law


async def test_entering_is_a_checkpoint() -> None:
    """In a cancelled scope the body is never reached."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with Context():
            pytest.fail("reached the body")

    assert scope.cancelled_caught
    assert current_context() is None


@pytest.mark.parametrize("ended", [False, True], ids=["live", "ended"])
async def test_wait_cancelled_is_a_checkpoint(*, ended: bool) -> None:
    """In a cancelled scope it raises, also when there is nothing to wait for."""
    ctx = Context()
    if ended:
        ctx.cancel()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await ctx.wait_cancelled()
        pytest.fail("returned")

    assert scope.cancelled_caught


async def _blocks() -> None:
    async with Context():
        pass


async def _waits() -> None:
    ctx = Context()
    ctx.cancel()
    await ctx.wait_cancelled()


async def _by_turns() -> None:
    await _blocks()
    await _waits()


@pytest.mark.parametrize("operation", [_blocks, _waits, _by_turns])
async def test_loop_of_own_awaits_lets_others_run(
    operation: Callable[[], Awaitable[None]],
) -> None:
    """Fresh objects do not starve the event loop either."""
    seen: list[str] = []

    async with anyio.create_task_group() as tg:
        tg.start_soon(_call, lambda: seen.append("ran"))
        for _ in range(1000):
            await operation()
        assert seen == ["ran"]


# Waiting for the end


async def test_wait_cancelled_returns_when_another_task_cancels() -> None:
    """All who wait are told."""
    ctx = Context()
    told: list[int] = []
    waiting: list[int] = []

    async def wait(number: int) -> None:
        await ctx.wait_cancelled()
        told.append(number)

    async with anyio.create_task_group() as tg:
        for number in range(3):
            tg.start_soon(wait, number)
        await anyio.wait_all_tasks_blocked()
        waiting.append(ctx.statistics().waiters)
        ctx.cancel()

    assert waiting == [3]
    assert sorted(told) == [0, 1, 2]
    assert ctx.statistics().waiters == 0


async def test_wait_cancelled_returns_when_a_thread_cancels() -> None:
    """The loop is woken for it."""
    ctx = Context()
    thread = threading.Thread(target=_cancel_when_awaited, args=(ctx,))
    thread.start()

    await ctx.wait_cancelled()

    thread.join()
    assert ctx.done


def _cancel_when_awaited(ctx: Context) -> None:
    while not ctx.statistics().waiters:
        pass
    ctx.cancel()


async def test_wait_cancelled_returns_when_a_parent_ends() -> None:
    """Also through a chain that nobody else holds."""
    root = Context()

    async with anyio.create_task_group() as tg:
        tg.start_soon(Context(Context(root)).wait_cancelled)
        await anyio.wait_all_tasks_blocked()
        _collect()
        root.cancel()


@pytest.mark.virtual_clock
async def test_wait_cancelled_returns_exactly_at_the_deadline() -> None:
    """The wait is what notices it."""
    ctx = Context(timeout=5)

    await ctx.wait_cancelled()

    assert anyio.current_time() == 5
    assert type(ctx.err) is DeadlineExceeded


async def test_cancelled_wait_leaves_nothing_behind() -> None:
    """The waiter is gone with the wait."""
    ctx = Context()

    async with anyio.create_task_group() as tg:
        tg.start_soon(ctx.wait_cancelled)
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()

    assert ctx.statistics().waiters == 0
    ctx.cancel()


async def test_wait_that_is_cancelled_as_the_context_ends_is_left_alone() -> None:
    """The wake-up comes to a wait that has gone, which is no error."""
    ctx = Context()

    async with anyio.create_task_group() as tg:
        tg.start_soon(ctx.wait_cancelled)
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
        ctx.cancel()

    await checkpoint()


# Inheritance


async def test_task_inherits_the_ambient_context() -> None:
    """A task that is started inside the block sees its context."""
    seen: list[Context | None] = []

    async with Context() as ctx:
        async with anyio.create_task_group() as tg:
            tg.start_soon(_call, lambda: seen.append(current_context()))

    assert seen == [ctx]


@on_asyncio
async def test_asyncio_task_inherits_the_ambient_context() -> None:
    """So does a task of asyncio."""

    async def job() -> Context | None:
        return current_context()

    async with Context() as ctx:
        seen = await asyncio.create_task(job())

    assert seen is ctx


@on_trio
async def test_trio_task_inherits_the_ambient_context() -> None:
    """So does a task of a nursery of trio."""
    seen: list[Context | None] = []

    async with Context() as ctx:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_call, lambda: seen.append(current_context()))

    assert seen == [ctx]


async def test_thread_inherits_the_ambient_context() -> None:
    """What anyio.to_thread starts sees the cancellation of the task."""

    def work() -> Context | None:
        parent.cancel()
        with pytest.raises(ContextCancelled):
            check()
        return current_context()

    parent = Context()
    ctx = Context(parent)
    seen: list[Context | None] = []

    with pytest.raises(ContextCancelled):
        async with ctx:
            seen.append(await anyio.to_thread.run_sync(work))
            await anyio.sleep_forever()
    assert seen == [ctx]


async def test_task_does_not_change_the_context_of_others() -> None:
    """What one task enters, its parent and its siblings do not see."""

    async def job() -> None:
        async with Context():
            entered.set()
            await anyio.sleep_forever()

    entered = anyio.Event()
    seen: list[Context | None] = []
    async with Context() as ctx:
        async with anyio.create_task_group() as tg:
            tg.start_soon(job)
            await entered.wait()
            seen.append(current_context())
            tg.cancel_scope.cancel()

    assert seen == [ctx]


# Across clocks


@pytest.mark.virtual_clock
async def test_deadline_keeps_the_clock_it_was_made_under() -> None:
    """A thread that asks sees the time of the loop, not its own."""
    ctx = Context(timeout=5)
    seen: list[float] = []
    await anyio.sleep(2)

    _in_thread(lambda: seen.append(ctx.remaining))

    assert seen == [3]


@pytest.mark.virtual_clock
async def test_remaining_time_is_carried_to_another_clock() -> None:
    """A child made in a thread has what its parent has left, on the thread's clock."""

    def derive() -> None:
        child = Context(parent)
        seen.append((0 < child.remaining <= 1e9 - 2, child.deadline > 1e9))

    parent = Context(timeout=1e9)
    seen: list[tuple[bool, bool]] = []
    await anyio.sleep(2)

    _in_thread(derive)

    assert seen == [(True, True)]


@pytest.mark.virtual_clock
async def test_context_of_a_thread_binds_a_task_by_what_remains() -> None:
    """An hour on the clock of a thread is an hour on the clock of the loop."""
    made: list[Context] = []
    _in_thread(lambda: made.append(Context(timeout=3600)))

    with pytest.raises(DeadlineExceeded):
        async with made[0]:
            await anyio.sleep_forever()
    assert 3599 < anyio.current_time() <= 3600


# Functions that run at the end of a block


@pytest.mark.virtual_clock
@pytest.mark.parametrize("where", ["before the block", "in the block", "in a thread"])
async def test_after_runs_exactly_at_the_deadline(where: str) -> None:
    """The loop's timer notices it, though the task is busy elsewhere."""
    seen: list[float] = []
    clock = _clock()

    def register() -> None:
        ctx.after(lambda: seen.append(clock()))

    ctx = Context(timeout=5)
    if where == "before the block":
        register()
    async with ctx:
        if where == "in the block":
            register()
        elif where == "in a thread":
            _in_thread(register)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(8)

    assert seen == [5]


@pytest.mark.virtual_clock
async def test_after_runs_at_a_deadline_that_the_timer_meets_too_early() -> None:
    """A loop may fire a timer before its time, by as much as its clock is coarse."""
    await anyio.sleep_until(1.414374131302845)
    seen: list[float] = []

    async with Context(deadline=6.147231087098862) as ctx:
        ctx.after(lambda: seen.append(anyio.current_time()))
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10)

    assert seen == [6.147231087098862]


@pytest.mark.virtual_clock
async def test_after_may_be_registered_in_the_function() -> None:
    """One timer serves all; what comes later runs at once."""
    seen: list[float] = []

    async with Context(timeout=5) as ctx:
        ctx.after(lambda: seen.append(anyio.current_time()))
        ctx.after(lambda: ctx.after(lambda: seen.append(-1)))
        with anyio.CancelScope(shield=True):
            await anyio.sleep(8)

    assert seen == [-1, 5]


@pytest.mark.virtual_clock
async def test_after_runs_when_the_block_is_left_early() -> None:
    """Once; its timer is withdrawn."""
    seen: list[float] = []

    async with Context(timeout=5) as ctx:
        ctx.after(lambda: seen.append(anyio.current_time()))
        await anyio.sleep(2)
    await anyio.sleep(8)

    assert seen == [2]


@pytest.mark.virtual_clock
async def test_stopped_function_does_not_run_at_the_deadline() -> None:
    """The timer finds nothing to do."""
    seen: list[float] = []

    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=5) as ctx:
            registration = ctx.after(lambda: seen.append(anyio.current_time()))
            await anyio.sleep(2)
            registration.stop()
            await anyio.sleep_forever()
    assert seen == []


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
async def test_timer_is_over_when_the_block_is_left(*, at_once: bool) -> None:
    """Nothing keeps a context whose deadline is far away."""
    async with Context(timeout=1e6) as ctx:
        for _ in range(2):
            ctx.after(lambda: None)
            if not at_once:
                await anyio.wait_all_tasks_blocked()
    forgotten = weakref.ref(ctx)
    del ctx
    await anyio.wait_all_tasks_blocked()
    _collect()

    assert forgotten() is None


@on_trio
async def test_timer_of_trio_is_a_task_that_ends_with_the_block() -> None:
    """It is over when the block has been left, also in a cancelled scope."""
    living: list[int] = []

    def count() -> None:
        living.append(trio.lowlevel.current_statistics().tasks_living)

    count()
    with trio.CancelScope() as scope:
        async with Context(timeout=5) as ctx:
            ctx.after(lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            count()
            scope.cancel()
            await trio.sleep_forever()
    count()

    assert living == [living[0], living[0] + 1, living[0]]


async def test_join_is_refused_in_a_task() -> None:
    """It would stop the loop; when the function has run it need not wait."""
    ctx = Context()
    registration = ctx.after(lambda: None)

    with pytest.raises(RuntimeError, match=r"anyio\.to_thread\.run_sync"):
        registration.join()
    ctx.cancel()
    registration.join()


def _sleep(ctx: Context) -> None:
    ctx.sleep(1)


@pytest.mark.parametrize("wait", [Context.wait, _sleep])
@pytest.mark.parametrize("ended", [False, True], ids=["live", "ended"])
async def test_waits_of_threads_are_refused_in_a_task(
    wait: Callable[[Context], object], *, ended: bool
) -> None:
    """A task that blocks its thread blocks all; the message names the await."""
    ctx = Context()
    if ended:
        ctx.cancel()

    with pytest.raises(RuntimeError, match=r"await ctx.wait_cancelled\(\)"):
        wait(ctx)
    assert ctx.statistics().waiters == 0


# Who is held


async def test_open_block_is_counted_and_held() -> None:
    """The parent must reach it, so it knows it."""
    parent = Context()

    async with Context(parent) as ctx:
        during = (parent.statistics().children, ctx.statistics().waiters)

    assert during == (1, 1)
    assert ctx.statistics().waiters == 0


async def test_left_block_is_not_held() -> None:
    """A long-lived parent keeps nothing of the blocks that were under it."""
    parent = Context()
    async with Context(parent) as ctx:
        pass
    forgotten = weakref.ref(ctx)
    del ctx
    await checkpoint()
    _collect()

    assert forgotten() is None
    assert parent.statistics().children == 0


async def test_block_that_was_cut_short_is_not_held() -> None:
    """Neither by its parent nor by what it raised and was handled."""
    parent = Context()
    ctx = Context(parent)
    with pytest.raises(ContextCancelled):
        async with ctx:
            ctx.cancel()
            await anyio.sleep_forever()
    forgotten = weakref.ref(ctx)
    del ctx
    await checkpoint()
    _collect()

    assert forgotten() is None
    assert parent.statistics().children == 0


async def test_infinite_deadline_is_none() -> None:
    """A bound block without a deadline waits for ever."""
    async with Context(timeout=math.inf) as ctx:
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert not isinstance(ctx.err, DeadlineExceeded)
