"""DepthPool: what it takes, what it gives, and what it refuses."""

import functools
import threading
from collections.abc import Awaitable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import (
    DepthPool,
    Job,
)
from tests.together import in_thread


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


def _pool(fn: Any = _echo, **options: Any) -> DepthPool[Any, Any]:
    pool: Any = DepthPool
    return pool(fn, **({"max_depth": 2, "limit": 3} | options))  # type: ignore[no-any-return]


# Visits


@pytest.mark.virtual_clock
async def test_visits_come_as_the_jobs_end() -> None:
    """Who is ready first leaves first."""

    async def nap(job: Job[float]) -> None:
        await anyio.sleep(job.item / 1000)

    async with DepthPool(nap, max_depth=0, limit=3) as pool:
        for delay in (3, 1, 2):
            pool.submit(delay)

        assert [visit.item async for visit in pool] == [1, 2, 3]


async def _scaled(job: Job[int], factor: int) -> int:
    return job.item * factor


def _make_scaled(job: Job[int]) -> Awaitable[int]:
    return _scaled(job, factor=2)


class _Scale:
    async def __call__(self, job: Job[int]) -> int:
        return 2 * job.item

    async def method(self, job: Job[int]) -> int:
        return 2 * job.item


class _Later:
    def __init__(self, value: int) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from checkpoint().__await__()
        return self.value


def _scale_later(job: Job[int]) -> "_Later":
    return _Later(2 * job.item)


@pytest.mark.parametrize(
    "make",
    [
        lambda: functools.partial(_scaled, factor=2),
        lambda: _make_scaled,
        _Scale,
        lambda: _Scale().method,
        lambda: _scale_later,
    ],
    ids=["partial", "function", "object", "method", "awaitable"],
)
async def test_whatever_makes_an_awaitable_is_a_function(make: Any) -> None:
    """As with all that takes a coroutine function here."""
    async with _pool(make()) as pool:
        pool.submit(21)

        assert [visit.result async for visit in pool] == [42]


# Statistics


async def test_statistics_while_a_worker_gives_way() -> None:
    """A job that has ended has, though its worker has not looked for the next one."""
    looks = 0

    async def page(job: Job[int]) -> None:
        job.submit_from(range(job.item))

    pool = _pool(page, max_depth=1, limit=1, buffer=1001)
    async with pool:
        pool.submit_from([1000])
        while (counts := pool.statistics()).buffered < 1001:
            looks += 1
            assert sum(counts.finished) == counts.buffered
            assert sum(counts.accepted) == counts.buffered + counts.running
            await checkpoint()

    assert looks > 1000 // 128


# Misuse


def test_functions_are_checked() -> None:
    """What cannot be called is refused at once; a coroutine is explained."""
    coroutine = _echo(Job())

    with pytest.raises(TypeError, match="key must be callable, not 'name'"):
        _pool(key="name")
    with pytest.raises(TypeError, match="expected a coroutine function, not 5"):
        _pool(5)
    with pytest.raises(TypeError, match="got the coroutine"):
        _pool(coroutine)


async def test_from_another_thread() -> None:
    """A pool belongs to its loop: the error says how to get there."""
    errors: list[str] = []

    def submit() -> None:
        with pytest.raises(RuntimeError) as caught:
            pool.submit(1)
        errors.append(str(caught.value))
        with pytest.raises(RuntimeError, match="belongs to an event loop in another"):
            pool.submit_from([1])

    async with _pool() as pool:
        in_thread(submit)

        assert [visit async for visit in pool] == []
    assert "from_thread.run_sync" in errors[0]


async def test_from_a_thread_by_way_of_the_loop() -> None:
    """As the error says."""

    async def page(job: Job[int]) -> int:
        if job.depth == 0:
            await anyio.to_thread.run_sync(anyio.from_thread.run_sync, job.submit, 2)
        return threading.get_ident()

    async with _pool(page) as pool:
        pool.submit(1)

        assert {visit.item async for visit in pool} == {1, 2}


async def test_a_function_that_is_not_async_fails_the_block() -> None:
    """It is a mistake, so not a result even where errors are."""

    def page(job: Job[int]) -> int:
        return job.item

    wrong: Any = page
    with pytest.raises(TypeError, match="is not a coroutine function"):
        async with _pool(wrong, return_exceptions=True) as pool:
            pool.submit(1)
            async for _ in pool:
                pytest.fail("nothing was visited")


# Checkpoints


async def test_each_visit_is_a_checkpoint() -> None:
    """A cancelled loop never reaches its body, even when a visit is ready."""
    async with _pool() as pool:
        pool.submit(1)
        await anyio.wait_all_tasks_blocked()
        assert pool.statistics().buffered == 1
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in pool:
                pytest.fail("reached the body of a cancelled loop")

        assert scope.cancelled_caught
        assert [visit.item async for visit in pool] == [1]


async def test_the_end_is_a_checkpoint() -> None:
    """To be told once more that nothing is left can be cancelled, too."""
    async with _pool() as pool:
        assert [visit async for visit in pool] == []
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in pool:
                pytest.fail("there is nothing")

    assert scope.cancelled_caught


async def test_a_loop_over_ready_visits_lets_others_run() -> None:
    """Also where neither the jobs nor the body ever wait."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async def page(job: Job[int]) -> None:
        pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        async with _pool(page) as pool:
            pool.submit_from(range(2000))
            async for _ in pool:
                pass
        tasks.cancel_scope.cancel()

    assert turns >= 2000 // 128
