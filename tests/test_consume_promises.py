"""consume, in tasks and in threads: one item after the other, until the end."""

import math
from functools import partial
from typing import Any

import anyio
import pytest

from safeconc import ChannelClosed, ContextCancelled, check, current_context
from tests.test_channel_promises import in_line
from tests.worlds import World, in_every_world


def filled(world: World, *items: int) -> Any:
    """Make a channel with items in it."""
    channel = world.Channel(max(len(items), 1))
    for item in items:
        channel.send_nowait(item)
    return channel


async def note(seen: list[int], item: int) -> None:
    """Be a handler."""
    seen.append(item)


async def cancelled(
    world: World, channel: Any, handler: Any, drain: float | None = 100
) -> None:
    """Consume in a context that ended before the first item was taken."""
    with pytest.raises(ContextCancelled, match="over now"):
        async with world.context(name="over now") as context:
            context.cancel()
            await world.consume(channel, handler, drain=drain)


# Until the end


@in_every_world
async def test_every_item_is_handled_in_order(world: World) -> None:
    """One at a time, and the end of the channel is the end."""
    channel = world.Channel(0)
    begun: list[int] = []
    seen: list[int] = []

    async def handle(item: int) -> None:
        assert begun == seen
        begun.append(item)
        await world.pause()
        seen.append(item)

    async with world.ErrGroup(limit=None) as group:
        await group.go(world.consume, channel, handle)
        async with channel:
            for item in range(10):
                await channel.send(item)

    assert seen == list(range(10))


@in_every_world
async def test_error_of_the_channel_is_raised_after_its_items(world: World) -> None:
    """A consumer that was cut off does not end as if it had seen all."""
    channel = filled(world, 1)
    error = OSError()
    channel.close(error)
    seen: list[int] = []

    with pytest.raises(ChannelClosed) as caught:
        await world.consume(channel, partial(note, seen), drain=5)
    assert seen == [1]
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("drain", [None, 5])
@in_every_world
async def test_error_of_the_handler_ends_it(world: World, drain: float | None) -> None:
    """That very error; what was not handled is left, since nobody cancelled."""
    channel = filled(world, 1, 2, 3)
    error = OSError()

    async def fail(item: int) -> None:
        await world.pause()
        if item == 2:
            raise error

    with pytest.raises(OSError) as caught:
        await world.consume(channel, fail, drain=drain)
    assert caught.value is error
    assert channel.statistics().buffered == 1


@in_every_world
async def test_two_consumers_share_what_there_is(world: World) -> None:
    """Each item goes to one of them."""
    channel = world.Channel(3)
    seen: list[int] = []
    async with world.ErrGroup(limit=None) as group:
        for _ in range(2):
            await group.go(world.consume, channel, partial(note, seen))
        async with channel:
            for item in range(100):
                await channel.send(item)

    assert sorted(seen) == list(range(100))


# Bad arguments


@pytest.mark.parametrize(
    "drain, error, message",
    [
        (-1, ValueError, "drain must not be negative: -1"),
        (-math.inf, ValueError, "drain must not be negative: -inf"),
        (math.nan, ValueError, "drain must be a number of seconds, not NaN"),
        (True, TypeError, "drain must be a number of seconds, not True"),
        ("5", TypeError, "drain must be a number of seconds, not '5'"),
        (10**400, ValueError, "drain is out of range"),
    ],
)
@in_every_world
async def test_bad_drain_is_refused(
    world: World, drain: Any, error: type[Exception], message: str
) -> None:
    """Before an item is taken."""
    channel = filled(world, 1)

    with pytest.raises(error, match=message):
        await world.consume(channel, partial(note, []), drain=drain)
    assert channel.statistics().buffered == 1


@pytest.mark.parametrize("channel", [None, [1, 2], anyio])
@in_every_world
async def test_bad_channel_is_refused(world: World, channel: Any) -> None:
    """Other things that can be iterated over have no end to wait for."""
    with pytest.raises(TypeError, match=r"expected a Channel.*, not"):
        await world.consume(channel, partial(note, []))


@in_every_world
async def test_bad_handler_is_refused(world: World) -> None:
    """What cannot be called; nothing has been taken."""
    channel = filled(world, 1)

    with pytest.raises(TypeError):
        await world.consume(channel, 5)
    assert channel.statistics().buffered == 1


# Cancelled


@pytest.mark.parametrize("items", [0, 3])
@in_every_world
async def test_cancelled_before_it_takes_nothing(world: World, items: int) -> None:
    """Whether there is something or not."""
    channel = filled(world, *range(items))
    await cancelled(world, channel, pytest.fail, None)

    assert channel.statistics().buffered == items


@in_every_world
async def test_item_in_hand_is_cancelled(world: World) -> None:
    """Those behind it stay in the channel."""
    channel = filled(world, 1, 2, 3)
    seen: list[int] = []

    async def handle(item: int) -> None:
        seen.append(item)
        await world.sleep_forever()

    async with world.ErrGroup(limit=None) as group:
        await group.go(world.consume, channel, handle)
        await world.until(lambda: seen)
        group.cancel()

    assert seen == [1]
    assert channel.statistics().buffered == 2


@in_every_world
async def test_waiting_for_an_item_is_cancelled(world: World) -> None:
    """It leaves the line."""
    channel = world.Channel(1)
    async with world.ErrGroup(limit=None) as group:
        await group.go_background(world.consume, channel, partial(note, []))
        await in_line(world, channel, receivers=1)

    await in_line(world, channel)


# The drain


@pytest.mark.parametrize("drain", [35, math.inf])
@in_every_world
async def test_what_was_buffered_is_handled_before_the_end(
    world: World, drain: float
) -> None:
    """In order, and then the cancellation goes on."""
    channel = filled(world, 1, 2, 3)
    seen: list[int] = []
    await cancelled(world, channel, partial(note, seen), drain)

    assert seen == [1, 2, 3]
    assert channel.statistics().buffered == 0


@pytest.mark.parametrize("drain", [None, 0, 0.0])
@in_every_world
async def test_no_time_means_no_item(world: World, drain: float | None) -> None:
    """Nothing is taken."""
    channel = filled(world, 1, 2)
    await cancelled(world, channel, pytest.fail, drain)

    assert channel.statistics().buffered == 2


@in_every_world
async def test_item_in_hand_is_cancelled_before_the_rest_is_handled(
    world: World,
) -> None:
    """Only what was still buffered is handled."""
    channel = filled(world, 1, 2, 3)
    begun: list[int] = []
    seen: list[int] = []

    async def handle(item: int) -> None:
        begun.append(item)
        if item == 1:
            await world.sleep_forever()
        seen.append(item)

    async with world.ErrGroup(limit=None) as group:
        await group.go_background(partial(world.consume, channel, handle, drain=100))
        await world.until(lambda: begun)

    assert seen == [2, 3]


@in_every_world
async def test_only_what_was_buffered_at_that_moment_is_handled(world: World) -> None:
    """Not what waiting senders bring in meanwhile, or there might be no end."""
    channel = filled(world, 1, 2)
    seen: list[int] = []
    async with world.ErrGroup(limit=None) as group:
        for place, item in enumerate((3, 4)):
            await group.go(channel.send, item)
            await in_line(world, channel, senders=place + 1)
        await cancelled(world, channel, partial(note, seen))

    assert seen == [1, 2]
    assert [channel.receive_nowait() for _ in range(2)] == [3, 4]


@in_every_world
async def test_nothing_is_buffered_in_a_rendezvous(world: World) -> None:
    """The items of waiting senders are still theirs."""
    channel = world.Channel(0)
    async with world.ErrGroup(limit=None) as group:
        await group.go_background(channel.send, 1)
        await in_line(world, channel, senders=1)
        await cancelled(world, channel, pytest.fail)

        assert channel.statistics().waiting_senders == 1


@pytest.mark.parametrize("closed", [True, False])
@in_every_world
async def test_others_may_take_what_is_left(world: World, closed: bool) -> None:
    """Whoever is faster: nothing is handled twice, and nobody waits for it."""
    channel = filled(world, 1, 2, 3)
    seen: list[int] = []

    async def handle(item: int) -> None:
        seen.append(item)
        assert channel.receive_nowait() == 2
        assert channel.receive_nowait() == 3
        if closed:
            channel.close(OSError())

    await cancelled(world, channel, handle)

    assert seen == [1]


@in_every_world
async def test_closed_channel_is_drained_as_well(world: World) -> None:
    """With an error, too: it is the cancellation that ends it."""
    channel = filled(world, 1, 2)
    channel.close(OSError())
    seen: list[int] = []
    await cancelled(world, channel, partial(note, seen))

    assert seen == [1, 2]


@in_every_world
async def test_handler_is_whole_though_the_context_has_ended(world: World) -> None:
    """It may wait, and open contexts and groups of its own."""
    channel = filled(world, 1, 2)
    seen: list[int] = []

    async def handle(item: int) -> None:
        context = current_context()
        assert context is not None
        assert context.name == "consume: drain"
        assert 0 < context.remaining <= 100
        check()
        async with world.context(timeout=50), world.ErrGroup(limit=1) as group:
            await group.go(note, seen, item)

    await cancelled(world, channel, handle)

    assert seen == [1, 2]


@in_every_world
async def test_end_of_the_drain_s_time_is_no_error(world: World) -> None:
    """The item in hand is the last one, and the rest is counted."""
    channel = filled(world, 1, 2)

    async def handle(item: int) -> None:
        await world.sleep_forever()

    await cancelled(world, channel, handle, 0.001)

    assert channel.statistics().buffered == 1


@in_every_world
async def test_error_of_a_handler_beats_the_cancellation(world: World) -> None:
    """It ends the drain, and is raised; what is left stays."""
    channel = filled(world, 1, 2, 3)
    error = OSError()

    async def handle(item: int) -> None:
        await world.pause()
        if item == 2:
            raise error

    with pytest.raises(OSError) as caught:
        await cancelled(world, channel, handle)

    assert caught.value is error
    assert channel.statistics().buffered == 1


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
@in_every_world
async def test_order_to_the_program_ends_the_drain(
    world: World, fatal: type[BaseException]
) -> None:
    """It is not parked behind the other items."""
    channel = filled(world, 1, 2)

    async def handle(item: int) -> None:
        raise fatal

    with pytest.raises(fatal):
        await cancelled(world, channel, handle)

    assert channel.statistics().buffered == 1
