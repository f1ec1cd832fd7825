"""What type checkers must infer of channels, and what they must refuse. Never runs."""

from functools import partial
from typing import assert_type

from safeconc import Channel, ChannelStatistics, ErrGroup, consume


async def handle(item: int) -> str:
    """Stand for what a user does with an item; its result is nobody's."""
    return str(item)


async def ship(host: str, item: int) -> None:
    """Stand for what needs a partial."""


def print_it(item: int) -> None:
    """Stand for what is not async."""


async def items_have_the_type_of_the_channel(channel: Channel[int]) -> None:
    """Infer what comes out."""
    assert_type(Channel[int](5), Channel[int])
    assert_type(await channel.receive(), int)
    assert_type(channel.receive_nowait(), int)
    assert_type(await anext(channel), int)
    async for item in channel:
        assert_type(item, int)


async def block_gives_the_channel() -> None:
    """Infer the block's value, and that leaving swallows nothing."""
    async with Channel[str](capacity=0, name="names") as channel:
        assert_type(channel, Channel[str])
        await channel.send("")


async def block_returns() -> int:
    """Know that what is behind the block is reached only by its end."""
    async with Channel[int](1):
        return 1


def calls_that_do_not_wait(channel: Channel[int], error: KeyError) -> None:
    """Know what they return, and which errors close."""
    channel.send_nowait(1)
    channel.close()
    channel.close(error)
    assert_type(channel.statistics(), ChannelStatistics)
    assert_type(channel.statistics().closed, bool)


async def consumers_are_accepted(channel: Channel[int], group: ErrGroup) -> None:
    """Take any coroutine function of an item, alone and in a group."""
    await consume(channel, handle)
    await consume(channel, partial(ship, "host"), drain=0.5)
    await group.go(consume, channel, handle)
    await group.go_background(partial(consume, channel, handle, drain=5))


def a_capacity_is_required() -> None:
    """Refuse what has no bound, or a part of an item."""
    Channel[int]()  # type: ignore[call-arg]
    Channel[int](None)  # type: ignore[arg-type]
    Channel[int](1.5)  # type: ignore[arg-type]


async def items_must_fit_the_channel(channel: Channel[int]) -> None:
    """Refuse items of another type."""
    await channel.send("")  # type: ignore[arg-type]
    channel.send_nowait("")  # type: ignore[arg-type]


def an_error_is_an_instance(channel: Channel[int]) -> None:
    """Refuse a text or a class."""
    channel.close("broken")  # type: ignore[arg-type]
    channel.close(ValueError)  # type: ignore[arg-type]


async def a_handler_is_async_and_fits(channel: Channel[str]) -> None:
    """Refuse a sync handler, one for other items, and a time by position."""
    await consume(Channel[int](1), print_it)  # type: ignore[arg-type]
    await consume(channel, handle)  # type: ignore[arg-type]
    await consume(channel, ship, 5)  # type: ignore[call-arg, arg-type]
