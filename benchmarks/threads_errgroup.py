"""Short children in threads, and how long a group of them takes to start."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Thread
from typing import TypeAlias

from benchmarks._model import (
    THREAD,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)
from benchmarks.threads_channel import together

Way: TypeAlias = Callable[[int], None]

OURS = "safeconc.threads.ErrGroup, limit 8"
ALONE = "safeconc.threads.ErrGroup, go + wait, one at a time"
GROUP = "safeconc.threads.ErrGroup"
TRIP = "ThreadPoolExecutor, submit + result, one at a time"
THREADS = "start and join eight threads"
SAFECONC = ("safeconc",)

LIMIT = 8


def child() -> None:
    """Be as short as a child can be."""


# One child after the other


def safeconc_group(n: int) -> None:
    """Start children as slots come free."""
    from safeconc.threads import ErrGroup

    with ErrGroup(limit=LIMIT) as group:
        for _ in range(n):
            group.go(child)


def safeconc_alone(n: int) -> None:
    """Wait for each before the next."""
    from safeconc.threads import ErrGroup

    with ErrGroup(limit=LIMIT) as group:
        for _ in range(n):
            group.go(child).wait()


def pool_alone(n: int) -> None:
    """Wait for each before the next."""
    with ThreadPoolExecutor(LIMIT) as pool:
        for _ in range(n):
            pool.submit(child).result()


def pool_all(n: int) -> None:
    """Submit all, and wait for each then."""
    with ThreadPoolExecutor(LIMIT) as pool:
        for future in [pool.submit(child) for _ in range(n)]:
            future.result()


def thread_each(n: int) -> None:
    """Start a thread for each."""
    for _ in range(n):
        thread = Thread(target=child)
        thread.start()
        thread.join()


# Blocks whose children are all there at the same time


def safeconc_start(n: int) -> None:
    """Open a group, start its children, and leave it."""
    from safeconc.threads import ErrGroup

    for _ in range(n):
        meet = Barrier(LIMIT)
        with ErrGroup(limit=None) as group:
            for _ in range(LIMIT):
                group.go(meet.wait)


def pool_start(n: int) -> None:
    """Do it with a pool."""
    for _ in range(n):
        meet = Barrier(LIMIT)
        with ThreadPoolExecutor(LIMIT) as pool:
            for _ in range(LIMIT):
                pool.submit(meet.wait)


def threads_start(n: int) -> None:
    """Do it with nothing but threads."""
    for _ in range(n):
        meet = Barrier(LIMIT)
        together([meet.wait] * LIMIT)


def measure(way: Way, run: Run) -> None:
    """Measure one of the above."""
    with run.watch:
        way(run.n)


def add(name: str, way: Way, *needs: str, share: float = 1.0) -> Contender:
    """Make a contender."""
    return Contender(name, partial(measure, way), needs, THREAD, share)


BENCHMARK = Benchmark(
    "threads_errgroup",
    scenarios=(
        Scenario(
            "child",
            "a child that does nothing",
            (
                add(OURS, safeconc_group, "safeconc"),
                add(ALONE, safeconc_alone, "safeconc"),
                add(TRIP, pool_alone),
                add("ThreadPoolExecutor, submit all + result", pool_all),
                add("start + join a thread", thread_each),
            ),
            TRIP,
            n=10_000,
            quick_n=2_000,
            metric=Metric.WALL,
            backends=("thread",),
        ),
        Scenario(
            "start",
            "a block of eight children that are there at the same time",
            (
                add(GROUP, safeconc_start, "safeconc"),
                add("ThreadPoolExecutor", pool_start),
                add(THREADS, threads_start),
            ),
            THREADS,
            n=500,
            quick_n=100,
            metric=Metric.WALL,
            backends=("thread",),
        ),
    ),
    targets=(
        Target(
            "child",
            OURS,
            (TRIP,),
            at_most=0.5,
            metric=Metric.WALL,
            backend="thread",
        ),
        Target(
            "start",
            GROUP,
            (THREADS,),
            at_most=1.0,
            metric=Metric.WALL,
            backend="thread",
        ),
    ),
)
