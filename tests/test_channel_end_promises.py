"""The end of a channel, in tasks and in threads: it reaches all, never too early."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from safeconc import ChannelClosed, ContextCancelled
from tests.test_channel_promises import in_line
from tests.worlds import World, in_every_world


async def step(channel: Any) -> Any:
    """Be one step of a loop."""
    return await anext(aiter(channel))


async def outcome_of(
    call: Callable[[], Awaitable[object]], outcomes: list[object]
) -> None:
    """Make a call, and note what it returned or raised."""
    try:
        outcomes.append(await call())
    except (ChannelClosed, StopAsyncIteration) as exc:
        outcomes.append(type(exc))


# Closing


@in_every_world
async def test_buffered_items_come_before_the_end(world: World) -> None:
    """Closing takes nothing away; then a loop stops, and a call raises."""
    channel = world.Channel(3)
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
@in_every_world
async def test_nothing_can_be_sent_once_it_is_closed(
    world: World, capacity: int
) -> None:
    """Though there is room: the error says what happened."""
    channel = world.Channel(capacity, name="orders")
    channel.close()

    with pytest.raises(
        ChannelClosed, match=r"^Channel 'orders' was closed: nothing more can be sent$"
    ):
        await channel.send(1)
    with pytest.raises(ChannelClosed, match="nothing more can be sent"):
        channel.send_nowait(1)
    assert channel.statistics().buffered == 0


@in_every_world
async def test_close_reaches_all_receivers_that_wait(world: World) -> None:
    """Loops stop, and calls raise."""
    channel = world.Channel(1)
    outcomes: list[object] = []
    async with world.ErrGroup(limit=None) as group:
        for place, call in enumerate((channel.receive, partial(step, channel))):
            await group.go(outcome_of, call, outcomes)
            await in_line(world, channel, receivers=place + 1)
        channel.close()
        assert channel.statistics().waiting_receivers == 0

    assert set(outcomes) == {ChannelClosed, StopAsyncIteration}


@pytest.mark.parametrize("capacity", [0, 1])
@in_every_world
async def test_close_reaches_all_senders_that_wait(world: World, capacity: int) -> None:
    """Their items were not sent, and are not to be received."""
    channel = world.Channel(capacity)
    for item in range(capacity):
        await channel.send(item)
    outcomes: list[object] = []
    async with world.ErrGroup(limit=None) as group:
        for item in (10, 11):
            await group.go(outcome_of, partial(channel.send, item), outcomes)
        await in_line(world, channel, senders=2)
        channel.close()
        assert channel.statistics().waiting_senders == 0

    assert outcomes == [ChannelClosed, ChannelClosed]
    assert [item async for item in channel] == list(range(capacity))


@in_every_world
async def test_error_reaches_receivers_after_what_is_buffered(world: World) -> None:
    """A loop does not stop as if all were well: it raises, too."""
    channel = world.Channel(2)
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
    for call in (channel.receive, partial(step, channel)):
        with pytest.raises(ChannelClosed) as caught:
            await call()
        assert caught.value.__cause__ is error


@in_every_world
async def test_error_reaches_who_waits(world: World) -> None:
    """Each gets an exception of its own, from the same error."""
    channel = world.Channel(0)
    error = OSError()
    raised: list[ChannelClosed] = []

    async def receive() -> None:
        with pytest.raises(ChannelClosed) as caught:
            await step(channel)
        raised.append(caught.value)

    async with world.ErrGroup(limit=None) as group:
        for _ in range(2):
            await group.go(receive)
        await in_line(world, channel, receivers=2)
        channel.close(error)

    assert [exc.__cause__ for exc in raised] == [error, error]
    assert raised[0] is not raised[1]


@in_every_world
async def test_error_reaches_senders(world: World) -> None:
    """Both who wait and who come later learn why."""
    channel = world.Channel(0)
    error = OSError()

    async def send() -> None:
        with pytest.raises(ChannelClosed, match=r"by OSError\(\): nothing") as caught:
            await channel.send(1)
        assert caught.value.__cause__ is error

    async with world.ErrGroup(limit=None) as group:
        await group.go(send)
        await in_line(world, channel, senders=1)
        channel.close(error)
    await send()
    with pytest.raises(ChannelClosed) as caught:
        channel.send_nowait(1)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("first, then", [(None, OSError()), (OSError(), None)])
@in_every_world
async def test_first_close_decides(
    world: World, first: OSError | None, then: OSError | None
) -> None:
    """A second one is no error, and changes nothing."""
    channel = world.Channel(1)
    channel.close(first)
    channel.close(then)
    channel.close(ValueError())

    with pytest.raises(ChannelClosed) as caught:
        await channel.receive()
    assert caught.value.__cause__ is first


@pytest.mark.parametrize("error", ["broken", OSError, 5, False])
@in_every_world
async def test_error_is_an_exception(world: World, error: Any) -> None:
    """A text or a class is refused, and the channel stays open."""
    channel = world.Channel(1)

    with pytest.raises(TypeError, match="error must be an exception, not "):
        channel.close(error)
    assert not channel.statistics().closed


# The block


@in_every_world
async def test_leaving_the_block_closes(world: World) -> None:
    """It ends the channel without an error."""
    channel = world.Channel(2)
    async with channel:
        await channel.send(1)
        assert not channel.statistics().closed

    assert channel.statistics().closed
    assert [item async for item in channel] == [1]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
@in_every_world
async def test_error_that_leaves_the_block_closes_with_it(
    world: World, error: type[BaseException]
) -> None:
    """It goes on as it is; receivers get it as a cause."""
    channel = world.Channel(1)
    with pytest.raises(error) as caught:
        async with channel:
            await channel.send(1)
            raise error

    assert await channel.receive() == 1
    with pytest.raises(ChannelClosed) as told:
        await step(channel)
    assert told.value.__cause__ is caught.value


@pytest.mark.parametrize("how", ["context", "group"])
@in_every_world
async def test_cancelled_producer_is_no_clean_end(world: World, how: str) -> None:
    """Receivers learn from an ordinary error that the stream was cut off."""
    channel = world.Channel(1, name="orders")
    with suppress(ContextCancelled):
        async with world.context() as context, world.ErrGroup(limit=None) as group:
            async with channel:
                await channel.send(1)
                owner: Any = {"context": context, "group": group}[how]
                owner.cancel()
                await channel.send(2)

    assert await channel.receive() == 1
    with pytest.raises(ChannelClosed, match="Channel 'orders' was closed by") as caught:
        await step(channel)
    assert repr(caught.value.__cause__) == repr(
        anyio.TaskCancelled("the producer of Channel 'orders' was cancelled")
    )


@in_every_world
async def test_context_of_the_producer_s_own_is_an_error(world: World) -> None:
    """A deadline inside the block is a failure like others, and is told as it is."""
    channel = world.Channel(1)
    with pytest.raises(ContextCancelled) as raised:
        async with channel, world.context() as context:
            context.cancel()
            await channel.send(1)

    with pytest.raises(ChannelClosed) as caught:
        await step(channel)
    assert caught.value.__cause__ is raised.value


@in_every_world
async def test_consumer_that_dies_ends_the_producer_in_its_group(world: World) -> None:
    """The producer does not wait for room for ever; the items stay."""
    channel = world.Channel(2)

    async def die() -> None:
        await channel.receive()
        raise OSError

    with pytest.raises(OSError):
        async with world.ErrGroup(limit=None) as group:
            await group.go(die)
            async with channel:
                for item in range(100):
                    await channel.send(item)

    statistics = channel.statistics()
    assert statistics.waiting_senders == 0
    assert [channel.receive_nowait() for _ in range(statistics.buffered)]
    with pytest.raises(ChannelClosed) as caught:
        await channel.receive()
    assert isinstance(caught.value.__cause__, anyio.TaskCancelled)


@in_every_world
async def test_producer_that_dies_ends_the_consumer(world: World) -> None:
    """Without a group in common, the channel itself carries the news."""
    channel = world.Channel(2)
    error = OSError()

    async def consumer() -> list[int]:
        seen: list[int] = []
        with pytest.raises(ChannelClosed) as caught:
            async for item in channel:
                seen.append(item)  # noqa: PERF401 - it is cut off
        assert caught.value.__cause__ is error
        return seen

    async with world.ErrGroup(limit=None) as group:
        task = await group.go(consumer)
        with pytest.raises(OSError):
            async with channel:
                await channel.send(1)
                raise error
    assert task.result() == [1]


@in_every_world
async def test_block_is_entered_once(world: World) -> None:
    """A second one is refused; it neither closes the channel nor counts."""
    channel = world.Channel(1, name="orders")
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


@in_every_world
async def test_block_of_a_closed_channel_may_be_left(world: World) -> None:
    """Who closed it first decided how it ends."""
    channel = world.Channel(1)
    with pytest.raises(OSError):
        async with channel:
            channel.close()
            raise OSError

    assert [item async for item in channel] == []


# Its end and that of the context


@pytest.mark.parametrize("side", ["send", "receive", "step"])
@pytest.mark.parametrize("closed", [False, True])
@in_every_world
async def test_every_call_looks_at_the_context(
    world: World, side: str, closed: bool
) -> None:
    """Cancelled before, it does nothing, though it could; this goes before an end."""
    channel = world.Channel(2)
    channel.send_nowait(1)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "send": partial(channel.send, 2),
        "receive": channel.receive,
        "step": partial(step, channel),
    }
    if closed:
        channel.receive_nowait()
        channel.close()
    before = channel.statistics()
    with pytest.raises(ContextCancelled):
        async with world.context() as context:
            context.cancel()
            await calls[side]()

    assert channel.statistics() == before


@pytest.mark.parametrize("side", ["send", "receive", "step"])
@in_every_world
async def test_end_of_the_context_ends_a_wait(world: World, side: str) -> None:
    """Nothing was sent or taken, nobody is left in line, and others go on."""
    channel = world.Channel(0)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "send": partial(channel.send, 2),
        "receive": channel.receive,
        "step": partial(step, channel),
    }
    line = {"senders": int(side == "send"), "receivers": int(side != "send")}
    async with world.ErrGroup(limit=None) as group:
        await group.go_background(calls[side])
        await in_line(world, channel, **line)
        group.cancel()

    await in_line(world, channel)
    with pytest.raises(anyio.WouldBlock):
        channel.send_nowait(1)
    with pytest.raises(anyio.WouldBlock):
        channel.receive_nowait()


@pytest.mark.parametrize("place", range(3))
@in_every_world
async def test_who_gives_up_makes_way(world: World, place: int) -> None:
    """Wherever in line it stood, the others keep their order."""
    channel = world.Channel(0)
    received: list[tuple[int, int]] = []

    async def receive(number: int) -> None:
        received.append((number, await channel.receive()))

    async with world.ErrGroup(limit=None) as group:
        tasks: list[Any] = []
        for number in range(3):
            tasks.append(await group.go(receive, number))
            await in_line(world, channel, receivers=number + 1)
        tasks[place].cancel()
        await in_line(world, channel, receivers=2)
        for item in range(2):
            channel.send_nowait(item)

    rest = [number for number in range(3) if number != place]
    assert sorted(received) == [(rest[0], 0), (rest[1], 1)]
