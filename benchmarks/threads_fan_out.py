"""One function, many items, in threads, and in other processes.

The floor is what one would write by hand: as many threads over one locked iterator,
with no error handling, no end, and no contextvars.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from functools import cache, partial
from importlib import import_module
from itertools import islice
from threading import BoundedSemaphore, Lock
from typing import Any, TypeAlias

from benchmarks._model import (
    THREAD,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)
from benchmarks.threads_channel import (
    Make,
    aiologic_queue,
    culsans_queue,
    simple_queue,
    standard_queue,
    together,
)

Work: TypeAlias = Callable[[int], int]
Way: TypeAlias = Callable[[Work, range], list[int]]

OURS = "safeconc.threads.fan_out"
STREAM = "safeconc.threads.FanOut"
FLOOR = "floor: threads over a locked iterator"
MAP = "ThreadPoolExecutor.map"
WINDOW = "submit + wait, a window of the limit"
ADDING = "submit + as_completed, a window of the limit"
ADDING_RESULTS = "the same, with_results"
SAFECONC = ("safeconc",)

LIMIT = 8
"""Calls under way at once, for all who have a bound."""

PROCESSES = 2


def echo(item: int) -> int:
    """Do nothing with an item."""
    return item


def nap(item: int) -> int:
    """Take a millisecond, as a fast service would."""
    time.sleep(0.001)
    return item


# In threads


def safeconc_fan_out(fn: Work, items: range) -> list[int]:
    """Use ``fan_out``."""
    from safeconc.threads import fan_out

    return fan_out(fn, items, limit=LIMIT)


def safeconc_stream(fn: Work, items: range) -> list[int]:
    """Use ``FanOut``."""
    from safeconc.threads import FanOut

    with FanOut(fn, items, limit=LIMIT) as results:
        return list(results)


def locked_iterator(fn: Work, items: range) -> list[int]:
    """Share an iterator between threads."""
    results = [0] * len(items)
    iterator = iter(enumerate(items))
    lock = Lock()

    def work() -> None:
        while True:
            with lock:
                taken = next(iterator, None)
            if taken is None:
                return
            results[taken[0]] = fn(taken[1])

    together([work] * LIMIT)
    return results


def pool_map(fn: Work, items: range) -> list[int]:
    """Submit all, and read in order."""
    with ThreadPoolExecutor(LIMIT) as pool:
        return list(pool.map(fn, items))


def submit_all(fn: Work, items: range) -> list[int]:
    """Submit all, and read as they are ready."""
    with ThreadPoolExecutor(LIMIT) as pool:
        futures = [pool.submit(fn, item) for item in items]
        return [future.result() for future in as_completed(futures)]


def semaphore(fn: Work, items: range) -> list[int]:
    """Submit when there is a slot, and have its end give it back."""
    slots = BoundedSemaphore(2 * LIMIT)
    futures: list[Future[int]] = []
    with ThreadPoolExecutor(LIMIT) as pool:
        for item in items:
            slots.acquire()
            future = pool.submit(fn, item)
            future.add_done_callback(lambda _: slots.release())
            futures.append(future)
        return [future.result() for future in futures]


def pool_window(fn: Work, items: range) -> list[int]:
    """Submit one for each that is done."""
    with ThreadPoolExecutor(LIMIT) as pool:
        return window(pool, fn, items)


def through_queue(make: Make, fn: Work, items: range) -> list[int]:
    """Feed threads through a queue, with a sentinel for each."""
    put, get = make(2 * LIMIT)
    results = [0] * len(items)
    last = -1

    def work() -> None:
        while (item := get()) != last:
            results[item] = fn(item)

    def feed() -> None:
        for item in items:
            put(item)
        for _ in range(LIMIT):
            put(last)

    together([feed, *[work] * LIMIT])
    return results


# In other processes


def window(executor: Executor, fn: Work, items: Iterable[int]) -> list[int]:
    """Keep as many futures as the limit, and read whichever is done."""
    iterator = iter(items)
    results: list[int] = []
    pending = {executor.submit(fn, item) for item in islice(iterator, LIMIT)}
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            results.append(future.result())
            pending |= {executor.submit(fn, item) for item in islice(iterator, 1)}
    return results


def through_executor(executor: Executor, fn: Work, items: range) -> list[int]:
    """Have ``fan_out`` keep the executor busy."""
    from safeconc.threads import fan_out

    return fan_out(fn, items, limit=LIMIT, executor=executor)


def stream_through_executor(executor: Executor, fn: Work, items: range) -> list[int]:
    """Have ``FanOut`` do it."""
    from safeconc.threads import FanOut

    with FanOut(fn, items, limit=LIMIT, executor=executor) as results:
        return list(results)


def submit_all_there(executor: Executor, fn: Work, items: range) -> list[int]:
    """Submit all, and read as they are ready."""
    futures = [executor.submit(fn, item) for item in items]
    return [future.result() for future in as_completed(futures)]


@cache
def processes() -> ProcessPoolExecutor:
    """Start a pool that ends with this process."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, spawn)


@cache
def cluster() -> Any:
    """Start a cluster that ends with this process."""
    distributed: Any = import_module("distributed")
    return distributed.Client(
        n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None
    )


def dask_executor() -> Executor:
    """Return the cluster's executor, for which each item is a call of its own."""
    executor: Executor = cluster().get_executor(pure=False)
    return executor


def dask_adding(fn: Work, items: range, *, with_results: bool) -> list[int]:
    """Keep as many futures of Dask's as the limit, by what Dask has for it."""
    distributed: Any = import_module("distributed")
    submit = partial(cluster().submit, fn, pure=False)
    iterator = iter(items)
    first = [submit(item) for item in islice(iterator, LIMIT)]
    completed = distributed.as_completed(first, with_results=with_results)
    results: list[int] = []
    for each in completed:
        results.append(each[1] if with_results else each.result())
        for item in islice(iterator, 1):
            completed.add(submit(item))
    return results


# The fields


def measure(way: Way, fn: Work, run: Run) -> None:
    """Measure a way to map *fn*."""
    items = range(run.n)
    with run.watch:
        results = way(fn, items)
    if sorted(results) != list(items):
        raise RuntimeError("wrong results")


def measure_there(
    way: Callable[[Executor, Work, range], list[int]],
    make: Callable[[], Executor],
    run: Run,
) -> None:
    """Measure a way to use an executor, which is warm."""
    executor = make()
    measure(partial(way, executor), echo, run)


def in_threads(fn: Work, *, slow: float) -> tuple[Contender, ...]:
    """Return the contenders in threads; *slow* is the share of those that cost most."""

    def add(name: str, way: Way, *needs: str, share: float = 1.0) -> Contender:
        return Contender(name, partial(measure, way, fn), needs, THREAD, share)

    def add_queue(name: str, make: Make, *needs: str) -> Contender:
        return add(name, partial(through_queue, make), *needs, share=slow)

    return (
        add(OURS, safeconc_fan_out, "safeconc"),
        add(STREAM, safeconc_stream, "safeconc"),
        add(FLOOR, locked_iterator),
        add(MAP, pool_map),
        add("submit all + as_completed", submit_all),
        add("submit behind a Semaphore", semaphore, share=slow),
        add(WINDOW, pool_window, share=slow),
        add_queue("threads behind a queue.Queue", standard_queue),
        add_queue("threads behind a SimpleQueue, unbounded", simple_queue),
        add_queue("threads behind an aiologic.Queue", aiologic_queue, "aiologic"),
        add_queue("threads behind a culsans.Queue", culsans_queue, "culsans"),
    )


def in_executor(make: Callable[[], Executor], *needs: str) -> Iterator[Contender]:
    """Give the contenders for any executor."""
    for name, way, ours in (
        (OURS, through_executor, SAFECONC),
        (STREAM, stream_through_executor, SAFECONC),
        (WINDOW, window, ()),
        ("submit all + as_completed", submit_all_there, ()),
    ):
        body = partial(measure_there, way, make)
        yield Contender(name, body, (*ours, *needs), THREAD)


def in_dask() -> Iterator[Contender]:
    """Give the contenders for a cluster."""
    needs = ("distributed",)
    yield from in_executor(dask_executor, *needs)
    for name, with_results in ((ADDING, False), (ADDING_RESULTS, True)):
        way = partial(dask_adding, with_results=with_results)
        yield Contender(name, partial(measure, way, echo), needs, THREAD)


BENCHMARK = Benchmark(
    "threads_fan_out",
    scenarios=(
        Scenario(
            "no-wait",
            "items that do nothing, limit 8",
            in_threads(echo, slow=0.2),
            FLOOR,
            n=100_000,
            quick_n=5_000,
            backends=("thread",),
            weighed=True,
        ),
        Scenario(
            "sleep-1ms",
            "items that sleep for 1 ms, limit 8",
            in_threads(nap, slow=0.5),
            FLOOR,
            n=10_000,
            quick_n=1_000,
            metric=Metric.WALL,
            backends=("thread",),
        ),
        Scenario(
            "process-pool",
            "items that do nothing, in a pool of two processes, limit 8",
            tuple(in_executor(processes)),
            WINDOW,
            n=5_000,
            quick_n=1_000,
            metric=Metric.WALL,
            backends=("thread",),
        ),
        Scenario(
            "dask",
            "items that do nothing, in a Dask cluster of two processes, limit 8",
            tuple(in_dask()),
            ADDING,
            n=400,
            quick_n=200,
            metric=Metric.WALL,
            backends=("thread",),
        ),
    ),
    targets=(
        Target("no-wait", OURS, (FLOOR,), at_most=2, backend="thread"),
        Target("no-wait", OURS, (MAP,), at_least=4, backend="thread"),
        Target("no-wait", OURS, at_most=45, metric=Metric.BYTES, backend="thread"),
        Target(
            "sleep-1ms",
            OURS,
            (FLOOR,),
            at_most=1.02,
            metric=Metric.WALL,
            backend="thread",
        ),
        Target(
            "process-pool",
            OURS,
            (WINDOW,),
            at_most=1.1,
            metric=Metric.WALL,
            backend="thread",
        ),
        Target(
            "dask",
            OURS,
            (ADDING, ADDING_RESULTS),
            at_most=1.1,
            metric=Metric.WALL,
            backend="thread",
        ),
    ),
)
