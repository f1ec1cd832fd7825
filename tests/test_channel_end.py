"""The end of a channel between tasks: cancellations that threads do not know.

What it promises in every world is in ``test_channel_end_promises``.
"""

import anyio
import pytest

from safeconc import Channel, ChannelClosed
from tests.harness import on_asyncio


async def test_block_gives_the_channel() -> None:
    """So it may be made in the same line."""
    channel = Channel[int](1)
    async with channel as same:
        assert same is channel


async def test_producer_that_a_scope_cancels_is_no_clean_end() -> None:
    """Receivers learn from an ordinary error that the stream was cut off."""
    channel = Channel[int](1, name="orders")
    with anyio.CancelScope() as scope:
        async with channel:
            await channel.send(1)
            scope.cancel()
            await channel.send(2)

    assert await channel.receive() == 1
    with pytest.raises(ChannelClosed, match="Channel 'orders' was closed by") as caught:
        await anext(channel)
    assert repr(caught.value.__cause__) == repr(
        anyio.TaskCancelled("the producer of Channel 'orders' was cancelled")
    )


async def test_cancelled_producers_in_a_group_are_no_clean_end() -> None:
    """Nor if they have a group inside the block."""
    channel = Channel[int](1)
    with anyio.CancelScope() as scope:
        async with channel, anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(channel.send, 1)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

    await channel.receive()
    with pytest.raises(ChannelClosed) as caught:
        await anext(channel)
    assert isinstance(caught.value.__cause__, anyio.TaskCancelled)


@on_asyncio
async def test_block_of_a_coroutine_that_is_closed_closes() -> None:
    """Also where no loop runs any more that could tell what a cancellation is."""
    channel = Channel[int](1)

    async def produce() -> None:
        async with channel:
            await anyio.sleep_forever()

    coro = produce()
    coro.send(None)
    await anyio.to_thread.run_sync(coro.close)

    with pytest.raises(ChannelClosed) as caught:
        await channel.receive()
    assert isinstance(caught.value.__cause__, GeneratorExit)
