"""What a channel promises, be it between tasks or between threads: its items."""

import math
from itertools import chain
from typing import Any

import anyio
import pytest

from safeconc import ChannelStatistics
from tests.worlds import World, in_every_world

capacities = pytest.mark.parametrize("capacity", [0, 1, 3, 100])


async def in_line(
    world: World, channel: Any, *, senders: int = 0, receivers: int = 0
) -> None:
    """Wait until so many wait at *channel*."""

    def is_so() -> bool:
        statistics = channel.statistics()
        counts = statistics.waiting_senders, statistics.waiting_receivers
        return counts == (senders, receivers)

    await world.until(is_so)


async def receive_into(channel: Any, received: list[int]) -> None:
    """Be a consumer."""
    async for item in channel:
        received.append(item)  # noqa: PERF401 - seen by others before the end


async def send_all(channel: Any, *items: int) -> None:
    """Be a producer."""
    for item in items:
        await channel.send(item)


# Making one


@pytest.mark.parametrize("capacity", [1.0, 0.5, True, False, None, math.inf, "3"])
@in_every_world
async def test_capacity_is_a_whole_number(world: World, capacity: Any) -> None:
    """Neither "no bound" nor what merely compares with numbers is one."""
    with pytest.raises(
        TypeError, match=r"capacity must be a whole number, not .*bound"
    ):
        world.Channel(capacity)


@in_every_world
async def test_capacity_is_not_negative(world: World) -> None:
    """There is no less room than none."""
    with pytest.raises(ValueError, match="capacity must not be negative: -1"):
        world.Channel(-1)


@in_every_world
async def test_capacity_must_be_given(world: World) -> None:
    """No number would be right for everybody."""
    with pytest.raises(TypeError, match="capacity"):
        world.Channel()


@in_every_world
async def test_repr_tells_how_full_it_is(world: World) -> None:
    """And whether it is closed; a name stands in for the type alone."""
    channel = world.Channel(3)
    named = world.Channel(3, name="orders")
    named.send_nowait(1)
    named.close()

    assert repr(channel) == "<Channel 0/3>"
    assert repr(named) == "<Channel 'orders' 1/3, closed>"


# Items


@capacities
@in_every_world
async def test_items_arrive_in_order(world: World, capacity: int) -> None:
    """What was sent first is received first, each item once."""
    channel = world.Channel(capacity)
    received: list[int] = []
    async with world.ErrGroup(limit=None) as group:
        await group.go(receive_into, channel, received)
        async with channel:
            await send_all(channel, *range(250))

    assert received == list(range(250))


@in_every_world
async def test_any_object_may_be_sent(world: World) -> None:
    """None and what is falsy are items like others."""
    channel = world.Channel(5)
    items = [None, False, 0, (), ValueError]
    for item in items:
        await channel.send(item)

    assert [await channel.receive() for _ in items] == items


@capacities
@in_every_world
async def test_producer_is_never_ahead_by_more_than_the_capacity(
    world: World, capacity: int
) -> None:
    """One more waits in the hand of the sender."""
    channel = world.Channel(capacity)
    async with world.ErrGroup(limit=None) as group:
        await group.go_background(send_all, channel, *range(300))
        for taken in range(20):
            await in_line(world, channel, senders=1)
            assert channel.statistics() == ChannelStatistics(
                capacity, capacity, 1, 0, closed=False
            )
            assert await channel.receive() == taken


@in_every_world
async def test_rendezvous_sender_waits_for_its_receiver(world: World) -> None:
    """With capacity 0 an item that was sent has been received."""
    channel = world.Channel(0)
    async with world.ErrGroup(limit=None) as group:
        sender = await group.go(channel.send, 1)
        await in_line(world, channel, senders=1)
        assert not sender.done

        assert await channel.receive() == 1
        await sender
    assert channel.statistics().peak == 0


# Without waiting


@in_every_world
async def test_send_nowait_needs_room(world: World) -> None:
    """Without it nothing is sent."""
    channel = world.Channel(1)
    channel.send_nowait(1)

    with pytest.raises(anyio.WouldBlock):
        channel.send_nowait(2)
    assert channel.receive_nowait() == 1
    with pytest.raises(anyio.WouldBlock):
        channel.receive_nowait()


@in_every_world
async def test_send_nowait_hands_to_who_waits(world: World) -> None:
    """There is room with capacity 0 while somebody receives."""
    channel = world.Channel(0)
    async with world.ErrGroup(limit=None) as group:
        receiver = await group.go(channel.receive)
        await in_line(world, channel, receivers=1)
        channel.send_nowait(1)

        with pytest.raises(anyio.WouldBlock):
            channel.send_nowait(2)
    assert receiver.result() == 1


@in_every_world
async def test_receive_nowait_takes_from_who_waits(world: World) -> None:
    """A sender in line is let go, with capacity 0 as well."""
    channel = world.Channel(0)
    async with world.ErrGroup(limit=None) as group:
        sender = await group.go(channel.send, 1)
        await in_line(world, channel, senders=1)

        assert channel.receive_nowait() == 1
    assert sender.done


# Fairness


@in_every_world
async def test_who_has_waited_longest_receives_first(world: World) -> None:
    """Receivers are served in the order in which they came."""
    channel = world.Channel(5)
    served: list[tuple[int, int]] = []

    async def receive(number: int) -> None:
        served.append((number, await channel.receive()))

    async with world.ErrGroup(limit=None) as group:
        for number in range(4):
            await group.go(receive, number)
            await in_line(world, channel, receivers=number + 1)
        for item in range(4):
            channel.send_nowait(item)

    assert sorted(served) == [(number, number) for number in range(4)]


@pytest.mark.parametrize("capacity", [0, 2])
@in_every_world
async def test_who_has_waited_longest_sends_first(world: World, capacity: int) -> None:
    """Senders are, too; a newcomer does not get in before them."""
    channel = world.Channel(capacity)
    await send_all(channel, *range(capacity))
    async with world.ErrGroup(limit=None) as group:
        for place in range(3):
            await group.go(channel.send, capacity + place)
            await in_line(world, channel, senders=place + 1)
        assert await channel.receive() == 0
        with pytest.raises(anyio.WouldBlock):
            channel.send_nowait(99)
        await group.go(channel.send, 99)
        await in_line(world, channel, senders=3)

        rest = [await channel.receive() for _ in range(capacity + 3)]
    assert rest == [*range(1, capacity + 3), 99]


@in_every_world
async def test_receiver_that_comes_later_gets_nothing_of_who_waits(
    world: World,
) -> None:
    """What was handed over is the waiter's, though it has not run yet."""
    channel = world.Channel(1)
    async with world.ErrGroup(limit=None) as group:
        waiter = await group.go(channel.receive)
        await in_line(world, channel, receivers=1)
        await channel.send(1)

        with pytest.raises(anyio.WouldBlock):
            channel.receive_nowait()
    assert waiter.result() == 1


# Several at both ends


@capacities
@in_every_world
async def test_many_producers_and_consumers_lose_and_double_nothing(
    world: World, capacity: int
) -> None:
    """Each item arrives once; those of one producer in its order."""
    channel = world.Channel(capacity)
    received: list[list[int]] = [[] for _ in range(4)]
    async with world.ErrGroup(limit=None) as group:
        for each in received:
            await group.go(receive_into, channel, each)
        async with channel, world.ErrGroup(limit=None) as producers:
            for first in range(0, 500, 100):
                await producers.go(send_all, channel, *range(first, first + 100))

    assert sorted(chain(*received)) == list(range(500))
    for each in received:
        for first in range(0, 500, 100):
            own = [item for item in each if first <= item < first + 100]
            assert own == sorted(own)


@in_every_world
async def test_loop_over_a_channel_may_go_on_elsewhere(world: World) -> None:
    """Leaving a loop takes nothing; another one goes on with the next item."""
    channel = world.Channel(5)
    await send_all(channel, 1, 2, 3)
    channel.close()
    async for item in channel:
        assert item == 1
        break

    assert [item async for item in channel] == [2, 3]


# Statistics


@in_every_world
async def test_statistics_count_items_and_who_waits(world: World) -> None:
    """Peak is what was buffered at most; what went from hand to hand never was."""
    channel = world.Channel(2)
    async with world.ErrGroup(limit=None) as group:
        for _ in range(2):
            await group.go_background(channel.receive)
        await in_line(world, channel, receivers=2)
        assert channel.statistics() == ChannelStatistics(0, 0, 0, 2, closed=False)

        channel.send_nowait(1)
        assert channel.statistics() == ChannelStatistics(0, 0, 0, 1, closed=False)
        channel.send_nowait(2)
        channel.send_nowait(3)
        assert channel.statistics() == ChannelStatistics(1, 1, 0, 0, closed=False)
        channel.receive_nowait()
    assert channel.statistics() == ChannelStatistics(0, 1, 0, 0, closed=False)


@in_every_world
async def test_peak_is_remembered(world: World) -> None:
    """It does not sink with what is buffered, and rises again only above."""
    channel = world.Channel(10)
    peaks: list[int] = []
    for count in (3, 2, 5):
        await send_all(channel, *range(count))
        for _ in range(count):
            await channel.receive()
        peaks.append(channel.statistics().peak)

    assert peaks == [3, 3, 5]


@in_every_world
async def test_statistics_are_a_snapshot(world: World) -> None:
    """They are frozen, and do not follow the channel."""
    channel = world.Channel(1)
    before = channel.statistics()
    channel.send_nowait(1)

    assert before == ChannelStatistics(0, 0, 0, 0, closed=False)
    with pytest.raises(AttributeError):
        before.buffered = 1
