"""A failure, of a job, of a key or of an iterable, ends the block with that error."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, ContextCancelled, DepthPool, Job, crawl
from tests.harness import on_asyncio
from tests.together import ends_by


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


async def _visit_all(pool: DepthPool[Any, Any]) -> None:
    """Be a loop that sees no end."""
    async for _ in pool:
        pass
    pytest.fail("told the end")


# Jobs


async def _interrupted_job(job: Job[int]) -> None:
    if job.item == 1:
        raise KeyboardInterrupt


def _interrupted_items() -> Iterator[int]:
    yield 0
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "fn, items",
    [(_interrupted_job, lambda: range(3)), (_echo, _interrupted_items)],
    ids=["job", "iterable"],
)
def test_an_order_to_the_program_stays_bare(
    anyio_backend: tuple[str, dict[str, Any]], fn: Any, items: Any
) -> None:
    """It is never a result, and comes out as it is."""

    async def main() -> None:
        async with DepthPool(fn, max_depth=0, limit=1, return_exceptions=True) as pool:
            pool.submit_from(items())
            await _visit_all(pool)

    ends_by(KeyboardInterrupt, main, anyio_backend)


# Iterables


@on_asyncio
async def test_an_iterable_that_raises_a_cancellation_has_failed() -> None:
    """One that nobody asked for is an error, not an end."""

    def items() -> Iterator[int]:
        yield 1
        raise asyncio.CancelledError

    with pytest.raises(anyio.TaskCancelled):
        async with DepthPool(_echo, max_depth=0, limit=1) as pool:
            pool.submit_from(items())
            await _visit_all(pool)


@on_asyncio
async def test_an_iterable_that_passes_on_our_cancellation() -> None:
    """It is the end that was asked for: no error."""
    made: list[int] = []
    scope = anyio.CancelScope()

    def items() -> Iterator[int]:
        yield 1
        scope.cancel()
        made.append(1)
        raise asyncio.CancelledError

    pool = DepthPool(_echo, max_depth=0, limit=1, buffer=1)
    with scope:
        async with pool:
            pool.submit_from(items())
            await anyio.sleep_forever()

    assert made == [1]
    assert scope.cancelled_caught
    assert pool.errors == ()


# Cancellation


def _duplicates() -> Iterator[int]:
    while True:
        yield 0


_WORK: dict[str, Callable[[DepthPool[int, Any]], object]] = {
    "jobs that wait": lambda pool: pool.submit_from(range(1, 100)),
    "a frontier of jobs": lambda pool: [pool.submit(item) for item in range(1, 1000)],
    "duplicates for ever": lambda pool: pool.submit_from(_duplicates()),
    "nothing": lambda pool: pool.statistics(),
}


async def _stay(job: Job[int]) -> None:
    job.submit_from(range(100))
    if job.item:
        await anyio.sleep_forever()


def _whoever_cancels(how: str, scope: anyio.CancelScope, context: Context) -> None:
    if how == "scope":
        scope.cancel()
    elif how == "context":
        context.cancel()
    elif how == "thread":
        thread = threading.Thread(target=context.cancel)
        thread.start()
        thread.join()
    else:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


@pytest.mark.parametrize("work", _WORK)
@pytest.mark.parametrize("how", ["scope", "context", "thread"])
async def test_cancelled_in_the_midst_of(work: str, how: str) -> None:
    """Nothing is left running, waiting or buffered, and no end was told."""
    pool = DepthPool(_stay, max_depth=3, limit=3, key=abs, buffer=1)
    cancelled: list[BaseException] = []

    with anyio.CancelScope() as scope:
        try:
            async with Context() as context, pool:
                pool.submit(0)
                _WORK[work](pool)
                for _ in range(5):
                    await checkpoint()
                _whoever_cancels(how, scope, context)
                await anyio.sleep_forever()
        except ContextCancelled as exc:
            cancelled.append(exc)

    assert scope.cancelled_caught == (how == "scope")
    assert len(cancelled) == (how != "scope")
    statistics = pool.statistics()
    assert (statistics.running, statistics.frontier, statistics.buffered) == (0, 0, 0)
    assert pool.errors == ()


@on_asyncio
@pytest.mark.parametrize("work", _WORK)
async def test_natively_cancelled_in_the_midst_of(work: str) -> None:
    """A Task.cancel of asyncio goes on through the block."""
    pool = DepthPool(_stay, max_depth=3, limit=3, key=abs, buffer=1)

    async def run() -> None:
        async with pool:
            pool.submit(0)
            _WORK[work](pool)
            for _ in range(5):
                await checkpoint()
            _whoever_cancels("task", anyio.CancelScope(), Context())
            await anyio.sleep_forever()

    task = asyncio.ensure_future(run())
    await asyncio.wait([task])

    assert task.cancelled()
    statistics = pool.statistics()
    assert (statistics.running, statistics.frontier, statistics.buffered) == (0, 0, 0)


@on_asyncio
async def test_a_job_that_cancels_its_own_task_has_failed() -> None:
    """Nobody who may had asked for it."""

    async def page(job: Job[int]) -> None:
        _whoever_cancels("task", anyio.CancelScope(), Context())
        await checkpoint()

    with pytest.raises(anyio.TaskCancelled):
        async with DepthPool(page, max_depth=0, limit=1) as pool:
            pool.submit(0)
            await _visit_all(pool)


@on_asyncio
async def test_a_worker_that_is_cancelled_before_it_begins_is_no_end() -> None:
    """What it was to do is not done, and nobody who may had asked for that."""
    before = asyncio.all_tasks()

    def cancel_worker() -> None:
        (worker,) = asyncio.all_tasks() - before
        worker.cancel()

    asyncio.get_running_loop().call_soon(cancel_worker)  # is called before it begins
    with pytest.raises(anyio.TaskCancelled):
        await crawl(_echo, [1], max_depth=0, limit=1)
