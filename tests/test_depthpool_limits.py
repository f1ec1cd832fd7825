"""What is bounded: jobs at once, visits that wait, the frontier, and the whole."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import DepthPool, FrontierFull, Job, crawl


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


async def _quick_page(job: Job[int]) -> None:
    """Be a page with ten links that never waits."""
    for link in range(10):
        job.submit(link)


async def _lazy_page(job: Job[int]) -> None:
    """Be one that gives its links as an iterable."""
    job.submit_from(range(10))


async def _slow_page(job: Job[int]) -> None:
    """Be one that waits."""
    await checkpoint()
    for link in range(10):
        job.submit(link)


# The limit and the buffer


async def test_limit_is_never_exceeded_and_is_reached() -> None:
    """A crew of *limit* works as long as there is work for it."""
    running = most = 0

    async def page(job: Job[int]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await _slow_page(job)
        running -= 1

    visits = await crawl(page, [0], max_depth=3, limit=7)

    assert len(visits) == 1111
    assert most == 7


# The frontier


async def test_jobs_that_never_wait_keep_the_frontier_small() -> None:
    """Ten links on each of four levels, but for one that is walked: 4 * 9 + 1."""
    pool = DepthPool(_quick_page, max_depth=4, limit=10)

    async with pool:
        pool.submit(0)
        count = 0
        async for _ in pool:
            count += 1

    assert count == 11_111
    assert pool.statistics().peak_frontier == 4 * 9 + 1


async def test_jobs_that_never_wait_are_run_by_one_worker() -> None:
    """The others are called only when one waits."""
    workers: set[int] = set()

    async def page(job: Job[int]) -> None:
        workers.add(anyio.get_current_task().id)
        await _quick_page(job)

    await crawl(page, [0], max_depth=2, limit=10)

    assert len(workers) == 1


async def test_lazy_children_wait_as_one() -> None:
    """So many iterables as there are levels."""
    pool = DepthPool(_lazy_page, max_depth=4, limit=10)

    async with pool:
        pool.submit(0)
        count = 0
        async for _ in pool:
            count += 1

    assert count == 11_111
    assert pool.statistics().peak_frontier == 4


async def test_jobs_that_wait_keep_it_small_too() -> None:
    """Each worker has a branch of its own, at the most."""
    pool = DepthPool(_slow_page, max_depth=4, limit=10, buffer=100_000)

    async with pool:
        pool.submit(0)
        async for _ in pool:
            pass

    assert pool.statistics().peak_frontier <= 10 * (4 * 9 + 1)


async def test_a_node_with_many_children() -> None:
    """A hundred thousand of them wait as one."""

    async def page(job: Job[int]) -> None:
        if job.depth == 0:
            job.submit_from(range(100_000))

    pool = DepthPool(page, max_depth=1, limit=10, max_jobs=20_000)
    async with pool:
        pool.submit(0)
        async for _ in pool:
            pass

    assert pool.statistics().peak_frontier == 1
    assert pool.statistics().accepted == (1, 19_999)
    assert pool.statistics().over_budget == 1


async def test_many_submits_at_once() -> None:
    """They wait, and are counted, the iterable among them as one."""
    pool = DepthPool(_lazy_page, max_depth=0, limit=1, max_jobs=5_000)

    async with pool:
        for root in range(5_000):
            pool.submit(root)
        pool.submit_from([])
        count = 0
        async for _ in pool:
            count += 1

    assert count == 5_000
    assert pool.statistics().peak_frontier == 5_001


async def test_a_full_frontier_raises_to_the_body() -> None:
    """Who may catch it, and go on."""
    async with DepthPool(_echo, max_depth=0, limit=1, max_frontier=1) as pool:
        pool.submit(0)
        with pytest.raises(FrontierFull):
            pool.submit(1)
        with pytest.raises(FrontierFull):
            pool.submit_from([1])

        assert [visit.item async for visit in pool] == [0]


# Work without end


async def test_a_job_that_submits_itself_ends_by_the_budget() -> None:
    """However deep it came: nothing is quadratic in the depth."""

    async def page(job: Job[int]) -> None:
        job.submit(job.item)

    visits = await crawl(page, [7], max_depth=None, limit=3, max_jobs=20_000)

    assert visits[-1].depth == 19_999


# Fairness


async def _turns_during(run: Any) -> int:
    """Count the turns that another task gets meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await checkpoint()
        await run
        tasks.cancel_scope.cancel()
    return turns


async def test_jobs_that_never_wait_give_way() -> None:
    """Once per budget, whoever runs them."""
    run = crawl(_quick_page, [0], max_depth=3, limit=10)

    assert await _turns_during(run) >= 1111 // 128


async def test_refused_items_give_way() -> None:
    """A hundred thousand duplicates in a row do not keep the loop to themselves."""
    run = crawl(_echo, iter([0] * 100_000), max_depth=0, limit=2, key=abs)

    assert await _turns_during(run) >= 100_000 // 100 // 2


async def test_refused_items_can_be_cancelled() -> None:
    """In the midst of an endless row of them."""

    def same() -> Iterator[int]:
        while True:
            yield 0

    pool = DepthPool(_echo, max_depth=0, limit=2, key=abs)
    with anyio.CancelScope() as scope:
        async with pool:
            pool.submit_from(same())
            await anext(aiter(pool))
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert pool.statistics().accepted == (1,)
