"""An error of a job, of a key or of an iterable ends a pool, in every world."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from safeconc import ContextCancelled, Job
from tests.worlds import World, in_every_world


class _Boom(Exception):  # noqa: N818 - a part of the play
    """What fails in these tests."""


async def _echo(job: Job[int]) -> int:
    return job.item


def _failing_at(depth: int) -> Callable[[Job[int]], Any]:
    """Make a node of a binary tree that fails at some depth."""

    async def page(job: Job[int]) -> None:
        if job.depth == depth:
            raise _Boom(job.item)
        job.submit(2 * job.item + 1)
        job.submit(2 * job.item + 2)

    return page


def _items_then_boom(count: int) -> Iterator[int]:
    yield from range(count)
    raise _Boom


def _key(item: int) -> int:
    if item == 3:
        raise _Boom
    return item


def _unhashable(item: int) -> Any:
    return [item]


async def _visit_all(pool: Any) -> None:
    """Be a loop that sees no end."""
    async for _ in pool:
        pass
    pytest.fail("told the end")


# Jobs


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("limit", [1, 4])
@in_every_world
async def test_a_job_that_fails_is_the_error(
    world: World, depth: int, limit: int
) -> None:
    """At whatever depth; the loop is not told an end."""
    pool = world.DepthPool(_failing_at(depth), max_depth=5, limit=limit)

    with pytest.raises(_Boom) as caught:
        async with pool:
            pool.submit(0)
            await _visit_all(pool)

    assert caught.value is pool.errors[0]
    statistics = pool.statistics()
    assert (statistics.running, statistics.frontier, statistics.buffered) == (0, 0, 0)
    assert sum(statistics.finished) <= 2**depth - 1


@in_every_world
async def test_errors_as_a_group(world: World) -> None:
    """All of them, also of jobs that were under way."""
    began = world.event()

    async def page(job: Job[int]) -> None:
        if job.item == 0:
            await began.wait()
            raise _Boom
        began.set()
        try:
            await world.sleep_forever()
        finally:
            raise _Boom

    with pytest.raises(ExceptionGroup) as caught:
        async with world.DepthPool(page, max_depth=0, limit=2, errors="group") as pool:
            pool.submit_from(range(2))
            await _visit_all(pool)

    assert [type(error) for error in caught.value.exceptions] == [_Boom] * 2


@in_every_world
async def test_errors_as_results(world: World) -> None:
    """On request they are visits, and what was submitted before goes on."""

    async def page(job: Job[int]) -> int:
        job.submit(job.item + 1)
        raise _Boom(job.item)

    pool = world.DepthPool(page, max_depth=2, limit=1, return_exceptions=True)
    async with pool:
        pool.submit(0)
        visits = [visit async for visit in pool]

    assert [(visit.item, visit.depth) for visit in visits] == [(0, 0), (1, 1), (2, 2)]
    assert all(isinstance(visit.result, _Boom) for visit in visits)
    assert pool.statistics().failed == 3
    assert pool.statistics().finished == (1, 1, 1)


@in_every_world
async def test_an_error_of_the_body_is_that_error(world: World) -> None:
    """The rest is cancelled."""
    error = _Boom()
    pool = world.DepthPool(_echo, max_depth=0, limit=1)

    with pytest.raises(_Boom) as caught:
        async with pool:
            pool.submit_from(range(10))
            async for _ in pool:
                raise error

    assert caught.value is error
    assert pool.errors == (error,)


@in_every_world
async def test_submits_after_a_failure_are_refused(world: World) -> None:
    """The error names the failure, which is its cause."""
    pool = world.DepthPool(_failing_at(0), max_depth=0, limit=1)
    with pytest.raises(_Boom) as failure:
        async with pool:
            pool.submit(0)
            try:
                await world.sleep_forever()
            finally:
                with pytest.raises(
                    RuntimeError, match="this DepthPool has failed"
                ) as c:
                    pool.submit(1)
                assert c.value.__cause__ is pool.errors[0]

    with pytest.raises(RuntimeError, match="has failed") as caught:
        pool.submit(1)
    assert caught.value.__cause__ is failure.value
    with pytest.raises(RuntimeError, match="has failed"):
        await anext(aiter(pool))


# Keys


@in_every_world
async def test_a_key_that_raises_raises_to_who_submits(world: World) -> None:
    """Nothing starts, and the block goes on."""
    pool = world.DepthPool(_echo, max_depth=0, limit=1, key=_key)

    async with pool:
        with pytest.raises(_Boom):
            pool.submit(3)
        assert pool.statistics().accepted == ()
        pool.submit(4)

        assert [visit.item async for visit in pool] == [4]


@in_every_world
async def test_an_unhashable_key_raises_to_who_submits(world: World) -> None:
    """As it would from a set."""
    pool = world.DepthPool(_echo, max_depth=0, limit=1, key=_unhashable)
    async with pool:
        with pytest.raises(TypeError, match="unhashable"):
            pool.submit(1)
        assert [visit async for visit in pool] == []


@in_every_world
async def test_a_key_that_raises_in_a_job_fails_the_job(world: World) -> None:
    """And so the block, or it is caught there."""

    async def page(job: Job[int]) -> None:
        job.submit(job.item + 1)

    with pytest.raises(_Boom):
        await world.crawl(page, [0], max_depth=None, limit=2, key=_key)


@in_every_world
async def test_a_key_that_raises_for_an_iterable_fails_the_block(world: World) -> None:
    """There is nobody else who could be told; the iterable is closed before that."""
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            closed.append(1)

    with pytest.raises(_Boom):
        async with world.DepthPool(_echo, max_depth=0, limit=2, key=_key) as pool:
            pool.submit_from(items())
            await _visit_all(pool)
        pytest.fail("left the block")

    assert closed == [1]


@in_every_world
async def test_an_unhashable_key_for_an_iterable_fails_the_block(world: World) -> None:
    """Though errors of jobs would be results."""
    with pytest.raises(TypeError, match="unhashable"):
        await world.crawl(
            _echo, [1], max_depth=0, limit=2, key=_unhashable, return_exceptions=True
        )


@in_every_world
async def test_keys_that_cannot_be_compared_fail_the_block(world: World) -> None:
    """Equality is the affair of the keys, and may fail as all else."""

    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise _Boom

    def key(item: int) -> Any:
        return Key()

    with pytest.raises(_Boom):
        await world.crawl(_echo, [1, 2], max_depth=0, limit=1, key=key)


# Iterables


@pytest.mark.parametrize("count", [0, 5])
@pytest.mark.parametrize("limit", [1, 3])
@in_every_world
async def test_an_iterable_that_raises_fails_the_block(
    world: World, count: int, limit: int
) -> None:
    """At whatever item; errors of jobs being results or not."""
    pool = world.DepthPool(_echo, max_depth=0, limit=limit, return_exceptions=True)

    with pytest.raises(_Boom):
        async with pool:
            pool.submit_from(_items_then_boom(count))
            await _visit_all(pool)

    assert sum(pool.statistics().accepted) == count
    assert len(pool.errors) == 1


@in_every_world
async def test_an_iterable_of_a_job_that_raises_fails_the_block(world: World) -> None:
    """Also when that job is long over."""

    async def page(job: Job[int]) -> None:
        if job.depth == 0:
            job.submit_from(_items_then_boom(2))

    with pytest.raises(_Boom):
        await world.crawl(page, [0], max_depth=2, limit=2)


@in_every_world
async def test_an_iterable_whose_cleanup_raises(world: World) -> None:
    """The block was left early; the error of the cleanup is its outcome."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise _Boom

    with pytest.raises(_Boom):
        async with world.DepthPool(_echo, max_depth=0, limit=1) as pool:
            pool.submit_from(items())
            async for _ in pool:
                break


@in_every_world
async def test_every_iterable_is_closed_whatever_others_raise(world: World) -> None:
    """And all that they raise is kept."""

    def items(first: int) -> Iterator[int]:
        try:
            while True:
                yield first
        finally:
            raise _Boom(first)

    pool = world.DepthPool(_echo, max_depth=0, limit=1, buffer=4, errors="group")
    with pytest.raises(ExceptionGroup):
        async with pool:
            pool.submit_from(items(1))
            async for _ in pool:
                pool.submit_from(items(2))
                async for visit in pool:
                    if visit.item == 2:
                        break
                break

    assert sorted(error.args for error in pool.errors) == [(1,), (2,)]


@in_every_world
async def test_a_cleanup_that_raises_after_a_failure_is_kept(world: World) -> None:
    """The failure is raised, and tells of the other one."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            raise ValueError("cleanup")

    pool = world.DepthPool(_failing_at(0), max_depth=0, limit=1)
    with pytest.raises(_Boom) as caught:
        async with pool:
            pool.submit_from(items())
            await _visit_all(pool)

    assert [type(error) for error in pool.errors] == [_Boom, ValueError]
    assert "1 later error" in caught.value.__notes__[0]


@in_every_world
async def test_the_cleanup_of_an_iterable_over_the_budget_fails_the_block(
    world: World,
) -> None:
    """It is closed as soon as its turn has come too late."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            raise _Boom

    with pytest.raises(_Boom):
        async with world.DepthPool(_echo, max_depth=0, limit=1, max_jobs=2) as pool:
            pool.submit_from(items())
            await _visit_all(pool)


@in_every_world
async def test_an_iterable_that_is_no_iterator_after_all(world: World) -> None:
    """An __iter__ that fails raises to who submits."""

    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise _Boom

    async with world.DepthPool(_echo, max_depth=0, limit=1) as pool:
        with pytest.raises(_Boom):
            pool.submit_from(Broken())
        assert pool.statistics().frontier == 0


# Cancelled


def _duplicates() -> Iterator[int]:
    while True:
        yield 0


_WORK: dict[str, Callable[[Any], object]] = {
    "jobs that wait": lambda pool: pool.submit_from(range(1, 100)),
    "a frontier of jobs": lambda pool: [pool.submit(item) for item in range(1, 200)],
    "duplicates for ever": lambda pool: pool.submit_from(_duplicates()),
    "nothing": lambda pool: pool.statistics(),
}


@pytest.mark.parametrize("work", _WORK)
@in_every_world
async def test_cancelled_in_the_midst_of(world: World, work: str) -> None:
    """Nothing is left running, waiting or buffered, and no end was told."""

    async def stay(job: Job[int]) -> None:
        job.submit_from(range(100))
        if job.item:
            await world.sleep_forever()

    pool: Any = None
    with pytest.raises(ContextCancelled):
        async with world.context() as context:
            pool = world.DepthPool(stay, max_depth=3, limit=3, key=abs, buffer=1)
            async with pool:
                pool.submit(0)
                _WORK[work](pool)
                for _ in range(5):
                    await world.pause()
                context.cancel()
                await world.sleep_forever()

    statistics = pool.statistics()
    assert (statistics.running, statistics.frontier, statistics.buffered) == (0, 0, 0)
    assert pool.errors == ()


@in_every_world
async def test_a_cancelled_crawl_waits_for_its_jobs(world: World) -> None:
    """Their cleanup is over when it is, and its iterables are closed."""
    over: list[str] = []

    def roots() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            over.append("roots")

    async def page(job: Job[int]) -> None:
        if job.item == 1:
            context.cancel()
        try:
            await world.sleep_forever()
        finally:
            over.append("job")

    with pytest.raises(ContextCancelled):
        async with world.context() as context:
            await world.crawl(page, roots(), max_depth=0, limit=2)

    assert sorted(over) == ["job", "job", "roots"]
