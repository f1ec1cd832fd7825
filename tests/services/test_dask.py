"""A fan-out over a real Dask cluster, of two workers that may be killed."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from safeconc import Context, ContextCancelled
from safeconc.threads import FanOut, fan_out
from tests.services import calls
from tests.services.processes import PATIENCE, eventually

pytestmark = pytest.mark.services


class Counting(Executor):
    """Counts what another one has in its hands, and holds nothing of what it had."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.futures: set[Future[Any]] = set()
        self.peak = 0

    @override
    def submit(self, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future = self._executor.submit(fn, *args, **options)
        self.futures.add(future)
        self.peak = max(self.peak, len(self.futures))
        future.add_done_callback(self.futures.discard)
        return future


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Start a cluster."""
    distributed: Any = import_module("distributed")
    workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**workers) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def executor(client: Any) -> Iterator[Counting]:
    """Use the cluster, and find it with nothing of ours afterwards."""
    client.wait_for_workers(2, timeout=PATIENCE)
    executor = Counting(client.get_executor(pure=False))
    yield executor
    assert not executor.futures
    eventually(
        lambda: not _left(client),
        what="an idle scheduler",
        but=lambda: _left(client),
    )


def _left(client: Any) -> list[str]:
    """Return what the scheduler still has to do, or to keep, for us."""
    gc.collect()
    tasks: dict[str, str] = client.run_on_scheduler(calls.tasks)
    # The executor of Dask keeps a call that failed, by the traceback of its error.
    return [key for key, state in tasks.items() if state != "erred"]


def _pids(client: Any) -> list[int]:
    """Return the processes of the workers."""
    pids: list[int] = list(client.run(os.getpid).values())
    return pids


def collect(fn: Any, items: Any, **options: Any) -> list[Any]:
    """Have all results at once."""
    results: list[Any] = fan_out(fn, items, **options)
    return results


def stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    """Have the results one by one."""
    with FanOut(fn, items, **options) as results:
        return list(results)


both = pytest.mark.parametrize("run", [collect, stream])


@both
def test_results_are_in_the_order_of_the_items(
    run: Callable[..., list[Any]], executor: Counting
) -> None:
    """And never more than the limit is in its hands."""
    results = run(calls.double, range(30), limit=3, executor=executor)

    assert results == list(range(0, 60, 2))
    assert executor.peak == 3


def test_items_are_taken_as_there_is_room(executor: Counting) -> None:
    """Of an endless iterable, and for a consumer that is slow."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    with FanOut(calls.double, items(), limit=3, buffer=2, executor=executor) as results:
        for count, result in enumerate(results, start=1):
            eventually(lambda: results.statistics().buffered >= 4, what="a full buffer")
            assert len(taken) <= count + 5
            if result == 10:
                break

    assert executor.peak <= 3


@both
def test_an_error_of_a_call_is_raised(
    run: Callable[..., list[Any]], executor: Counting
) -> None:
    """What was raised there is raised here, and a generator is closed."""
    end: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            end.append("closed")

    with pytest.raises(ValueError, match="three"):
        run(calls.fail_at_three, items(), limit=3, executor=executor)
    assert end == ["closed"]


def test_exceptions_are_given_back(executor: Counting) -> None:
    """In place of the results."""
    results = collect(
        calls.fail_at_three,
        range(5),
        limit=2,
        executor=executor,
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, int, int, ValueError, int]


def test_what_waits_for_a_worker_never_begins(
    client: Any, executor: Counting, tmp_path: Path
) -> None:
    """It is cancelled; what a worker is at goes on there, and its result is dropped."""
    jobs = ((item, tmp_path) for item in range(10**9))
    with FanOut(calls.hold, jobs, limit=8, executor=executor) as results:
        for _ in results:
            break

    assert results.statistics().running == 0
    eventually(lambda: not any(client.run(calls.queue).values()), what="empty queues")
    begun = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "go").touch()
    # These come after all that the workers had to do.
    assert collect(calls.double, range(8), limit=8, executor=executor)[-1] == 14
    assert {path.name for path in tmp_path.iterdir()} == {"go", *begun}


def test_end_of_a_parent_ends_it(executor: Counting) -> None:
    """And says that not all was done."""
    with Context() as outer:
        with pytest.raises(ContextCancelled):
            with FanOut(calls.nap, range(10**9), limit=4, executor=executor) as results:
                for result in results:
                    if result == 3:
                        outer.cancel()


# Faults


def test_worker_that_is_killed_costs_no_result(client: Any, executor: Counting) -> None:
    """What it had is done again by the other one, and all is in order."""
    received: list[int] = []
    with FanOut(calls.nap, range(30), limit=4, executor=executor) as results:
        for result in results:
            received.append(result)
            if result == 5:
                os.kill(_pids(client)[0], signal.SIGKILL)

    assert received == list(range(30))


def test_call_that_kills_its_workers_is_the_error(
    client: Any, executor: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster gives it up, here after the first one, and says which call it was."""
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)

    with pytest.raises(Exception, match=r"kill_at_three.*those workers died"):
        collect(calls.kill_at_three, range(9), limit=2, executor=executor)


def test_client_that_is_closed_is_the_error(client: Any) -> None:
    """Nothing more comes of it, and nobody waits for that."""
    distributed: Any = import_module("distributed")
    with distributed.Client(client.cluster) as other:
        executor = other.get_executor(pure=False)
        with pytest.raises(CancelledError, match=r"nap was cancelled.*shut down"):
            with FanOut(calls.nap, range(30), limit=4, executor=executor) as results:
                next(results)
                other.close(timeout=0.1)
                list(results)
