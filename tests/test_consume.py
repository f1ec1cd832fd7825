"""consume: one item after the other, until the end, the error or the cancellation."""

from collections.abc import Generator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Channel, consume
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


async def test_handler_may_raise_what_would_end_a_loop() -> None:
    """An end of some other iteration is an error like others."""
    channel = filled(1)

    async def fail(item: int) -> None:
        raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration):
        await consume(channel, fail)
    assert not channel.statistics().closed


# Bad arguments


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


@on_asyncio
async def test_coroutine_may_be_closed_where_no_loop_runs() -> None:
    """As at the end of a loop that left it behind: it just ends."""
    channel = Channel[int](1)
    coro = consume(channel, anyio.sleep, drain=5)
    coro.send(None)
    await anyio.to_thread.run_sync(coro.close)

    assert channel.statistics().waiting_receivers == 0
