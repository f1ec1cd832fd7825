"""Ticks for a thread: what ends the loop, who may move it, and where it refuses.

What it promises in every world is in ``test_ticker_promises``.
"""

import threading
import time

import anyio.lowlevel
import pytest

from safeconc import Context
from safeconc.threads import ErrGroup, Tick, Ticker, every
from tests.together import interrupted, when_awaited

# The end of the context


def test_end_of_the_context_ends_a_loop_that_waits() -> None:
    """Without an error: that is what there is in place of a ``stop()``."""
    ticks: list[int] = []
    with Context() as context:
        thread = when_awaited(context, context.cancel)
        for tick in Ticker(1000):
            ticks.append(tick.index)  # noqa: PERF401 - a loop is what it is about
        thread.join()
        assert context.done

    assert ticks == [0]
    assert context.statistics().waiters == 0


def test_deadline_of_the_context_ends_a_loop_that_waits() -> None:
    """The thread notices by itself."""
    with Context(timeout=0.001):
        assert list(Ticker(1000, first="later")) == []


def test_end_of_the_context_goes_before_a_tick_that_is_due() -> None:
    """A loop in a context that has ended never reaches its body."""
    ticker = Ticker(1000)
    with Context() as context:
        context.cancel()
        assert list(ticker) == []

    assert next(ticker).index == 0


def test_body_may_end_the_context() -> None:
    """The loop is over after it, however overdue the next tick is."""
    ticks: list[Tick] = []
    with Context() as context:
        for tick in Ticker(1e-9, missed="burst"):
            ticks.append(tick)
            if len(ticks) == 3:
                context.cancel()

    assert [tick.index for tick in ticks] == [0, 1, 2]


def test_end_of_a_group_ends_its_tickers() -> None:
    """Nobody has to know them."""
    ticks: list[int] = []

    def tick_away() -> None:
        for tick in Ticker(1000):
            ticks.append(tick.index)  # noqa: PERF401 - seen before the end

    with ErrGroup(limit=None) as group:
        for _ in range(3):
            group.go(tick_away)
        while len(ticks) < 3:
            time.sleep(0)
        group.cancel()

    assert ticks == [0, 0, 0]


def test_every_returns_when_the_context_ends() -> None:
    """As the loop that it stands for."""
    calls: list[None] = []
    with Context() as context:
        thread = when_awaited(context, context.cancel)
        every(1000, calls.append, None)
        thread.join()

    assert calls == [None]


def test_break_leaves_nothing() -> None:
    """No thread was there, so none is left; the next tick is the next one."""
    before = set(threading.enumerate())  # some of other tests may be ending
    ticker = Ticker(0.001)
    first = -1
    for tick in ticker:
        first = tick.index  # not 0 if this thread got no time before it
        break

    assert set(threading.enumerate()) <= before
    tick = next(ticker)
    assert tick.index == first + 1 + tick.missed


# Its clock


def test_ticks_are_told_on_the_monotonic_clock() -> None:
    """Never early, late by the time that has passed since."""
    ticker = Ticker(0.001)
    before = time.monotonic()
    first, second = next(ticker), next(ticker)
    after = time.monotonic()

    assert before <= first.due
    assert first.due + 0.001 <= second.due
    assert second.due + second.late <= after


def test_a_tick_each_nanosecond_is_counted() -> None:
    """A loop over ticks that are all overdue goes on without a wait."""
    ticker = Ticker(1e-9, missed="burst")

    assert [next(ticker).index for _ in range(1000)] == list(range(1000))


# Moving it


def test_reset_has_the_next_tick_come_a_period_from_now() -> None:
    """And the ones after it by the new schedule."""
    ticker = Ticker(1000)
    first = next(ticker)
    ticker.reset(0.002)
    moved = time.monotonic()
    tick = next(ticker)

    assert tick.index == 1 + tick.missed
    assert first.due + 0.002 <= tick.due
    assert tick.due <= moved + 0.002 * (1 + tick.missed)


def test_many_threads_may_reset_while_one_waits() -> None:
    """The last one decides; nobody is lost and the wait ends once."""
    ticker = Ticker(1000, first="later")
    ticks: list[Tick] = []

    with Context() as context:

        def move() -> None:
            for period in (1000, 500, 1000):
                ticker.reset(period)

        def wait() -> None:
            ticks.append(next(ticker))

        with ErrGroup(limit=None) as group:
            group.go(wait)
            while not ticker._taken.locked():
                time.sleep(0)
            with ErrGroup(limit=None) as movers:
                for _ in range(4):
                    movers.go(move)
            ticker.reset(0.001)
        assert not context.done

    assert [tick.index - tick.missed for tick in ticks] == [0]


def test_interrupted_wait_has_taken_no_tick() -> None:
    """A Ctrl-C leaves the ticker as it was."""
    ticker = Ticker(1000)
    next(ticker)
    with Context() as context:
        with interrupted(lambda: context.statistics().waiters):
            next(ticker)
    ticker.reset(0.001)
    tick = next(ticker)

    assert tick.index == 1 + tick.missed


# Where it refuses


async def test_a_task_may_not_block() -> None:
    """Not even when a tick is due."""
    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        next(Ticker(1))
    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        every(1, pytest.fail)
    await anyio.lowlevel.checkpoint()


def test_coroutine_function_is_refused_before_the_first_wait() -> None:
    """It would make coroutines that nobody awaits."""

    async def check() -> None:
        pytest.fail("called")

    with pytest.raises(TypeError, match=r"coroutine function .*needs no thread"):
        every(1000, check, first="later")


def test_function_that_returns_a_coroutine_is_told_when_it_is_called() -> None:
    """The coroutine is closed."""

    async def check() -> None:
        pytest.fail("ran")

    with pytest.raises(TypeError, match=r"got the coroutine .*check\(\)"):
        every(1000, lambda: check())  # noqa: PLW0108 - it is plain
