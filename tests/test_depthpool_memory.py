"""What is over is gone: results, items, errors and closures are not kept alive."""

import functools
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import DepthPool, Job, crawl

VARIABLE: ContextVar[object] = ContextVar("VARIABLE")

counts_references = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="others do not count references"
)


class _Thing:
    """Something that can be referred to weakly."""


async def _chain(job: Job[_Thing]) -> _Thing:
    """Be a node whose item and result are both things, as is its child's."""
    job.submit(_Thing())
    await checkpoint()
    return _Thing()


def _is_gone(ref: Callable[[], object]) -> bool:
    """Tell whether the object is dead, with the collector's help."""
    for _ in range(3):  # PyPy needs more than one
        gc.collect()
    return ref() is None


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Leave only reference counts, so that a cycle shows."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_visit_keeps_no_chain_alive() -> None:
    """Its parent is an item, not a visit: of results there is only its own."""
    results: list[weakref.ref[_Thing]] = []
    items: list[weakref.ref[_Thing]] = []

    async with DepthPool(_chain, max_depth=9, limit=1) as pool:
        pool.submit(_Thing())
        visit: Any = None
        async for visit in pool:
            results.append(weakref.ref(visit.result))
            items.append(weakref.ref(visit.item))

        gc.collect()
        assert [ref() is not None for ref in results] == [False] * 9 + [True]
        assert [ref() is not None for ref in items] == [False] * 8 + [True] * 2
        assert visit.parent is items[-2]()


async def test_crawl_keeps_nothing() -> None:
    """When the caller drops the list, its results and items are gone."""
    visits = await crawl(_chain, [_Thing()], max_depth=3, limit=2)
    result, item = weakref.ref(visits[0].result), weakref.ref(visits[-1].item)
    del visits

    assert _is_gone(result)
    assert _is_gone(item)


@counts_references
async def test_crawl_needs_no_collector(no_collector: None) -> None:
    """A program that crawls in a loop does not wait for the collector."""
    visits = await crawl(_chain, [_Thing()], max_depth=3, limit=2)
    result, item = weakref.ref(visits[0].result), weakref.ref(visits[-1].item)
    await checkpoint()  # the loop forgets a task one turn after its end
    del visits

    assert result() is None
    assert item() is None


@counts_references
async def test_a_pool_needs_no_collector(no_collector: None) -> None:
    """When it is dropped, its function is gone, with what is bound to that."""

    async def page(thing: _Thing, job: Job[int]) -> None:
        await checkpoint()

    bound = functools.partial(page, _Thing())
    ref = weakref.ref(bound.args[0])
    pool = DepthPool(bound, max_depth=0, limit=1)
    async with pool:
        pool.submit_from(range(3))
        async for _ in pool:
            pass
    await checkpoint()  # the loop forgets a task one turn after its end
    del pool, bound

    assert ref() is None


async def test_a_pool_that_is_over_keeps_no_item_and_no_result() -> None:
    """Also if it is kept itself, was left early, and jobs paid no heed."""
    made: list[weakref.ref[_Thing]] = []

    def make() -> _Thing:
        thing = _Thing()
        made.append(weakref.ref(thing))
        return thing

    async def page(job: Job[_Thing]) -> _Thing:
        with anyio.CancelScope(shield=True):
            await checkpoint()
        return make()

    def items() -> Iterator[_Thing]:
        while True:
            yield make()

    async with DepthPool(page, max_depth=1, limit=2) as pool:
        pool.submit(make())
        pool.submit_from(items())
        await anyio.wait_all_tasks_blocked()
        pool.submit(make())

    await checkpoint()  # the loop forgets a task one turn after its end
    assert sum(pool.statistics().accepted) == 6
    assert all(_is_gone(ref) for ref in made)


async def test_a_job_that_is_kept_keeps_no_pool() -> None:
    """Whoever stores a job stores its item, and no crew, no function."""
    jobs: list[Job[int]] = []

    async def page(thing: _Thing, job: Job[int]) -> None:
        jobs.append(job)

    bound = functools.partial(page, _Thing())
    ref = weakref.ref(bound.args[0])
    await crawl(bound, range(3), max_depth=0, limit=1)
    del bound
    await checkpoint()

    assert len(jobs) == 3
    assert _is_gone(ref)


async def test_an_idle_pool_keeps_nothing_of_the_last_job() -> None:
    """Neither its item nor its contextvars, though its worker waits for more."""
    seen: list[weakref.ref[Any]] = []

    async def page(job: Job[_Thing]) -> None:
        thing = _Thing()
        VARIABLE.set(thing)
        seen.extend([weakref.ref(thing), weakref.ref(job.item)])

    async with DepthPool(page, max_depth=0, limit=1) as pool:
        pool.submit(_Thing())
        visits = aiter(pool)
        await anext(visits)
        await anyio.wait_all_tasks_blocked()

        assert all(_is_gone(ref) for ref in seen)


@counts_references
async def test_an_error_keeps_no_result() -> None:
    """Once the error is dropped, so is what its traceback held."""
    made: list[weakref.ref[_Thing]] = []

    async def page(job: Job[int]) -> _Thing:
        thing = _Thing()
        made.append(weakref.ref(thing))
        job.submit(job.item + 1)
        if job.item == 3:
            raise ValueError
        return thing

    with pytest.raises(ValueError):
        await crawl(page, [0], max_depth=None, limit=1)
    await checkpoint()  # the loop forgets a task one turn after its end

    assert all(_is_gone(ref) for ref in made)


async def test_a_used_up_iterable_is_forgotten() -> None:
    """While the pool goes on."""

    class Items:
        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            self.left -= 1
            if not self.left:
                raise StopIteration
            return self.left

    async def page(job: Job[int]) -> int:
        return job.item

    items = Items()
    ref = weakref.ref(items)
    async with DepthPool(page, max_depth=0, limit=1, buffer=5) as pool:
        pool.submit_from(items)
        del items
        await anyio.wait_all_tasks_blocked()

        assert _is_gone(ref)
