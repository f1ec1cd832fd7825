"""Calls that are cancelled: they have done nothing, and are soon told."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import (
    Channel,
    ChannelStatistics,
    Context,
    ContextCancelled,
    ErrGroup,
    consume,
)
from safeconc._loop import BUDGET
from safeconc._policy._passes import CAREFUL, EVERY
from tests.harness import on_asyncio
from tests.together import in_thread

Call: TypeAlias = Callable[[Channel[int]], Coroutine[Any, Any, object]]


async def send(channel: Channel[int]) -> None:
    """Send an item."""
    await channel.send(1)


async def receive(channel: Channel[int]) -> int:
    """Receive one."""
    return await channel.receive()


async def step(channel: Channel[int]) -> int:
    """Receive one as a loop does."""
    return await channel.__anext__()


async def enter(channel: Channel[int]) -> None:
    """Enter the block."""
    await channel.__aenter__()


calls = pytest.mark.parametrize("call", [send, receive, step, enter])
hot_calls = pytest.mark.parametrize("call", [send, receive, step])


async def warm_up(channel: Channel[int]) -> None:
    """Get to where calls look at times only, and have just looked."""
    for _ in range(CAREFUL):
        await channel.send(0)
        await channel.receive()


def fill(channel: Channel[int], count: int) -> None:
    """Put so many items in."""
    for item in range(count):
        channel.send_nowait(item)


# Checkpoints


@calls
async def test_every_call_is_a_checkpoint(call: Call) -> None:
    """It is cancelled also when it need not wait, and has done nothing."""
    channel = Channel[int](2)
    channel.send_nowait(0)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call(channel)
        pytest.fail("passed")

    assert scope.cancelled_caught
    assert channel.statistics() == ChannelStatistics(1, 1, 0, 0, closed=False)
    async with channel:
        pass  # it has not been entered


@calls
async def test_every_call_of_a_closed_channel_is_a_checkpoint(call: Call) -> None:
    """The cancellation comes before the end."""
    channel = Channel[int](2)
    channel.close()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call(channel)
        pytest.fail("passed")

    assert scope.cancelled_caught


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "one"])
@hot_calls
async def test_loop_of_calls_gives_way_to_others(call: Call, fresh: bool) -> None:
    """The budget is the loop's, so that fresh channels do not start over."""
    turns = 0
    count = 3000

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    def make() -> Channel[int]:
        channel = Channel[int](2 * count)
        fill(channel, 1 if fresh else count)
        return channel

    channels = [make() for _ in range(count)] if fresh else [make()] * count
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await checkpoint()
        for channel in channels:
            await call(channel)
        tasks.cancel_scope.cancel()

    # One less: what is left of a budget when the many begin is not made up for.
    assert turns >= count // BUDGET - 1


async def test_entering_fresh_channels_gives_way_to_others() -> None:
    """An empty block is no way to keep the loop."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        for _ in range(3 * BUDGET):
            async with Channel[int](0):
                pass
        tasks.cancel_scope.cancel()

    assert turns >= 2


# When calls are many


@hot_calls
async def test_self_cancelled_loop_is_told_in_time(call: Call) -> None:
    """Where a task has cancelled itself, at most 127 calls get through."""
    channel = Channel[int](1000)
    await warm_up(channel)
    fill(channel, 300)
    through = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        while True:
            await call(channel)
            through += 1

    assert scope.cancelled_caught
    assert through == EVERY - 1


@hot_calls
async def test_loop_that_was_told_is_told_again(call: Call) -> None:
    """A cleanup in the cancelled scope does not get through either."""
    channel = Channel[int](1000)
    await warm_up(channel)
    fill(channel, 300)
    seen: list[ChannelStatistics] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            while True:
                await call(channel)
        finally:
            seen.append(channel.statistics())
            await call(channel)

    assert seen == [channel.statistics()]


@hot_calls
async def test_cancelled_between_others_calls_is_told_by_them(call: Call) -> None:
    """A look that yields spares nobody else's call meanwhile."""
    channel = Channel[int](1000)
    await warm_up(channel)
    fill(channel, 300)
    for _ in range(EVERY - 1):
        await call(channel)
    before = channel.statistics()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, channel)  # it looks, and yields in it
        await checkpoint()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call(channel)

        assert scope.cancelled_caught
    assert abs(channel.statistics().buffered - before.buffered) == 1


@hot_calls
async def test_context_that_ends_is_seen_at_once(call: Call) -> None:
    """However many calls there were: the next one does nothing any more."""
    channel = Channel[int](1000)
    await warm_up(channel)
    fill(channel, 100)
    before = channel.statistics()
    with pytest.raises(ContextCancelled):
        async with Context() as context:
            in_thread(context.cancel)
            await call(channel)

    assert channel.statistics() == before


@hot_calls
async def test_context_of_an_outer_block_is_seen_at_once(call: Call) -> None:
    """Its end is published to the inner ones in the same step."""
    channel = Channel[int](1000)
    await warm_up(channel)
    fill(channel, 100)
    before = channel.statistics()
    with pytest.raises(ContextCancelled):
        async with Context() as outer, Context():
            in_thread(outer.cancel)
            await call(channel)

    assert channel.statistics() == before


@hot_calls
async def test_cancelled_in_the_turn_of_the_hand_over_is_told_soon(call: Call) -> None:
    """The call returns; a few more may be, before the loop is told."""
    channel = Channel[int](300)
    await warm_up(channel)
    if call is send:
        fill(channel, 300)
    returned = 0
    scope = anyio.CancelScope()

    async def go_on() -> None:
        nonlocal returned
        with scope:
            while True:
                await call(channel)
                returned += 1

    async with ErrGroup(limit=None) as group:
        await group.go(go_on)
        await anyio.wait_all_tasks_blocked()
        if call is send:
            for _ in range(300):
                channel.receive_nowait()
        else:
            fill(channel, 300)
        scope.cancel()

    assert scope.cancelled_caught
    assert returned == 1 + EVERY


# Waiting


@pytest.mark.parametrize("capacity", [0, 1])
async def test_cancelled_sender_has_not_sent(capacity: int) -> None:
    """It leaves the line; those behind it move up."""
    channel = Channel[int](capacity)
    fill(channel, capacity)
    scopes = [anyio.CancelScope() for _ in range(3)]

    async def send(number: int) -> None:
        with scopes[number]:
            await channel.send(10 + number)

    async with ErrGroup(limit=None) as group:
        for number in range(3):
            await group.go(send, number)
            await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert channel.statistics().waiting_senders == 1

        received = [await channel.receive() for _ in range(capacity + 1)]
    assert received == [*range(capacity), 12]


async def test_cancelled_receiver_has_taken_nothing() -> None:
    """The item goes to who waits behind it."""
    channel = Channel[int](1)
    scope = anyio.CancelScope()

    async def give_up() -> None:
        with scope:
            await channel.receive()

    async with ErrGroup(limit=None) as group:
        await group.go(give_up)
        await anyio.wait_all_tasks_blocked()
        second = await group.go(channel.receive)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert channel.statistics().waiting_receivers == 1
        await channel.send(1)

    assert second.result() == 1


@pytest.mark.parametrize("first", ["hand over", "cancel"])
async def test_item_that_was_handed_over_is_received(first: str) -> None:
    """A scope that is cancelled in the same turn, before or after, comes too late."""
    channel = Channel[int](0)
    received: list[int] = []
    scope = anyio.CancelScope()

    async def receive() -> None:
        with scope:
            received.append(await channel.receive())
            await checkpoint()
            pytest.fail("passed a checkpoint")

    async with ErrGroup(limit=None) as group:
        await group.go(receive)
        await anyio.wait_all_tasks_blocked()
        if first == "cancel":
            scope.cancel()
        channel.send_nowait(1)
        scope.cancel()

    assert received == [1]
    assert scope.cancelled_caught


@pytest.mark.parametrize("first", ["hand over", "cancel"])
async def test_item_that_was_taken_is_sent(first: str) -> None:
    """The sender returns, and is told at the next checkpoint."""
    channel = Channel[int](0)
    sent: list[int] = []
    scope = anyio.CancelScope()

    async def send() -> None:
        with scope:
            await channel.send(1)
            sent.append(1)
            await checkpoint()
            pytest.fail("passed a checkpoint")

    async with ErrGroup(limit=None) as group:
        await group.go(send)
        await anyio.wait_all_tasks_blocked()
        if first == "cancel":
            scope.cancel()
        assert channel.receive_nowait() == 1
        scope.cancel()

    assert sent == [1]
    assert scope.cancelled_caught


@on_asyncio
@pytest.mark.parametrize("first", ["hand over", "cancel"])
@pytest.mark.parametrize("side", ["send", "receive"])
async def test_native_cancellation_that_lost_arrives_later(
    first: str, side: str
) -> None:
    """The call returns, the count is kept, and the next checkpoint raises it."""
    channel = Channel[int](0)
    done: list[object] = []

    async def call() -> None:
        done.append(await (channel.send(1) if side == "send" else channel.receive()))
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 1
        with pytest.raises(asyncio.CancelledError, match="by hand"):
            await checkpoint()
        await checkpoint()

    task = asyncio.create_task(call())
    await anyio.wait_all_tasks_blocked()
    if first == "cancel":
        task.cancel("by hand")
    if side == "send":
        assert channel.receive_nowait() == 1
    else:
        channel.send_nowait(1)
    if first == "hand over":
        task.cancel("by hand")
    await task

    assert done == [None if side == "send" else 1]


@on_asyncio
async def test_natively_cancelled_wait_leaves_the_line() -> None:
    """The next item is not for it."""
    channel = Channel[int](1)
    task = asyncio.create_task(channel.receive())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert channel.statistics().waiting_receivers == 0
    await channel.send(1)
    assert await channel.receive() == 1


@pytest.mark.parametrize("side", ["send", "receive"])
@pytest.mark.parametrize("first", ["close", "cancel"])
async def test_cancellation_goes_before_the_end(side: str, first: str) -> None:
    """Who is told of both in one turn has done nothing, and has not failed."""
    channel = Channel[int](0)
    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            await (channel.send(1) if side == "send" else channel.receive())

    async with ErrGroup(limit=None) as group:
        await group.go(call)
        await anyio.wait_all_tasks_blocked()
        if first == "cancel":
            scope.cancel()
        channel.close()
        scope.cancel()

    assert scope.cancelled_caught


@on_asyncio
@pytest.mark.parametrize("first", ["close", "cancel"])
@pytest.mark.parametrize("side", ["send", "receive"])
async def test_native_cancellation_goes_before_the_end(side: str, first: str) -> None:
    """It is told once, and not kept for later."""
    channel = Channel[int](0)
    task: asyncio.Task[object] = asyncio.create_task(
        channel.send(1) if side == "send" else channel.receive()
    )
    await anyio.wait_all_tasks_blocked()
    if first == "cancel":
        task.cancel("by hand")
    channel.close()
    if first == "close":
        task.cancel("by hand")

    with pytest.raises(asyncio.CancelledError, match="by hand"):
        await task
    assert task.cancelling() == 1


async def pipeline(channel: Channel[int], group: ErrGroup) -> None:
    """Be a producer with two consumers, until somebody cancels all that."""

    async def handle(item: int) -> None:
        await checkpoint()

    async with group:
        for _ in range(2):
            await group.go(consume, channel, handle)
        async with channel:
            await channel.send(1)
            await anyio.sleep_forever()


@pytest.mark.parametrize("how", ["scope", "context", "group"])
async def test_cancelled_pipeline_does_not_fail(how: str) -> None:
    """A producer that closes as it is cancelled fails no consumer that is as well."""
    channel = Channel[int](0)
    owners: dict[str, Any] = {}

    async def run() -> None:
        with anyio.CancelScope() as scope, suppress(ContextCancelled):
            async with Context() as context:
                group = ErrGroup(limit=None)
                owners.update(scope=scope, context=context, group=group)
                await pipeline(channel, group)

    async with ErrGroup(limit=None) as outer:
        await outer.go(run)
        await anyio.wait_all_tasks_blocked()
        owners[how].cancel()

    assert channel.statistics() == ChannelStatistics(0, 0, 0, 0, closed=True)


@on_asyncio
async def test_natively_cancelled_pipeline_does_not_fail() -> None:
    """The consumers are cancelled only when the channel has been closed."""
    channel = Channel[int](0)
    task = asyncio.create_task(pipeline(channel, ErrGroup(limit=None)))
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert channel.statistics() == ChannelStatistics(0, 0, 0, 0, closed=True)


async def test_waiting_call_ends_with_its_context() -> None:
    """Cancelled from a thread, as from anywhere."""
    channel = Channel[int](0)
    thread: threading.Thread | None = None
    with pytest.raises(ContextCancelled):
        async with Context() as context:
            thread = threading.Thread(target=context.cancel)
            thread.start()
            await channel.receive()

    assert thread is not None
    thread.join()
    assert channel.statistics().waiting_receivers == 0
