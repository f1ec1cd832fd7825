"""crawl: all visits of a tree, in a list."""

from contextvars import ContextVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Job, crawl

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def _countdown(job: Job[int]) -> str:
    await checkpoint()
    if job.item:
        job.submit(job.item - 1)
    return f"{job.item}!"


async def test_an_error_as_the_last_result_is_the_end() -> None:
    """Though its worker goes home and looks for no other job."""

    async def page(job: Job[int]) -> None:
        await anyio.wait_all_tasks_blocked()  # so another one finds nothing to do
        raise ValueError

    visits = await crawl(page, [1], max_depth=0, limit=2, return_exceptions=True)

    assert [type(visit.result) for visit in visits] == [ValueError]


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


async def test_a_crawl_of_many_that_never_wait_is_one_worker_deep() -> None:
    """Their frontier is what a walk by recursion would keep."""
    waiting: list[int] = []

    async def page(job: Job[int]) -> None:
        job.submit_from(range(10))
        waiting.append(job.depth)

    visits = await crawl(page, [0], max_depth=3, limit=10)

    assert len(visits) == 1111
    assert waiting[:5] == [0, 1, 2, 3, 3]
