"""crawl: all visits of a tree, in a list."""

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, Job, Visit, crawl, current_context

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def _countdown(job: Job[int]) -> str:
    await checkpoint()
    if job.item:
        job.submit(job.item - 1)
    return f"{job.item}!"


async def test_visits_are_returned_as_the_jobs_ended() -> None:
    """Each with its item, its depth, its parent's item and the result."""
    visits = await crawl(_countdown, [2], max_depth=None, limit=3)

    assert visits == [
        Visit(2, 0, None, "2!"),
        Visit(1, 1, 2, "1!"),
        Visit(0, 2, 1, "0!"),
    ]


async def test_no_roots_are_no_visits() -> None:
    """And no function is called."""
    assert await crawl(_countdown, [], max_depth=1, limit=1) == []


async def test_roots_may_be_any_iterable() -> None:
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

    visits = await crawl(page, roots(), max_depth=1, limit=1)

    assert [(visit.item, visit.result) for visit in visits] == [
        (1, [1]),
        (5, [1]),
        (6, [1]),
        (10, [1, 10]),
    ]


@pytest.mark.parametrize("roots", ["https://example.org/", b"item"])
async def test_one_string_is_not_the_roots(roots: Any) -> None:
    """The error shows what to write; also where errors come as a group."""
    with pytest.raises(TypeError, match=r"not one: write \[.*\]"):
        await crawl(_countdown, roots, max_depth=1, limit=1, errors="group")


async def test_roots_must_be_iterable() -> None:
    """One item is none."""
    roots: Any = 5
    with pytest.raises(TypeError, match="items must be iterable, not 5"):
        await crawl(_countdown, roots, max_depth=1, limit=1, errors="group")


async def test_bounds_are_checked() -> None:
    """As those of DepthPool are."""
    with pytest.raises(ValueError, match="max_depth must be at least 0, not -1"):
        await crawl(_countdown, [1], max_depth=-1, limit=1)
    with pytest.raises(TypeError, match="a pool needs a limit"):
        await crawl(_countdown, [1], max_depth=1, limit=None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="max_depth"):
        await crawl(_countdown, [1], limit=1)  # type: ignore[call-overload]


async def test_options_reach_the_tree() -> None:
    """Order, key, budgets and what a full frontier does."""

    async def page(job: Job[int]) -> None:
        job.submit(2 * job.item)
        job.submit(2 * job.item + 1)
        job.submit(job.item)

    options: Any = {
        "max_depth": None,
        "limit": 1,
        "key": abs,
        "order": "breadth",
        "max_frontier": 3,
        "overflow": "drop",
        "max_jobs": 9,
    }
    run: Any = crawl
    visits: list[Visit[int, None]] = await run(page, [1], **options)

    assert [visit.item for visit in visits] == [1, 2, 3, 4, 5, 6, 8, 10, 12]


async def test_errors_as_results() -> None:
    """On request."""

    async def page(job: Job[int]) -> float:
        return 1 / job.item

    error, half = await crawl(
        page, [0, 2], max_depth=0, limit=1, return_exceptions=True
    )

    assert isinstance(error.result, ZeroDivisionError)
    assert half.result == 0.5


async def test_an_error_as_the_last_result_is_the_end() -> None:
    """Though its worker goes home and looks for no other job."""

    async def page(job: Job[int]) -> None:
        await anyio.wait_all_tasks_blocked()  # so another one finds nothing to do
        raise ValueError

    visits = await crawl(page, [1], max_depth=0, limit=2, return_exceptions=True)

    assert [type(visit.result) for visit in visits] == [ValueError]


async def test_the_name_is_shown_in_errors() -> None:
    """And the kind, where there is none."""
    texts: list[str] = []

    async def page(job: Job[int]) -> None:
        try:
            await anyio.sleep(job.item)
            raise ValueError
        finally:
            if job.item == 2:
                with pytest.raises(RuntimeError) as caught:
                    job.submit(1)
                texts.append(str(caught.value))

    for name in (None, "site"):
        with pytest.raises(ValueError):
            await crawl(page, [1, 2], max_depth=1, limit=2, name=name)

    assert texts[0].startswith("this crawl has failed")
    assert texts[1].startswith("crawl 'site' has failed")


async def test_jobs_see_the_variables_of_the_call() -> None:
    """And what they set nobody else sees."""

    async def page(job: Job[int]) -> tuple[str, bool]:
        seen = VARIABLE.get()
        VARIABLE.set(f"job {job.item}")
        return seen, current_context() is not outer

    VARIABLE.set("caller")
    async with Context() as outer:
        visits = await crawl(page, [1, 2], max_depth=0, limit=1)

    assert [visit.result for visit in visits] == [("caller", True)] * 2
    assert VARIABLE.get() == "caller"


async def test_crawl_is_a_checkpoint() -> None:
    """It can be cancelled also when nothing in it waits."""

    async def page(job: Job[int]) -> None:
        pytest.fail("was called")

    for roots in ([], [1]):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await crawl(page, roots, max_depth=0, limit=1)

        assert scope.cancelled_caught


async def test_a_loop_of_crawls_lets_others_run() -> None:
    """Each gives way at least once."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await checkpoint()
        for _ in range(20):
            await crawl(_countdown, [], max_depth=0, limit=1)
        tasks.cancel_scope.cancel()

    assert turns >= 20


async def test_a_cancelled_crawl_waits_for_its_jobs() -> None:
    """Their cleanup is over when it is, and its iterables are closed."""
    over: list[str] = []

    def roots() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            over.append("roots")

    async def page(job: Job[int]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                over.append("job")

    with anyio.move_on_after(1) as scope:
        await crawl(page, roots(), max_depth=0, limit=2)

    assert scope.cancelled_caught
    assert sorted(over) == ["job", "job", "roots"]


async def test_a_crawl_of_many_that_never_wait_is_one_worker_deep() -> None:
    """Their frontier is what a walk by recursion would keep."""
    waiting: list[int] = []

    async def page(job: Job[int]) -> None:
        job.submit_from(range(10))
        waiting.append(job.depth)

    visits = await crawl(page, [0], max_depth=3, limit=10)

    assert len(visits) == 1111
    assert waiting[:5] == [0, 1, 2, 3, 3]
