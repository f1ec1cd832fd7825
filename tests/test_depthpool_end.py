"""The loop ends exactly when nothing is left: no job, no visit, nobody who submits."""

import anyio
from anyio.lowlevel import checkpoint

from safeconc import DepthPool, ErrGroup, Job


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


# One consumer


async def test_a_visit_in_hand_while_others_run_out() -> None:
    """Its body may sleep through the end of all else."""
    async with DepthPool(_echo, max_depth=0, limit=2) as pool:
        pool.submit_from([0, 1])
        count = 0
        async for _ in pool:
            count += 1
            await anyio.sleep(1)
            if count == 2:
                pool.submit(2)

    assert count == 3


# Several consumers


async def test_cancelled_together_with_the_visit_loses_nothing() -> None:
    """The visit that came in the turn of the cancellation is taken, or stays."""
    go = anyio.Event()
    taken: list[int] = []

    async def page(job: Job[int]) -> None:
        await go.wait()

    async def consume() -> None:
        async for visit in pool:
            taken.append(visit.item)  # noqa: PERF401 - it may be cancelled

    async with DepthPool(page, max_depth=0, limit=3) as pool:
        async with ErrGroup(limit=None) as group:
            pool.submit_from([0, 1, 2])
            consumer = await group.go(consume)
            await anyio.wait_all_tasks_blocked()
            go.set()
            while not sum(pool.statistics().finished):
                await checkpoint()
            consumer.cancel()
        rest = [visit.item async for visit in pool]

    assert sorted(taken + rest) == [0, 1, 2]


# The end of the block


async def test_leaving_waits_for_cleanup() -> None:
    """The cleanup of a job, also a shielded one, is over before the block is."""
    cleaned: list[int] = []

    async def page(job: Job[int]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                cleaned.append(job.item)

    async with DepthPool(page, max_depth=0, limit=2) as pool:
        pool.submit_from(range(5))
        await anyio.wait_all_tasks_blocked()

    assert sorted(cleaned) == [0, 1]


async def test_what_ends_after_the_block_has_ended_is_dropped() -> None:
    """A job that paid no heed has been visited, but nobody is given the visit."""

    async def page(job: Job[int]) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)

    async with DepthPool(page, max_depth=0, limit=2) as pool:
        pool.submit_from(range(5))
        await anyio.wait_all_tasks_blocked()

    assert pool.statistics().buffered == 0
    assert pool.statistics().running == 0
