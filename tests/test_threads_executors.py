"""A fan-out whose calls somebody else's executor makes."""

import concurrent.futures
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextvars import ContextVar
from operator import attrgetter
from typing import Any

import pytest
from typing_extensions import override

from safeconc import Context, ContextCancelled, FanOutStatistics, check
from safeconc.threads import FanOut, fan_out
from safeconc.threads import _siblings as siblings

VAR: ContextVar[str] = ContextVar("VAR", default="unset")


def double(item: int) -> int:
    """Return twice *item*."""
    return 2 * item


def fail_at_three(item: int) -> int:
    """Fail at 3."""
    if item == 3:
        raise ValueError("three")
    return item


def kill(item: int) -> int:
    """End the process that makes the call."""
    if item == 3:
        os._exit(1)
    return item


def collect(fn: Any, items: Any, **options: Any) -> list[Any]:
    """Have all results at once."""
    results: list[Any] = fan_out(fn, items, **options)
    return results


def stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    """Have the results one by one."""
    with FanOut(fn, items, **options) as results:
        return list(results)


Run = Callable[..., list[Any]]
both = pytest.mark.parametrize("run", [collect, stream])


def processes() -> ProcessPoolExecutor:
    """Make a pool of processes, in a way that is safe beside threads."""
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


def interpreters() -> Executor:
    """Make a pool of interpreters."""
    make = attrgetter("InterpreterPoolExecutor")(concurrent.futures)
    executor: Executor = make(2)
    return executor


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(lambda: ThreadPoolExecutor(2), id="threads"),
        pytest.param(processes, id="processes"),
        pytest.param(
            interpreters,
            id="interpreters",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 14),
                reason="Python has pools of interpreters since 3.14",
            ),
        ),
    ],
)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Use executors of each kind."""
    with request.param() as executor:
        yield executor


class ByHand(Executor):
    """Makes the calls when the test wants it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.peak = 0

    @override
    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((future, lambda: fn(*args)))
        self.peak = max(self.peak, sum(not f.done() for f, _ in self.calls))
        return future

    def make(self, index: int) -> None:
        """Make the call that was submitted as the *index*-th."""
        while len(self.calls) <= index:
            check()
            time.sleep(0)
        future, call = self.calls[index]
        if future.set_running_or_notify_cancel():
            future.set_result(call())


# What holds of all of them


@both
def test_results_are_in_the_order_of_the_items(run: Run, executor: Executor) -> None:
    """As without an executor, which can be used again."""
    for _ in range(2):
        assert run(double, range(30), limit=3, executor=executor) == list(
            range(0, 60, 2)
        )
    assert executor.submit(double, 1).result() == 2


@both
def test_an_error_of_a_call_is_raised(run: Run, executor: Executor) -> None:
    """No item is taken any more, and a generator is closed."""
    end: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            end.append("closed")

    with pytest.raises(ValueError, match="three"):
        run(fail_at_three, items(), limit=3, executor=executor)
    assert end == ["closed"]
    assert executor.submit(double, 1).result() == 2


@both
def test_exceptions_are_given_back(run: Run, executor: Executor) -> None:
    """In place of the results."""
    results = run(
        fail_at_three, range(5), limit=2, executor=executor, return_exceptions=True
    )
    assert [type(result) for result in results] == [int, int, int, ValueError, int]


def test_break_is_quiet(executor: Executor) -> None:
    """What has not begun is cancelled, what has is waited for."""
    with FanOut(double, range(10**9), limit=3, executor=executor) as results:
        for result in results:
            if result > 20:
                break

    assert results.statistics().running == 0


@both
def test_no_items_give_no_results(run: Run, executor: Executor) -> None:
    """And nothing is submitted."""
    assert run(double, [], limit=3, executor=executor) == []


# What is in its hands


def test_never_more_than_the_limit_is_in_its_hands() -> None:
    """And an item is taken only to be submitted."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    executor = ByHand()
    with FanOut(double, items(), limit=2, executor=executor, ordered=False) as results:
        executor.make(1)
        assert next(results) == 2
        executor.make(0)
        assert next(results) == 0
        executor.make(3)
        while len(taken) < 5:
            check()
        for index in (2, 4, 5):
            executor.make(index)
        assert sorted(results) == [4, 6, 8, 10]

    assert executor.peak == 2


def test_a_slow_consumer_slows_it_down() -> None:
    """What is started and not consumed has its bound here, too."""
    executor = ByHand()
    with FanOut(double, range(10), limit=2, buffer=1, executor=executor) as results:
        for index in range(3):
            executor.make(index)
        while results.statistics().buffered < 3:
            check()
        assert len(executor.calls) == 3
        assert next(results) == 0
        executor.make(3)

    assert results.statistics() == FanOutStatistics(10, 4, 4, 0, 0)


def test_what_waits_is_cancelled_and_what_runs_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That one is reported after a while."""
    let_go = threading.Event()
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        let_go.wait()

    def release(record: logging.LogRecord) -> bool:
        # There may be a word about the thread that submits, too.
        if "work in a ThreadPoolExecutor was cancelled" in record.getMessage():
            let_go.set()
        return True

    monkeypatch.setattr(siblings, "PATIENCE", 0.001)
    caplog.handler.addFilter(release)
    with ThreadPoolExecutor(1) as executor:
        with FanOut(work, range(5), limit=3, executor=executor) as results:
            while not begun:
                check()

        assert begun == [0]
        assert results.statistics().running == 0
    assert let_go.is_set()


def test_end_of_a_parent_cancels_what_waits() -> None:
    """And says that not all was done."""
    executor = ByHand()

    with Context() as outer:

        def end() -> None:
            while len(executor.calls) < 2 and not outer.done:
                pass
            outer.cancel()

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(ContextCancelled):
            fan_out(double, range(9), limit=2, executor=executor)
        thread.join()

    assert [future.cancelled() for future, _ in executor.calls] == [True, True]


def test_end_while_its_hands_are_full_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs by then succeeds, and still that is not all."""
    begun = threading.Semaphore(0)
    let_go = threading.Event()

    def work(item: int) -> int:
        begun.release()
        let_go.wait()
        return item

    def release(record: object) -> bool:
        let_go.set()
        return True

    def end(outer: Context) -> None:
        for _ in range(2):
            begun.acquire()
        outer.cancel()

    monkeypatch.setattr(siblings, "PATIENCE", 0.001)
    caplog.handler.addFilter(release)
    with ThreadPoolExecutor(2) as executor, Context() as outer:
        thread = threading.Thread(target=end, args=(outer,))
        thread.start()
        with pytest.raises(ContextCancelled):
            fan_out(work, range(5), limit=2, executor=executor)
        thread.join()


def test_threads_of_a_pool_see_the_contextvars_and_the_end() -> None:
    """They are here: each call has a copy of its own."""

    def look(item: int) -> str:
        before = VAR.get()
        VAR.set("mine")
        return before

    def wait(item: int) -> None:
        if item == 1:
            raise ValueError("no")
        while True:
            check()

    token = VAR.set("caller")
    with ThreadPoolExecutor(2) as executor:
        assert fan_out(look, range(5), limit=2, executor=executor) == ["caller"] * 5
        with pytest.raises(ValueError, match="no"):
            fan_out(wait, range(2), limit=2, executor=executor)
    VAR.reset(token)


@both
def test_progress_is_told_after_each_item(run: Run) -> None:
    """By the thread that submits: the executor's own have other things to do."""
    told: list[tuple[str, int]] = []

    def tell(statistics: FanOutStatistics) -> None:
        told.append((threading.current_thread().name, statistics.finished))

    with ThreadPoolExecutor(2) as executor:
        run(double, range(9), limit=2, executor=executor, progress=tell, name="crawl")

    assert len(told) == 9
    assert {name for name, _ in told} == {"crawl: worker-1"}
    assert told[-1][1] == 9


# Faults


@both
def test_process_that_dies_is_the_error(run: Run) -> None:
    """Also with ``return_exceptions``: nothing more would come of that pool."""
    with processes() as executor, pytest.raises(BrokenExecutor):
        run(kill, range(9), limit=2, executor=executor, return_exceptions=True)


@both
def test_executor_that_was_shut_down_is_the_error(run: Run) -> None:
    """It says so itself."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()

    with pytest.raises(RuntimeError, match="after shutdown"):
        run(double, range(9), limit=2, executor=executor)


def test_future_that_somebody_else_cancelled_is_a_failure() -> None:
    """An item does not vanish."""
    executor = ByHand()

    with pytest.raises(CancelledError, match=r"double was cancelled.*shut down"):
        with FanOut(double, range(9), limit=2, executor=executor) as results:
            while not executor.calls:
                check()
            executor.calls[0][0].cancel()
            next(results)


@pytest.mark.parametrize("executor", [3, ThreadPoolExecutor])
def test_executor_must_be_one(executor: Any) -> None:
    """The class is not an instance of it."""
    with pytest.raises(TypeError, match="executor must be a concurrent"):
        fan_out(double, [1], limit=1, executor=executor)
