"""What a Context does to the task whose block it binds."""

import asyncio
import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, ContextCancelled, DeadlineExceeded, current_context
from tests.harness import on_asyncio
from tests.together import call, in_thread

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
                tg.start_soon(call, ctx.cancel)
                await anyio.sleep_forever()


async def test_block_is_cut_short_by_a_thread() -> None:
    """Touching the loop is left to the loop, so any thread may cancel."""
    cause = ValueError()

    with pytest.raises(ContextCancelled) as caught:
        async with Context() as ctx:
            in_thread(lambda: ctx.cancel(cause))
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
    """The block adds nothing to it, and is over."""
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
    """A task that derives contexts need not end them."""
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
