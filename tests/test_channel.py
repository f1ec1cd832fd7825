"""Channel: what is sent is received, in order, and no more than fits waits there."""

import math
from itertools import chain
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Channel, ChannelStatistics, ErrGroup

capacities = pytest.mark.parametrize("capacity", [0, 1, 3, 100])


async def receive_into(channel: Channel[int], received: list[int]) -> None:
    """Be a consumer."""
    async for item in channel:
        received.append(item)  # noqa: PERF401 - seen by others before the end


async def send_all(channel: Channel[int], *items: int) -> None:
    """Be a producer."""
    for item in items:
        await channel.send(item)


# Making one


@pytest.mark.parametrize("capacity", [1.0, 0.5, True, False, None, math.inf, "3"])
def test_capacity_is_a_whole_number(capacity: Any) -> None:
    """Neither "no bound" nor what merely compares with numbers is one."""
    with pytest.raises(
        TypeError, match=r"capacity must be a whole number, not .*bound"
    ):
        Channel(capacity)


def test_capacity_is_not_negative() -> None:
    """There is no less room than none."""
    with pytest.raises(ValueError, match="capacity must not be negative: -1"):
        Channel(-1)


def test_capacity_must_be_given() -> None:
    """No number would be right for everybody."""
    with pytest.raises(TypeError, match="capacity"):
        Channel()  # type: ignore[call-arg]


def test_it_is_made_and_filled_without_a_loop() -> None:
    """Nobody waits, so no loop is needed."""
    channel = Channel[int](2)
    channel.send_nowait(1)

    assert channel.receive_nowait() == 1
    channel.close()
    assert channel.statistics() == ChannelStatistics(0, 1, 0, 0, closed=True)


def test_what_needs_a_loop_says_so() -> None:
    """A call that is stepped by hand, outside of any loop, is told what is missing."""
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        Channel[int](1).send(1).send(None)


def test_repr_tells_how_full_it_is() -> None:
    """And whether it is closed; a name stands in for the type alone."""
    channel = Channel[int](3)
    named = Channel[int](3, name="orders")
    named.send_nowait(1)
    named.close()

    assert repr(channel) == "<Channel 0/3>"
    assert repr(named) == "<Channel 'orders' 1/3, closed>"


# Items


@capacities
async def test_items_arrive_in_order(capacity: int) -> None:
    """What was sent first is received first, each item once."""
    channel = Channel[int](capacity)
    received: list[int] = []
    async with ErrGroup(limit=None) as group:
        await group.go(receive_into, channel, received)
        async with channel:
            await send_all(channel, *range(250))

    assert received == list(range(250))


@capacities
async def test_items_arrive_in_order_when_calls_are_hot(capacity: int) -> None:
    """Thousands of calls, most of which look at nothing, change nothing."""
    channel = Channel[int](capacity)
    received: list[int] = []
    async with ErrGroup(limit=None) as group:
        await group.go(receive_into, channel, received)
        async with channel:
            await send_all(channel, *range(3000))

    assert received == list(range(3000))


async def test_any_object_may_be_sent() -> None:
    """None and what is falsy are items like others."""
    channel = Channel[object](5)
    items = [None, False, 0, (), ValueError]
    for item in items:
        await channel.send(item)

    assert [await channel.receive() for _ in items] == items


@capacities
async def test_producer_is_never_ahead_by_more_than_the_capacity(
    capacity: int,
) -> None:
    """One more waits in the hand of the sender."""
    channel = Channel[int](capacity)
    async with ErrGroup(limit=None) as group:
        await group.go_background(send_all, channel, *range(300))
        await anyio.wait_all_tasks_blocked()
        for taken in range(1, 20):
            assert channel.statistics() == ChannelStatistics(
                capacity, capacity, 1, 0, closed=False
            )
            assert await channel.receive() == taken - 1
            await anyio.wait_all_tasks_blocked()


async def test_rendezvous_sender_waits_for_its_receiver() -> None:
    """With capacity 0 an item that was sent has been received."""
    channel = Channel[int](0)
    async with ErrGroup(limit=None) as group:
        sender = await group.go(channel.send, 1)
        await anyio.wait_all_tasks_blocked()
        assert not sender.done

        assert await channel.receive() == 1
        await sender
    assert channel.statistics().peak == 0


# Without waiting


async def test_send_nowait_needs_room() -> None:
    """Without it nothing is sent."""
    channel = Channel[int](1)
    channel.send_nowait(1)

    with pytest.raises(anyio.WouldBlock):
        channel.send_nowait(2)
    assert channel.receive_nowait() == 1
    with pytest.raises(anyio.WouldBlock):
        channel.receive_nowait()


async def test_send_nowait_hands_to_who_waits() -> None:
    """There is room with capacity 0 while somebody receives."""
    channel = Channel[int](0)
    async with ErrGroup(limit=None) as group:
        receiver = await group.go(channel.receive)
        await anyio.wait_all_tasks_blocked()
        channel.send_nowait(1)

        with pytest.raises(anyio.WouldBlock):
            channel.send_nowait(2)
    assert receiver.result() == 1


async def test_receive_nowait_takes_from_who_waits() -> None:
    """A sender in line is let go, with capacity 0 as well."""
    channel = Channel[int](0)
    async with ErrGroup(limit=None) as group:
        sender = await group.go(channel.send, 1)
        await anyio.wait_all_tasks_blocked()

        assert channel.receive_nowait() == 1
    assert sender.done


# Fairness


@pytest.mark.parametrize("calls", ["few", "many"])
async def test_who_has_waited_longest_receives_first(calls: str) -> None:
    """Receivers are served in the order in which they came."""
    channel = Channel[int](5)
    if calls == "many":
        for _ in range(1100):
            await channel.send(0)
            await channel.receive()
    served: list[tuple[int, int]] = []

    async def receive(number: int) -> None:
        served.append((number, await channel.receive()))

    async with ErrGroup(limit=None) as group:
        for number in range(4):
            await group.go(receive, number)
            await anyio.wait_all_tasks_blocked()
        for item in range(4):
            channel.send_nowait(item)

    assert sorted(served) == [(number, number) for number in range(4)]


@pytest.mark.parametrize("capacity", [0, 2])
async def test_who_has_waited_longest_sends_first(capacity: int) -> None:
    """Senders are, too; a newcomer does not get in before them."""
    channel = Channel[int](capacity)
    async with ErrGroup(limit=None) as group:
        for item in range(capacity + 3):
            await group.go(channel.send, item)
            await anyio.wait_all_tasks_blocked()
        assert await channel.receive() == 0
        with pytest.raises(anyio.WouldBlock):
            channel.send_nowait(99)
        await group.go(channel.send, 99)
        await anyio.wait_all_tasks_blocked()

        rest = [await channel.receive() for _ in range(capacity + 3)]
    assert rest == [*range(1, capacity + 3), 99]


async def test_receiver_that_comes_later_gets_nothing_of_who_waits() -> None:
    """What was handed over is the waiter's, though it has not run yet."""
    channel = Channel[int](1)
    async with ErrGroup(limit=None) as group:
        waiter = await group.go(channel.receive)
        await anyio.wait_all_tasks_blocked()
        await channel.send(1)

        with pytest.raises(anyio.WouldBlock):
            channel.receive_nowait()
    assert waiter.result() == 1


# Several at both ends


@capacities
async def test_many_producers_and_consumers_lose_and_double_nothing(
    capacity: int,
) -> None:
    """Each item arrives once; those of one producer in its order."""
    channel = Channel[int](capacity)
    received: list[list[int]] = [[] for _ in range(4)]
    async with ErrGroup(limit=None) as group:
        for each in received:
            await group.go(receive_into, channel, each)
        async with channel, ErrGroup(limit=None) as producers:
            for first in range(0, 500, 100):
                await producers.go(send_all, channel, *range(first, first + 100))

    assert sorted(chain(*received)) == list(range(500))
    for each in received:
        for first in range(0, 500, 100):
            own = [item for item in each if first <= item < first + 100]
            assert own == sorted(own)


async def test_loop_over_a_channel_may_go_on_elsewhere() -> None:
    """Leaving a loop takes nothing; another one goes on with the next item."""
    channel = Channel[int](5)
    await send_all(channel, 1, 2, 3)
    channel.close()
    async for item in channel:
        assert item == 1
        break

    assert [item async for item in channel] == [2, 3]


# Statistics


async def test_statistics_count_items_and_who_waits() -> None:
    """Peak is what was buffered at most; what went from hand to hand never was."""
    channel = Channel[int](2)
    async with ErrGroup(limit=None) as group:
        for _ in range(2):
            await group.go_background(channel.receive)
        await anyio.wait_all_tasks_blocked()
        assert channel.statistics() == ChannelStatistics(0, 0, 0, 2, closed=False)

        channel.send_nowait(1)
        assert channel.statistics() == ChannelStatistics(0, 0, 0, 1, closed=False)
        channel.send_nowait(2)
        channel.send_nowait(3)
        assert channel.statistics() == ChannelStatistics(1, 1, 0, 0, closed=False)
        channel.receive_nowait()
        await checkpoint()
    assert channel.statistics() == ChannelStatistics(0, 1, 0, 0, closed=False)


async def test_peak_is_remembered() -> None:
    """It does not sink with what is buffered, and rises again only above."""
    channel = Channel[int](10)
    peaks: list[int] = []
    for count in (3, 2, 5):
        await send_all(channel, *range(count))
        for _ in range(count):
            await channel.receive()
        peaks.append(channel.statistics().peak)

    assert peaks == [3, 3, 5]


def test_statistics_are_a_snapshot() -> None:
    """They are frozen, and do not follow the channel."""
    channel = Channel[int](1)
    before = channel.statistics()
    channel.send_nowait(1)

    assert before == ChannelStatistics(0, 0, 0, 0, closed=False)
    with pytest.raises(AttributeError):
        before.buffered = 1  # type: ignore[misc]
