"""A report of many tasks that wait at one place: how long it takes, how long it is.

Each contender looks at the tasks and returns all that it has to say, as a test that
fails would. Ours is refused if it is longer than a screen or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from benchmarks._model import (
    ASYNCIO,
    Benchmark,
    Contender,
    Run,
    Scenario,
    Target,
)

Report: TypeAlias = Callable[[list[asyncio.Task[None]]], int]
"""Says what it has to say of the tasks; returns the length of that."""

REPORT = "safeconc.leaks: snapshot and report"
DETAILED = "safeconc.leaks: snapshot and report, level 2"
JSON = "safeconc.leaks: snapshot and as_json"
PPROF = "safeconc.leaks: snapshot and as_pprof"
REPR = "repr() of each task, a line for each"
PYLEAK = "pyleak: a TaskLeakError, as text"

LONG = 10_000
"""Characters, or bytes, that none of ours may exceed."""


async def poll() -> None:
    """Be what leaks."""
    await asyncio.sleep(3600)


async def measure(report: Report, limit: int | None, run: Run) -> None:
    """Report on many tasks that wait at one place."""
    tasks = [asyncio.create_task(poll()) for _ in range(run.n)]
    await asyncio.sleep(0)
    with run.watch:
        length = report(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if limit is not None and length > limit:
        raise RuntimeError(f"the report is {length:,} characters long")


def ours(write: str, tasks: list[asyncio.Task[None]], **options: Any) -> int:
    """Take a snapshot and write about it, by the function that is called *write*."""
    from safeconc import leaks

    snapshot = leaks.snapshot()
    if len(snapshot.entries) < len(tasks):
        raise RuntimeError("some tasks were not seen")
    return len(getattr(leaks, write)(snapshot, **options))


def lines(tasks: list[asyncio.Task[None]]) -> int:
    """Have each task tell of itself."""
    return len("\n".join(map(repr, tasks)))


def pyleak(tasks: list[asyncio.Task[None]]) -> int:
    """Have pyleak describe each, and put it all together."""
    module: Any = import_module("pyleak.tasks")
    described = [module.LeakedTask.from_task(task) for task in tasks]
    return len(str(module.TaskLeakError(f"{len(tasks)} leaked", described)))


FIELD = (
    *(
        Contender(name, partial(measure, report, LONG), ("safeconc",), ASYNCIO)
        for name, report in (
            (REPORT, partial(ours, "report")),
            (DETAILED, partial(ours, "report", level=2)),
            (JSON, partial(ours, "as_json")),
            (PPROF, partial(ours, "as_pprof")),
        )
    ),
    Contender(REPR, partial(measure, lines, None), (), ASYNCIO),
    Contender(PYLEAK, partial(measure, pyleak, None), ("pyleak",), ASYNCIO, share=0.1),
)


def sized(n: int) -> Scenario:
    """Report on *n* tasks."""
    return Scenario(
        f"{n}-leaks",
        f"look at {n:,} tasks that wait at one place, and report them",
        FIELD,
        REPORT,
        n=n,
        quick_n=min(n, 10_000),
        backends=("asyncio",),
    )


BENCHMARK = Benchmark(
    "leak_report",
    scenarios=tuple(map(sized, (1_000, 10_000, 100_000))),
    targets=(
        # Absolute: 10 us for each of 100,000 is a second for all, the census included.
        Target("100000-leaks", REPORT, at_most=10),
        Target("10000-leaks", REPORT, (PYLEAK, REPR), at_most=1),
    ),
)
