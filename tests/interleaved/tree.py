"""Jobs that submit jobs, in many orders of their steps.

The end is what is hard: it comes when no job waits, none runs, and nobody has a visit
in hand, and each of these may change at any step of somebody else.
"""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from safeconc import Context, ContextCancelled, check
from safeconc.threads import DepthPool, Job, Visit, crawl
from tests.interleaved.conftest import explore, together

SHARE = 0.1
"""A tree takes even more steps than the crew under it."""


def split(job: Job[int]) -> int:
    """Submit two children."""
    job.submit(2 * job.item)
    job.submit(2 * job.item + 1)
    return job.item


def echo(job: Job[int]) -> int:
    """Submit nothing."""
    return job.item


def heeds(job: Job[int]) -> int:
    """Look whether there is still somebody who wants it."""
    check()
    return job.item


def fails(job: Job[int]) -> int:
    """Fail at 1."""
    if job.item == 1:
        raise ValueError(job.item)
    return job.item


def items(visits: list[Visit[int, int]]) -> list[int]:
    """Return what was visited."""
    return sorted(visit.item for visit in visits)


def test_workers_share_the_jobs_that_jobs_submit() -> None:
    """Each is visited once, and the last one ends it."""

    def model() -> None:
        visits = crawl(split, [1], max_depth=1, limit=2)
        assert items(visits) == [1, 2, 3]

    explore(model, "instructions", SHARE)


def test_workers_share_an_iterable() -> None:
    """What it submits as it is closed is visited, too, so the end waits for that."""

    def model() -> None:
        def roots() -> Iterator[int]:
            yield 1
            pool.submit(2)

        with DepthPool(echo, max_depth=0, limit=2) as pool:
            pool.submit_from(roots())
            assert items(list(pool)) == [1, 2]

    explore(model, "instructions", SHARE)


def test_two_jobs_meet_the_same_item() -> None:
    """One of them has it visited."""

    def model() -> None:
        def page(job: Job[int]) -> None:
            job.submit(0)

        visits = crawl(page, [1, 2], max_depth=1, limit=2, key=abs)
        assert sorted(visit.item for visit in visits) == [0, 1, 2]

    explore(model, "instructions", SHARE)


def test_a_consumer_meets_the_workers() -> None:
    """A visit is handed over while it joins the line, or is there, and so is room."""

    def model() -> None:
        with DepthPool(split, max_depth=1, limit=1, buffer=0) as pool:
            pool.submit(1)
            assert items(list(pool)) == [1, 2, 3]

    explore(model, "instructions", SHARE)


def test_two_consumers_meet_the_end() -> None:
    """Each visit has one of them, and both are told of the end."""

    def model() -> None:
        visits: list[Visit[int, int]] = []

        def take() -> None:
            visits.extend(pool)

        with DepthPool(split, max_depth=1, limit=1) as pool:
            pool.submit(1)
            together(take, take)
        assert items(visits) == [1, 2, 3]

    explore(model, "instructions", SHARE)


def test_a_submit_meets_the_end() -> None:
    """Its item is visited, or it is refused."""

    def model() -> None:
        accepted = [1]
        visits: list[Visit[int, int]] = []

        def submit() -> None:
            with suppress(RuntimeError):
                pool.submit(2)
                accepted.append(2)

        with DepthPool(echo, max_depth=0, limit=2) as pool:
            pool.submit(1)
            together(lambda: visits.extend(pool), submit)
        assert items(visits) == accepted

    explore(model, "instructions", SHARE)


def test_a_visit_is_let_go_of_as_somebody_waits_for_the_end() -> None:
    """Nobody works on it any more, so that is the end."""

    def model() -> None:
        with DepthPool(echo, max_depth=0, limit=1) as pool:
            pool.submit(1)
            first = [iter(pool)]
            together(lambda: next(first[0]))
            rest: list[Visit[int, int]] = []
            together(first.clear, lambda: rest.extend(pool))
            assert rest == []

    explore(model, "instructions", SHARE)


def test_a_job_fails_as_a_consumer_waits() -> None:
    """It is told, and the error is that of the job."""

    def model() -> None:
        visits: list[Visit[int, int]] = []
        with pytest.raises(ValueError, match="1"):
            with DepthPool(fails, max_depth=0, limit=2) as pool:
                pool.submit_from([0, 1])
                visits.extend(pool)
        assert items(visits) in ([], [0])

    explore(model, "instructions", SHARE)


def test_a_parent_ends_while_jobs_submit_jobs() -> None:
    """All visits, or the error of the end."""

    def model() -> None:
        got: list[list[int]] = []
        with Context.root() as outer:

            def walk() -> None:
                with suppress(ContextCancelled), Context(outer):
                    got.append(items(crawl(split, [1], max_depth=1, limit=2)))

            together(walk, outer.cancel)
        assert got in ([], [[1, 2, 3]])

    explore(model, "instructions", SHARE)


def test_a_parent_ends_while_two_consumers_wait() -> None:
    """Who is told the end of the visits has not missed one."""

    def model() -> None:
        visits: list[Visit[int, int]] = []
        ends: list[int] = []

        def take() -> None:
            with suppress(ContextCancelled, RuntimeError):
                visits.extend(pool)
                ends.append(len(visits))

        with suppress(ContextCancelled), Context() as outer:
            with DepthPool(heeds, max_depth=0, limit=2) as pool:
                pool.submit(1)
                pool.submit(2)
                together(take, take, outer.cancel)
        assert set(ends) <= {2}

    explore(model, "instructions", SHARE)


pytestmark = pytest.mark.timeout(600)
