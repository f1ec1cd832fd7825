"""A wait ends by being handed something, or by being cancelled: never by both."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc._context import spend
from safeconc._loop import running_loop
from safeconc._waiter import Waiter
from tests.harness import on_asyncio


async def test_wait_returns_what_was_handed() -> None:
    """What is handed is what comes out, None as well."""
    waiter, other = Waiter(), Waiter()
    waiter.hand(7)
    other.hand()

    assert await waiter.wait() == 7
    assert await other.wait() is None


async def test_wait_lasts_until_the_hand_over() -> None:
    """Nothing is returned before."""
    waiter = Waiter()
    seen: list[object] = []

    async def wait() -> None:
        seen.append(await waiter.wait())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        waiter.hand("x")

    assert seen == ["x"]


async def test_cancelled_wait_raises() -> None:
    """A wait that nobody ended is an ordinary checkpoint."""
    with anyio.move_on_after(0.01) as scope:
        await Waiter().wait()

    assert scope.cancelled_caught


@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_hand_over_beats_a_cancellation(cancelled_first: bool) -> None:
    """When both come in one turn what was handed is not lost, nor is the other."""
    waiter = Waiter()
    scope = anyio.CancelScope()
    seen: list[object] = []

    async def wait() -> None:
        with scope:
            seen.append(await waiter.wait())
            await checkpoint()
            seen.append("went on")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        if cancelled_first:
            scope.cancel()
        waiter.hand("x")
        scope.cancel()

    assert seen == ["x"]
    assert scope.cancelled_caught


@on_asyncio
@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_hand_over_beats_a_native_cancellation(cancelled_first: bool) -> None:
    """Told of only once, it is asked for again, with its message."""
    waiter = Waiter()
    seen: list[object] = []

    async def wait() -> None:
        seen.append(await waiter.wait())
        try:
            await checkpoint()
        except asyncio.CancelledError as exc:
            seen.append(exc.args)
            raise

    task = asyncio.create_task(wait())
    await anyio.wait_all_tasks_blocked()
    if cancelled_first:
        task.cancel("enough")
    waiter.hand("x")
    if not cancelled_first:
        task.cancel("enough")
    await asyncio.wait([task])

    assert seen == ["x", ("enough",)]
    assert task.cancelling() == 1


@on_asyncio
async def test_scope_is_not_asked_for_again() -> None:
    """A scope cancels again by itself: nothing of it is left behind its block."""
    waiter = Waiter()
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            assert await waiter.wait() == "x"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        waiter.hand("x")


@on_asyncio  # trio does not let a wait be driven by hand
@pytest.mark.parametrize("order", [GeneratorExit, KeyboardInterrupt, SystemExit])
async def test_order_to_end_is_not_outranked(order: type[BaseException]) -> None:
    """Only a cancellation loses to what was handed over; who is closed, ends."""
    waiter = Waiter()
    wait = waiter.wait()
    wait.send(None)

    waiter.hand("x")

    with pytest.raises(order):
        wait.throw(order)


@on_asyncio
async def test_cancellation_that_lost_arrives_at_the_next_call_that_looks() -> None:
    """One of our own awaits that need not wait is enough to hear of it."""
    waiter = Waiter()
    seen: list[object] = []

    async def wait() -> None:
        seen.append(await waiter.wait())
        await spend(running_loop())
        seen.append("went on")

    task = asyncio.ensure_future(wait())
    await checkpoint()
    waiter.hand("x")
    task.cancel()
    await asyncio.wait([task])

    assert seen == ["x"]
    assert task.cancelled()
