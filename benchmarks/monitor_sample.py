"""A look of a monitor at many tasks: what it costs, and how long the loop waits for it.

The tasks stand at one place, three calls deep. Who is measured looks at all of them
once, in the loop, while another task takes note of how long it has to wait for its
turn: in CPU time, since what other processes take is nobody's fault here.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import thread_time
from typing import TYPE_CHECKING

from benchmarks._model import (
    ASYNCIO,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Look = Callable[[], Coroutine[object, object, None]]

MONITOR = "safeconc.leaks.Monitor: its first sample"
SNAPSHOT = "safeconc.leaks.snapshot, in one go"
ALL_TASKS = "asyncio.all_tasks(), where nobody waits"


async def outer() -> None:
    """Wait, three calls deep."""
    await middle()


async def middle() -> None:
    """Wait, two calls deep."""
    await inner()


async def inner() -> None:
    """Be where it waits."""
    await asyncio.sleep(3600)


async def measure(look: Look, run: Run, *, block: bool) -> None:
    """Look at many tasks; measure it, or the longest time that it kept the loop."""
    tasks = [asyncio.create_task(outer()) for _ in range(run.n)]
    await asyncio.sleep(0)
    with run.watch:
        longest = await longest_turn(asyncio.create_task(look()))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if block:
        run.watch.latencies.append(longest)


async def longest_turn(looking: asyncio.Task[None]) -> float:
    """Come back to the loop at every turn until *looking* is done."""
    longest, before = 0.0, thread_time()
    while not looking.done():
        await asyncio.sleep(0)
        now = thread_time()
        longest, before = max(longest, now - before), now
    await looking
    return longest


async def monitor() -> None:
    """Open a monitor, and close it when it has looked."""
    from safeconc.leaks import Monitor

    async with Monitor(interval=3600) as opened:
        while opened.latest is None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)


async def snapshot() -> None:
    """Take all of it at once, as a test does."""
    from safeconc import leaks

    leaks.snapshot()


async def all_tasks() -> None:
    """Ask asyncio for the tasks alone."""
    asyncio.all_tasks()


LOOKS: tuple[tuple[str, Look, tuple[str, ...]], ...] = (
    (MONITOR, monitor, ("safeconc",)),
    (SNAPSHOT, snapshot, ("safeconc",)),
    (ALL_TASKS, all_tasks, ()),
)


def scenario(name: str, what: str, metric: Metric, *, block: bool) -> Scenario:
    """Compare the looks."""
    return Scenario(
        name,
        what,
        tuple(
            Contender(each, partial(measure, look, block=block), needs, ASYNCIO)
            for each, look, needs in LOOKS
        ),
        SNAPSHOT,
        n=10_000,
        quick_n=10_000,
        metric=metric,
        backends=("asyncio", "uvloop"),
    )


BENCHMARK = Benchmark(
    "monitor_sample",
    scenarios=(
        scenario("cost", "look at 10,000 tasks", Metric.CPU, block=False),
        scenario(
            "block",
            "keep the loop from others while looking at 10,000 tasks, at the longest",
            Metric.WALL,
            block=True,
        ),
    ),
    # Absolute: 5 ms, in which a service answers nobody.
    targets=(Target("block", MONITOR, at_most=5_000, metric=Metric.WALL),),
)
