"""The end of a channel: it reaches everybody, and is never told too early."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from safeconc import Channel, ChannelClosed, Context, ContextCancelled, ErrGroup
from tests.harness import on_asyncio


async def outcome_of(
    call: Callable[[], Awaitable[object]], outcomes: list[object]
) -> None:
    """Make a call, and note what it returned or raised."""
    try:
        outcomes.append(await call())
    except (ChannelClosed, StopAsyncIteration) as exc:
        outcomes.append(type(exc))


# Closing


async def test_buffered_items_come_before_the_end() -> None:
    """Closing takes nothing away; then a loop stops, and a call raises."""
    channel = Channel[int](3)
    await channel.send(1)
    await channel.send(2)
    channel.close()

    assert await channel.receive() == 1
    assert [item async for item in channel] == [2]
    with pytest.raises(
        ChannelClosed,
        match=r"^this Channel was closed: all that was sent has been received$",
    ) as caught:
        await channel.receive()
    assert caught.value.__cause__ is None
    with pytest.raises(ChannelClosed, match="all that was sent has been received"):
        channel.receive_nowait()
    assert [item async for item in channel] == []


@pytest.mark.parametrize("capacity", [0, 3])
async def test_nothing_can_be_sent_once_it_is_closed(capacity: int) -> None:
    """Though there is room: the error says what happened."""
    channel = Channel[int](capacity, name="orders")
    channel.close()

    with pytest.raises(
        ChannelClosed, match=r"^Channel 'orders' was closed: nothing more can be sent$"
    ):
        await channel.send(1)
    with pytest.raises(ChannelClosed, match="nothing more can be sent"):
        channel.send_nowait(1)
    assert channel.statistics().buffered == 0


async def test_close_reaches_all_receivers_that_wait() -> None:
    """Loops stop, and calls raise."""
    channel = Channel[int](1)
    outcomes: list[object] = []
    async with ErrGroup(limit=None) as group:
        for call in (channel.receive, channel.__anext__, channel.receive):
            await group.go(outcome_of, call, outcomes)
            await anyio.wait_all_tasks_blocked()
        channel.close()
        assert channel.statistics().waiting_receivers == 0

    assert sorted(map(str, outcomes)) == sorted(
        map(str, [ChannelClosed, StopAsyncIteration, ChannelClosed])
    )


@pytest.mark.parametrize("capacity", [0, 1])
async def test_close_reaches_all_senders_that_wait(capacity: int) -> None:
    """Their items were not sent, and are not to be received."""
    channel = Channel[int](capacity)
    for item in range(capacity):
        await channel.send(item)
    outcomes: list[object] = []
    async with ErrGroup(limit=None) as group:
        for item in (10, 11):
            await group.go(outcome_of, partial(channel.send, item), outcomes)
        await anyio.wait_all_tasks_blocked()
        channel.close()
        assert channel.statistics().waiting_senders == 0

    assert outcomes == [ChannelClosed, ChannelClosed]
    assert [item async for item in channel] == list(range(capacity))


async def test_error_reaches_receivers_after_what_is_buffered() -> None:
    """A loop does not stop as if all were well: it raises, too."""
    channel = Channel[int](2)
    await channel.send(1)
    error = OSError("the disk is full")
    channel.close(error)

    seen: list[int] = []
    with pytest.raises(
        ChannelClosed,
        match=r"was closed by OSError\('the disk is full'\): all that was sent",
    ) as caught:
        async for item in channel:
            seen.append(item)  # noqa: PERF401 - it is cut off
    assert seen == [1]
    assert caught.value.__cause__ is error
    for call in (channel.receive, channel.__anext__):
        with pytest.raises(ChannelClosed) as caught:
            await call()
        assert caught.value.__cause__ is error


async def test_error_reaches_who_waits() -> None:
    """Each gets an exception of its own, from the same error."""
    channel = Channel[int](0)
    error = OSError()
    raised: list[ChannelClosed] = []

    async def receive() -> None:
        with pytest.raises(ChannelClosed) as caught:
            await anext(channel)
        raised.append(caught.value)

    async with ErrGroup(limit=None) as group:
        for _ in range(2):
            await group.go(receive)
        await anyio.wait_all_tasks_blocked()
        channel.close(error)

    assert [exc.__cause__ for exc in raised] == [error, error]
    assert raised[0] is not raised[1]


async def test_error_reaches_senders() -> None:
    """Both who wait and who come later learn why."""
    channel = Channel[int](0)
    error = OSError()

    async def send() -> None:
        with pytest.raises(ChannelClosed, match=r"by OSError\(\): nothing") as caught:
            await channel.send(1)
        assert caught.value.__cause__ is error

    async with ErrGroup(limit=None) as group:
        await group.go(send)
        await anyio.wait_all_tasks_blocked()
        channel.close(error)
    await send()
    with pytest.raises(ChannelClosed) as caught:
        channel.send_nowait(1)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("first, then", [(None, OSError()), (OSError(), None)])
async def test_first_close_decides(first: OSError | None, then: OSError | None) -> None:
    """A second one is no error, and changes nothing."""
    channel = Channel[int](1)
    channel.close(first)
    channel.close(then)
    channel.close(ValueError())

    with pytest.raises(ChannelClosed) as caught:
        await channel.receive()
    assert caught.value.__cause__ is first


@pytest.mark.parametrize("error", ["broken", OSError, 5, False])
def test_error_is_an_exception(error: Any) -> None:
    """A text or a class is refused, and the channel stays open."""
    channel = Channel[int](1)

    with pytest.raises(TypeError, match="error must be an exception, not "):
        channel.close(error)
    assert not channel.statistics().closed


# The block


async def test_leaving_the_block_closes() -> None:
    """It gives the channel, and ends it without an error."""
    channel = Channel[int](2)
    async with channel as same:
        assert same is channel
        await channel.send(1)
        assert not channel.statistics().closed

    assert channel.statistics().closed
    assert [item async for item in channel] == [1]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
async def test_error_that_leaves_the_block_closes_with_it(
    error: type[BaseException],
) -> None:
    """It goes on as it is; receivers get it as a cause."""
    channel = Channel[int](1)
    with pytest.raises(error) as caught:
        async with channel:
            await channel.send(1)
            raise error

    assert await channel.receive() == 1
    with pytest.raises(ChannelClosed) as told:
        await anext(channel)
    assert told.value.__cause__ is caught.value


@pytest.mark.parametrize("how", ["scope", "context", "group"])
async def test_cancelled_producer_is_no_clean_end(how: str) -> None:
    """Receivers learn from an ordinary error that the stream was cut off."""
    channel = Channel[int](1, name="orders")
    with anyio.CancelScope() as scope, suppress(ContextCancelled):
        async with Context() as context, ErrGroup(limit=None) as group, channel:
            await channel.send(1)
            owner: Any = {"scope": scope, "context": context, "group": group}[how]
            owner.cancel()
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


async def test_consumer_that_dies_ends_the_producer_in_its_group() -> None:
    """The producer does not wait for room for ever; the items stay."""
    channel = Channel[int](2)

    async def die() -> None:
        await channel.receive()
        raise OSError

    with pytest.raises(OSError):
        async with ErrGroup(limit=None) as group:
            await group.go(die)
            async with channel:
                for item in range(100):
                    await channel.send(item)

    assert channel.statistics().buffered == 2
    assert channel.statistics().waiting_senders == 0
    with pytest.raises(ChannelClosed) as caught:
        while True:
            await channel.receive()
    assert isinstance(caught.value.__cause__, anyio.TaskCancelled)


async def test_producer_that_dies_ends_the_consumer() -> None:
    """Without a group in common, the channel itself carries the news."""
    channel = Channel[int](2)
    error = OSError()

    async def consumer() -> list[int]:
        seen: list[int] = []
        with pytest.raises(ChannelClosed) as caught:
            async for item in channel:
                seen.append(item)  # noqa: PERF401 - it is cut off
        assert caught.value.__cause__ is error
        return seen

    async with ErrGroup(limit=None) as group:
        task = await group.go(consumer)
        with pytest.raises(OSError):
            async with channel:
                await channel.send(1)
                raise error
    assert task.result() == [1]


async def test_block_is_entered_once() -> None:
    """A second one is refused; it neither closes the channel nor counts."""
    channel = Channel[int](1, name="orders")
    async with channel:
        with pytest.raises(
            RuntimeError,
            match=r"Channel 'orders' has been entered before.*group inside one",
        ):
            async with channel:
                pytest.fail("entered")
        assert not channel.statistics().closed

    with pytest.raises(RuntimeError, match="entered before"):
        async with channel:
            pytest.fail("entered")


async def test_block_of_a_closed_channel_may_be_left() -> None:
    """Who closed it first decided how it ends."""
    channel = Channel[int](1)
    with pytest.raises(OSError):
        async with channel:
            channel.close()
            raise OSError

    assert [item async for item in channel] == []


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
