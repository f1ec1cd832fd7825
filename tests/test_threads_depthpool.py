"""What a pool of threads promises beyond what holds in every world."""

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeconc import Context, ContextCancelled, DeadlineExceeded, check, current_context
from safeconc._policy._frontier import Order
from safeconc._policy._visits import ENDED
from safeconc.threads import (
    DepthPool,
    ErrGroup,
    Job,
    StuckThreadsError,
    Visit,
    crawl,
)
from safeconc.threads import _siblings as siblings
from tests.test_depthpool_end_promises import counts_references
from tests.test_depthpool_model import Site, Walk, bounds, key_of, keys, orders, sites
from tests.together import collect, in_thread, interrupted, repeated, run_together
from tests.worlds import blocking


def echo(job: Job[int]) -> int:
    """Return the item."""
    return job.item


def sleep_forever(_: object = None) -> None:
    """Wait for the end."""
    context = current_context()
    assert context is not None
    context.wait()
    context.check()


def until(condition: Callable[[], object]) -> None:
    """Wait for what other threads do."""
    while not condition():
        time.sleep(0)
        check()


# Threads


def test_threads_are_named_after_the_pool() -> None:
    """And there are no more of them than jobs, or than the limit."""

    def name(job: Job[int]) -> str:
        return threading.current_thread().name

    visits = crawl(name, range(2), max_depth=0, limit=50, name="site")

    assert {visit.result for visit in visits} <= {
        "site: worker-1",
        "site: worker-2",
        "site: worker-3",
    }


def test_no_thread_is_left() -> None:
    """All have ended when the call returns, and there were no more than the limit."""

    def thread(job: Job[int]) -> threading.Thread:
        job.submit_from(range(3))
        return threading.current_thread()

    visits = crawl(thread, [0], max_depth=3, limit=4)

    threads = {visit.result for visit in visits}
    assert len(visits) == 40
    assert 1 <= len(threads) <= 4
    assert not any(each.is_alive() for each in threads)


def test_an_idle_pool_calls_its_threads_again() -> None:
    """A root that comes late is visited by a thread that rested."""
    with DepthPool(echo, max_depth=0, limit=2) as pool:
        pool.submit(0)
        for visit in pool:
            until(
                lambda: len(pool._tree.crew._idle) == len(pool._tree.siblings.workers)
            )
            if visit.item < 5:
                pool.submit(visit.item + 1)

    assert pool.statistics().finished == (6,)


def test_any_thread_may_submit() -> None:
    """While the pool is open, and something is left; a job, too, from a helper."""

    def page(job: Job[int]) -> None:
        with ErrGroup(limit=None) as group:
            group.go(job.submit, job.item + 1)

    with DepthPool(page, max_depth=3, limit=2) as pool:
        in_thread(lambda: pool.submit(0))

        assert sorted(visit.item for visit in pool) == [0, 1, 2, 3]


def test_a_job_that_ends_while_another_thread_submits_for_it() -> None:
    """What comes after its end is refused, though it was begun before."""
    asked, over = threading.Event(), threading.Event()
    refused: list[str] = []

    def key(item: int) -> int:
        if item == 2:
            asked.set()
            over.wait()
        return item

    def submit(job: Job[int]) -> None:
        with pytest.raises(RuntimeError) as caught:
            job.submit(2)
        refused.append(str(caught.value))

    def page(job: Job[int]) -> None:
        group.go(submit, job)
        asked.wait()

    with ErrGroup(limit=None) as group:
        pool = DepthPool(page, max_depth=1, limit=1, key=key)
        with pool:
            pool.submit(1)
            for _ in pool:
                over.set()

    assert refused[0].startswith("the job 1 is over")
    assert pool.statistics().accepted == (1,)


# Iterables


def test_one_thread_at_a_time_takes_items() -> None:
    """An iterator need not be safe for threads."""
    inside: list[int] = []

    def items() -> Iterator[int]:
        for number in range(200):
            inside.append(number)
            assert len(inside) == 1
            inside.pop()
            yield number

    visits = crawl(echo, items(), max_depth=0, limit=4)

    assert sorted(visit.item for visit in visits) == list(range(200))


@pytest.mark.parametrize("order", ["depth", "breadth"])
def test_an_iterable_that_blocks_holds_up_no_other(order: Order) -> None:
    """What comes after it is done meanwhile, be it jobs or iterables."""
    let_go = threading.Event()
    inside = threading.Event()

    def slow() -> Iterator[int]:
        inside.set()
        let_go.wait()
        yield 0

    with DepthPool(echo, max_depth=0, limit=2, order=order) as pool:
        pool.submit_from(slow())
        inside.wait()
        pool.submit(1)
        pool.submit_from([2, 3])
        pool.submit(4)
        visits = iter(pool)
        assert sorted(next(visits).item for _ in range(4)) == [1, 2, 3, 4]
        let_go.set()

        assert [visit.item for visit in visits] == [0]


def test_an_iterable_that_blocks_is_no_end() -> None:
    """Though nothing runs and no other job waits."""
    let_go = threading.Event()

    def slow() -> Iterator[int]:
        let_go.wait()
        yield 1

    with DepthPool(echo, max_depth=0, limit=2) as pool:
        pool.submit_from(slow())
        with ErrGroup(limit=None) as group:
            task = group.go(list, pool)
            until(lambda: pool._tree.visits.consumers)
            let_go.set()

    assert [visit.item for visit in task.result()] == [1]


def test_what_an_iterable_submits_at_its_end_is_visited() -> None:
    """The end has not come before it is closed."""

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            pool.submit(3)

    pool: DepthPool[int, int] = DepthPool(echo, max_depth=0, limit=1)
    with pool:
        pool.submit_from(items())

        assert [visit.item for visit in pool] == [1, 2, 3]


def test_an_iterable_that_blocks_sees_the_end() -> None:
    """The block's context is the ambient one in there."""
    seen: list[str] = []

    def items() -> Iterator[int]:
        yield 1
        try:
            sleep_forever()
        except ContextCancelled:
            seen.append("end")
            raise

    with DepthPool(echo, max_depth=0, limit=2) as pool:
        pool.submit_from(items())
        assert next(iter(pool)).item == 1
    assert seen == ["end"]


def test_an_item_that_comes_after_the_end_is_not_visited() -> None:
    """And its iterable is closed all the same."""
    inside = threading.Event()
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            inside.set()
            context = current_context()
            assert context is not None
            context.wait()
            yield 1
        finally:
            closed.append(1)

    with DepthPool(echo, max_depth=0, limit=1) as pool:
        pool.submit_from(items())
        inside.wait()

    assert closed == [1]
    assert pool.statistics().accepted == ()


def test_an_iterable_in_which_a_thread_was_given_up_is_not_closed() -> None:
    """Nobody but the thread in there could."""
    let_go = threading.Event()
    inside = threading.Event()
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            inside.set()
            let_go.wait()
            yield 1
        finally:
            closed.append("closed")

    pool = DepthPool(echo, max_depth=0, limit=1, grace=0.0, name="site")
    with pytest.raises(StuckThreadsError, match="DepthPool 'site' was to end"), pool:
        pool.submit_from(items())
        inside.wait()
    assert closed == []
    let_go.set()
    until(lambda: not pool._tree.siblings.workers)
    collect()
    assert closed == ["closed"]


# Stuck


def test_a_job_that_ignores_the_end_is_given_up_after_the_grace() -> None:
    """The error names it; what it returns then, nobody gets."""
    let_go = threading.Event()

    def page(job: Job[int]) -> None:
        let_go.wait()

    pool = DepthPool(page, max_depth=0, limit=1, grace=0.0)
    with pytest.raises(StuckThreadsError) as caught, pool:
        pool.submit(0)
        until(lambda: pool.statistics().running)

    assert "page" in caught.value.threads[0].what
    let_go.set()
    until(lambda: not pool._tree.siblings.workers)
    assert pool.statistics().buffered == 0


def test_a_crawl_gives_up_what_ignores_its_end() -> None:
    """Likewise."""
    let_go = threading.Event()
    threads: list[threading.Thread] = []

    def page(job: Job[int]) -> None:
        threads.append(threading.current_thread())
        outer.cancel()
        let_go.wait()

    with pytest.raises(StuckThreadsError), Context() as outer:
        crawl(page, [0], max_depth=0, limit=1, grace=0.0)
    let_go.set()
    threads[0].join()


def test_a_job_that_ignores_the_end_is_waited_for_and_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name and stack; a thread that rests is not blamed."""
    let_go = threading.Event()

    def page(job: Job[int]) -> None:
        let_go.wait()

    def release(record: object) -> bool:
        let_go.set()
        return True

    monkeypatch.setattr(siblings, "PATIENCE", 0.001)
    caplog.handler.addFilter(release)
    with DepthPool(page, max_depth=0, limit=3, name="site") as pool:
        pool.submit(1)
        until(lambda: pool.statistics().running)

    assert "page was cancelled" in caplog.messages[0]
    assert "in page" in caplog.messages[0]


# Errors


def test_a_coroutine_function_is_refused() -> None:
    """It is for tasks."""

    async def fetch(job: Job[int]) -> None: ...

    with pytest.raises(TypeError, match=r"use the primitive of .* in safeconc"):
        crawl(fetch, [1], max_depth=0, limit=1)


def test_a_returned_coroutine_is_a_failure() -> None:
    """And never a result."""

    async def inner() -> None: ...

    def page(job: Job[int]) -> Any:
        return inner()

    with pytest.raises(TypeError, match="got the coroutine"):
        crawl(page, [1], max_depth=0, limit=1, return_exceptions=True)


async def test_a_task_is_told_to_use_tasks() -> None:
    """A block of threads would stop the event loop."""
    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        crawl(echo, [1], max_depth=0, limit=1)


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
def test_an_order_to_the_program_stays_bare(order: type[BaseException]) -> None:
    """Of a job or of an iterable; it is never a result."""

    def page(job: Job[int]) -> None:
        raise order

    def items() -> Iterator[int]:
        raise order
        yield

    with pytest.raises(order):
        crawl(page, [1], max_depth=0, limit=1, return_exceptions=True)
    with pytest.raises(order):
        crawl(echo, items(), max_depth=0, limit=1, return_exceptions=True)


def test_a_cancellation_that_none_of_us_caused_is_a_failure() -> None:
    """Or a result, if errors are."""
    other = Context.root(name="other")
    other.cancel()

    def page(job: Job[int]) -> None:
        other.check()

    with pytest.raises(ContextCancelled, match="other"):
        crawl(page, [1], max_depth=0, limit=1)
    (visit,) = crawl(page, [1], max_depth=0, limit=1, return_exceptions=True)
    assert visit.result is other.err


def test_an_end_that_every_worker_sees_is_told() -> None:
    """Also if they all have gone when the owner looks: the list is not complete."""
    with Context() as outer:

        def page(job: Job[int]) -> None:
            if job.item == 3:
                outer.cancel()

        with pytest.raises(ContextCancelled):
            crawl(page, iter(range(1000)), max_depth=0, limit=2)


@pytest.mark.parametrize("heeds", [True, False])
def test_what_the_end_of_the_context_left_undone_is_told(heeds: bool) -> None:
    """A job that heeded it, or one that never began, though the body sees nothing."""

    def page(job: Job[int]) -> None:
        outer.cancel()
        if heeds:
            check()

    pool: DepthPool[int, None]
    with pytest.raises(ContextCancelled), Context() as outer:
        with DepthPool(page, max_depth=0, limit=1) as pool:
            if heeds:
                pool.submit(1)
            else:
                pool.submit_from([1, 2])
            while pool._tree.siblings.workers:
                time.sleep(0)
        pytest.fail("left the block")


def test_a_consumer_that_is_late_to_see_the_end_is_told_no_other() -> None:
    """A visit is missing, though nobody works on anything when another one looks."""
    in_hand = threading.Event()
    told: list[object] = []

    class Late:
        def hand(self, value: object = None) -> None:
            told.append(value)

    def page(job: Job[int]) -> None:
        if job.item == 1:
            in_hand.wait()
            outer.cancel()
            check()

    with pytest.raises(ContextCancelled), Context() as outer:
        with DepthPool(page, max_depth=0, limit=2) as pool:
            pool.submit(1)
            pool.submit(2)
            visits = iter(pool)
            assert next(visits).item == 2
            pool._tree.visits.consumers[Late()] = "a thread"
            in_hand.set()
            while pool.statistics().running:
                time.sleep(0)
            next(visits)

    assert told == [(ENDED, 0)]


def test_a_deadline_ends_it() -> None:
    """What is done by then is not returned: it is not all."""
    with pytest.raises(DeadlineExceeded), Context(timeout=0.001):
        crawl(sleep_forever, range(3), max_depth=0, limit=2)


def test_a_wait_ends_with_a_narrower_context() -> None:
    """By its error, and the pool goes on."""
    go = threading.Event()

    def page(job: Job[int]) -> None:
        go.wait()

    with DepthPool(page, max_depth=0, limit=1) as pool:
        pool.submit(1)
        with pytest.raises(DeadlineExceeded), Context(timeout=0.001):
            next(iter(pool))
        go.set()

        assert [visit.item for visit in pool] == [1]


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("run", ["crawl", "submit", "submit_from"])
def test_a_thread_that_cannot_be_started_ends_it(
    monkeypatch: pytest.MonkeyPatch, after: int, run: str
) -> None:
    """With that error: the bound that was asked for cannot be had."""
    start = threading.Thread.start
    left = [after]

    def refuse(self: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread") as caught:
        if run == "crawl":
            crawl(sleep_forever, range(5), max_depth=0, limit=2, name="site")
        with DepthPool[int, None](
            sleep_forever, max_depth=0, limit=2, name="site"
        ) as pool:
            for item in range(2):
                if run == "submit":
                    pool.submit(item)
                else:
                    pool.submit_from([item])
            next(iter(pool))
    assert caught.value.__notes__[0].endswith(f"'site' had {after} threads already")


def test_ctrl_c_while_the_loop_waits() -> None:
    """The jobs see the end, are waited for, and then it is raised."""
    over: list[int] = []

    def page(job: Job[int]) -> None:
        try:
            sleep_forever()
        finally:
            over.append(job.item)

    pool: DepthPool[int, None] = DepthPool(page, max_depth=0, limit=2)
    with interrupted(lambda: pool._tree.visits.consumers), pool:
        pool.submit_from(range(5))
        for _ in pool:
            pytest.fail("nothing was visited")

    assert len(over) == sum(pool.statistics().accepted)


def test_ctrl_c_while_crawl_waits() -> None:
    """Likewise."""
    began = threading.Event()

    def page(job: Job[int]) -> None:
        began.set()
        sleep_forever()

    with interrupted(began.is_set):
        crawl(page, range(5), max_depth=0, limit=2)


# Fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork_the_child_submits_nothing() -> None:
    """It has none of the threads, and may leave the block."""
    with DepthPool(echo, max_depth=0, limit=1) as pool:
        pool.submit(1)
        until(lambda: pool.statistics().buffered)
        child = os.fork()
        if not child:
            status = 1
            try:
                with pytest.raises(RuntimeError, match="in the process that has fork"):
                    pool.submit(2)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert [visit.item for visit in pool] == [1]


# Who is still at work


def test_a_visit_let_go_of_by_the_collector_is_the_end() -> None:
    """In whatever thread that runs, and whatever lock is held there."""
    with DepthPool(echo, max_depth=0, limit=1) as pool:
        pool.submit(1)

        def take() -> None:
            cycle: list[Any] = [iter(pool)]
            cycle.append(cycle)
            next(cycle[0])

        gc.disable()
        try:
            in_thread(take)
            with ErrGroup(limit=None) as group:
                task = group.go(list, pool)
                until(lambda: pool._tree.visits.consumers)
                with pool._tree.siblings.lock:
                    collect()
        finally:
            gc.enable()

    assert task.result() == []


def test_what_was_let_go_of_before_the_loop_is_no_work() -> None:
    """Nobody waited then, so nobody had to be told."""
    with DepthPool(echo, max_depth=0, limit=1) as pool:
        pool.submit(1)
        in_thread(lambda: next(iter(pool)))
        collect()

        assert list(pool) == []


# Against the model


@given(sites(), orders, bounds, keys, st.none() | st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_one_thread_walks_as_the_definition_says(
    site: Site,
    order: Order,
    max_depth: int | None,
    modulus: int | None,
    max_jobs: int | None,
) -> None:
    """With limit=1, the visits come in exactly that order."""
    if modulus is max_depth is max_jobs is None:
        max_depth = 3  # else it would not end
    walk = Walk(site, max_depth, modulus, max_jobs)
    walk.go(order, lazy=True)

    visits = crawl(
        blocking(_at_once(site)),
        site.roots,
        max_depth=max_depth,
        limit=1,
        order=order,
        key=key_of(modulus),
        max_jobs=max_jobs,
    )

    assert visits == walk.visits


@given(sites(), orders, st.integers(0, 3), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_many_threads_visit_what_the_definition_says(
    site: Site, order: Order, max_depth: int, limit: int, buffer: int
) -> None:
    """Without keys, all paths are walked, whoever is faster; two share the visits."""
    walk = Walk(site, max_depth, None)
    walk.go(order, lazy=True)
    visits: list[Visit[int, int]] = []
    pool: DepthPool[int, int] = DepthPool(
        blocking(_at_once(site)),
        max_depth=max_depth,
        limit=limit,
        order=order,
        buffer=buffer,
    )

    with pool:
        pool.submit_from(site.roots)
        run_together(lambda: visits.extend(pool), lambda: visits.extend(pool))

    assert Counter(visits) == Counter(walk.visits)
    assert pool.statistics().finished == walk.counts()["finished"]
    assert pool.statistics().too_deep == walk.refused["too_deep"]


def _at_once(site: Site) -> Any:
    """Make its pages wait for nothing."""
    return Site(site.links, site.roots, site.lazy, [0] * len(site.waits)).page


# Races


@repeated
def test_race_of_submits_and_the_end() -> None:
    """A root is visited or refused, and nothing in between."""
    accepted: list[bool] = []

    def submit() -> None:
        try:
            accepted.append(pool.submit(2))
        except RuntimeError:
            accepted.append(False)

    with DepthPool(echo, max_depth=0, limit=2) as pool:
        pool.submit(1)
        visits: list[Visit[int, int]] = []
        run_together(lambda: visits.extend(pool), submit)

    assert len(visits) == 1 + accepted[0]


@repeated
def test_race_for_a_key_is_won_once() -> None:
    """Whoever meets the item first."""

    def page(job: Job[int]) -> None:
        for item in range(5):
            job.submit(item)

    visits = crawl(page, range(5), max_depth=None, limit=3, key=lambda item: item)

    assert sorted(visit.item for visit in visits) == [0, 1, 2, 3, 4]


@repeated
def test_race_of_a_cancel_and_the_last_visit() -> None:
    """The end is told, or the cancellation raised; never a short list."""
    with Context() as outer:
        result: list[int] = []

        def walk() -> None:
            with Context(outer):
                try:
                    result.append(len(crawl(echo, range(8), max_depth=0, limit=2)))
                except ContextCancelled:
                    result.append(8)

        run_together(walk, outer.cancel)

    assert result == [8]


@counts_references
@repeated
def test_race_of_who_lets_go_and_who_waits() -> None:
    """The one that waits is told the end, whichever comes first."""
    with DepthPool(echo, max_depth=0, limit=1) as pool:
        pool.submit(1)
        visits = [iter(pool)]
        in_thread(lambda: next(visits[0]))

        seen: list[Visit[int, int]] = []
        run_together(visits.clear, lambda: seen.extend(pool))

    assert seen == []
