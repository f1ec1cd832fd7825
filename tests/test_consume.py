"""consume: one item after the other, until the end, the error or the cancellation."""

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Channel, ChannelClosed, ErrGroup, consume
from tests.harness import on_asyncio


def filled(*items: int) -> Channel[int]:
    """Make a channel with items in it."""
    channel = Channel[int](max(len(items), 1))
    for item in items:
        channel.send_nowait(item)
    return channel


async def note(seen: list[int], item: int) -> None:
    """Be a handler."""
    await checkpoint()
    seen.append(item)


# Until the end


async def test_every_item_is_handled_in_order() -> None:
    """One at a time, and the end of the channel is the end."""
    channel = Channel[int](0)
    begun: list[int] = []
    seen: list[int] = []

    async def handle(item: int) -> None:
        assert begun == seen
        begun.append(item)
        await checkpoint()
        seen.append(item)

    async with ErrGroup(limit=None) as group:
        await group.go(consume, channel, handle)
        async with channel:
            for item in range(10):
                await channel.send(item)

    assert seen == list(range(10))


async def test_any_awaitable_will_do() -> None:
    """A callable may return an object that can be awaited."""

    class Later:
        def __init__(self, item: int) -> None:
            self.item = item

        def __await__(self) -> Generator[Any, Any, None]:
            return note(seen, self.item).__await__()

    seen: list[int] = []
    channel = filled(1, 2)
    channel.close()
    await consume(channel, Later)

    assert seen == [1, 2]


async def test_error_of_the_channel_is_raised_after_its_items() -> None:
    """A consumer that was cut off does not end as if it had seen all."""
    channel = filled(1)
    error = OSError()
    channel.close(error)
    seen: list[int] = []

    with pytest.raises(ChannelClosed) as caught:
        await consume(channel, partial(note, seen), drain=5)
    assert seen == [1]
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("drain", [None, 5])
async def test_error_of_the_handler_ends_it(drain: float | None) -> None:
    """That very error; what was not handled is left, since nobody cancelled."""
    channel = filled(1, 2, 3)
    error = OSError()

    async def fail(item: int) -> None:
        await checkpoint()
        if item == 2:
            raise error

    with pytest.raises(OSError) as caught:
        await consume(channel, fail, drain=drain)
    assert caught.value is error
    assert channel.statistics().buffered == 1


async def test_handler_may_raise_what_would_end_a_loop() -> None:
    """An end of some other iteration is an error like others."""
    channel = filled(1)

    async def fail(item: int) -> None:
        raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration):
        await consume(channel, fail)
    assert not channel.statistics().closed


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
async def test_bad_drain_is_refused(
    drain: Any, error: type[Exception], message: str
) -> None:
    """Before an item is taken."""
    channel = filled(1)

    with pytest.raises(error, match=message):
        await consume(channel, anyio.sleep, drain=drain)
    assert channel.statistics().buffered == 1


@pytest.mark.parametrize("channel", [None, [1, 2], Channel])
async def test_bad_channel_is_refused(channel: Any) -> None:
    """Other things that can be iterated over have no end to wait for."""
    with pytest.raises(TypeError, match="expected a Channel, not"):
        await consume(channel, anyio.sleep)


async def test_bad_handler_is_refused() -> None:
    """A coroutine is no function, and is closed; nothing has been taken."""
    channel = filled(1)
    coro: Any = checkpoint()

    with pytest.raises(TypeError, match=r"got the coroutine .*checkpoint\(\)"):
        await consume(channel, coro)
    handler: Any = 5
    with pytest.raises(TypeError, match="expected a coroutine function, not 5"):
        await consume(channel, handler)
    assert channel.statistics().buffered == 1


async def test_sync_handler_is_told_at_its_first_item() -> None:
    """What to write instead is said."""

    def handle(item: int) -> None:
        pass

    handler: Any = handle
    with pytest.raises(
        TypeError, match=r"handle is not a coroutine function.*to_thread"
    ):
        await consume(filled(1), handler)


# Cancelled without a drain


@pytest.mark.parametrize("items", [0, 3])
async def test_it_is_a_checkpoint(items: int) -> None:
    """Cancelled before, it takes nothing."""
    channel = filled(*range(items))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await consume(channel, anyio.sleep)
        pytest.fail("passed")

    assert scope.cancelled_caught
    assert channel.statistics().buffered == items


async def test_item_in_hand_is_cancelled() -> None:
    """Those behind it stay in the channel."""
    channel = filled(1, 2, 3)
    seen: list[int] = []

    async def handle(item: int) -> None:
        seen.append(item)
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with ErrGroup(limit=None) as group:
            await group.go(consume, channel, handle)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

    assert seen == [1]
    assert channel.statistics().buffered == 2


async def test_waiting_for_an_item_is_cancelled() -> None:
    """It leaves the line."""
    channel = Channel[int](1)
    async with ErrGroup(limit=None) as group:
        await group.go_background(consume, channel, anyio.sleep)
        await anyio.wait_all_tasks_blocked()
        assert channel.statistics().waiting_receivers == 1

    assert channel.statistics().waiting_receivers == 0


@on_asyncio
async def test_coroutine_may_be_closed_where_no_loop_runs() -> None:
    """As at the end of a loop that left it behind: it just ends."""
    channel = Channel[int](1)
    coro = consume(channel, anyio.sleep, drain=5)
    coro.send(None)
    await anyio.to_thread.run_sync(coro.close)

    assert channel.statistics().waiting_receivers == 0
