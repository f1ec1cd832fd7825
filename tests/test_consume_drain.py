"""consume(drain=...): what was buffered is handled before the cancellation goes on."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from safeconc import (
    Channel,
    Context,
    ContextCancelled,
    DeadlineExceeded,
    ErrGroup,
    check,
    consume,
    current_context,
    to_thread,
)
from tests.harness import on_asyncio
from tests.test_consume import filled

virtual_clock = pytest.mark.virtual_clock
now = anyio.current_time


async def cancelled(
    channel: Channel[int],
    handler: Callable[[int], Awaitable[object]],
    drain: float | None = 100,
) -> None:
    """Consume in a scope that is cancelled before the first item is taken."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await consume(channel, handler, drain=drain)
        pytest.fail("the cancellation did not go on")

    assert scope.cancelled_caught


async def never(item: int) -> None:
    """Be a handler that should not be called."""
    pytest.fail(f"handled {item}")


async def nap(seen: list[tuple[int, float]], seconds: float, item: int) -> None:
    """Be a slow handler, that notes when it has done it."""
    await anyio.sleep(seconds)
    seen.append((item, now()))


# What is handled


@virtual_clock
@pytest.mark.parametrize("drain", [35, math.inf])
async def test_what_was_buffered_is_handled_before_the_end(drain: float) -> None:
    """In order, shielded, and then the cancellation goes on at once."""
    channel = filled(1, 2, 3)
    seen: list[tuple[int, float]] = []
    await cancelled(channel, partial(nap, seen, 10), drain)

    assert seen == [(1, 10), (2, 20), (3, 30)]
    assert now() == 30
    assert channel.statistics().buffered == 0


@virtual_clock
async def test_what_the_time_does_not_suffice_for_stays() -> None:
    """The item in hand is cancelled at the very instant; the others are counted."""
    channel = filled(1, 2, 3, 4)
    seen: list[tuple[int, float]] = []
    await cancelled(channel, partial(nap, seen, 10), 15)

    assert seen == [(1, 10)]
    assert now() == 15
    assert channel.statistics().buffered == 2
    assert [channel.receive_nowait() for _ in range(2)] == [3, 4]


@virtual_clock
async def test_handler_that_outstays_the_time_is_the_last() -> None:
    """No item is taken only to be cancelled at once."""
    channel = filled(1, 2, 3)
    seen: list[tuple[int, float]] = []

    async def handle(item: int) -> None:
        with anyio.CancelScope(shield=True):
            await nap(seen, 10, item)

    await cancelled(channel, handle, 5)

    assert seen == [(1, 10)]
    assert channel.statistics().buffered == 2


async def test_no_time_puts_back_what_was_just_received() -> None:
    """It is the next one again."""
    channel = Channel[int](5)
    async with ErrGroup(limit=None) as group:
        service = await group.go_background(partial(consume, channel, never, drain=0))
        await anyio.wait_all_tasks_blocked()
        channel.send_nowait(1)
        channel.send_nowait(2)
        service.cancel()

    assert [channel.receive_nowait(), channel.receive_nowait()] == [1, 2]


async def test_who_waits_gets_what_is_put_back() -> None:
    """Also if nothing else comes."""
    channel = Channel[int](5)
    async with ErrGroup(limit=None) as group:
        service = await group.go_background(partial(consume, channel, never, drain=0))
        await anyio.wait_all_tasks_blocked()
        other = await group.go(channel.receive)
        await anyio.wait_all_tasks_blocked()
        channel.send_nowait(1)
        service.cancel()

    assert other.result() == 1


@virtual_clock
async def test_item_sent_in_the_turn_of_the_stop_is_handled() -> None:
    """It is in the hand of the consumer, not of the handler, and comes first."""
    channel = Channel[int](5)
    seen: list[tuple[int, float]] = []
    async with ErrGroup(limit=None) as group:
        await group.go_background(
            partial(consume, channel, partial(nap, seen, 10), drain=100)
        )
        await anyio.sleep(5)
        for item in (1, 2, 3):
            await channel.send(item)

    assert seen == [(1, 15), (2, 25), (3, 35)]


@virtual_clock
@on_asyncio
async def test_item_sent_in_the_turn_of_a_native_stop_is_handled() -> None:
    """A cancellation that is told once is seen as well."""
    channel = Channel[int](5)
    seen: list[tuple[int, float]] = []
    task = asyncio.create_task(consume(channel, partial(nap, seen, 10), drain=math.inf))
    await anyio.sleep(5)
    for item in (1, 2, 3):
        await channel.send(item)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert seen == [(1, 15), (2, 25), (3, 35)]


@virtual_clock
async def test_item_in_hand_is_cancelled_before_the_rest_is_handled() -> None:
    """It is an await like any; only what was still buffered is shielded."""
    channel = filled(1, 2, 3)
    seen: list[tuple[int, float]] = []
    async with ErrGroup(limit=None) as group:
        await group.go_background(
            partial(consume, channel, partial(nap, seen, 10), drain=100)
        )
        await anyio.sleep(5)

    assert seen == [(2, 15), (3, 25)]
    assert now() == 25


@virtual_clock
async def test_cancelled_while_waiting_finds_nothing() -> None:
    """There is nothing to drain, so it ends at once."""
    channel = Channel[int](3)
    async with ErrGroup(limit=None) as group:
        await group.go_background(partial(consume, channel, anyio.sleep, drain=100))
        await anyio.sleep(5)

    assert now() == 5


# The context of a handler


@virtual_clock
async def test_handler_is_whole_though_the_context_has_ended() -> None:
    """It may open contexts and groups of its own, in the time that it has."""
    channel = filled(1, 2)
    seen: list[tuple[int, float]] = []
    remaining: list[float] = []

    async def handle(item: int) -> None:
        context = current_context()
        assert context is not None
        assert not context.done
        remaining.append(context.remaining)
        check()
        async with Context(timeout=50), ErrGroup(limit=1) as group:
            await group.go(nap, seen, 10, item)

    with pytest.raises(ContextCancelled, match="over now"):
        async with Context(name="over now") as ctx:
            ctx.cancel()
            await consume(channel, handle, drain=100)

    assert seen == [(1, 10), (2, 20)]
    assert remaining == [100, 90]


async def test_handler_may_use_threads_though_the_context_has_ended() -> None:
    """They see the drain's context, which has not."""
    channel = filled(1, 2)
    seen: list[int] = []

    async def handle(item: int) -> None:
        await to_thread(check)
        seen.append(item)

    with pytest.raises(ContextCancelled):
        async with Context() as ctx:
            ctx.cancel()
            await consume(channel, handle, drain=math.inf)

    assert seen == [1, 2]


@virtual_clock
async def test_functions_registered_by_a_handler_run_in_time() -> None:
    """The drain is a context like others, without a parent."""
    channel = filled(1)
    seen: list[object] = []

    async def handle(item: int) -> None:
        context = current_context()
        assert context is not None
        context.after(lambda: seen.append(now()))
        await anyio.sleep_forever()

    await cancelled(channel, handle, 7)

    assert seen == [7]


@virtual_clock
async def test_handler_that_looks_at_the_time_itself_ends_quietly() -> None:
    """That the drain's time is up is no error, whoever raises it."""
    channel = filled(1, 2)

    async def handle(item: int) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10)
        check()

    await cancelled(channel, handle, 5)

    assert channel.statistics().buffered == 1


@virtual_clock
@pytest.mark.parametrize("own", [3, 5])
async def test_deadline_of_the_handler_is_an_error(own: float) -> None:
    """It is told from that of the drain, with which it may coincide."""
    channel = filled(1, 2)

    async def handle(item: int) -> None:
        with anyio.CancelScope(shield=True):
            context = Context.root(timeout=own, name="own")
            await anyio.sleep(own)
            context.check()

    with pytest.raises(DeadlineExceeded, match="own"):
        await cancelled(channel, handle, 5)

    assert channel.statistics().buffered == 1


# Errors and further cancellations


async def test_sync_handler_is_told_in_the_drain_as_well() -> None:
    """A mistake is louder than a cancellation."""
    handler: Any = print
    channel = filled(1, 2)
    with pytest.raises(TypeError, match="not a coroutine function"):
        await cancelled(channel, handler)

    assert channel.statistics().buffered == 1


@virtual_clock
@on_asyncio
async def test_second_native_cancellation_ends_the_drain() -> None:
    """There is no shield against it; what is left stays."""
    channel = filled(1, 2, 3)
    seen: list[tuple[int, float]] = []
    task = asyncio.create_task(consume(channel, partial(nap, seen, 10), drain=math.inf))
    await anyio.sleep(5)
    task.cancel()
    await anyio.sleep(15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert seen == [(2, 15)]
    assert now() == 20
    assert task.cancelling() == 2
    assert channel.statistics().buffered == 0


@virtual_clock
@on_asyncio
async def test_native_cancellation_drains_as_well() -> None:
    """Once, and it goes on as what it was."""
    channel = filled(1, 2, 3)
    seen: list[tuple[int, float]] = []
    task = asyncio.create_task(consume(channel, partial(nap, seen, 10), drain=15))
    await anyio.sleep(5)
    task.cancel("by hand")
    with pytest.raises(asyncio.CancelledError, match="by hand"):
        await task

    assert seen == [(2, 15)]
    assert now() == 20
    assert channel.statistics().buffered == 0
