"""FanOut: results as they come, and never more of them than the consumer can take."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import ErrGroup, FanOut, FanOutStatistics


async def _echo(item: int) -> int:
    await checkpoint()
    return item


async def _at_once(item: int) -> int:
    return item


async def _forever(item: int) -> None:
    await anyio.sleep_forever()


def _endless() -> Iterator[int]:
    for item in count():
        assert item < 10_000, "nobody wanted so many"
        yield item


async def _endless_async() -> AsyncIterator[int]:
    for item in _endless():
        yield item


sources = pytest.mark.parametrize(
    "source", [_endless, _endless_async], ids=["sync", "async"]
)
orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


# Results


@pytest.mark.virtual_clock
async def test_results_leave_in_the_order_of_the_items() -> None:
    """A quick call's result waits for those that were started before."""
    start = anyio.current_time()

    async def fn(delay: int) -> int:
        await anyio.sleep(delay)
        return delay

    async with FanOut(fn, [3, 1, 2], limit=3) as results:
        seen = [(delay, anyio.current_time() - start) async for delay in results]

    assert seen == [(3, 3), (1, 3), (2, 3)]


@pytest.mark.virtual_clock
async def test_unordered_results_leave_when_they_are_ready() -> None:
    """With ordered=False nobody waits for a slower one."""
    start = anyio.current_time()

    async def fn(delay: int) -> int:
        await anyio.sleep(delay)
        return delay

    async with FanOut(fn, [3, 1, 2], limit=3, ordered=False) as results:
        seen = [(delay, anyio.current_time() - start) async for delay in results]

    assert seen == [(1, 1), (2, 2), (3, 3)]


async def test_the_end_stays_the_end() -> None:
    """After the last result, every further look says so."""
    async with FanOut(_echo, [1], limit=2) as results:
        assert [item async for item in results] == [1]

        assert [item async for item in results] == []


# Backpressure


@sources
@orders
@pytest.mark.parametrize("buffer", [None, 0, 1, 5])
async def test_nobody_consumes_so_nothing_more_starts(
    source: Any, ordered: bool, buffer: int | None
) -> None:
    """Started and not consumed are limit + buffer, however long one waits."""
    room = 3 + (3 if buffer is None else buffer)

    async with FanOut(
        _echo, source(), limit=3, ordered=ordered, buffer=buffer
    ) as results:
        await anyio.wait_all_tasks_blocked()

        assert results.statistics() == FanOutStatistics(None, room, room, 0, room)


@sources
@orders
@pytest.mark.parametrize("buffer", [None, 0, 1, 5])
async def test_each_result_taken_lets_one_more_start(
    source: Any, ordered: bool, buffer: int | None
) -> None:
    """The window moves with the consumer, step by step."""
    room = 3 + (3 if buffer is None else buffer)

    async with FanOut(
        _echo, source(), limit=3, ordered=ordered, buffer=buffer
    ) as results:
        for taken in range(1, 8):
            await anext(results)
            await anyio.wait_all_tasks_blocked()

            assert results.statistics().started == taken + room


@sources
@orders
async def test_the_first_call_holds_back_no_more_than_the_window(
    source: Any, ordered: bool
) -> None:
    """A call that never ends stops the items when its successors fill the window."""

    async def fn(item: int) -> int:
        if item == 0:
            await anyio.sleep_forever()
        return item

    async with FanOut(fn, source(), limit=2, ordered=ordered, buffer=3) as results:
        await anyio.wait_all_tasks_blocked()

        assert results.statistics() == FanOutStatistics(None, 5, 4, 0, 4)


async def test_a_long_stream_keeps_its_window_small() -> None:
    """What is kept depends on the window, not on how much has gone through."""
    most = 0

    async with FanOut(_at_once, range(10_000), limit=10) as results:
        async for item in results:
            most = max(most, results.statistics().started - item - 1)

    assert most <= 20


# Statistics


async def test_statistics_tell_the_total_where_it_is_known() -> None:
    """The length of the items is the total; a generator has none."""
    assert FanOut(_echo, [1, 2], limit=1).statistics().total == 2
    assert FanOut(_echo, _endless(), limit=1).statistics().total is None


async def test_statistics_count_the_calls_under_way() -> None:
    """Running is what has started and has not ended."""
    async with FanOut(_forever, range(10), limit=4) as results:
        await anyio.wait_all_tasks_blocked()

        assert results.statistics() == FanOutStatistics(10, 4, 0, 0, 0)
        assert results.statistics().running == 4


async def test_statistics_count_errors_that_were_given_back() -> None:
    """With return_exceptions, failed is the number of errors among the results."""

    async def fn(item: int) -> int:
        if item % 2:
            raise ValueError(item)
        return item

    async with FanOut(fn, range(5), limit=2, return_exceptions=True) as results:
        assert len([item async for item in results]) == 5

        assert results.statistics() == FanOutStatistics(5, 5, 5, 2, 0)


# Several consumers


@sources
async def test_consumers_share_the_results(source: Any) -> None:
    """Each result goes to one of them."""
    seen: list[int] = []

    async def consume() -> None:
        seen.extend([await anext(results) for _ in range(10)])

    async with FanOut(_echo, source(), limit=4) as results:
        async with ErrGroup(limit=None) as group:
            for _ in range(3):
                await group.go(consume)

    assert sorted(seen) == list(range(30))


async def test_all_consumers_are_told_the_end() -> None:
    """The end reaches also those who wait for a result that somebody else got."""
    seen: list[int] = []

    async def consume() -> None:
        seen.extend([item async for item in results])

    async with FanOut(_echo, range(5), limit=2) as results:
        async with ErrGroup(limit=None) as group:
            for _ in range(4):
                await group.go(consume)

    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_consumers_are_served_first_come_first_served() -> None:
    """Who has waited longest gets the next result."""
    order: list[tuple[str, int]] = []
    go = anyio.Event()

    async def fn(item: int) -> int:
        await go.wait()
        return item

    async def consume(name: str) -> None:
        order.append((name, await anext(results)))

    async with FanOut(fn, range(3), limit=3) as results:
        async with ErrGroup(limit=None) as group:
            for name in "abc":
                await group.go(consume, name)
                await anyio.wait_all_tasks_blocked()
            go.set()

    assert sorted(order) == [("a", 0), ("b", 1), ("c", 2)]


async def test_a_cancelled_consumer_loses_no_result() -> None:
    """What it would have got goes to the next one."""
    go = anyio.Event()

    async def fn(item: int) -> int:
        await go.wait()
        return item

    async with FanOut(fn, range(3), limit=3) as results:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(anext, results)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        go.set()

        assert [item async for item in results] == [0, 1, 2]


async def test_cancelled_together_with_the_result_loses_nothing() -> None:
    """The result that came in the turn of the cancellation is taken, or stays."""
    go = anyio.Event()
    taken: list[int] = []

    async def fn(item: int) -> int:
        await go.wait()
        return item

    async def consume() -> None:
        taken.append(await anext(results))

    async with FanOut(fn, range(3), limit=3) as results:
        async with ErrGroup(limit=None) as group:
            consumer = await group.go(consume)
            await anyio.wait_all_tasks_blocked()
            go.set()
            while not results.statistics().finished:
                await checkpoint()
            consumer.cancel()
        rest = [item async for item in results]

    assert taken + rest == [0, 1, 2]


async def test_consumers_are_refused_after_a_failure() -> None:
    """A consumer outside of the block learns that it has failed, and why."""
    go = anyio.Event()
    error = ValueError("fn")

    async def fn(item: int) -> int:
        await go.wait()
        raise error

    async def consume(results: FanOut[int]) -> None:
        with pytest.raises(RuntimeError, match="has failed") as caught:
            await anext(results)
        assert caught.value.__cause__ is error

    async with anyio.create_task_group() as tg:
        with pytest.raises(ValueError) as raised:
            async with FanOut(fn, [1], limit=1) as results:
                tg.start_soon(consume, results)
                await anyio.wait_all_tasks_blocked()
                go.set()
                await anyio.sleep_forever()
        assert raised.value is error


# Left early


@sources
@orders
async def test_break_is_quiet_and_cancels_the_rest(source: Any, ordered: bool) -> None:
    """The calls under way are over when the block has been left."""
    running = 0

    async def fn(item: int) -> int:
        nonlocal running
        running += 1
        try:
            if item:
                await anyio.sleep_forever()
            return item
        finally:
            running -= 1

    async with FanOut(fn, source(), limit=4, ordered=ordered) as results:
        async for item in results:
            assert item == 0
            await anyio.wait_all_tasks_blocked()
            assert running == 4
            break

    assert running == 0


async def test_return_is_quiet() -> None:
    """A function may return out of the block."""

    async def first() -> int:
        async with FanOut(_echo, _endless(), limit=3) as results:
            async for item in results:
                return item
        pytest.fail("nothing came")

    assert await first() == 0


@sources
async def test_an_error_of_the_body_is_that_error(source: Any) -> None:
    """The rest is cancelled, and the very error comes out as it is."""
    error = ValueError("body")

    with pytest.raises(ValueError) as caught:
        async with FanOut(_forever, source(), limit=2):
            await anyio.wait_all_tasks_blocked()
            raise error

    assert caught.value is error
    assert error.__context__ is None


async def test_leaving_waits_for_cleanup() -> None:
    """The cleanup of a call, also a shielded one, is over before the block is."""
    cleaned: list[int] = []

    async def fn(item: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                cleaned.append(item)

    async with FanOut(fn, _endless(), limit=3):
        await anyio.wait_all_tasks_blocked()

    assert sorted(cleaned) == [0, 1, 2]


async def test_no_item_is_taken_after_the_block_was_left() -> None:
    """Calls that end during the cleanup make no room for others."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in _endless():
            taken.append(item)
            yield item

    async def fn(item: int) -> None:
        with anyio.CancelScope(shield=True):
            for _ in range(5):
                await checkpoint()

    async with FanOut(fn, items(), limit=2):
        await checkpoint()
        await checkpoint()

    assert len(taken) <= 2


async def test_left_at_once() -> None:
    """An empty body is fine: nothing was wanted."""
    async with FanOut(_echo, _endless(), limit=3):
        pass


# Misuse


async def test_not_entered() -> None:
    """To iterate, one needs the block; the error says so."""
    results = FanOut(_echo, [1], limit=1)

    with pytest.raises(RuntimeError, match=r"has not been entered.*async with"):
        await anext(results)


async def test_entered_twice() -> None:
    """A fan-out has one block, during it and afterwards."""
    results = FanOut(_echo, [1], limit=1)

    async with results:
        with pytest.raises(RuntimeError, match="entered before"):
            await results.__aenter__()
    with pytest.raises(RuntimeError, match="entered before"):
        await results.__aenter__()


async def test_used_after_the_block() -> None:
    """A result that was left behind is not handed out later."""
    async with FanOut(_echo, [1, 2, 3], limit=3) as results:
        await anext(results)
        await anyio.wait_all_tasks_blocked()

    with pytest.raises(RuntimeError, match="has ended"):
        await anext(results)


async def test_used_after_a_failure() -> None:
    """The error names the failure, which is its cause."""

    async def fn(item: int) -> None:
        raise ValueError(item)

    results = FanOut(fn, [1], limit=1, name="pages")
    with pytest.raises(ValueError) as failure:
        async with results:
            await anext(results)

    with pytest.raises(RuntimeError, match="FanOut 'pages' has failed") as caught:
        await anext(results)
    assert caught.value.__cause__ is failure.value
