"""What crawl returns, and what is bounded, in tasks and in threads."""

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from safeconc import FrontierFull, Job, Visit, current_context
from safeconc._policy._frontier import Order
from tests.worlds import World, in_every_world

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def _countdown(job: Job[int]) -> str:
    if job.item:
        job.submit(job.item - 1)
    return f"{job.item}!"


async def _page(job: Job[int]) -> None:
    """Be a page with ten links."""
    for link in range(10):
        job.submit(link)


async def _lazy_page(job: Job[int]) -> None:
    """Be one that gives its links as an iterable."""
    job.submit_from(range(10))


# crawl


@in_every_world
async def test_visits_are_returned_as_the_jobs_ended(world: World) -> None:
    """Each with its item, its depth, its parent's item and the result."""
    visits = await world.crawl(_countdown, [2], max_depth=None, limit=1)

    assert visits == [
        Visit(2, 0, None, "2!"),
        Visit(1, 1, 2, "1!"),
        Visit(0, 2, 1, "0!"),
    ]


@in_every_world
async def test_no_roots_are_no_visits(world: World) -> None:
    """And no function is called."""
    assert await world.crawl(_countdown, [], max_depth=1, limit=1) == []


@in_every_world
async def test_roots_may_be_any_iterable(world: World) -> None:
    """They are taken when their turn comes, in order, after their elders' trees."""
    taken: list[int] = []

    def roots() -> Iterator[int]:
        for root in (1, 10):
            taken.append(root)
            yield root

    async def page(job: Job[int]) -> list[int]:
        if job.item == 1:
            job.submit_from({5: None, 6: None})
        return list(taken)

    visits = await world.crawl(page, roots(), max_depth=1, limit=1)

    assert [(visit.item, visit.result) for visit in visits] == [
        (1, [1]),
        (5, [1]),
        (6, [1]),
        (10, [1, 10]),
    ]


@pytest.mark.parametrize("roots", ["https://example.org/", b"item"])
@in_every_world
async def test_one_string_is_not_the_roots(world: World, roots: Any) -> None:
    """The error shows what to write; also where errors come as a group."""
    with pytest.raises(TypeError, match=r"not one: write \[.*\]"):
        await world.crawl(_countdown, roots, max_depth=1, limit=1, errors="group")


@in_every_world
async def test_roots_must_be_iterable(world: World) -> None:
    """One item is none."""
    with pytest.raises(TypeError, match="items must be iterable, not 5"):
        await world.crawl(_countdown, 5, max_depth=1, limit=1, errors="group")


@in_every_world
async def test_bounds_are_checked(world: World) -> None:
    """As those of DepthPool are."""
    with pytest.raises(ValueError, match="max_depth must be at least 0, not -1"):
        await world.crawl(_countdown, [1], max_depth=-1, limit=1)
    with pytest.raises(TypeError, match="a pool needs a limit"):
        await world.crawl(_countdown, [1], max_depth=1, limit=None)
    with pytest.raises(TypeError, match="max_depth"):
        await world.crawl(_countdown, [1], limit=1)


@in_every_world
async def test_options_reach_the_tree(world: World) -> None:
    """Order, key, budgets and what a full frontier does."""

    async def page(job: Job[int]) -> None:
        job.submit(2 * job.item)
        job.submit(2 * job.item + 1)
        job.submit(job.item)

    visits = await world.crawl(
        page,
        [1],
        max_depth=None,
        limit=1,
        key=abs,
        order="breadth",
        max_frontier=3,
        overflow="drop",
        max_jobs=9,
    )

    assert [visit.item for visit in visits] == [1, 2, 3, 4, 5, 6, 8, 10, 12]


@in_every_world
async def test_errors_as_results(world: World) -> None:
    """On request."""

    async def page(job: Job[int]) -> float:
        return 1 / job.item

    error, half = await world.crawl(
        page, [0, 2], max_depth=0, limit=1, return_exceptions=True
    )

    assert isinstance(error.result, ZeroDivisionError)
    assert half.result == 0.5


@in_every_world
async def test_every_error_may_be_a_result(world: World) -> None:
    """Whoever is to do the next job after one that failed."""

    async def page(job: Job[int]) -> int:
        raise ValueError(job.item)

    visits = await world.crawl(
        page, range(100), max_depth=0, limit=1, return_exceptions=True
    )

    assert [visit.item for visit in visits] == list(range(100))


@in_every_world
async def test_the_name_is_shown_in_errors(world: World) -> None:
    """And the kind, where there is none."""
    texts: list[str] = []

    async def page(job: Job[int]) -> None:
        if job.item == 2:
            raise ValueError
        try:
            await world.sleep_forever()
        finally:
            with pytest.raises(RuntimeError) as caught:
                job.submit(1)
            texts.append(str(caught.value))

    for name in (None, "site"):
        with pytest.raises(ValueError):
            await world.crawl(page, [1, 2], max_depth=1, limit=2, name=name)

    assert texts[0].startswith("this crawl has failed")
    assert texts[1].startswith("crawl 'site' has failed")


@in_every_world
async def test_jobs_see_the_variables_of_the_call(world: World) -> None:
    """And what they set nobody else sees."""

    async def page(job: Job[int]) -> tuple[str, bool]:
        seen = VARIABLE.get()
        VARIABLE.set(f"job {job.item}")
        return seen, current_context() is not outer

    reset = VARIABLE.set("caller")
    async with world.context():
        outer = current_context()
        visits = await world.crawl(page, [1, 2], max_depth=0, limit=1)

    assert [visit.result for visit in visits] == [("caller", True)] * 2
    assert VARIABLE.get() == "caller"
    VARIABLE.reset(reset)


# The limit and the buffer


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("buffer", [None, 0, 5])
@pytest.mark.parametrize("order", ["depth", "breadth"])
@in_every_world
async def test_nobody_consumes_so_nothing_more_starts(
    world: World, limit: int, buffer: int | None, order: Order
) -> None:
    """Started and not consumed are limit + buffer, and each visit lets one start."""
    room = limit + (limit if buffer is None else buffer)
    pool = world.DepthPool(
        _countdown, max_depth=0, limit=limit, buffer=buffer, order=order
    )

    async with pool:
        pool.submit_from(range(100))
        visits = aiter(pool)
        for taken in range(5):
            await world.until(lambda: pool.statistics().buffered >= room)
            await world.pause()

            assert pool.statistics().accepted == (taken + room,)
            assert pool.statistics().buffered == room
            await anext(visits)


@pytest.mark.parametrize("buffer", [0, 2])
@in_every_world
async def test_no_more_than_the_window_is_ever_under_way(
    world: World, buffer: int
) -> None:
    """Also while jobs end in any order and the consumer takes its time."""
    consumed = 0
    most = [0]

    async def page(job: Job[int]) -> None:
        statistics = pool.statistics()
        most.append(statistics.running + statistics.buffered)
        for _ in range(job.item % 4):
            await world.pause()

    async with world.DepthPool(page, max_depth=0, limit=3, buffer=buffer) as pool:
        pool.submit_from(range(50))
        pool.submit_from(range(50))
        async for _ in pool:
            consumed += 1
            for _ in range(consumed % 3):
                await world.pause()

    assert consumed == 100
    assert max(most) <= 3 + buffer


@in_every_world
async def test_limit_is_never_exceeded_and_is_reached(world: World) -> None:
    """As many work at once as there is work for, and the limit says."""
    running: list[int] = []
    most: list[int] = []
    full = world.event()

    async def page(job: Job[int]) -> None:
        running.append(1)
        most.append(len(running))
        if len(running) == 5:
            full.set()
        if job.depth == 1:
            await full.wait()
        await _page(job)
        running.pop()

    visits = await world.crawl(page, [0], max_depth=2, limit=5)

    assert len(visits) == 111
    assert max(most) == 5


# The frontier


@in_every_world
async def test_one_worker_keeps_what_a_walk_by_recursion_would(world: World) -> None:
    """Ten links on each of three levels, but for one that is walked: 3 * 9 + 1."""
    pool = world.DepthPool(_page, max_depth=3, limit=1)

    async with pool:
        pool.submit(0)
        assert len([visit async for visit in pool]) == 1111

    assert pool.statistics().peak_frontier == 3 * 9 + 1


@in_every_world
async def test_lazy_children_wait_as_one(world: World) -> None:
    """So many iterables as there are levels, for each worker."""
    for limit in (1, 3):
        pool = world.DepthPool(_lazy_page, max_depth=3, limit=limit)
        async with pool:
            pool.submit(0)
            assert len([visit async for visit in pool]) == 1111

        assert pool.statistics().peak_frontier <= 3 * limit


@in_every_world
async def test_breadth_first_keeps_a_level(world: World) -> None:
    """The last level waits as a whole, but for what is started of it."""
    pool = world.DepthPool(_page, max_depth=2, limit=1, order="breadth")

    async with pool:
        pool.submit(0)
        assert len([visit async for visit in pool]) == 111

    assert pool.statistics().peak_frontier == 100


@in_every_world
async def test_an_endless_iterable_is_taken_as_it_is_visited(world: World) -> None:
    """Nobody asks for more items than there is room for visits."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        while True:
            taken.append(1)
            yield len(taken)

    async with world.DepthPool(_countdown, max_depth=0, limit=2, buffer=0) as pool:
        pool.submit_from(items())
        count = 0
        async for _ in pool:
            count += 1
            assert len(taken) <= count + 2
            if count == 10:
                break


@in_every_world
async def test_a_full_frontier_raises(world: World) -> None:
    """In the job that submits, whose error it is; what it submitted before is lost."""
    pool = world.DepthPool(_page, max_depth=1, limit=1, max_frontier=5)

    with pytest.raises(FrontierFull, match=r"5 jobs wait already \(max_frontier=5\)"):
        async with pool:
            pool.submit(0)
            async for _ in pool:
                pass

    assert pool.statistics().dropped == 1
    assert pool.statistics().accepted == (1, 5)
    assert pool.statistics().finished == (0, 0)


@in_every_world
async def test_a_full_frontier_drops(world: World) -> None:
    """On request, and counts what it dropped; no worker waits for a place."""
    pool = world.DepthPool(_page, max_depth=2, limit=2, max_frontier=5, overflow="drop")

    async with pool:
        pool.submit(0)
        count = len([visit async for visit in pool])

    statistics = pool.statistics()
    assert count == sum(statistics.accepted) == sum(statistics.finished)
    assert statistics.dropped == 10 * sum(statistics.accepted[:2]) - (count - 1)
    assert statistics.peak_frontier <= 5


# Work without end


@in_every_world
async def test_a_job_that_submits_itself_ends_by_its_depth(world: World) -> None:
    """The one that would be too deep is refused."""

    async def page(job: Job[int]) -> None:
        assert job.submit(job.item) == (job.depth < 200)

    visits = await world.crawl(page, [7], max_depth=200, limit=3)

    assert sorted(visit.depth for visit in visits) == list(range(201))


@in_every_world
async def test_a_job_that_submits_itself_lazily_ends_by_the_budget(
    world: World,
) -> None:
    """The iterables that wait are closed, not asked to their ends."""

    def for_ever(item: int) -> Iterator[int]:
        while True:
            yield item

    async def page(job: Job[int]) -> None:
        job.submit_from(for_ever(job.item))

    visits = await world.crawl(page, [7], max_depth=None, limit=3, max_jobs=50)

    assert len(visits) == 50


@in_every_world
async def test_keys_end_what_goes_in_circles(world: World) -> None:
    """Each item once."""

    async def page(job: Job[int]) -> None:
        job.submit((job.item + 1) % 10)

    visits = await world.crawl(page, [0], max_depth=None, limit=2, key=int)

    assert sorted(visit.item for visit in visits) == list(range(10))
