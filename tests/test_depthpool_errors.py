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


class _Boom(Exception):  # noqa: N818 - a part of the play
    """What fails in these tests."""


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


async def _until(depth: int, job: Job[int]) -> None:
    """Be a node of a binary tree that fails at some depth."""
    await checkpoint()
    if job.depth == depth:
        raise _Boom(job.item)
    job.submit(2 * job.item + 1)
    job.submit(2 * job.item + 2)


def _failing_at(depth: int) -> Callable[[Job[int]], Any]:
    async def page(job: Job[int]) -> None:
        await _until(depth, job)

    return page


def _items_then_boom(count: int) -> Iterator[int]:
    yield from range(count)
    raise _Boom


def _key(item: int) -> int:
    if item == 3:
        raise _Boom
    return item


def _unhashable(item: int) -> Any:
    return [item]


async def _visit_all(pool: DepthPool[Any, Any]) -> None:
    """Be a loop that sees no end."""
    async for _ in pool:
        pass
    pytest.fail("told the end")


# Jobs


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("limit", [1, 4])
async def test_a_job_that_fails_is_the_error(depth: int, limit: int) -> None:
    """At whatever depth; the loop is not told an end."""
    pool = DepthPool(_failing_at(depth), max_depth=5, limit=limit)

    with pytest.raises(_Boom) as caught:
        async with pool:
            pool.submit(0)
            await _visit_all(pool)

    assert caught.value is pool.errors[0]
    statistics = pool.statistics()
    assert (statistics.running, statistics.frontier, statistics.buffered) == (0, 0, 0)
    assert sum(statistics.finished) <= 2**depth - 1


async def test_errors_as_a_group() -> None:
    """All of them, also of jobs that were under way."""

    async def page(job: Job[int]) -> None:
        try:
            await anyio.sleep(1 + job.item)
        finally:
            raise _Boom(job.item)

    with pytest.raises(ExceptionGroup) as caught:
        async with DepthPool(page, max_depth=0, limit=3, errors="group") as pool:
            pool.submit_from(range(3))
            await _visit_all(pool)

    assert len(caught.value.exceptions) == 3
    assert all(type(error) is _Boom for error in caught.value.exceptions)


async def test_errors_as_results() -> None:
    """On request they are visits, and what was submitted before goes on."""

    async def page(job: Job[int]) -> int:
        job.submit(job.item + 1)
        await checkpoint()
        raise _Boom(job.item)

    pool = DepthPool(page, max_depth=2, limit=2, return_exceptions=True)
    async with pool:
        pool.submit(0)
        visits = [visit async for visit in pool]

    assert [(visit.item, visit.depth) for visit in visits] == [(0, 0), (1, 1), (2, 2)]
    assert all(isinstance(visit.result, _Boom) for visit in visits)
    assert pool.statistics().failed == 3
    assert pool.statistics().finished == (1, 1, 1)


async def test_an_error_that_is_a_result_needs_a_fresh_worker() -> None:
    """Which comes, also when it must be made while all others are busy."""

    async def page(job: Job[int]) -> int:
        raise _Boom(job.item)

    visits = await crawl(page, range(100), max_depth=0, limit=1, return_exceptions=True)

    assert [visit.item for visit in visits] == list(range(100))


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


async def test_an_error_of_the_body_is_that_error() -> None:
    """The rest is cancelled."""
    error = _Boom()
    pool = DepthPool(_echo, max_depth=0, limit=1)

    with pytest.raises(_Boom) as caught:
        async with pool:
            pool.submit_from(range(10))
            async for _ in pool:
                raise error

    assert caught.value is error
    assert pool.errors == (error,)


async def test_submits_after_a_failure_are_refused() -> None:
    """The error names the failure, which is its cause."""
    pool = DepthPool(_failing_at(0), max_depth=0, limit=1)
    with pytest.raises(_Boom) as failure:
        async with pool:
            pool.submit(0)
            try:
                await anyio.sleep_forever()
            finally:
                with pytest.raises(
                    RuntimeError, match="this DepthPool has failed"
                ) as c:
                    pool.submit(1)
                assert c.value.__cause__ is pool.errors[0]

    with pytest.raises(RuntimeError, match="has failed") as caught:
        pool.submit(1)
    assert caught.value.__cause__ is failure.value
    with pytest.raises(RuntimeError, match="has failed"):
        await anext(aiter(pool))


# Keys


async def test_a_key_that_raises_raises_to_who_submits() -> None:
    """Nothing starts, and the block goes on."""
    pool = DepthPool(_echo, max_depth=0, limit=1, key=_key)

    async with pool:
        with pytest.raises(_Boom):
            pool.submit(3)
        assert pool.statistics().accepted == ()
        pool.submit(4)

        assert [visit.item async for visit in pool] == [4]


async def test_an_unhashable_key_raises_to_who_submits() -> None:
    """As it would from a set."""
    async with DepthPool(_echo, max_depth=0, limit=1, key=_unhashable) as pool:
        with pytest.raises(TypeError, match="unhashable"):
            pool.submit(1)
        assert [visit async for visit in pool] == []


async def test_a_key_that_raises_in_a_job_fails_the_job() -> None:
    """And so the block, or it is caught there."""

    async def page(job: Job[int]) -> None:
        job.submit(job.item + 1)

    with pytest.raises(_Boom):
        await crawl(page, [0], max_depth=None, limit=2, key=_key)


async def test_a_key_that_raises_for_an_iterable_fails_the_block() -> None:
    """There is nobody else who could be told; the iterable is closed before that."""
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            closed.append(1)

    with pytest.raises(_Boom):
        async with DepthPool(_echo, max_depth=0, limit=2, key=_key) as pool:
            pool.submit_from(items())
            await _visit_all(pool)
        pytest.fail("left the block")

    assert closed == [1]


async def test_an_unhashable_key_for_an_iterable_fails_the_block() -> None:
    """Though errors of jobs would be results."""
    with pytest.raises(TypeError, match="unhashable"):
        await crawl(
            _echo, [1], max_depth=0, limit=2, key=_unhashable, return_exceptions=True
        )


# Iterables


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("limit", [1, 3])
async def test_an_iterable_that_raises_fails_the_block(count: int, limit: int) -> None:
    """At whatever item; errors of jobs being results or not."""
    pool = DepthPool(_echo, max_depth=0, limit=limit, return_exceptions=True)

    with pytest.raises(_Boom):
        async with pool:
            pool.submit_from(_items_then_boom(count))
            await _visit_all(pool)

    assert sum(pool.statistics().accepted) == count
    assert len(pool.errors) == 1


async def test_an_iterable_of_a_job_that_raises_fails_the_block() -> None:
    """Also when that job is long over."""

    async def page(job: Job[int]) -> None:
        if job.depth == 0:
            job.submit_from(_items_then_boom(2))

    with pytest.raises(_Boom):
        await crawl(page, [0], max_depth=2, limit=2)


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


async def test_an_iterable_whose_cleanup_raises() -> None:
    """The block was left early; the error of the cleanup is its outcome."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise _Boom

    with pytest.raises(_Boom):
        async with DepthPool(_echo, max_depth=0, limit=1) as pool:
            pool.submit_from(items())
            async for _ in pool:
                break


async def test_a_cleanup_that_raises_after_a_failure_is_kept() -> None:
    """The failure is raised, and tells of the other one."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            raise ValueError("cleanup")

    pool = DepthPool(_failing_at(0), max_depth=0, limit=1)
    with pytest.raises(_Boom) as caught:
        async with pool:
            pool.submit_from(items())
            await _visit_all(pool)

    assert [type(error) for error in pool.errors] == [_Boom, ValueError]
    assert "1 later error" in caught.value.__notes__[0]


async def test_an_iterable_that_is_no_iterator_after_all() -> None:
    """An __iter__ that fails raises to who submits."""

    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise _Boom

    async with DepthPool(_echo, max_depth=0, limit=1) as pool:
        with pytest.raises(_Boom):
            pool.submit_from(Broken())
        assert pool.statistics().frontier == 0


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


async def test_a_deadline_ends_it() -> None:
    """The clock is the caller's: a Context around the block."""
    pool = DepthPool(_stay, max_depth=None, limit=2, key=abs)
    with pytest.raises(TimeoutError):
        async with Context(timeout=5), pool:
            pool.submit(1)
            await _visit_all(pool)

    assert pool.statistics().finished[0] == 0
