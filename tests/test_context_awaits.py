"""Awaits of our own under a Context, and who inherits it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest
import trio
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
from tests.together import call, collect, in_thread, on_trio

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
                in_thread(ctx.cancel)
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
    in_thread(thread)

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
        tg.start_soon(call, lambda: seen.append("ran"))
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
        collect()
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
            tg.start_soon(call, lambda: seen.append(current_context()))

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
            nursery.start_soon(call, lambda: seen.append(current_context()))

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
