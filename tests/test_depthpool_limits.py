"""What is bounded: jobs at once, visits that wait, the frontier, and the whole."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import DepthPool, FrontierFull, Job, crawl
from safeconc._policy._frontier import Order


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


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("buffer", [None, 0, 1, 5])
@pytest.mark.parametrize("order", ["depth", "breadth"])
async def test_nobody_consumes_so_nothing_more_starts(
    limit: int, buffer: int | None, order: Order
) -> None:
    """Started and not consumed are limit + buffer, however long one waits."""
    room = limit + (limit if buffer is None else buffer)
    pool = DepthPool(_echo, max_depth=0, limit=limit, buffer=buffer, order=order)

    async with pool:
        pool.submit_from(range(100))
        await anyio.wait_all_tasks_blocked()

        assert pool.statistics().accepted == (room,)
        assert pool.statistics().buffered == room


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("buffer", [None, 0, 1, 5])
async def test_each_visit_taken_lets_one_more_start(
    limit: int, buffer: int | None
) -> None:
    """The window moves with the consumer, step by step."""
    room = limit + (limit if buffer is None else buffer)

    async with DepthPool(_echo, max_depth=0, limit=limit, buffer=buffer) as pool:
        pool.submit_from(range(100))
        visits = aiter(pool)
        for taken in range(1, 8):
            await anext(visits)
            await anyio.wait_all_tasks_blocked()

            assert pool.statistics().accepted == (taken + room,)


@pytest.mark.parametrize("buffer", [0, 2])
async def test_no_more_than_the_window_is_ever_under_way(buffer: int) -> None:
    """Also while jobs end in any order and the consumer takes its time."""
    consumed = most = 0

    async def page(job: Job[int]) -> None:
        nonlocal most
        statistics = pool.statistics()
        most = max(most, statistics.running + statistics.buffered)
        for _ in range(job.item % 4):
            await checkpoint()

    async with DepthPool(page, max_depth=0, limit=3, buffer=buffer) as pool:
        pool.submit_from(range(100))
        async for _ in pool:
            consumed += 1
            for _ in range(consumed % 3):
                await checkpoint()

    assert most == 3 + buffer


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


async def test_breadth_first_keeps_a_level() -> None:
    """The last level waits as a whole, but for what is started of it."""
    pool = DepthPool(_quick_page, max_depth=3, limit=1, order="breadth")

    async with pool:
        pool.submit(0)
        async for _ in pool:
            pass

    assert pool.statistics().peak_frontier == 1000


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


async def test_an_endless_iterable_is_taken_as_it_is_visited() -> None:
    """Nobody asks for more items than there is room for visits."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async with DepthPool(_echo, max_depth=0, limit=2, buffer=0) as pool:
        pool.submit_from(items())
        async for visit in pool:
            if visit.item == 10:
                break
            assert taken <= visit.item + 3


async def test_a_full_frontier_raises() -> None:
    """In the job that submits, whose error it is; what it submitted before is lost."""
    pool = DepthPool(_quick_page, max_depth=1, limit=2, max_frontier=5)

    with pytest.raises(FrontierFull, match=r"5 jobs wait already \(max_frontier=5\)"):
        async with pool:
            pool.submit(0)
            async for _ in pool:
                pass

    assert pool.statistics().dropped == 1
    assert pool.statistics().accepted == (1, 5)
    assert pool.statistics().finished == (0, 0)


async def test_a_full_frontier_raises_to_the_body() -> None:
    """Who may catch it, and go on."""
    async with DepthPool(_echo, max_depth=0, limit=1, max_frontier=1) as pool:
        pool.submit(0)
        with pytest.raises(FrontierFull):
            pool.submit(1)
        with pytest.raises(FrontierFull):
            pool.submit_from([1])

        assert [visit.item async for visit in pool] == [0]


async def test_a_full_frontier_drops() -> None:
    """On request, and counts what it dropped; no worker waits for a place."""
    pool = DepthPool(_quick_page, max_depth=2, limit=2, max_frontier=5, overflow="drop")

    async with pool:
        pool.submit(0)
        count = 0
        async for _ in pool:
            count += 1

    statistics = pool.statistics()
    assert count == sum(statistics.accepted) == sum(statistics.finished)
    assert statistics.dropped == 10 * sum(statistics.accepted[:2]) - (count - 1)
    assert statistics.peak_frontier == 5


# Work without end


async def test_a_job_that_submits_itself_ends_by_its_depth() -> None:
    """The one that would be too deep is refused."""

    async def page(job: Job[int]) -> None:
        assert job.submit(job.item) == (job.depth < 1000)

    visits = await crawl(page, [7], max_depth=1000, limit=3)

    assert [visit.depth for visit in visits] == list(range(1001))


async def test_a_job_that_submits_itself_ends_by_the_budget() -> None:
    """However deep it came: nothing is quadratic in the depth."""

    async def page(job: Job[int]) -> None:
        job.submit(job.item)

    visits = await crawl(page, [7], max_depth=None, limit=3, max_jobs=20_000)

    assert visits[-1].depth == 19_999


async def test_a_job_that_submits_itself_lazily_ends_by_the_budget() -> None:
    """The iterables that wait are closed, not asked to their ends."""

    def for_ever(item: int) -> Iterator[int]:
        while True:
            yield item

    async def page(job: Job[int]) -> None:
        job.submit_from(for_ever(job.item))

    visits = await crawl(page, [7], max_depth=None, limit=3, max_jobs=50)

    assert len(visits) == 50


async def test_keys_end_what_goes_in_circles() -> None:
    """Each item once."""

    async def page(job: Job[int]) -> None:
        job.submit((job.item + 1) % 10)

    visits = await crawl(page, [0], max_depth=None, limit=2, key=lambda item: item)

    assert sorted(visit.item for visit in visits) == list(range(10))


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
