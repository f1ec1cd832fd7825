"""What type checkers must infer of pools, and what they must refuse. Never runs."""

from collections.abc import AsyncIterator
from typing import assert_type

from safeconc import DepthPool, DepthPoolStatistics, Job, Visit, crawl


async def fetch(job: Job[str]) -> bytes:
    """Stand for what a user crawls with."""
    assert_type(job.item, str)
    assert_type(job.depth, int)
    assert_type(job.parent, str | None)
    assert_type(job.submit("child"), bool)
    assert_type(job.submit_from(["child"]), bool)
    job.submit(1)  # type: ignore[arg-type]
    job.submit_from([1])  # type: ignore[list-item]
    return job.item.encode()


def measure(job: Job[str]) -> int:
    """Stand for what is not async."""
    return len(job.item)


async def a_pool_yields_visits() -> None:
    """Infer items and results from the function."""
    async with DepthPool(fetch, max_depth=5, limit=1, key=len) as pool:
        assert_type(pool, DepthPool[str, bytes])
        assert_type(pool.submit("root"), bool)
        assert_type(pool.submit_from(["root"]), bool)
        async for visit in pool:
            assert_type(visit, Visit[str, bytes])
            assert_type(visit.item, str)
            assert_type(visit.depth, int)
            assert_type(visit.parent, str | None)
            assert_type(visit.result, bytes)
        assert_type(aiter(pool), AsyncIterator[Visit[str, bytes]])
        assert_type(pool.statistics(), DepthPoolStatistics)
        assert_type(pool.errors, tuple[BaseException, ...])


async def a_pool_may_yield_errors() -> None:
    """Add errors to the results only where they are asked for."""
    pool = DepthPool(fetch, max_depth=None, limit=1, return_exceptions=True)
    assert_type(pool, DepthPool[str, bytes | Exception])
    async with pool:
        async for visit in pool:
            assert_type(visit.result, bytes | Exception)


async def a_crawl_returns_visits() -> None:
    """Infer what the list holds."""
    assert_type(
        await crawl(fetch, ["root"], max_depth=5, limit=1), list[Visit[str, bytes]]
    )
    assert_type(
        await crawl(fetch, ["root"], max_depth=5, limit=1, return_exceptions=True),
        list[Visit[str, bytes | Exception]],
    )


async def a_body_that_returns_may_not_be_the_end() -> bytes | None:
    """Know that leaving may be quiet."""
    async with DepthPool(fetch, max_depth=1, limit=1) as pool:
        async for visit in pool:
            return visit.result
    return None


async def options_are_accepted() -> None:
    """Take words, numbers and a key."""
    DepthPool(
        fetch,
        max_depth=None,
        limit=1,
        key=str.lower,
        order="breadth",
        buffer=0,
        max_frontier=100,
        overflow="drop",
        max_jobs=10,
        errors="group",
        name="site",
    )
    await crawl(fetch, iter(["root"]), max_depth=0, limit=1, order="depth")


async def bounds_are_required() -> None:
    """Refuse what has no depth or no limit."""
    DepthPool(fetch, limit=1)  # type: ignore[call-overload]
    DepthPool(fetch, max_depth=1)  # type: ignore[call-overload]
    DepthPool(fetch, max_depth=1, limit=None)  # type: ignore[call-overload]
    await crawl(fetch, ["root"], limit=1)  # type: ignore[call-overload]
    await crawl(fetch, ["root"], max_depth=1)  # type: ignore[call-overload]


async def words_are_checked() -> None:
    """Refuse an unknown order."""
    DepthPool(fetch, max_depth=1, limit=1, order="random")  # type: ignore[call-overload]
    DepthPool(fetch, max_depth=1, limit=1, overflow="block")  # type: ignore[call-overload]


async def the_function_must_be_async() -> None:
    """Refuse a sync function."""
    DepthPool(measure, max_depth=1, limit=1)  # type: ignore[arg-type]
    await crawl(measure, ["root"], max_depth=1, limit=1)  # type: ignore[arg-type]


async def the_items_must_fit_the_function() -> None:
    """Refuse items of another type, also from the key."""
    await crawl(fetch, [1], max_depth=1, limit=1)  # type: ignore[arg-type]
    async with DepthPool(fetch, max_depth=1, limit=1) as pool:
        pool.submit(1)  # type: ignore[arg-type]
        pool.submit_from("root", "root")  # type: ignore[call-arg]
