"""ErrGroup and FanOut of threads when everything happens at once.

``SAFECONC_TEST_RACES`` says how many rounds; see tests/races.py.
"""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from safeconc import Context, ContextCancelled
from safeconc.threads import ErrGroup, FanOut, fan_out
from tests.races import race

pytestmark = pytest.mark.timeout(600)


class Table:
    """A group that one thread opens and leaves, while others use it."""

    def __init__(self, limit: int | None) -> None:
        self.group = ErrGroup(limit=limit)
        self.ran: list[int] = []
        self.context = Context.root()
        self._open = threading.Event()

    def own(self, body: Callable[[], object] = bool) -> str:
        """Open the group, and leave it after *body*; tell how that went."""
        try:
            with Context(self.context), self.group:
                self._open.set()
                body()
        except ContextCancelled:
            return "cancelled"
        except ValueError:
            return "failed"
        return "fine"

    def start(self, number: int) -> bool:
        """Start a child; tell whether that was refused."""
        self._open.wait()
        with suppress(RuntimeError, ContextCancelled):
            self.group.go(self.ran.append, number)
            return True
        return False

    def fail(self) -> None:
        """Start a child that fails."""
        self._open.wait()
        with suppress(RuntimeError, ContextCancelled):
            self.group.go(int, "not a number")

    def cancel(self) -> None:
        """Cancel the group."""
        self._open.wait()
        self.group.cancel()

    def expect(self, *started: object) -> None:
        """Find that each child that ran was started, and that all is over."""
        for each in started:
            assert isinstance(each, bool), each
        numbers = [number for number, each in enumerate(started, start=1) if each]
        assert set(self.ran) <= set(numbers)
        assert len(self.ran) == len(set(self.ran))
        assert self.group.statistics().running == 0
        assert self.group.statistics().waiting == 0


@pytest.mark.parametrize("limit", [1, 2, None])
def test_go_meets_the_end_of_the_block(limit: int | None) -> None:
    """A child that was started before the end has run, and later ones are refused."""

    def check(table: Table, results: list[object]) -> None:
        table.expect(*results[1:])
        assert results[0] == "fine"
        assert len(table.ran) == sum(map(bool, results[1:]))

    race(
        lambda: Table(limit),
        [
            Table.own,
            lambda table: table.start(1),
            lambda table: table.start(2),
            lambda table: table.start(3),
        ],
        check,
    )


def test_go_meets_a_cancel_of_the_group() -> None:
    """It is started or refused, and the end is quiet."""

    def check(table: Table, results: list[object]) -> None:
        table.expect(*results[2:])
        assert results[0] == "fine"

    race(
        lambda: Table(1),
        [
            Table.own,
            Table.cancel,
            lambda table: table.start(1),
            lambda table: table.start(2),
        ],
        check,
    )


def test_failure_meets_the_end_of_a_parent() -> None:
    """Whichever it is told by, all children are over."""

    def check(table: Table, results: list[object]) -> None:
        table.expect(*results[3:])
        assert results[0] in {"fine", "failed", "cancelled"}

    race(
        lambda: Table(1),
        [
            Table.own,
            Table.fail,
            lambda table: table.context.cancel(),
            lambda table: table.start(1),
            lambda table: table.start(2),
        ],
        check,
    )


def test_services_end_as_they_are_stopped() -> None:
    """By themselves or by the block, and then their threads are gone, too."""

    class Served:
        def __init__(self) -> None:
            self.group = ErrGroup(limit=None)
            self.last_call = threading.Event()
            self.open = threading.Event()
            self.threads: list[threading.Thread] = []

        def own(self) -> None:
            with self.group as group:
                for _ in range(4):
                    group.go_background(self.serve)
                self.open.set()

        def serve(self) -> None:
            self.threads.append(threading.current_thread())
            self.last_call.wait()

        def stop(self) -> None:
            self.open.wait()
            self.last_call.set()

    def check(served: Served, results: list[object]) -> None:
        assert results == [None, None]
        assert not any(thread.is_alive() for thread in served.threads)

    race(Served, [Served.own, Served.stop], check)


def as_list(result: Any) -> list[int]:
    """Take a result that is no exception."""
    assert isinstance(result, list), result
    return result  # pyright: ignore[reportUnknownVariableType]


@pytest.mark.parametrize("buffer", [0, 1, 4])
def test_consumers_share_the_results(buffer: int) -> None:
    """Each has one of them, and all consumers are told of the end."""
    size = 6

    class Shared:
        def __init__(self) -> None:
            self.results = FanOut(abs, range(size), limit=2, buffer=buffer)
            self.open = threading.Event()
            self.done = threading.Barrier(3)

        def own(self) -> None:
            with self.results:
                self.open.set()
                self.done.wait()

        def take(self) -> list[int]:
            self.open.wait()
            received = list(self.results)
            self.done.wait()
            return received

    def check(shared: Shared, results: list[object]) -> None:
        received = Counter([*as_list(results[1]), *as_list(results[2])])
        assert received == Counter(range(size))

    race(Shared, [Shared.own, Shared.take, Shared.take], check)


@pytest.mark.parametrize("pooled", [False, True])
def test_fan_out_meets_a_cancel(pooled: bool) -> None:
    """All results, or the error of the end; and the executor has nothing left."""
    executor = ThreadPoolExecutor(2) if pooled else None

    def collect(context: Context) -> list[int]:
        with Context(context):
            return fan_out(abs, range(5), limit=3, executor=executor)

    def check(context: Context, results: list[object]) -> None:
        if not isinstance(results[0], ContextCancelled):
            assert as_list(results[0]) == list(range(5))

    race(Context.root, [collect, lambda context: context.cancel()], check)
    if executor is not None:
        executor.shutdown()


def test_results_are_taken_as_a_cancel_comes() -> None:
    """A result that was taken is in order, and none comes twice."""

    def take(context: Context) -> list[int]:
        received: list[int] = []
        with suppress(ContextCancelled), Context(context):
            with FanOut(abs, range(8), limit=2) as results:
                received.extend(results)
        return received

    def check(context: Context, results: list[object]) -> None:
        received = as_list(results[0])
        assert received == list(range(len(received)))

    race(Context.root, [take, lambda context: context.cancel()], check)
