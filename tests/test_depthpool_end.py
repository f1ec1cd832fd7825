"""The loop ends exactly when nothing is left: no job, no visit, nobody who submits."""

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import DepthPool, ErrGroup, Job

counts_references = pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="PyPy lets go of an iterator when it collects garbage, not at once",
)


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


async def _at_once(job: Job[int]) -> int:
    return job.item


def _pool(**options: Any) -> DepthPool[int, int]:
    pool: Any = DepthPool
    return pool(_echo, **({"max_depth": 0, "limit": 2} | options))  # type: ignore[no-any-return]


# One consumer


async def test_without_roots() -> None:
    """A loop over nothing ends at once, and the end stays the end."""
    async with _pool() as pool:
        assert [visit async for visit in pool] == []
        assert [visit async for visit in pool] == []


async def test_without_a_loop() -> None:
    """A block without roots, and one whose roots nobody wanted."""
    async with _pool():
        pass
    async with _pool() as pool:
        pool.submit(1)


async def test_roots_that_were_all_refused() -> None:
    """Are none."""
    async with _pool(max_jobs=0) as pool:
        pool.submit(1)
        pool.submit_from([1])

        assert [visit async for visit in pool] == []


@pytest.mark.parametrize("buffer", [0, 1, 2])
async def test_the_body_may_submit_with_the_last_visit_in_hand(buffer: int) -> None:
    """Nothing runs and nothing waits, and yet it is not the end."""
    seen: list[int] = []

    async with _pool(buffer=buffer) as pool:
        pool.submit(0)
        async for visit in pool:
            seen.append(visit.item)
            await anyio.wait_all_tasks_blocked()
            if visit.item < 5:
                pool.submit(visit.item + 1)

    assert seen == [0, 1, 2, 3, 4, 5]


async def test_the_last_job_may_submit_as_its_last_act() -> None:
    """There is no moment between its child and its own end."""

    async def chain(job: Job[int]) -> None:
        await checkpoint()
        job.submit(job.item + 1)

    async with DepthPool(chain, max_depth=50, limit=3, buffer=0) as pool:
        pool.submit(0)

        assert [visit.depth async for visit in pool] == list(range(51))


async def test_roots_are_taken_while_it_runs() -> None:
    """Also from a task beside the loop, as long as something is left."""
    go = anyio.Event()

    async def page(job: Job[int]) -> None:
        if job.item == 0:
            await go.wait()

    async def submit(pool: DepthPool[int, None]) -> None:
        for root in range(1, 4):
            await anyio.wait_all_tasks_blocked()
            pool.submit(root)
        go.set()

    async with DepthPool(page, max_depth=0, limit=2) as pool:
        pool.submit(0)
        async with ErrGroup(limit=None) as group:
            group.go_nowait(submit, pool)
            seen = [visit.item async for visit in pool]

    assert sorted(seen) == [0, 1, 2, 3]


async def test_an_end_that_was_reached_is_told_after_the_block() -> None:
    """A loop over a pool that has ended ends, wherever it is."""
    async with _pool() as pool:
        assert [visit async for visit in pool] == []

    assert [visit async for visit in pool] == []


async def test_break_and_a_second_loop() -> None:
    """The second one goes on where the first one stopped, and ends."""
    async with _pool() as pool:
        for root in range(4):
            pool.submit(root)
        seen: list[int] = []
        async for visit in pool:
            seen.append(visit.item)
            break
        pool.submit(4)
        seen.extend([visit.item async for visit in pool])

    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_a_loop_in_the_body_of_a_loop() -> None:
    """The inner one takes all the rest: a task waits for no visit of its own."""
    seen: list[tuple[str, int]] = []

    async with _pool(limit=1) as pool:
        pool.submit_from([0, 1, 2])
        async for outer in pool:
            seen.append(("outer", outer.item))
            seen.extend([("inner", inner.item) async for inner in pool])

    assert seen == [("outer", 0), ("inner", 1), ("inner", 2)]


async def test_a_visit_at_a_time_by_anext() -> None:
    """An iterator may be advanced by hand; its end stays the end."""
    async with _pool(limit=1) as pool:
        pool.submit(1)
        visits = aiter(pool)

        assert (await anext(visits)).item == 1
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(visits)


async def test_a_visit_in_hand_while_others_run_out() -> None:
    """Its body may sleep through the end of all else."""
    async with _pool() as pool:
        pool.submit_from([0, 1])
        count = 0
        async for _ in pool:
            count += 1
            await anyio.sleep(1)
            if count == 2:
                pool.submit(2)

    assert count == 3


# Several consumers


async def test_consumers_share_the_visits() -> None:
    """Each visit goes to one of them, and all are told the end."""
    seen: list[int] = []

    async def consume() -> None:
        async for visit in pool:
            seen.append(visit.item)
            await checkpoint()

    async with _pool() as pool, ErrGroup(limit=None) as group:
        pool.submit_from(range(20))
        for _ in range(3):
            group.go_nowait(consume)

    assert sorted(seen) == list(range(20))


async def test_consumers_are_served_first_come_first_served() -> None:
    """Who has waited longest gets the next visit."""
    got: dict[str, int] = {}
    go = anyio.Event()

    async def page(job: Job[int]) -> None:
        await go.wait()

    async def consume(name: str) -> None:
        got[name] = (await anext(aiter(pool))).item

    async with DepthPool(page, max_depth=0, limit=1) as pool:
        async with ErrGroup(limit=None) as group:
            pool.submit_from([1, 2, 3])
            for name in "abc":
                group.go_nowait(consume, name)
                await anyio.wait_all_tasks_blocked()
            go.set()

    assert got == {"a": 1, "b": 2, "c": 3}


async def test_who_waits_is_told_the_end_only_when_the_last_hand_is_empty() -> None:
    """Another consumer may submit, and then it did."""
    seen: list[tuple[str, int]] = []
    holding = anyio.Event()
    go = anyio.Event()

    async def hold() -> None:
        async for visit in pool:
            seen.append(("hold", visit.item))
            if visit.item == 0:
                holding.set()
                await go.wait()
                pool.submit(1)
                await anyio.wait_all_tasks_blocked()

    async def wait() -> None:
        await holding.wait()
        seen.extend([("wait", visit.item) async for visit in pool])
        seen.append(("told", 0))

    async with _pool() as pool, ErrGroup(limit=None) as group:
        pool.submit(0)
        group.go_nowait(hold)
        group.go_nowait(wait)
        await anyio.wait_all_tasks_blocked()
        assert seen == [("hold", 0)]
        go.set()

    assert seen == [("hold", 0), ("wait", 1), ("told", 0)]


@counts_references
async def test_a_consumer_that_stops_lets_go() -> None:
    """By break: others are told the end, as it submits no more."""
    waiting: list[int] = []

    async def take_one() -> None:
        async for _ in pool:
            await anyio.wait_all_tasks_blocked()
            break

    async def consume() -> None:
        waiting.extend([visit.item async for visit in pool])

    async with _pool() as pool, ErrGroup(limit=None) as group:
        pool.submit(0)
        await group.go(take_one)
        await anyio.wait_all_tasks_blocked()
        group.go_nowait(consume)

    assert waiting == []


@counts_references
async def test_a_consumer_that_dies_lets_go() -> None:
    """By an error, too, that somebody catches."""

    async def die() -> None:
        with pytest.raises(ValueError):
            async for _ in pool:
                await anyio.wait_all_tasks_blocked()
                raise ValueError
        await anyio.sleep(1)

    async with _pool() as pool, ErrGroup(limit=None) as group:
        pool.submit(0)
        group.go_nowait(die)
        await checkpoint()
        await checkpoint()

        assert [visit async for visit in pool] == []


@counts_references
async def test_a_consumer_that_is_cancelled_with_a_visit_in_hand_lets_go() -> None:
    """The visit is gone with it, the others are told the end."""
    taken = anyio.Event()

    async def consume() -> None:
        async for _ in pool:
            taken.set()
            await anyio.sleep_forever()

    async with _pool() as pool, ErrGroup(limit=None) as group:
        pool.submit(0)
        task = group.go_nowait(consume)
        await taken.wait()
        task.cancel()

        assert [visit async for visit in pool] == []


@counts_references
async def test_an_old_iterator_that_goes_takes_nothing_from_a_new_one() -> None:
    """What its task has in hand now came by another way."""
    seen: list[int] = []

    async def wait(pool: DepthPool[int, int]) -> None:
        seen.extend([visit.item async for visit in pool])

    async with _pool(limit=1) as pool, ErrGroup(limit=None) as group:
        pool.submit_from([0, 1])
        old = aiter(pool)
        await anext(old)
        new = aiter(pool)
        await anext(new)
        group.go_nowait(wait, pool)
        del old
        await anyio.wait_all_tasks_blocked()
        pool.submit(2)
        await anyio.wait_all_tasks_blocked()
        del new

    assert seen == [2]


@counts_references
async def test_who_lets_go_does_not_end_what_others_hold() -> None:
    """One of two consumers stops; the other one may still submit."""
    seen: list[int] = []
    go = anyio.Event()

    async def stop() -> None:
        async for _ in pool:
            await anyio.wait_all_tasks_blocked()
            break
        await anyio.wait_all_tasks_blocked()
        go.set()

    async def hold() -> None:
        async for visit in pool:
            seen.append(visit.item)
            if len(seen) == 1:
                await go.wait()
                pool.submit(2)

    async with _pool() as pool, ErrGroup(limit=None) as group:
        pool.submit_from([0, 1])
        group.go_nowait(stop)
        group.go_nowait(hold)

    assert seen[1:] == [2]


async def test_a_cancelled_consumer_loses_no_visit() -> None:
    """What it would have got goes to the next one."""
    go = anyio.Event()

    async def page(job: Job[int]) -> None:
        await go.wait()

    async def take(visits: AsyncIterator[object]) -> None:
        await anext(visits)

    async with DepthPool(page, max_depth=0, limit=3) as pool:
        pool.submit_from([0, 1, 2])
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, aiter(pool))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        go.set()

        assert sorted([visit.item async for visit in pool]) == [0, 1, 2]


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


async def test_a_consumer_outside_the_block_is_refused() -> None:
    """It learns that the pool has ended, not that all was visited."""
    refused: list[str] = []

    async def consume(pool: DepthPool[int, int]) -> None:
        with pytest.raises(RuntimeError) as caught:
            await anext(aiter(pool))
        refused.append(str(caught.value))

    async def stay(job: Job[int]) -> int:
        await anyio.sleep_forever()
        return 0

    async with anyio.create_task_group() as tasks:
        async with DepthPool(stay, max_depth=0, limit=1, name="site") as pool:
            pool.submit(1)
            tasks.start_soon(consume, pool)
            await anyio.wait_all_tasks_blocked()

    assert len(refused) == 1
    assert refused[0].startswith("DepthPool 'site' has ended")


async def test_break_is_quiet_and_cancels_the_rest() -> None:
    """The jobs under way are over when the block has been left."""
    running = 0

    async def page(job: Job[int]) -> int:
        nonlocal running
        running += 1
        try:
            if job.item:
                await anyio.sleep_forever()
        finally:
            running -= 1
        return job.item

    async with DepthPool(page, max_depth=0, limit=4) as pool:
        pool.submit_from(range(10))
        async for visit in pool:
            assert visit.item == 0
            await anyio.wait_all_tasks_blocked()
            assert running == 4
            break

    assert running == 0
    assert pool.statistics().finished == (1,)


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


async def test_iterables_are_closed_when_the_block_ends() -> None:
    """Those that began; what has no end to be told of is left alone."""
    closed: list[int] = []

    def items(first: int) -> Iterator[int]:
        try:
            while True:
                yield first
        finally:
            closed.append(first)

    async with _pool(limit=1, buffer=0) as pool:
        pool.submit_from(items(1))
        await anyio.wait_all_tasks_blocked()
        pool.submit_from(items(2))
        pool.submit_from(iter([3]))
        async for visit in pool:
            if visit.item == 2:
                break
        assert closed == []

    assert sorted(closed) == [1, 2]


async def test_end_reached_while_jobs_never_wait() -> None:
    """Without a single suspension in any job or body, the end is exact."""
    async with DepthPool(_at_once, max_depth=0, limit=3) as pool:
        pool.submit_from(range(300))
        count = 0
        async for _ in pool:
            count += 1

    assert count == 300
