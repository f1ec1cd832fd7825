"""What a fan-out over threads promises beyond what holds in every world."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from safeconc import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    check,
    current_context,
)
from safeconc.threads import FanOut, StuckThreadsError, fan_out
from safeconc.threads import _siblings as siblings
from safeconc.threads._run import Collected
from safeconc.threads._waiter import Waiter
from safeconc.threads._worker import Worker
from tests.together import in_thread


def double(item: int) -> int:
    """Return twice *item*."""
    return 2 * item


def sleep_forever(_: object = None) -> None:
    """Wait for the end."""
    context = current_context()
    assert context is not None
    context.wait()
    context.check()


def fail(_: object) -> int:
    """Fail."""
    raise ValueError("no")


# Threads


def test_threads_are_named_after_the_fan_out() -> None:
    """And there are no more of them than items, or than the limit."""
    names = fan_out(
        lambda _: threading.current_thread().name, range(2), limit=50, name="crawl"
    )
    assert set(names) <= {"crawl: worker-1", "crawl: worker-2", "crawl: worker-3"}


def test_no_thread_is_left() -> None:
    """All have ended when the call returns."""
    threads = fan_out(lambda _: threading.current_thread(), range(20), limit=4)

    assert not any(thread.is_alive() for thread in threads)
    assert 1 <= len(set(threads)) <= 4


def test_one_thread_at_a_time_takes_items() -> None:
    """An iterator need not be safe for threads."""
    inside: list[int] = []

    def items() -> Iterator[int]:
        for number in range(200):
            inside.append(number)
            assert len(inside) == 1
            inside.pop()
            yield number

    assert fan_out(double, items(), limit=4) == list(range(0, 400, 2))


def test_a_source_that_blocks_sees_the_end() -> None:
    """The block's context is the ambient one in there."""
    seen: list[str] = []

    def items() -> Iterator[int]:
        yield 1
        try:
            sleep_forever()
        except ContextCancelled:
            seen.append("end")
            raise

    with FanOut(double, items(), limit=2) as results:
        assert next(results) == 2
    assert seen == ["end"]


def test_a_source_that_blocks_is_waited_for_and_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be closed while somebody is in there; who waits for it is not named."""
    let_go = threading.Event()
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield 1
            let_go.wait()
            yield 2
        finally:
            closed.append("closed")

    def release(record: object) -> bool:
        let_go.set()
        return True

    monkeypatch.setattr(siblings, "PATIENCE", 0.001)
    caplog.handler.addFilter(release)
    with FanOut(double, items(), limit=3, name="crawl") as results:
        assert next(results) == 2

    assert closed == ["closed"]
    assert "double was cancelled" in caplog.messages[0]
    assert "in items" in caplog.messages[0]


def test_a_source_in_which_a_thread_was_given_up_is_not_closed() -> None:
    """Nobody but the thread in there could."""
    let_go = threading.Event()
    inside = threading.Event()
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield 1
            inside.set()
            let_go.wait()
        finally:
            closed.append("closed")

    results = FanOut(double, items(), limit=1)
    results._run.siblings.grace = 0.0
    with pytest.raises(StuckThreadsError), results:
        inside.wait()
    assert closed == []
    let_go.set()
    while results._run.siblings.workers:
        time.sleep(0)
    assert closed == ["closed"]


def test_items_are_not_taken_after_the_block_was_left() -> None:
    """Nor is a call begun."""
    begun: list[int] = []
    with FanOut(begun.append, iter(range(1000)), limit=1, buffer=0) as results:
        next(results)

    assert len(begun) <= 2


def test_result_and_end_of_a_block_that_is_over() -> None:
    """Also in a thread that is no member."""
    caught: list[BaseException] = []

    def consume() -> None:
        with pytest.raises(RuntimeError) as refused:
            next(results)
        caught.append(refused.value)

    thread = threading.Thread(target=consume)
    with FanOut(sleep_forever, [1], limit=1) as results:
        thread.start()
        while not results._run._consumers:
            check()
        results._run.siblings.cancel(None)
        thread.join()

    assert str(caught[0]).startswith("this FanOut has ended")


def test_a_consumer_outside_ends_with_the_block() -> None:
    """Also where a call ignores the end, and whoever closes the block is late."""
    let_go = threading.Event()
    caught: list[BaseException] = []

    def consume() -> None:
        with pytest.raises(RuntimeError) as refused:
            next(results)
        caught.append(refused.value)

    thread = threading.Thread(target=consume)
    with FanOut(lambda _: let_go.wait(), [1], limit=1) as results:
        thread.start()
        while not results._run._consumers:
            check()
        in_thread(partial(results._run.siblings.cancel, None))
        thread.join()
        let_go.set()

    assert str(caught[0]).startswith("this FanOut has ended")


async def test_a_task_is_told_to_use_tasks() -> None:
    """A block of threads would stop the event loop at its end."""
    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        fan_out(double, [1], limit=1)


# Errors


def coroutine_function() -> Any:
    """Return a coroutine, without looking like it."""

    async def inner() -> None: ...

    return inner()


@pytest.mark.parametrize("options", [{}, {"progress": print}])
def test_returned_coroutine_is_a_failure(options: dict[str, Any]) -> None:
    """And never a result."""
    with pytest.raises(TypeError, match="got the coroutine"):
        fan_out(
            lambda _: coroutine_function(),
            [1],
            limit=1,
            return_exceptions=True,
            **options,
        )


def test_coroutine_function_is_refused() -> None:
    """It is for tasks."""

    async def fetch(_: int) -> None: ...

    with pytest.raises(TypeError, match=r"use the primitive of .* in safeconc"):
        fan_out(fetch, [1], limit=1)


def test_deadline_ends_it() -> None:
    """What is done by then is not returned: it is not all."""
    with pytest.raises(DeadlineExceeded), Context(timeout=0.001):
        fan_out(sleep_forever, range(3), limit=2)


def test_end_that_every_worker_sees_is_told() -> None:
    """Also if they all have gone when the owner looks: the list is not complete."""
    with Context() as outer:

        def work(item: int) -> None:
            if item == 3:
                outer.cancel()

        with pytest.raises(ContextCancelled):
            fan_out(work, iter(range(1000)), limit=2)


def test_cancellation_that_none_of_us_caused_is_a_failure() -> None:
    """Or a result, if errors are."""
    other = Context.root(name="other")
    other.cancel()

    with pytest.raises(ContextCancelled, match="other"):
        fan_out(lambda _: other.check(), [1], limit=1)
    (given,) = fan_out(lambda _: other.check(), [1], limit=1, return_exceptions=True)
    assert given is other.err


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
def test_order_from_a_call_stays_bare(order: type[BaseException]) -> None:
    """And is never a result."""

    def work(_: int) -> None:
        raise order

    with pytest.raises(order):
        fan_out(work, [1], limit=1, return_exceptions=True)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("run", [fan_out, None], ids=["fan_out", "FanOut"])
def test_thread_that_cannot_be_started_ends_it(
    monkeypatch: pytest.MonkeyPatch, after: int, run: Callable[..., Any] | None
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
        if run is not None:
            run(sleep_forever, range(5), limit=2, name="crawl")
        else:
            with FanOut(sleep_forever, range(5), limit=2, name="crawl") as results:
                next(results)
    assert caught.value.__notes__[0].endswith(f"'crawl' had {after} threads already")


# Rate


def test_starts_are_no_closer_than_the_rate() -> None:
    """Each is due one interval after the one before."""
    begun: list[float] = []
    start = time.monotonic()

    fan_out(lambda _: begun.append(time.monotonic()), range(5), limit=3, rate=500)
    assert all(at - start >= n / 500 for n, at in enumerate(sorted(begun)))


# Work that is shared


def test_resting_workers_are_called_again() -> None:
    """A consumer that was away finds as many at work as before."""
    seen: list[int] = []
    with FanOut(double, range(300), limit=4, buffer=0, ordered=False) as results:
        for result in results:
            seen.append(result)
            if len(seen) % 50 == 0:
                while results.statistics().buffered < min(4, 300 - len(seen)):
                    check()

    assert sorted(seen) == list(range(0, 600, 2))


def test_who_waits_for_its_turn_does_nothing() -> None:
    """So that a report blames the one that takes an item, not those behind it."""

    def items() -> Iterator[int]:
        yield 1
        while all(worker.doing for worker in run.siblings.workers):
            time.sleep(0)
        yield 2

    run = Collected(
        fn=double,
        items=items(),
        limit=2,
        rate=None,
        burst=1,
        progress=False,
        return_exceptions=False,
        executor=None,
        name=None,
    )
    with run.siblings:
        run.begin()
    assert run.collected == [2, 4]


def test_room_that_comes_before_the_rest_is_used() -> None:
    """A worker that found none looks once more before it rests."""
    results = FanOut(double, [1, 2], limit=1)
    has_room = results._run.has_room
    looks = iter([True, False])
    results._run.has_room = lambda: next(looks, has_room())  # type: ignore[method-assign]

    with results:
        assert list(results) == [2, 4]


# A Ctrl-C that the body catches


def echo(item: int) -> int:
    """Return *item*."""
    return item


def interrupt_once(monkeypatch: pytest.MonkeyPatch, wait: Callable[..., Any]) -> None:
    """Have the next wait of a consumer be *wait*, which is interrupted."""
    real = Waiter.wait

    def interrupted(waiter: Waiter, *rest: Any) -> Any:
        monkeypatch.setattr(Waiter, "wait", real)
        wait(waiter, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "wait", interrupted)


def go_on(results: FanOut[int]) -> list[int]:
    """Be interrupted, and read the rest all the same."""
    with pytest.raises(KeyboardInterrupt):
        next(results)
    return list(results)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("handed", [True, False])
def test_result_of_an_interrupted_wait_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, handed: bool, ordered: bool
) -> None:
    """Whether it was handed over or not, it comes next, and nobody stays in line."""
    let_go = threading.Event()

    def work(item: int) -> int:
        let_go.wait()
        return item

    def wait(waiter: Waiter, *_: object) -> None:
        let_go.set()
        while handed and not waiter._handed:
            check()

    interrupt_once(monkeypatch, wait)
    with FanOut(work, range(3), limit=1, ordered=ordered) as results:
        assert go_on(results) == [0, 1, 2]
        assert not results._run._consumers


def test_interrupted_consumer_leaves_its_result_to_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not lie there while another one waits."""
    let_go = threading.Event()
    other = Waiter()

    def items() -> Iterator[int]:
        yield 5
        while not other._handed:  # else the end could come first
            check()

    def work(item: int) -> int:
        let_go.wait()
        return item

    with FanOut(work, items(), limit=1) as results:

        def wait(waiter: Waiter, *_: object) -> None:
            let_go.set()
            while not waiter._handed:
                check()
            with results._run.siblings.lock:
                results._run._consumers[other] = None

        interrupt_once(monkeypatch, wait)
        assert go_on(results) == []

    assert other._value == 5


def test_interrupt_as_a_result_is_taken_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was there, and it is the next one."""
    with FanOut(echo, range(3), limit=1, buffer=3) as results:
        run = results._run
        while results.statistics().finished < 3:
            check()

        def interrupt() -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(run, "check_end", interrupt)
            with pytest.raises(KeyboardInterrupt):
                next(results)
        assert list(results) == [0, 1, 2]


def test_interrupt_at_the_end_gives_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That the block is over is no result."""
    let_go = threading.Event()

    def work(item: int) -> int:
        let_go.wait()
        return item

    with pytest.raises(ValueError, match="no"):
        with FanOut(work, range(3), limit=1) as results:
            run = results._run

            def wait(waiter: Waiter, *_: object) -> None:
                run.siblings.fail(ValueError("no"))
                assert waiter._handed

            interrupt_once(monkeypatch, wait)
            with pytest.raises(KeyboardInterrupt):
                next(results)
            assert not run.window.is_ready()
            let_go.set()


# What several threads see at once


def test_thread_for_which_there_was_no_room_is_started_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A consumer that was slow once does not leave the fan-out below its limit."""
    with FanOut(sleep_forever, range(9), limit=1, buffer=0) as results:
        run = results._run
        worker = Worker("worker", lambda _: None)
        monkeypatch.setattr(run, "has_room", lambda: False)
        run.grow(worker)
        assert worker.job is None

        monkeypatch.setattr(run, "has_room", lambda: True)
        run.grow(worker)
        assert worker.job is run


def test_result_that_comes_after_the_end_is_not_kept() -> None:
    """An executor may still have one; nobody will take it."""
    with FanOut(abs, [-1], limit=1) as results:
        pass
    started = results.statistics().started

    results._run.note(results._run.start_item(), 1)

    assert results.statistics().started == started + 1
    assert results.statistics().buffered == 0


def test_statistics_are_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts or ends between one number and the next."""
    results = FanOut(abs, [-1], limit=1)
    lock = results._run.siblings.lock
    seen: list[bool] = []

    def count() -> int:
        seen.append(lock.locked())
        return 7

    monkeypatch.setattr(results._run, "buffered", count)

    assert results.statistics().buffered == 7
    assert seen == [True]
