"""How long a cancellation is under way, between threads and tasks."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio
import anyio.from_thread
import anyio.lowlevel

from benchmarks._model import (
    ASYNCIO,
    THREAD,
    TRIO,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    Cancel: TypeAlias = Callable[..., object]

SAFECONC = ("safeconc",)
OURS = "safeconc.Context.cancel"
EVENT = "threading.Event.set"
NATIVE = "call_soon_threadsafe(task.cancel)"
AIOLOGIC = "aiologic.Event.set"
ANYIO = "anyio from_thread.run_sync(scope.cancel)"

ASLEEP = 0.0005
"""Seconds within which whoever is to be woken has gone to sleep."""


# From a thread to a thread


class Trigger:
    """A thread that calls what it is handed, once the caller has gone to sleep."""

    def __init__(self) -> None:
        self._calls = queue.SimpleQueue["Cancel | None"]()
        self._thread = threading.Thread(target=self._serve, name="trigger")
        self._called = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._calls.put(None)
        self._thread.join()

    def pull(self, cancel: Cancel) -> None:
        """Have *cancel* called soon."""
        self._calls.put(cancel)

    def latency(self) -> float:
        """Return the seconds since the thread began its last call."""
        return time.perf_counter() - self._called

    def _serve(self) -> None:
        while (cancel := self._calls.get()) is not None:
            time.sleep(ASLEEP)
            self._called = time.perf_counter()
            cancel()

    async def sleep(self, run: Run) -> None:
        """Sleep until cancelled, and note how long that took to arrive."""
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            run.watch.latencies.append(self.latency())
            raise


def context_threads(run: Run) -> None:
    """Wait for a context in the main thread."""
    from safeconc import Context

    with Trigger() as trigger:
        for _ in range(run.n):
            ctx = Context.root()
            trigger.pull(ctx.cancel)
            ctx.wait()
            run.watch.latencies.append(trigger.latency())


def event_threads(run: Run) -> None:
    """Wait for an event there."""
    with Trigger() as trigger:
        for _ in range(run.n):
            event = threading.Event()
            trigger.pull(event.set)
            event.wait()
            run.watch.latencies.append(trigger.latency())


def aiologic_threads(run: Run) -> None:
    """Wait for an event of aiologic there."""
    import aiologic

    with Trigger() as trigger:
        for _ in range(run.n):
            event = aiologic.Event()
            trigger.pull(event.set)
            event.wait()
            run.watch.latencies.append(trigger.latency())


# From a thread to a task


async def context_wake(run: Run) -> None:
    """Call ``Context.cancel`` in the thread."""
    from safeconc import Context, ContextCancelled

    with Trigger() as trigger:
        for _ in range(run.n):
            with suppress(ContextCancelled):
                async with Context() as ctx:
                    trigger.pull(ctx.cancel)
                    await trigger.sleep(run)


async def asyncio_wake(run: Run) -> None:
    """Have the loop cancel the task."""
    loop = asyncio.get_running_loop()
    with Trigger() as trigger:
        for _ in range(run.n):
            task = asyncio.create_task(trigger.sleep(run))
            trigger.pull(partial(loop.call_soon_threadsafe, task.cancel))
            await asyncio.wait([task])


async def anyio_wake(run: Run) -> None:
    """Have anyio's loop token cancel a scope; it blocks the thread meanwhile."""
    token = anyio.lowlevel.current_token()
    with Trigger() as trigger:
        for _ in range(run.n):
            with anyio.CancelScope() as scope:
                trigger.pull(
                    partial(anyio.from_thread.run_sync, scope.cancel, token=token)
                )
                await trigger.sleep(run)


async def trio_wake(run: Run) -> None:
    """Have trio's token cancel a scope."""
    import trio

    token = trio.lowlevel.current_trio_token()
    with Trigger() as trigger:
        for _ in range(run.n):
            with trio.CancelScope() as scope:
                trigger.pull(partial(token.run_sync_soon, scope.cancel))
                await trigger.sleep(run)


# From a task to a thread


class Sleeper:
    """A thread that waits for what it is handed, and tells when it was woken."""

    def __init__(self) -> None:
        self._waits = queue.SimpleQueue["Cancel | None"]()
        self._woken = queue.SimpleQueue[float]()
        self._thread = threading.Thread(target=self._serve, name="sleeper")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._waits.put(None)
        self._thread.join()

    async def wake(self, run: Run, wait: Cancel, cancel: Cancel) -> None:
        """Have the thread wait, cancel that, and note how long it took to arrive."""
        self._waits.put(wait)
        await anyio.sleep(ASLEEP)
        called = time.perf_counter()
        cancel()
        run.watch.latencies.append(self._woken.get() - called)

    def _serve(self) -> None:
        while (wait := self._waits.get()) is not None:
            wait()
            self._woken.put(time.perf_counter())


async def context_out(run: Run) -> None:
    """Cancel a context that the thread waits for."""
    from safeconc import Context

    with Sleeper() as sleeper:
        for _ in range(run.n):
            ctx = Context.root()
            await sleeper.wake(run, ctx.wait, ctx.cancel)


async def event_out(run: Run) -> None:
    """Set an event that it waits for."""
    with Sleeper() as sleeper:
        for _ in range(run.n):
            event = threading.Event()
            await sleeper.wake(run, event.wait, event.set)


async def aiologic_out(run: Run) -> None:
    """Set an event of aiologic's that it waits for."""
    import aiologic

    with Sleeper() as sleeper:
        for _ in range(run.n):
            event = aiologic.Event()
            await sleeper.wake(run, event.wait, event.set)


BENCHMARK = Benchmark(
    "cancel_latency",
    scenarios=(
        Scenario(
            "thread-thread",
            "from a call in a thread to the return of a wait in another, median",
            (
                Contender(OURS, context_threads, SAFECONC, THREAD),
                Contender(EVENT, event_threads, backends=THREAD),
                Contender(AIOLOGIC, aiologic_threads, ("aiologic",), THREAD),
            ),
            EVENT,
            n=400,
            quick_n=200,
            metric=Metric.WALL,
            backends=("thread",),
        ),
        Scenario(
            "thread-task",
            "from a call in a thread to the cancellation in a sleeping task, median",
            (
                Contender(OURS, context_wake, SAFECONC),
                Contender(NATIVE, asyncio_wake, backends=ASYNCIO),
                Contender(ANYIO, anyio_wake),
                Contender("trio run_sync_soon(scope.cancel)", trio_wake, backends=TRIO),
            ),
            ANYIO,
            n=100,
            quick_n=60,
            metric=Metric.WALL,
        ),
        Scenario(
            "task-thread",
            "from a call in a task to the return of a wait in a thread, median",
            (
                Contender(OURS, context_out, SAFECONC),
                Contender(EVENT, event_out),
                Contender(AIOLOGIC, aiologic_out, ("aiologic",)),
            ),
            EVENT,
            n=200,
            quick_n=100,
            metric=Metric.WALL,
        ),
    ),
    targets=(
        Target(
            "thread-thread",
            OURS,
            (EVENT,),
            at_most=1.5,
            metric=Metric.WALL,
            backend="thread",
        ),
        Target("thread-task", OURS, (NATIVE,), at_most=1.5, metric=Metric.WALL),
        Target("task-thread", OURS, (EVENT,), at_most=1.5, metric=Metric.WALL),
    ),
)
