"""Channel between tasks: calls that look at nothing, and where there is no loop.

What it promises in every world is in ``test_channel_promises``.
"""

import anyio
import pytest

from safeconc import Channel, ChannelStatistics, ErrGroup
from tests.test_channel_promises import capacities, receive_into, send_all


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


async def test_who_waits_at_a_hot_channel_is_served_in_order() -> None:
    """Calls that looked at nothing have left the line as it should be."""
    channel = Channel[int](5)
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
