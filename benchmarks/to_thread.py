"""Calls in threads: what one costs, alone and beside others."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.to_thread

from benchmarks._model import ASYNCIO, TRIO, Benchmark, Contender, Run, Scenario, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call: TypeAlias = Callable[..., Awaitable[Any]]

SAFECONC = ("safeconc",)
OURS = "safeconc.to_thread"
ANYIO = "anyio.to_thread.run_sync"
THREADS = 40
"""What anyio and trio allow by default."""


def work(item: int) -> int:
    """Be over at once: what is measured is the way there and back."""
    return item


async def one_by_one(run: Run, call: Call) -> None:
    """Make one call after the other."""
    await call(work, 0)  # starts the thread
    total = 0
    with run.watch:
        for item in range(run.n):
            total += await call(work, item)
    check(run, total)


async def side_by_side(run: Run, call: Call) -> None:
    """Make calls from as many tasks as there may be threads."""
    totals: list[int] = []

    async def make_calls(first: int) -> None:
        total = 0
        for item in range(first, run.n, THREADS):
            total += await call(work, item)
        totals.append(total)

    with run.watch:
        async with anyio.create_task_group() as tasks:
            for first in range(THREADS):
                tasks.start_soon(make_calls, first)
    check(run, sum(totals))


def check(run: Run, total: int) -> None:
    """Raise if a result is missing."""
    if total != run.n * (run.n - 1) // 2:
        raise RuntimeError("wrong results")


async def safeconc_one(run: Run) -> None:
    """Call one after the other."""
    from safeconc import to_thread

    await one_by_one(run, to_thread)


async def safeconc_many(run: Run) -> None:
    """Call side by side."""
    from safeconc import to_thread

    await side_by_side(run, to_thread)


async def anyio_one(run: Run) -> None:
    """Call one after the other, cancelled only when it is over."""
    await one_by_one(run, anyio.to_thread.run_sync)


async def anyio_many(run: Run) -> None:
    """Call side by side."""
    await side_by_side(run, anyio.to_thread.run_sync)


async def asyncio_one(run: Run) -> None:
    """Call one after the other in the loop's default executor."""
    await one_by_one(run, asyncio.to_thread)


async def asyncio_many(run: Run) -> None:
    """Call side by side."""
    await side_by_side(run, asyncio.to_thread)


async def executor_one(run: Run) -> None:
    """Call one after the other in an executor, without contextvars."""
    with ThreadPoolExecutor(THREADS) as executor:
        await one_by_one(run, in_executor(executor))


async def executor_many(run: Run) -> None:
    """Call side by side."""
    with ThreadPoolExecutor(THREADS) as executor:
        await side_by_side(run, in_executor(executor))


def in_executor(executor: ThreadPoolExecutor) -> Call:
    """Return a way to call functions there."""
    loop = asyncio.get_running_loop()

    async def call(fn: Callable[[int], int], item: int) -> int:
        return await loop.run_in_executor(executor, fn, item)

    return call


async def trio_one(run: Run) -> None:
    """Call one after the other in trio's threads."""
    import trio

    await one_by_one(run, trio.to_thread.run_sync)


async def trio_many(run: Run) -> None:
    """Call side by side."""
    import trio

    await side_by_side(run, trio.to_thread.run_sync)


BENCHMARK = Benchmark(
    "to_thread",
    scenarios=(
        Scenario(
            "one",
            "one call after the other, of a function that is over at once",
            (
                Contender(OURS, safeconc_one, SAFECONC),
                Contender(ANYIO, anyio_one),
                Contender("asyncio.to_thread", asyncio_one, backends=ASYNCIO),
                Contender("loop.run_in_executor", executor_one, backends=ASYNCIO),
                Contender("trio.to_thread.run_sync", trio_one, backends=TRIO),
            ),
            ANYIO,
            n=4_000,
            quick_n=1_500,
        ),
        Scenario(
            "many",
            "the same from 40 tasks at once",
            (
                Contender(OURS, safeconc_many, SAFECONC),
                Contender(ANYIO, anyio_many),
                Contender("asyncio.to_thread", asyncio_many, backends=ASYNCIO),
                Contender("loop.run_in_executor", executor_many, backends=ASYNCIO),
                Contender("trio.to_thread.run_sync", trio_many, backends=TRIO),
            ),
            ANYIO,
            n=4_000,
            quick_n=1_500,
        ),
    ),
    targets=(
        Target("one", OURS, (ANYIO,), at_most=1.2),
        Target("one", OURS, (ANYIO,), at_most=1.2, backend="trio"),
    ),
)
