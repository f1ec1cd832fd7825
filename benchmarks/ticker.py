"""Ticks at one a millisecond: what each costs, how late it is, and where it drifts to.

The body does nothing, so a tick that is lost was lost by its ticker. Every contender
keeps the same :class:`Record`, and each scenario takes one figure out of it.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Coroutine
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks._model import (
    ASYNCIO,
    LOOPS,
    TRIO,
    Backend,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from safeconc import Tick

PERIOD = 0.001

TICKER = "safeconc.Ticker"
BY_HAND = "absolute deadlines, by hand"
SLEEP = "sleep(period)"


class Enough(Exception):  # noqa: N818 - the end of a run, not its failure
    """The run has seen its last tick."""


class Record:
    """The ticks of one run, held against a schedule that does not drift.

    It begins with the first tick, which everybody gives at once.
    """

    def __init__(self, ticks: int) -> None:
        self.lateness: list[float] = []
        self.missed = 0
        self._start = math.nan
        self._length = (ticks - 1) * PERIOD

    def note(self, missed: int = 0) -> None:
        """Note one tick, and how many were skipped before it; end the run in time."""
        now = time.monotonic()
        if not self.lateness:
            self._start = now
        self.missed += missed
        index = len(self.lateness) + self.missed
        passed = now - self._start
        self.lateness.append(passed - index * PERIOD)
        if passed >= self._length:
            raise Enough

    def p50(self) -> float:
        """Return how late a tick was in the middle."""
        return statistics.median(self.lateness)

    def p99(self) -> float:
        """Return what 99 of 100 ticks stayed below."""
        return sorted(self.lateness)[len(self.lateness) * 99 // 100]

    def drift(self) -> float:
        """Return how much later the last tenth was than the first."""
        tenth = len(self.lateness) // 10 + 1
        first, last = self.lateness[:tenth], self.lateness[-tenth:]
        return statistics.median(last) - statistics.median(first)


Body: TypeAlias = Callable[[Record], Coroutine[object, object, object]]
Figure: TypeAlias = Callable[[Record], float]


async def measure(body: Body, figure: Figure | None, run: Run) -> None:
    """Run *body* to its end; hand over a figure, or leave it at the CPU time."""
    record = Record(run.n)
    with run.watch:
        try:
            await body(record)
        except Enough:
            pass
    if figure is not None:
        run.watch.latencies.append(figure(record))


# Ours


async def ticker(record: Record) -> None:
    """Iterate; fail if the schedule moves by a hair or a tick is unaccounted for."""
    from safeconc import Ticker

    first: Tick | None = None
    async for tick in Ticker(PERIOD):
        first = first or tick
        if tick.due != first.due + tick.index * PERIOD:
            raise RuntimeError("the schedule drifts")
        if tick.index != len(record.lateness) + record.missed + tick.missed:
            raise RuntimeError("a tick was neither given nor counted")
        record.note(tick.missed)


async def called(record: Record) -> None:
    """Have a function called."""
    from safeconc import every

    async def call() -> None:
        record.note()

    await every(PERIOD, call, missed="burst")


# By hand


def skipped(start: float, index: int, now: float) -> int:
    """Return how many ticks from *index* on are overdue by a period."""
    return max(0, int((now - start) / PERIOD) - index)


async def by_hand_on_asyncio(record: Record) -> None:
    """Sleep until the next deadline, and skip those that were missed."""
    loop = asyncio.get_running_loop()
    start, index = loop.time(), 0
    while True:
        await asyncio.sleep(start + index * PERIOD - loop.time())
        missed = skipped(start, index, loop.time())
        record.note(missed)
        index += 1 + missed


async def by_hand_on_trio(record: Record) -> None:
    """Sleep until the next deadline, on trio."""
    import trio

    start, index = trio.current_time(), 0
    while True:
        await trio.sleep_until(start + index * PERIOD)
        missed = skipped(start, index, trio.current_time())
        record.note(missed)
        index += 1 + missed


async def sleep_on_asyncio(record: Record) -> None:
    """Sleep a period after each tick."""
    while True:
        record.note()
        await asyncio.sleep(PERIOD)


async def sleep_on_trio(record: Record) -> None:
    """Sleep a period after each tick, on trio."""
    import trio

    while True:
        record.note()
        await trio.sleep(PERIOD)


# Peers


async def aiotools_timer(record: Record) -> None:
    """Have aiotools start a task per tick; the timer is a task, too."""
    aiotools: Any = import_module("aiotools")  # not among what is type-checked
    over = asyncio.Event()

    async def call(_: float) -> None:
        try:
            record.note()
        except Enough:
            over.set()

    timer: asyncio.Task[None] = aiotools.create_timer(call, PERIOD)
    await over.wait()
    timer.cancel()
    await asyncio.wait([timer])


async def trio_util_periodic(record: Record) -> None:
    """Iterate over trio-util's generator."""
    trio_util: Any = import_module("trio_util")  # nor is this
    async for _ in trio_util.periodic(PERIOD):
        record.note()


def field(figure: Figure | None) -> tuple[Contender, ...]:
    """Return everybody who ticks, each to be asked for *figure*."""
    bodies: list[tuple[str, Body, frozenset[Backend], str]] = [
        (TICKER, ticker, LOOPS, "safeconc"),
        ("safeconc.every", called, LOOPS, "safeconc"),
        (BY_HAND, by_hand_on_asyncio, ASYNCIO, ""),
        (BY_HAND, by_hand_on_trio, TRIO, ""),
        (SLEEP, sleep_on_asyncio, ASYNCIO, ""),
        (SLEEP, sleep_on_trio, TRIO, ""),
        ("aiotools.create_timer", aiotools_timer, ASYNCIO, "aiotools"),
        ("trio_util.periodic", trio_util_periodic, TRIO, "trio_util"),
    ]
    return tuple(
        Contender(name, partial(measure, body, figure), (module,) * bool(module), where)
        for name, body, where, module in bodies
    )


BENCHMARK = Benchmark(
    "ticker",
    scenarios=(
        Scenario(
            "cpu",
            "tick every millisecond",
            field(None),
            BY_HAND,
            n=2_000,
            quick_n=500,
        ),
        Scenario(
            "p99",
            "tick every millisecond: lateness that 99 of 100 ticks stay below",
            field(Record.p99),
            BY_HAND,
            n=5_000,
            quick_n=500,
            metric=Metric.WALL,
        ),
        Scenario(
            "p50",
            "tick every millisecond: median lateness",
            field(Record.p50),
            BY_HAND,
            n=1_000,
            quick_n=500,
            metric=Metric.WALL,
            backends=("asyncio", "trio"),
        ),
        Scenario(
            "drift",
            "tick every millisecond: how much later the last ticks are than the first",
            field(Record.drift),
            BY_HAND,
            n=1_000,
            quick_n=500,
            metric=Metric.WALL,
            backends=("asyncio", "trio"),
        ),
    ),
    targets=(
        Target("cpu", TICKER, (BY_HAND,), at_most=1.2),
        Target("p99", TICKER, (BY_HAND,), at_most=1.1, metric=Metric.WALL),
    ),
)
