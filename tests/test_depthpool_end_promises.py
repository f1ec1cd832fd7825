"""The end of a pool, in tasks and in threads: exactly when nothing is left."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from safeconc import ContextCancelled, Job
from tests.worlds import World, in_every_world

counts_references = pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="PyPy lets go of an iterator when it collects garbage, not at once",
)


def pool_of(world: World, fn: Any = None, **options: Any) -> Any:
    """Make a small pool."""

    async def echo(job: Job[int]) -> int:
        return job.item

    return world.DepthPool(fn or echo, **({"max_depth": 0, "limit": 2} | options))


def _is_longer(line: Any, count: int) -> bool:
    return len(line) > count


def in_line(pool: Any, count: int) -> Any:
    """Tell whether so many consumers wait, and no job runs."""
    return lambda: (
        len(pool._tree.visits.consumers) == count and not pool.statistics().running
    )


# One consumer


@in_every_world
async def test_without_roots(world: World) -> None:
    """A loop over nothing ends at once, and the end stays the end."""
    async with pool_of(world) as pool:
        assert [visit async for visit in pool] == []
        assert [visit async for visit in pool] == []


@in_every_world
async def test_without_a_loop(world: World) -> None:
    """A block without roots, and one whose roots nobody wanted."""
    async with pool_of(world):
        pass
    async with pool_of(world) as pool:
        pool.submit(1)


@in_every_world
async def test_roots_that_were_all_refused(world: World) -> None:
    """Are none."""
    async with pool_of(world, max_jobs=0) as pool:
        pool.submit(1)
        pool.submit_from([1])

        assert [visit async for visit in pool] == []


@pytest.mark.parametrize("buffer", [0, 1, 2])
@in_every_world
async def test_the_body_may_submit_with_the_last_visit_in_hand(
    world: World, buffer: int
) -> None:
    """Nothing runs and nothing waits, and yet it is not the end."""
    seen: list[int] = []

    async with pool_of(world, buffer=buffer) as pool:
        pool.submit(0)
        async for visit in pool:
            seen.append(visit.item)
            await world.until(in_line(pool, 0))
            if visit.item < 5:
                pool.submit(visit.item + 1)

    assert seen == [0, 1, 2, 3, 4, 5]


@in_every_world
async def test_the_last_job_may_submit_as_its_last_act(world: World) -> None:
    """There is no moment between its child and its own end."""

    async def chain(job: Job[int]) -> None:
        await world.pause()
        job.submit(job.item + 1)

    async with pool_of(world, chain, max_depth=50, limit=3, buffer=0) as pool:
        pool.submit(0)

        assert sorted([visit.depth async for visit in pool]) == list(range(51))


@in_every_world
async def test_roots_are_taken_while_it_runs(world: World) -> None:
    """Also from beside the loop, as long as something is left."""
    go = world.event()

    async def page(job: Job[int]) -> None:
        if job.item == 0:
            await go.wait()

    async def submit() -> None:
        for root in range(1, 4):
            await world.pause()
            pool.submit(root)
        go.set()

    async with pool_of(world, page) as pool:
        pool.submit(0)
        async with world.ErrGroup(limit=None) as group:
            group.go_nowait(submit)
            seen = [visit.item async for visit in pool]

    assert sorted(seen) == [0, 1, 2, 3]


@in_every_world
async def test_an_end_that_was_reached_is_told_after_the_block(world: World) -> None:
    """A loop over a pool that has ended ends, wherever it is."""
    async with pool_of(world) as pool:
        assert [visit async for visit in pool] == []

    assert [visit async for visit in pool] == []


@in_every_world
async def test_break_and_a_second_loop(world: World) -> None:
    """The second one goes on where the first one stopped, and ends."""
    async with pool_of(world) as pool:
        for root in range(4):
            pool.submit(root)
        seen: list[int] = []
        async for visit in pool:
            seen.append(visit.item)
            break
        pool.submit(4)
        seen.extend([visit.item async for visit in pool])

    assert sorted(seen) == [0, 1, 2, 3, 4]


@in_every_world
async def test_a_loop_in_the_body_of_a_loop(world: World) -> None:
    """The inner one takes all the rest: nobody waits for a visit of their own."""
    seen: list[tuple[str, int]] = []

    async with pool_of(world, limit=1) as pool:
        pool.submit_from([0, 1, 2])
        async for outer in pool:
            seen.append(("outer", outer.item))
            seen.extend([("inner", inner.item) async for inner in pool])

    assert seen == [("outer", 0), ("inner", 1), ("inner", 2)]


@in_every_world
async def test_a_visit_at_a_time(world: World) -> None:
    """An iterator may be advanced by hand; its end stays the end."""
    async with pool_of(world, limit=1) as pool:
        pool.submit(1)
        visits = aiter(pool)

        assert (await anext(visits)).item == 1
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(visits)


@in_every_world
async def test_end_reached_while_jobs_never_wait(world: World) -> None:
    """Without a single wait in any job or body, the end is exact."""
    async with pool_of(world, limit=3) as pool:
        pool.submit_from(range(300))
        count = 0
        async for _ in pool:
            count += 1

    assert count == 300


# Several consumers


@in_every_world
async def test_consumers_share_the_visits(world: World) -> None:
    """Each visit goes to one of them, and all are told the end."""
    seen: list[int] = []

    async def consume() -> None:
        async for visit in pool:
            seen.append(visit.item)
            await world.pause()

    async with pool_of(world) as pool, world.ErrGroup(limit=None) as group:
        pool.submit_from(range(20))
        for _ in range(3):
            group.go_nowait(consume)

    assert sorted(seen) == list(range(20))


@in_every_world
async def test_consumers_are_served_first_come_first_served(world: World) -> None:
    """Who has waited longest gets the next visit."""
    got: dict[str, int] = {}
    go = world.event()

    async def page(job: Job[int]) -> None:
        await go.wait()

    async def consume(name: str) -> None:
        got[name] = (await anext(aiter(pool))).item

    async with pool_of(world, page, limit=1) as pool:
        async with world.ErrGroup(limit=None) as group:
            pool.submit_from([1, 2, 3])
            visits = pool._tree.visits
            for count, name in enumerate("abc"):
                group.go_nowait(consume, name)
                await world.until(partial(_is_longer, visits.consumers, count))
            go.set()

    assert got == {"a": 1, "b": 2, "c": 3}


@in_every_world
async def test_the_end_is_told_when_the_last_hand_is_empty(world: World) -> None:
    """Another consumer may submit, and then it did."""
    seen: list[tuple[str, int]] = []
    holding, go = world.event(), world.event()

    async def hold() -> None:
        async for visit in pool:
            seen.append(("hold", visit.item))
            if visit.item == 0:
                holding.set()
                await go.wait()
                pool.submit(1)
                await world.until(lambda: ("wait", 1) in seen)

    async def wait() -> None:
        await holding.wait()
        async for visit in pool:
            seen.append(("wait", visit.item))  # noqa: PERF401 - looked at meanwhile
        seen.append(("told", 0))

    async with pool_of(world) as pool, world.ErrGroup(limit=None) as group:
        pool.submit(0)
        group.go_nowait(hold)
        group.go_nowait(wait)
        await world.until(in_line(pool, 1))
        await holding.wait()
        await world.until(in_line(pool, 1))
        assert seen == [("hold", 0)]
        go.set()

    assert seen == [("hold", 0), ("wait", 1), ("told", 0)]


@counts_references
@in_every_world
async def test_a_consumer_that_stops_lets_go(world: World) -> None:
    """By break: others, who wait already, are told the end; it submits no more."""
    waiting: list[int] = []
    taken = world.event()

    async def take_one() -> None:
        async for _ in pool:
            taken.set()
            await world.until(in_line(pool, 1))
            break

    async def consume() -> None:
        await taken.wait()
        waiting.extend([visit.item async for visit in pool])

    async with pool_of(world) as pool, world.ErrGroup(limit=None) as group:
        pool.submit(0)
        group.go_nowait(take_one)
        group.go_nowait(consume)

    assert waiting == []


@counts_references
@in_every_world
async def test_a_consumer_that_dies_lets_go(world: World) -> None:
    """By an error, too, that somebody catches."""
    taken = world.event()
    told = world.event()

    async def die() -> None:
        with pytest.raises(ValueError):
            async for _ in pool:
                taken.set()
                raise ValueError
        await told.wait()

    async with pool_of(world) as pool, world.ErrGroup(limit=None) as group:
        pool.submit(0)
        group.go_nowait(die)
        await taken.wait()

        assert [visit async for visit in pool] == []
        told.set()


@counts_references
@in_every_world
async def test_a_consumer_that_is_cancelled_with_a_visit_in_hand_lets_go(
    world: World,
) -> None:
    """The visit is gone with it, the others are told the end."""
    taken = world.event()

    async def consume() -> None:
        async for _ in pool:
            taken.set()
            await world.sleep_forever()

    async with pool_of(world) as pool, world.ErrGroup(limit=None) as group:
        pool.submit(0)
        task = group.go_nowait(consume)
        await taken.wait()
        task.cancel()

        assert [visit async for visit in pool] == []


@counts_references
@in_every_world
async def test_an_old_iterator_that_goes_takes_nothing_from_a_new_one(
    world: World,
) -> None:
    """What its owner has in hand now came by another way."""
    seen: list[int] = []

    async def wait() -> None:
        async for visit in pool:
            seen.append(visit.item)  # noqa: PERF401 - looked at meanwhile

    async with pool_of(world, limit=1) as pool:
        async with world.ErrGroup(limit=None) as group:
            pool.submit_from([0, 1])
            old = aiter(pool)
            await anext(old)
            new = aiter(pool)
            await anext(new)
            group.go_nowait(wait)
            await world.until(in_line(pool, 1))
            del old
            await world.pause()
            pool.submit(2)
            await world.until(lambda: seen)
            await world.until(in_line(pool, 1))
            del new

    assert seen == [2]


@counts_references
@in_every_world
async def test_who_lets_go_does_not_end_what_others_hold(world: World) -> None:
    """One of two consumers stops; the other one may still submit."""
    seen: list[int] = []
    stopped = world.event()
    held = world.event()

    async def stop() -> None:
        async for _ in pool:
            await held.wait()
            break
        stopped.set()

    async def hold() -> None:
        async for visit in pool:
            seen.append(visit.item)
            held.set()
            if len(seen) == 1:
                await stopped.wait()
                pool.submit(2)

    async with pool_of(world) as pool, world.ErrGroup(limit=None) as group:
        pool.submit_from([0, 1])
        group.go_nowait(stop)
        group.go_nowait(hold)

    assert seen[1:] == [2]


@in_every_world
async def test_a_cancelled_consumer_loses_no_visit(world: World) -> None:
    """What it would have got goes to the next one."""
    go = world.event()

    async def page(job: Job[int]) -> None:
        await go.wait()

    async def take() -> None:
        await anext(aiter(pool))

    async with pool_of(world, page, limit=3) as pool:
        pool.submit_from([0, 1, 2])
        async with world.ErrGroup(limit=None) as group:
            task = group.go_nowait(take)
            await world.until(lambda: pool._tree.visits.consumers)
            task.cancel()
        go.set()

        assert sorted([visit.item async for visit in pool]) == [0, 1, 2]


# The end of the block


@in_every_world
async def test_a_consumer_outside_the_block_is_refused(world: World) -> None:
    """It learns that the pool has ended, not that all was visited."""
    refused: list[str] = []

    async def consume(pool: Any) -> None:
        with pytest.raises(RuntimeError) as caught:
            await anext(aiter(pool))
        refused.append(str(caught.value))

    async def stay(job: Job[int]) -> None:
        await world.sleep_forever()

    async with world.ErrGroup(limit=None) as group:
        async with pool_of(world, stay, limit=1, name="site") as pool:
            pool.submit(1)
            group.go_nowait(consume, pool)
            await world.until(lambda: pool._tree.visits.consumers)

    assert len(refused) == 1
    assert refused[0].startswith("DepthPool 'site' has ended")


@in_every_world
async def test_break_is_quiet_and_cancels_the_rest(world: World) -> None:
    """The jobs under way are over when the block has been left."""
    running: list[int] = []

    async def page(job: Job[int]) -> int:
        running.append(job.item)
        try:
            if job.item:
                await world.sleep_forever()
        finally:
            running.remove(job.item)
        return job.item

    async with pool_of(world, page, limit=4) as pool:
        pool.submit_from(range(10))
        async for visit in pool:
            assert visit.item == 0
            await world.until(lambda: len(running) == 4)
            break

    assert running == []
    assert pool.statistics().finished == (1,)


@in_every_world
async def test_iterables_are_closed_when_the_block_ends(world: World) -> None:
    """Those that began; what has no end to be told of is left alone."""
    closed: list[int] = []

    def items(first: int) -> Iterator[int]:
        try:
            while True:
                yield first
        finally:
            closed.append(first)

    async with pool_of(world, limit=1, buffer=0) as pool:
        pool.submit_from(items(1))
        await world.until(lambda: pool.statistics().buffered)
        pool.submit_from(items(2))
        pool.submit_from(iter([3]))
        async for visit in pool:
            if visit.item == 2:
                break
        assert closed == []

    assert sorted(closed) == [1, 2]


@in_every_world
async def test_a_deadline_ends_the_block_by_its_error(world: World) -> None:
    """What was not visited then is not told as an end."""

    async def stay(job: Job[int]) -> None:
        await world.sleep_forever()

    pool: Any = None
    with pytest.raises(TimeoutError):
        async with world.context(timeout=0.001):
            async with pool_of(world, stay) as pool:
                pool.submit(1)
                async for _ in pool:
                    pytest.fail("nothing was visited")
            pytest.fail("left the block")

    assert sum(pool.statistics().finished) == 0
    assert pool.errors == ()


@in_every_world
async def test_work_left_at_the_end_of_a_context_is_no_success(world: World) -> None:
    """Also where the body sees nothing of it, and jobs have heeded it already."""

    async def stay(job: Job[int]) -> None:
        await world.sleep_forever()

    with pytest.raises(ContextCancelled):
        async with world.context() as context:
            await world.crawl(_cancelling(context, stay), [1], max_depth=0, limit=1)


def _cancelling(context: Any, then: Any) -> Any:
    async def page(job: Job[int]) -> None:
        context.cancel()
        await then(job)

    return page
