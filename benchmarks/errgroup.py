"""Siblings that fail together: what a child costs to start, to keep and to cancel.

A way to start children is a coroutine function ``(child, n, limit)`` that starts *n*
of them and joins them; a way to cancel them is told below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

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

Child: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Way: TypeAlias = Callable[[Child, int, int | None], Awaitable[None]]
Cancel: TypeAlias = Callable[["Waiting", Run], Awaitable[None]]

LIMIT = 10
TASKGROUP = "asyncio.TaskGroup"
ANYIO = "anyio group"
NURSERY = "nursery"
DEFAULT = "safeconc.ErrGroup"
REUSE = "safeconc.ErrGroup(reuse)"
LIMITED = f", limit {LIMIT}"


# What a child does


async def nothing() -> None:
    """End at once."""


class Gate:
    """A child that blocks until all its siblings have come as far."""

    def __init__(self, n: int) -> None:
        self._missing = n
        self._open = anyio.Event()

    async def __call__(self) -> None:
        """Wait for the last sibling."""
        self._missing -= 1
        if not self._missing:
            self._open.set()
        await self._open.wait()


class Waiting:
    """Children that wait for what never comes, and how many have got so far."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self._wait = wait
        self._count = 0

    async def child(self) -> None:
        """Wait."""
        self._count += 1
        await self._wait()

    async def all_of(self, n: int) -> None:
        """Let the loop turn until *n* children wait."""
        while self._count < n:
            await anyio.lowlevel.checkpoint()


def on_event(backend: Backend) -> Waiting:
    """Return children that wait for an event which all share."""
    event = anyio.Event() if backend == "trio" else asyncio.Event()
    return Waiting(event.wait)


def asleep(backend: Backend) -> Waiting:
    """Return children that sleep."""
    if backend == "trio":
        import trio

        return Waiting(partial(trio.sleep, 3600))
    return Waiting(partial(asyncio.sleep, 3600))


# Ways to start n children


async def errgroup(child: Child, n: int, limit: int | None) -> None:
    """Give every child a task of its own."""
    from safeconc import ErrGroup

    async with ErrGroup(limit=limit) as group:
        for _ in range(n):
            await group.go(child)


async def errgroup_reuse(child: Child, n: int, limit: int | None) -> None:
    """Run the children on workers that each take many."""
    from safeconc import ErrGroup

    async with ErrGroup(limit=limit, reuse=True) as group:
        for _ in range(n):
            await group.go(child)


async def taskgroup(child: Child, n: int, limit: int | None) -> None:  # noqa: ARG001
    """Use the standard library, which has no limit."""
    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            group.create_task(child())


async def taskgroup_limited(child: Child, n: int, limit: int | None) -> None:
    """Start a task only when the semaphore has a slot for it."""
    slots = asyncio.Semaphore(limit or n)

    async def one() -> None:
        try:
            await child()
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            await slots.acquire()
            group.create_task(one())


async def quattro_group(child: Child, n: int, limit: int | None) -> None:
    """Use quattro's group, whose limit is a semaphore inside the tasks."""
    import quattro

    async with quattro.TaskGroup(concurrency_limit=limit) as group:
        for _ in range(n):
            group.create_task(child())


async def anyio_group(child: Child, n: int, limit: int | None) -> None:  # noqa: ARG001
    """Use anyio's group, which has no limit."""
    async with anyio.create_task_group() as group:
        for _ in range(n):
            group.start_soon(child)


async def anyio_semaphore(child: Child, n: int, limit: int | None) -> None:
    """Start all, behind a ``Semaphore``."""
    slots = anyio.Semaphore(limit or n)

    async def one() -> None:
        async with slots:
            await child()

    async with anyio.create_task_group() as group:
        for _ in range(n):
            group.start_soon(one)


async def anyio_limited(child: Child, n: int, limit: int | None) -> None:
    """Start an anyio task only when the semaphore has a slot for it."""
    slots = anyio.Semaphore(limit or n, fast_acquire=True)

    async def one() -> None:
        try:
            await child()
        finally:
            slots.release()

    async with anyio.create_task_group() as group:
        for _ in range(n):
            await slots.acquire()
            group.start_soon(one)


async def anyio_limiter(child: Child, n: int, limit: int | None) -> None:
    """Start all, behind a ``CapacityLimiter``."""
    limiter = anyio.CapacityLimiter(limit or n)

    async def one() -> None:
        async with limiter:
            await child()

    async with anyio.create_task_group() as group:
        for _ in range(n):
            group.start_soon(one)


async def trio_nursery(child: Child, n: int, limit: int | None) -> None:  # noqa: ARG001
    """Use trio's nursery, which has no limit."""
    import trio

    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(child)


async def trio_limiter(child: Child, n: int, limit: int | None) -> None:
    """Start all in a nursery, behind a ``CapacityLimiter``."""
    import trio

    limiter = trio.CapacityLimiter(limit or n)

    async def one() -> None:
        async with limiter:
            await child()

    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(one)


async def trio_limited(child: Child, n: int, limit: int | None) -> None:
    """Start a trio task only when the semaphore has a slot for it."""
    import trio

    slots = trio.Semaphore(limit or n)

    async def one() -> None:
        try:
            await child()
        finally:
            slots.release()

    async with trio.open_nursery() as nursery:
        for _ in range(n):
            await slots.acquire()
            nursery.start_soon(one)


# Ways to cancel n waiting children: what is measured begins with the cancellation
# and ends when the block has been left


class Stop(Exception):  # noqa: N818 - not an error: it only ends the block
    """Ends a group that has no ``cancel()``."""


async def errgroup_cancel(waiting: Waiting, run: Run) -> None:
    """Use ``ErrGroup.cancel()``."""
    from safeconc import ErrGroup

    async with ErrGroup(limit=None) as group:
        for _ in range(run.n):
            await group.go(waiting.child)
        await waiting.all_of(run.n)
        run.watch.start()
        group.cancel()
    run.watch.stop()


async def errgroup_reuse_cancel(waiting: Waiting, run: Run) -> None:
    """Do the same with children on shared workers."""
    from safeconc import ErrGroup

    async with ErrGroup(limit=None, reuse=True) as group:
        for _ in range(run.n):
            await group.go(waiting.child)
        await waiting.all_of(run.n)
        run.watch.start()
        group.cancel()
    run.watch.stop()


async def taskgroup_cancel(waiting: Waiting, run: Run) -> None:
    """Raise in the body: the group of the standard library has no ``cancel()``."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(run.n):
                group.create_task(waiting.child())
            await waiting.all_of(run.n)
            run.watch.start()
            raise Stop
    except* Stop:
        run.watch.stop()


async def quattro_cancel(waiting: Waiting, run: Run) -> None:
    """Raise in the body."""
    import quattro

    try:
        async with quattro.TaskGroup() as group:
            for _ in range(run.n):
                group.create_task(waiting.child())
            await waiting.all_of(run.n)
            run.watch.start()
            raise Stop
    except* Stop:
        run.watch.stop()


async def anyio_cancel(waiting: Waiting, run: Run) -> None:
    """Cancel the scope of the group."""
    async with anyio.create_task_group() as group:
        for _ in range(run.n):
            group.start_soon(waiting.child)
        await waiting.all_of(run.n)
        run.watch.start()
        group.cancel_scope.cancel()
    run.watch.stop()


async def trio_cancel(waiting: Waiting, run: Run) -> None:
    """Cancel the scope of the nursery."""
    import trio

    async with trio.open_nursery() as nursery:
        for _ in range(run.n):
            nursery.start_soon(waiting.child)
        await waiting.all_of(run.n)
        run.watch.start()
        nursery.cancel_scope.cancel()
    run.watch.stop()


# The tables


def spawning(
    name: str,
    way: Way,
    *,
    limit: int | None = None,
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = LOOPS,
    share: float = 1.0,
) -> Contender:
    """Make a contender that starts children which end at once."""

    async def body(run: Run) -> None:
        with run.watch:
            await way(nothing, run.n, limit)

    return Contender(name, body, needs, backends, share)


def living(
    name: str,
    way: Way,
    *,
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = LOOPS,
) -> Contender:
    """Make a contender that starts children which all live at the same time."""

    async def body(run: Run) -> None:
        gate = Gate(run.n)
        with run.watch:
            await way(gate.__call__, run.n, None)

    return Contender(name, body, needs, backends)


def cancelling(
    name: str,
    cancel: Cancel,
    *,
    wait: Callable[[Backend], Waiting],
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = LOOPS,
) -> Contender:
    """Make a contender that cancels children which wait."""

    async def body(run: Run) -> None:
        await cancel(wait(run.backend), run)

    return Contender(name, body, needs, backends)


def cancel_field(wait: Callable[[Backend], Waiting]) -> tuple[Contender, ...]:
    """Return the contenders that cancel children which do *wait*."""
    add = partial(cancelling, wait=wait)
    return (
        add(DEFAULT, errgroup_cancel, needs=("safeconc",)),
        add(REUSE, errgroup_reuse_cancel, needs=("safeconc",)),
        add(TASKGROUP, taskgroup_cancel, backends=ASYNCIO),
        add("quattro.TaskGroup", quattro_cancel, needs=("quattro",), backends=ASYNCIO),
        add(ANYIO, anyio_cancel),
        add(NURSERY, trio_cancel, backends=TRIO),
    )


def cancel_scenario(name: str, wait: Callable[[Backend], Waiting]) -> Scenario:
    """Return the scenario that cancels children which do *wait*."""
    return Scenario(
        name,
        "cancel children that wait, until the block is left",
        cancel_field(wait),
        ANYIO,
        n=10_000,
        quick_n=2_000,
    )


OURS = ("safeconc",)
SPAWN = (
    spawning(REUSE, errgroup_reuse, needs=OURS),
    spawning(REUSE + LIMITED, errgroup_reuse, limit=LIMIT, needs=OURS),
    spawning(DEFAULT, errgroup, needs=OURS, share=0.2),
    spawning(DEFAULT + LIMITED, errgroup, limit=LIMIT, needs=OURS, share=0.2),
    spawning(TASKGROUP, taskgroup, backends=ASYNCIO),
    spawning(
        f"{TASKGROUP}, Semaphore first{LIMITED}",
        taskgroup_limited,
        limit=LIMIT,
        backends=ASYNCIO,
    ),
    spawning("quattro.TaskGroup", quattro_group, needs=("quattro",), backends=ASYNCIO),
    spawning(
        f"quattro.TaskGroup(concurrency_limit){LIMITED}",
        quattro_group,
        limit=LIMIT,
        needs=("quattro",),
        backends=ASYNCIO,
        share=0.2,
    ),
    spawning(ANYIO, anyio_group, share=0.2),
    spawning(
        f"{ANYIO}, Semaphore first{LIMITED}",
        anyio_limited,
        limit=LIMIT,
        share=0.2,
    ),
    spawning(f"{ANYIO} + Semaphore{LIMITED}", anyio_semaphore, limit=LIMIT, share=0.2),
    spawning(
        f"{ANYIO} + CapacityLimiter{LIMITED}", anyio_limiter, limit=LIMIT, share=0.2
    ),
    spawning(NURSERY, trio_nursery, backends=TRIO, share=0.2),
    spawning(
        f"{NURSERY}, Semaphore first{LIMITED}",
        trio_limited,
        limit=LIMIT,
        backends=TRIO,
        share=0.2,
    ),
    spawning(
        f"{NURSERY} + CapacityLimiter{LIMITED}",
        trio_limiter,
        limit=LIMIT,
        backends=TRIO,
        share=0.2,
    ),
)
LIVE = (
    living(DEFAULT, errgroup, needs=OURS),
    living(REUSE, errgroup_reuse, needs=OURS),
    living(TASKGROUP, taskgroup, backends=ASYNCIO),
    living("quattro.TaskGroup", quattro_group, needs=("quattro",), backends=ASYNCIO),
    living(ANYIO, anyio_group),
    living(NURSERY, trio_nursery, backends=TRIO),
)

BENCHMARK = Benchmark(
    "errgroup",
    scenarios=(
        Scenario(
            "spawn",
            "start and join children that end at once",
            SPAWN,
            ANYIO,
            n=100_000,
            quick_n=5_000,
            weighed=True,
        ),
        Scenario(
            "live",
            "children that all wait for one event at the same time",
            LIVE,
            ANYIO,
            n=10_000,
            quick_n=2_000,
            weighed=True,
        ),
        cancel_scenario("cancel-event", on_event),
        cancel_scenario("cancel-sleep", asleep),
    ),
    targets=(
        Target("spawn", REUSE, (TASKGROUP,), at_most=1.0),
        Target("spawn", REUSE + LIMITED, (TASKGROUP,), at_most=1.0),
        Target("spawn", REUSE, (ANYIO,), at_most=0.4),
        Target("spawn", REUSE + LIMITED, (ANYIO,), at_most=0.4),
        Target("spawn", REUSE, (TASKGROUP,), at_most=0.02, metric=Metric.PEAK),
        Target(
            "spawn", REUSE + LIMITED, (TASKGROUP,), at_most=0.02, metric=Metric.PEAK
        ),
        Target("spawn", DEFAULT, (ANYIO,), at_most=1.2),
        Target(
            "spawn",
            DEFAULT + LIMITED,
            (f"{ANYIO} + Semaphore{LIMITED}",),
            at_most=0.7,
        ),
        Target("live", DEFAULT, (ANYIO,), at_most=1.1, metric=Metric.BYTES),
        Target("live", DEFAULT, (ANYIO,), at_most=1.2),
        Target("cancel-event", DEFAULT, (TASKGROUP,), at_most=1.3),
        Target("cancel-sleep", DEFAULT, (TASKGROUP,), at_most=1.3),
        Target(
            "spawn",
            REUSE + LIMITED,
            (f"{NURSERY} + CapacityLimiter{LIMITED}",),
            at_least=5,
            backend="trio",
        ),
    ),
)
