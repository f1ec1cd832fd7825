"""One function, many items, never more than so many at once: what it costs per item.

Every contender is a coroutine function ``(fn, items, limit) -> results`` written as
its users would write it, and its results are compared with what they have to be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio

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
    from collections.abc import AsyncIterable

    from aiostream import Stream

Work: TypeAlias = Callable[[int], Coroutine[Any, Any, int]]
Way: TypeAlias = Callable[[Work, range, int], Awaitable[list[int]]]

FLOOR = "floor: K workers over one iterator"
OURS = "safeconc.fan_out"


# What is done per item


async def echo(item: int) -> int:
    """Return *item* without waiting for anything."""
    return item


async def yield_once(item: int) -> int:
    """Return *item* after one turn of an asyncio loop."""
    await asyncio.sleep(0)
    return item


async def yield_once_on_trio(item: int) -> int:
    """Return *item* after one checkpoint on trio."""
    import trio

    await trio.lowlevel.checkpoint()
    return item


async def nap(item: int) -> int:
    """Return *item* after a millisecond of an asyncio loop."""
    await asyncio.sleep(0.001)
    return item


async def nap_on_trio(item: int) -> int:
    """Return *item* after a millisecond on trio."""
    import trio

    await trio.sleep(0.001)
    return item


# safeconc


async def safeconc_fan_out(fn: Work, items: range, limit: int) -> list[int]:
    """Use the function."""
    from safeconc import fan_out

    return await fan_out(fn, items, limit=limit)


async def safeconc_stream(fn: Work, items: range, limit: int) -> list[int]:
    """Use the class, which hands over the results while the work goes on."""
    from safeconc import FanOut

    collected: list[int] = []
    async with FanOut(fn, items, limit=limit) as results:
        collected += [result async for result in results]
    return collected


# By hand


async def workers(fn: Work, items: range, limit: int) -> list[int]:
    """Let *limit* tasks pull from one iterator: the least that can be bounded."""
    results = [0] * len(items)
    todo = enumerate(items)

    async def worker() -> None:
        for index, item in todo:
            results[index] = await fn(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return results


async def workers_on_trio(fn: Work, items: range, limit: int) -> list[int]:
    """Do the same in a nursery."""
    import trio

    results = [0] * len(items)
    todo = enumerate(items)

    async def worker() -> None:
        for index, item in todo:
            results[index] = await fn(item)

    async with trio.open_nursery() as nursery:
        for _ in range(limit):
            nursery.start_soon(worker)
    return results


async def acquire_then_spawn(fn: Work, items: range, limit: int) -> list[int]:
    """Start a task only when the semaphore has a slot for it."""
    results = [0] * len(items)
    slots = asyncio.Semaphore(limit)

    async def one(index: int, item: int) -> None:
        try:
            results[index] = await fn(item)
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for index, item in enumerate(items):
            await slots.acquire()
            group.create_task(one(index, item))
    return results


async def sliding_window(fn: Work, items: range, limit: int) -> list[int]:
    """Keep *limit* tasks alive and replace those that ``asyncio.wait`` returns."""
    results = [0] * len(items)

    async def one(index: int, item: int) -> None:
        results[index] = await fn(item)

    window: set[asyncio.Task[None]] = set()
    for index, item in enumerate(items):
        if len(window) >= limit:
            _, window = await asyncio.wait(window, return_when=asyncio.FIRST_COMPLETED)
        window.add(asyncio.create_task(one(index, item)))
    if window:
        await asyncio.wait(window)
    return results


async def gather_semaphore(fn: Work, items: range, limit: int) -> list[int]:
    """Start all at once and let a semaphore hold back all but *limit*."""
    slots = asyncio.Semaphore(limit)

    async def one(item: int) -> int:
        async with slots:
            return await fn(item)

    return await asyncio.gather(*[one(item) for item in items])


async def group_semaphore(fn: Work, items: range, limit: int) -> list[int]:
    """Do the same in an ``asyncio.TaskGroup``."""
    slots = asyncio.Semaphore(limit)

    async def one(item: int) -> int:
        async with slots:
            return await fn(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


# anyio and trio


async def anyio_limiter(fn: Work, items: range, limit: int) -> list[int]:
    """Start all in an anyio task group, behind a ``CapacityLimiter``."""
    results = [0] * len(items)
    limiter = anyio.CapacityLimiter(limit)

    async def one(index: int, item: int) -> None:
        async with limiter:
            results[index] = await fn(item)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(one, index, item)
    return results


async def anyio_semaphore(fn: Work, items: range, limit: int) -> list[int]:
    """Start all in an anyio task group, behind a ``Semaphore``."""
    results = [0] * len(items)
    slots = anyio.Semaphore(limit)

    async def one(index: int, item: int) -> None:
        async with slots:
            results[index] = await fn(item)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(one, index, item)
    return results


async def anyio_acquire_then_spawn(fn: Work, items: range, limit: int) -> list[int]:
    """Start an anyio task only when the semaphore has a slot for it."""
    results = [0] * len(items)
    slots = anyio.Semaphore(limit, fast_acquire=True)

    async def one(index: int, item: int) -> None:
        try:
            results[index] = await fn(item)
        finally:
            slots.release()

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            await slots.acquire()
            group.start_soon(one, index, item)
    return results


async def anyio_amap(fn: Work, items: range, limit: int) -> list[int]:
    """Use ``anyio.amap``, which has no limit of its own."""
    limiter = anyio.CapacityLimiter(limit)

    async def one(item: int) -> int:
        async with limiter:
            return await fn(item)

    return await anyio.amap(one, items)


async def trio_limiter(fn: Work, items: range, limit: int) -> list[int]:
    """Start all in a nursery, behind a ``CapacityLimiter``."""
    import trio

    results = [0] * len(items)
    limiter = trio.CapacityLimiter(limit)

    async def one(index: int, item: int) -> None:
        async with limiter:
            results[index] = await fn(item)

    async with trio.open_nursery() as nursery:
        for index, item in enumerate(items):
            nursery.start_soon(one, index, item)
    return results


async def trio_acquire_then_spawn(fn: Work, items: range, limit: int) -> list[int]:
    """Start a trio task only when the semaphore has a slot for it."""
    import trio

    results = [0] * len(items)
    slots = trio.Semaphore(limit)

    async def one(index: int, item: int) -> None:
        try:
            results[index] = await fn(item)
        finally:
            slots.release()

    async with trio.open_nursery() as nursery:
        for index, item in enumerate(items):
            await slots.acquire()
            nursery.start_soon(one, index, item)
    return results


# Libraries


async def aiometer_run_all(fn: Work, items: range, limit: int) -> list[int]:
    """Use the function of aiometer that keeps the order."""
    import aiometer

    calls = [partial(fn, item) for item in items]
    return await aiometer.run_all(calls, max_at_once=limit)


async def aiometer_amap(fn: Work, items: range, limit: int) -> list[int]:
    """Use the function of aiometer that streams, in the order of completion."""
    import aiometer

    async with aiometer.amap(fn, items, max_at_once=limit) as results:
        return [result async for result in results]


async def aiostream_map(fn: Work, items: range, limit: int) -> list[int]:
    """Use aiostream's ``map``, which keeps the order."""
    from aiostream import stream

    # Its type asks for a function of any number of arguments, its code for one.
    mapped: Stream[int] = stream.map(
        stream.iterate(items), cast("Any", fn), task_limit=limit
    )
    results: list[int] = []
    async with mapped.stream() as streamer:
        results += [result async for result in streamer]
    return results


async def streamable_map(fn: Work, items: range, limit: int) -> list[int]:
    """Use streamable's ``map``, which keeps the order."""
    from streamable import stream

    return [result async for result in stream(items).map(fn, concurrency=limit)]


async def quattro_gather(fn: Work, items: range, limit: int) -> list[int]:
    """Use quattro's ``gather``, which got a limit in 26.1."""
    import quattro

    calls = [fn(item) for item in items]
    return list(await quattro.gather(*calls, concurrency_limit=limit))


# Streams, read and dropped


async def drain(results: AsyncIterable[int]) -> int:
    """Read all results and keep none of them; return how many there were."""
    count = 0
    async for _ in results:
        count += 1
    return count


async def safeconc_drain(run: Run) -> None:
    """Read a ``FanOut`` to its end."""
    from safeconc import FanOut

    count = 0
    with run.watch:
        async with FanOut(echo, range(run.n), limit=10) as results:
            count = await drain(results)
    expect(count, run.n)


async def streamable_drain(run: Run) -> None:
    """Read a streamable to its end."""
    from streamable import stream

    with run.watch:
        count = await drain(stream(range(run.n)).map(echo, concurrency=10))
    expect(count, run.n)


def expect(got: object, wanted: object) -> None:
    """Refuse to measure what does not work."""
    if got != wanted:
        raise RuntimeError("wrong results")


def contender(
    name: str,
    way: Way,
    work: Mapping[Backend, Work],
    limit: int,
    *,
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = ASYNCIO,
    share: float = 1.0,
    ordered: bool = True,
) -> Contender:
    """Make a contender of a *way* to map a function."""

    async def body(run: Run) -> None:
        fn = work[run.backend]
        items = range(run.n)
        with run.watch:
            results = await way(fn, items, limit)
        expect(results if ordered else sorted(results), list(items))

    return Contender(name, body, needs, backends, share)


def per_loop(on_asyncio: Work, on_trio: Work) -> dict[Backend, Work]:
    """Say what is done per item on which backend."""
    return {"asyncio": on_asyncio, "uvloop": on_asyncio, "trio": on_trio}


def field(
    work: Mapping[Backend, Work], limit: int, *, slow: float
) -> tuple[Contender, ...]:
    """Return all contenders; *slow* is the share of those that cost most."""
    add = partial(contender, work=work, limit=limit)
    return (
        add(OURS, safeconc_fan_out, needs=("safeconc",), backends=LOOPS),
        add("safeconc.FanOut", safeconc_stream, needs=("safeconc",), backends=LOOPS),
        add(FLOOR, workers),
        add(FLOOR, workers_on_trio, backends=TRIO),
        add("TaskGroup, Semaphore first", acquire_then_spawn),
        add("sliding window, asyncio.wait", sliding_window),
        add("gather + Semaphore", gather_semaphore),
        add("TaskGroup + Semaphore", group_semaphore),
        add("streamable map(concurrency)", streamable_map, needs=("streamable",)),
        add("quattro.gather", quattro_gather, needs=("quattro",)),
        add(
            "aiometer.run_all",
            aiometer_run_all,
            needs=("aiometer",),
            backends=LOOPS,
            share=slow,
        ),
        add(
            "aiometer.amap (unordered)",
            aiometer_amap,
            needs=("aiometer",),
            backends=LOOPS,
            share=slow,
            ordered=False,
        ),
        add(
            "aiostream map(task_limit)", aiostream_map, needs=("aiostream",), share=slow
        ),
        add(
            "anyio group, Semaphore first",
            anyio_acquire_then_spawn,
            backends=LOOPS,
            share=slow,
        ),
        add("anyio group + Semaphore", anyio_semaphore, backends=LOOPS, share=slow),
        add("anyio group + CapacityLimiter", anyio_limiter, backends=LOOPS, share=slow),
        add("anyio.amap + CapacityLimiter", anyio_amap, backends=LOOPS, share=slow),
        add(
            "nursery, Semaphore first",
            trio_acquire_then_spawn,
            backends=TRIO,
            share=slow,
        ),
        add("nursery + CapacityLimiter", trio_limiter, backends=TRIO, share=slow),
    )


BOUNDED = (
    "TaskGroup, Semaphore first",
    "sliding window, asyncio.wait",
    "streamable map(concurrency)",
)
ALL_PEERS = (
    *BOUNDED,
    "gather + Semaphore",
    "TaskGroup + Semaphore",
    "quattro.gather",
    "aiometer.run_all",
    "aiometer.amap (unordered)",
    "aiostream map(task_limit)",
    "anyio group, Semaphore first",
    "anyio group + Semaphore",
    "anyio group + CapacityLimiter",
    "anyio.amap + CapacityLimiter",
)
STREAM = (
    Contender("safeconc.FanOut", safeconc_drain, ("safeconc",)),
    Contender(
        "streamable map(concurrency)", streamable_drain, ("streamable",), ASYNCIO, 0.1
    ),
)

BENCHMARK = Benchmark(
    "fan_out",
    scenarios=(
        Scenario(
            "no-wait",
            "items that do not wait, limit 10",
            field(per_loop(echo, echo), 10, slow=0.2),
            FLOOR,
            n=100_000,
            quick_n=5_000,
            weighed=True,
        ),
        Scenario(
            "one-checkpoint",
            "items that let the loop turn once, limit 10",
            field(
                per_loop(yield_once, yield_once_on_trio),
                10,
                slow=0.2,
            ),
            FLOOR,
            n=100_000,
            quick_n=5_000,
        ),
        Scenario(
            "sleep-1ms",
            "items that sleep for 1 ms, limit 100",
            field(per_loop(nap, nap_on_trio), 100, slow=0.25),
            FLOOR,
            n=20_000,
            quick_n=2_500,
            metric=Metric.WALL,
        ),
        Scenario(
            "stream-short",
            "a stream read and dropped, limit 10",
            STREAM,
            "safeconc.FanOut",
            n=10_000,
            quick_n=10_000,
            metric=Metric.PEAK,
            backends=("asyncio",),
            timed=False,
            weighed=True,
        ),
        Scenario(
            "stream-long",
            "a stream a hundred times as long (quick: ten times)",
            STREAM,
            "safeconc.FanOut",
            n=1_000_000,
            quick_n=100_000,
            metric=Metric.PEAK,
            backends=("asyncio",),
            timed=False,
            weighed=True,
        ),
    ),
    targets=(
        Target("no-wait", OURS, (FLOOR,), at_most=5),
        Target("no-wait", OURS, BOUNDED, at_least=10),
        Target("no-wait", OURS, ("gather + Semaphore",), at_least=30),
        Target("no-wait", OURS, ("anyio.amap + CapacityLimiter",), at_least=200),
        Target("no-wait", OURS, at_most=45, metric=Metric.BYTES),
        Target("one-checkpoint", OURS, (FLOOR,), at_most=1.5),
        Target("one-checkpoint", OURS, ALL_PEERS, at_least=2.5),
        Target(
            "one-checkpoint",
            OURS,
            ("aiometer.run_all", "aiometer.amap (unordered)"),
            at_least=12,
        ),
        Target("sleep-1ms", OURS, (FLOOR,), at_most=1.05, metric=Metric.WALL),
        Target(
            "stream-long",
            "safeconc.FanOut",
            ("safeconc.FanOut",),
            at_most=1.2,
            metric=Metric.PEAK,
            versus_scenario="stream-short",
        ),
        Target(
            "no-wait", OURS, ("nursery + CapacityLimiter",), at_least=5, backend="trio"
        ),
        Target(
            "one-checkpoint",
            OURS,
            ("nursery + CapacityLimiter",),
            at_least=5,
            backend="trio",
        ),
    ),
)
