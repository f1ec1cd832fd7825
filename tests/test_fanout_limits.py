"""rate= and a shared limiter: what else a call waits for before it starts."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
from anyio import CapacityLimiter
from anyio.lowlevel import checkpoint

from safeconc import Context, DeadlineExceeded, FanOut, fan_out

Run = Callable[..., Coroutine[Any, Any, list[Any]]]


async def _stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    async with FanOut(fn, items, **options) as results:
        return [result async for result in results]


both = pytest.mark.parametrize("run", [fan_out, _stream], ids=["fan_out", "FanOut"])


async def _echo(item: int) -> int:
    await checkpoint()
    return item


async def _forever(item: int) -> None:
    await anyio.sleep_forever()


async def _starts(run: Run, items: Any, *, lasts: float = 0.0, **options: Any) -> Any:
    """Return when the calls started, in seconds from now."""
    begin = anyio.current_time()
    starts: list[float] = []

    async def fn(item: int) -> None:
        starts.append(anyio.current_time() - begin)
        await anyio.sleep(lasts)

    await run(fn, items, **options)
    return starts


# rate


@both
@pytest.mark.virtual_clock
async def test_starts_are_evenly_spaced(run: Run) -> None:
    """Two a second start every half second, however short the calls are."""
    starts = await _starts(run, range(5), limit=10, rate=2)

    assert starts == [0, 0.5, 1, 1.5, 2]


@both
@pytest.mark.virtual_clock
async def test_a_burst_starts_at_once(run: Run) -> None:
    """The first calls of a burst do not wait; then the rate holds."""
    starts = await _starts(run, range(6), limit=10, rate=2, burst=3)

    assert starts == [0, 0, 0, 0.5, 1, 1.5]


@both
@pytest.mark.virtual_clock
async def test_the_limit_holds_as_well(run: Run) -> None:
    """Calls that last longer than the interval wait for a slot, not for the rate."""
    starts = await _starts(run, range(4), lasts=3, limit=1, rate=1)

    assert starts == [0, 3, 6, 9]


@both
@pytest.mark.virtual_clock
async def test_a_slow_source_saves_no_starts_up(run: Run) -> None:
    """An item that came late does not pull its successor after it."""

    async def items() -> AsyncIterator[int]:
        yield 0
        await anyio.sleep(0.75)
        yield 1
        yield 2

    starts = await _starts(run, items(), limit=10, rate=2)

    assert starts == [0, 0.75, 1.25]


@both
@pytest.mark.virtual_clock
async def test_after_a_pause_a_burst_is_there_again(run: Run) -> None:
    """What was not started during the pause may start at once, up to the burst."""

    async def items() -> AsyncIterator[int]:
        yield 0
        await anyio.sleep(10)
        for item in range(4):
            yield item

    starts = await _starts(run, items(), limit=10, rate=1, burst=2)

    assert starts == [0, 10, 10, 11, 12]


@pytest.mark.virtual_clock
async def test_a_slow_consumer_counts_for_the_rate() -> None:
    """While there is no room, nothing is due, and nothing is saved up."""
    begin = anyio.current_time()
    starts: list[float] = []

    async def fn(item: int) -> None:
        starts.append(anyio.current_time() - begin)

    async with FanOut(fn, range(4), limit=1, buffer=0, rate=1) as results:
        async for _ in results:
            await anyio.sleep(2.5)

    assert starts == [0, 1, 2.5, 5]


@both
@pytest.mark.virtual_clock
async def test_waiting_for_the_rate_can_be_cancelled(run: Run) -> None:
    """A deadline between two starts is exact."""
    begin = anyio.current_time()

    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=1.5):
            await run(_echo, range(9), limit=2, rate=1)

    assert anyio.current_time() - begin == 1.5


# A shared limiter


@both
async def test_a_limiter_bounds_the_calls(run: Run) -> None:
    """One token a call: no more are under way than there are tokens."""
    limiter = CapacityLimiter(3)
    borrowed: list[float] = []

    async def fn(item: int) -> int:
        borrowed.append(limiter.borrowed_tokens)
        await anyio.wait_all_tasks_blocked()
        return item

    assert await run(fn, range(9), limit=limiter) == list(range(9))
    assert max(borrowed) == 3
    assert limiter.borrowed_tokens == 0


@both
async def test_the_limit_is_shared_with_other_work(run: Run) -> None:
    """Tokens that somebody else has are not there for us."""
    limiter = CapacityLimiter(3)
    running = peak = 0

    async def fn(item: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.wait_all_tasks_blocked()
        running -= 1

    async with limiter:
        await run(fn, range(20), limit=limiter)

    assert peak == 2


async def test_two_runs_share_a_limiter() -> None:
    """Together they have no more calls under way than it has tokens."""
    limiter = CapacityLimiter(3)
    running = peak = 0

    async def fn(item: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.wait_all_tasks_blocked()
        running -= 1

    async with anyio.create_task_group() as tg:
        for _ in range(2):
            tg.start_soon(functools.partial(fan_out, fn, range(20), limit=limiter))

    assert peak == 3
    assert limiter.borrowed_tokens == 0


@both
async def test_an_item_is_taken_only_when_there_is_a_token(run: Run) -> None:
    """While others hold the tokens, the source is not touched."""
    limiter = CapacityLimiter(1)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3):
            taken.append(item)
            yield item

    await limiter.acquire()
    async with anyio.create_task_group() as tg:
        tg.start_soon(functools.partial(run, _echo, items(), limit=limiter))
        await anyio.wait_all_tasks_blocked()
        assert taken == []
        limiter.release()

    assert taken == [0, 1, 2]


@both
async def test_a_limiter_may_grow_while_it_is_used(run: Run) -> None:
    """New tokens are used at once, also if there was none in the beginning."""
    limiter = CapacityLimiter(1)
    started: list[int] = []

    async def fn(item: int) -> None:
        started.append(item)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tg:
        tg.start_soon(functools.partial(run, fn, range(9), limit=limiter))
        await anyio.wait_all_tasks_blocked()
        limiter.total_tokens = 4
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()

    assert started == [0, 1, 2, 3]
    assert limiter.borrowed_tokens == 0


class _Stop(BaseException):
    pass


def _not_async(item: int) -> int:
    return item


def _stop_at_the_call(item: int) -> Awaitable[int]:
    raise _Stop


async def _fail_late(item: int) -> None:
    await anyio.wait_all_tasks_blocked()
    raise ValueError(item)


async def _fail_at_once(item: int) -> None:
    raise ValueError(item)


@both
@pytest.mark.parametrize(
    "fn", [_not_async, _stop_at_the_call, _fail_late, _fail_at_once]
)
async def test_tokens_are_back_after_a_failure(run: Run, fn: Any) -> None:
    """However a call fails, its token and those of the cancelled calls come back."""
    limiter = CapacityLimiter(2)

    with pytest.raises((TypeError, ValueError, _Stop)):
        await run(fn, range(5), limit=limiter)

    assert limiter.borrowed_tokens == 0


@both
async def test_tokens_are_back_after_errors_that_were_given_back(run: Run) -> None:
    """A failed call has ended, so its token is free for the next one."""
    limiter = CapacityLimiter(1)

    results = await run(_fail_at_once, range(3), limit=limiter, return_exceptions=True)

    assert len(results) == 3
    assert limiter.borrowed_tokens == 0


@both
async def test_tokens_are_back_after_an_error_of_the_source(run: Run) -> None:
    """The token was taken before the item, and there was none."""
    limiter = CapacityLimiter(2)

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("items")

    with pytest.raises(ValueError, match="items"):
        await run(_forever, items(), limit=limiter)

    assert limiter.borrowed_tokens == 0


@both
async def test_tokens_are_back_after_an_error_of_the_progress_callable(
    run: Run,
) -> None:
    """What the report does is no business of the limiter."""
    limiter = CapacityLimiter(2)

    def progress(_: object) -> None:
        raise ValueError("progress")

    with pytest.raises(ValueError, match="progress"):
        await run(_echo, range(5), limit=limiter, progress=progress)

    assert limiter.borrowed_tokens == 0


@both
@pytest.mark.parametrize("rate", [None, 0.001], ids=["in calls", "in the rate"])
async def test_tokens_are_back_after_a_cancellation(
    run: Run, rate: float | None
) -> None:
    """Whether the calls wait, or the feeder with a token in its hand."""
    limiter = CapacityLimiter(2)

    async with anyio.create_task_group() as tg:
        tg.start_soon(
            functools.partial(run, _forever, range(9), limit=limiter, rate=rate)
        )
        for _ in range(20):
            await checkpoint()
        assert limiter.borrowed_tokens == 2
        tg.cancel_scope.cancel()

    assert limiter.borrowed_tokens == 0


async def test_tokens_are_back_after_an_early_leave() -> None:
    """Calls, and items that wait for a worker, give theirs back."""
    limiter = CapacityLimiter(2)

    async with FanOut(_echo, range(100), limit=limiter) as results:
        async for _ in results:
            break

    assert limiter.borrowed_tokens == 0


async def test_the_window_of_a_limiter_is_its_tokens() -> None:
    """Without a buffer= of its own, a stream holds twice as many results."""
    async with FanOut(_echo, range(100), limit=CapacityLimiter(3)) as results:
        await anyio.wait_all_tasks_blocked()

        assert results.statistics().buffered == 6


async def test_a_limiter_without_bound() -> None:
    """With infinitely many tokens, all calls run at once."""
    limiter = CapacityLimiter(float("inf"))
    running = peak = 0

    async def fn(item: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.wait_all_tasks_blocked()
        running -= 1
        return item

    assert await fan_out(fn, range(30), limit=limiter) == list(range(30))
    assert peak == 30
