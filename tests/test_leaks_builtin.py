"""The built-in rules, held against threads and tasks as they were seen.

Each record was taken from a running program: what it was, how it was called, and its
calls, innermost first. The packages need not be installed.
"""

import gc
from typing import Any

import pytest

from safeconc import leaks
from safeconc.leaks import Entry, Kind
from safeconc.leaks._builtin import BUILTIN
from safeconc.leaks._sieve import Sieve
from tests.entries import entry

_THREAD = (
    "threading:Thread.run",
    "threading:Thread._bootstrap_inner",
    "threading:Thread._bootstrap",
)
_SUBCLASS = _THREAD[1:]
_BLOCKED = ("threading:Condition.wait", "threading:Event.wait")
_LOOP = (
    "selectors:EpollSelector.select",
    "asyncio.base_events:BaseEventLoop._run_once",
    "asyncio.base_events:BaseEventLoop.run_forever",
)
_TORNADO = (*_LOOP, "tornado.platform.asyncio:BaseAsyncIOLoop.start")
_SENTRY = (
    "threading:Thread.run",
    "sentry_sdk.integrations.threading:_wrap_run.<locals>.run.<locals>._run_old_run_func",
    "sentry_sdk.integrations.threading:_wrap_run.<locals>.run",
    *_SUBCLASS,
)
_LOKY = "joblib.externals.loky.process_executor:_ExecutorManagerThread"
_BACKEND = "joblib.externals.loky.backend"
_METRICS = "opentelemetry.sdk.metrics._internal.export"
_PYTEST_TRIO = "pytest_trio.plugin:_trio_test_runner_factory"

Record = tuple[Kind, str, tuple[str, ...]]

IDLE: dict[str, Record] = {
    "executor": (
        "thread",
        "ThreadPoolExecutor-0_0",
        ("concurrent.futures.thread:_worker", *_THREAD),
    ),
    "executor of asyncio": (
        "thread",
        "asyncio_0",
        ("concurrent.futures.thread:_worker", *_THREAD),
    ),
    "executor of Dask": (
        "thread",
        "Dask-Offload_0",
        ("concurrent.futures.thread:_worker", *_THREAD),
    ),
    "executor on PyPy": (
        "thread",
        "ThreadPoolExecutor-0_0",
        (
            "threading:Condition.wait",
            "threading:Semaphore.acquire",
            "queue:_PySimpleQueue.get",
            "concurrent.futures.thread:_worker",
            *_THREAD,
        ),
    ),
    "anyio": (
        "thread",
        "AnyIO worker thread",
        (
            "threading:Condition.wait",
            "queue:Queue.get",
            "anyio._backends._asyncio:WorkerThread.run",
            *_SUBCLASS,
        ),
    ),
    "trio": (
        "thread",
        "Trio thread 0",
        ("trio._core._thread_cache:WorkerThread._work", *_THREAD),
    ),
}
"""Threads of pools that have nothing to do."""

OURS: dict[str, Record] = {
    "thread": (
        "thread",
        "ErrGroup: worker-1",
        (
            "safeconc._parker:Parker.park",
            "safeconc.threads._worker:Worker.rest",
            "safeconc.threads._errgroup:ErrGroup._work",
            "safeconc.threads._crew:Crew._live",
            "safeconc.threads._worker:Worker._run",
            *_THREAD,
        ),
    ),
    "task": (
        "task",
        "ErrGroup: worker",
        (
            "safeconc._crew:Crew._park",
            "safeconc._crew:Crew._take_jobs",
            "safeconc._crew:Crew._work",
            "anyio._core._tasks:TaskHandle._run_coro",
        ),
    ),
}
"""Workers of our blocks, in a call in which nobody else's code runs."""

RUNNERS: dict[str, Record] = {
    "anyio's tests": (
        "task",
        "Task-4",
        ("anyio._backends._asyncio:TestRunner._run_tests_and_fixtures",),
    ),
    "anyio's main": (
        "task",
        "Task-5",
        ("anyio._backends._asyncio:TestRunner._call_in_runner_task",),
    ),
    "anyio's tests on trio": (
        "task",
        "anyio._backends._trio.TestRunner._run_tests_and_fixtures",
        ("anyio._backends._trio:TestRunner._run_tests_and_fixtures",),
    ),
    "pytest-trio": (
        "task",
        "<init>",
        (
            "trio._core._traps:_real_async_yield",
            "trio._core._traps:wait_task_rescheduled",
            "trio._core._run:Nursery._nested_child_finished",
            "trio._core._run:NurseryManager.__aexit__",
            f"{_PYTEST_TRIO}.<locals>._bootstrap_fixtures_and_run_test",
        ),
    ),
    "trio's root": (
        "task",
        "<init>",
        (
            "trio._core._traps:_real_async_yield",
            "trio._core._traps:wait_task_rescheduled",
            "trio._core._run:Nursery._nested_child_finished",
            "trio._core._run:NurseryManager.__aexit__",
            "trio._core._run:Runner.init",
        ),
    ),
    "trio's entry queue": (
        "task",
        "<TrioToken.run_sync_soon task>",
        (
            "trio._core._traps:_real_async_yield",
            "trio._core._traps:wait_task_rescheduled",
            "trio._core._io_epoll:EpollIOManager._epoll_wait",
            "trio._core._io_epoll:EpollIOManager.wait_readable",
            "trio._core._generated_io_epoll:wait_readable",
            "trio._core._wakeup_socketpair:WakeupSocketpair.wait_woken",
            "trio._core._entry_queue:EntryQueue.task",
        ),
    ),
    "pytest-timeout": (
        "thread",
        "pytest_timeout tests/test_app.py::test_it",
        (*_BLOCKED, "threading:Timer.run", *_SUBCLASS),
    ),
    "pytest-rerunfailures": (
        "thread",
        "Thread-1 (run_server)",
        (
            "socket:socket.accept",
            "pytest_rerunfailures:ServerStatusDB.run_server",
            *_THREAD,
        ),
    ),
    "pytest-rerunfailures and a worker": (
        "thread",
        "Thread-2 (run_connection)",
        ("pytest_rerunfailures:ServerStatusDB.run_connection", *_THREAD),
    ),
    "pytest-xdist": (
        "thread",
        "Dummy-1",
        (
            "execnet.gateway_base:Popen2IO.read",
            "execnet.gateway_base:Message.from_io",
            "execnet.gateway_base:BaseGateway._thread_receiver",
            "execnet.gateway_base:Reply.run",
            "execnet.gateway_base:WorkerPool._perform_spawn",
        ),
    ),
    "pytest-xdist's worker": (
        "process",
        "/usr/bin/python -u -c import sys;exec(eval(sys.stdin.readline()))",
        (),
    ),
}
"""Who runs tests."""

SERVICES: dict[str, Record] = {
    "asyncio's child watcher": (
        "thread",
        "asyncio-waitpid-0",
        ("asyncio.unix_events:ThreadedChildWatcher._do_waitpid", *_THREAD),
    ),
    "multiprocessing's tracker": (
        "process",
        "python -B -c from multiprocessing.resource_tracker import main;main(11)",
        (),
    ),
    "multiprocessing's fork server": (
        "process",
        "python -c from multiprocessing.forkserver import main; main(3, 5, ['a\nb'])",
        (),
    ),
    "debugpy": (
        "thread",
        "pydevd.Writer",
        (
            "threading:Condition.wait",
            "queue:Queue.get",
            "_pydevd_bundle.pydevd_comm:WriterThread._on_run",
            "_pydevd_bundle.pydevd_daemon_thread:PyDBDaemonThread.run",
            *_SUBCLASS,
        ),
    ),
    "tqdm": (
        "thread",
        "tqdm_monitor",
        (*_BLOCKED, "tqdm._monitor:TMonitor.run", *_SUBCLASS),
    ),
    "Dask's profiler": ("thread", "Profile", ("distributed.profile:_watch", *_THREAD)),
    "Dask's executor": ("executor", "Dask-Offload", ()),
    "Dask's timer": (
        "timer",
        "SpecCluster._update_worker_status.<locals>.f",
        ("distributed.deploy.spec:SpecCluster._update_worker_status.<locals>.f",),
    ),
    "joblib": (
        "thread",
        "ExecutorManagerThread",
        (
            "selectors:_PollLikeSelector.select",
            "multiprocessing.connection:wait",
            f"{_LOKY}.wait_result_broken_or_wakeup",
            f"{_LOKY}.run",
            *_SUBCLASS,
        ),
    ),
    "joblib's queue": (
        "thread",
        "QueueFeederThread",
        (
            "threading:Condition.wait",
            f"{_BACKEND}.queues:Queue._feed",
            *_THREAD,
        ),
    ),
    "joblib's tracker": (
        "process",
        f"python -B -c from {_BACKEND}.resource_tracker import main; main(3, False)",
        (),
    ),
    "joblib's process": (
        "process",
        f"python -m {_BACKEND}.popen_loky_posix --process-name LokyProcess-1 --pipe 14",
        (),
    ),
    "fsspec": ("thread", "fsspecIO", (*_LOOP, *_THREAD)),
    "grpc.aio": ("thread", "Thread-4 (_poll_wrapper)", _THREAD),
    "sentry": (
        "thread",
        "sentry-sdk.BackgroundWorker",
        ("sentry_sdk.worker:BackgroundWorker._target", *_SENTRY),
    ),
    "sentry's monitor": (
        "thread",
        "sentry.monitor",
        ("sentry_sdk.monitor:Monitor._ensure_running.<locals>._thread", *_SENTRY),
    ),
    "sentry's sessions": (
        "thread",
        "Thread-2 (_thread)",
        (
            "sentry_sdk.sessions:SessionFlusher._ensure_running.<locals>._thread",
            *_SENTRY,
        ),
    ),
    "sentry's logs": (
        "thread",
        "Thread-1 (_flush_loop)",
        (*_BLOCKED, "sentry_sdk._batcher:Batcher._flush_loop", *_SENTRY),
    ),
    "sentry's profiler": (
        "thread",
        "sentry.profiler.ThreadScheduler",
        ("sentry_sdk.profiler.transaction_profiler:ThreadScheduler.run", *_SENTRY),
    ),
    "sentry's continuous profiler": (
        "thread",
        "sentry.profiler.ThreadContinuousScheduler",
        ("sentry_sdk.profiler.continuous_profiler:ContinuousScheduler.run", *_SENTRY),
    ),
    "OpenTelemetry's spans": (
        "thread",
        "OtelBatchSpanRecordProcessor",
        (
            *_BLOCKED,
            "opentelemetry.sdk._shared_internal:BatchProcessor.worker",
            *_THREAD,
        ),
    ),
    "OpenTelemetry's metrics": (
        "thread",
        "OtelPeriodicExportingMetricReader",
        (
            *_BLOCKED,
            f"{_METRICS}:PeriodicExportingMetricReader._ticker",
            *_THREAD,
        ),
    ),
    "posthog": (
        "thread",
        "Thread-1",
        (
            "threading:Condition.wait",
            "posthog.consumer:_DrainSignal.get",
            "posthog.consumer:Consumer.next",
            "posthog.consumer:Consumer.upload",
            "posthog.consumer:Consumer.run",
            *_SUBCLASS,
        ),
    ),
    "pyzmq": (
        "thread",
        "Thread-1",
        ("zmq.utils.garbage:GarbageCollectorThread.run", *_SUBCLASS),
    ),
    "Jupyter's output": (
        "thread",
        "IOPub",
        (*_TORNADO, "ipykernel.iostream:IOPubThread._thread_main", *_THREAD),
    ),
    "Jupyter's pipe": (
        "thread",
        "Thread-2 (_watch_pipe_fd)",
        ("ipykernel.iostream:OutStream._watch_pipe_fd", *_THREAD),
    ),
    "Jupyter's heartbeat": (
        "thread",
        "Heartbeat",
        ("zmq.sugar:device", "ipykernel.heartbeat:Heartbeat.run", *_SUBCLASS),
    ),
    "Jupyter's channels": (
        "thread",
        "Shell channel",
        (
            *_TORNADO,
            "ipykernel.thread:BaseThread.run",
            "ipykernel.shellchannel:ShellChannelThread.run",
            *_SUBCLASS,
        ),
    ),
    "Jupyter's parent": (
        "thread",
        "Thread-1",
        ("ipykernel.parentpoller:ParentPollerUnix.run", *_SUBCLASS),
    ),
    "Jupyter's history": (
        "thread",
        "IPythonHistorySavingThread",
        (
            "IPython.core.history:HistoryManager._writeout_input_cache",
            "IPython.core.history:HistorySavingThread.run",
            "IPython.core.history:only_when_enabled.<locals>.wrapper",
            *_SUBCLASS,
        ),
    ),
    "Jupyter's pipe task": (
        "task",
        "Task-1",
        ("asyncio.tasks:sleep", "ipykernel.iostream:IOPubThread._run_event_pipe_gc"),
    ),
    "Jupyter's debugger task": (
        "task",
        "Task-10",
        (
            "ipykernel.debugger:Debugger.handle_stopped_event",
            "ipykernel.ipkernel:IPythonKernel.poll_stopped_queue",
        ),
    ),
    "Jupyter's dispatcher": (
        "task",
        "Task-19",
        ("ipykernel.utils:_async_in_context.<locals>.run_in_context",),
    ),
}
"""What goes on as long as the process does."""

RECORDS = IDLE | OURS | RUNNERS | SERVICES
ALL = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)


def seen(record: Record, below: str = "") -> Entry:
    """Make the entry of a record; with the modules put into the package *below*."""
    kind, name, calls = record
    files = (call.partition(":") for call in calls)
    return entry(
        *(f"/site-packages/{below}{module}.py:{name}" for module, _, name in files),
        kind=kind,
        name=name,
    )


def is_known(leak: Entry) -> bool:
    """Tell whether a built-in rule is about it."""
    return Sieve().sift([leak]).kept == ()


@ALL
def test_what_was_seen_is_known(record: Record) -> None:
    """The real thing passes, whatever else is on its stack."""
    assert is_known(seen(record))


def test_every_rule_was_seen_at_work() -> None:
    """None is there on hearsay."""
    idle = Sieve(BUILTIN, builtin=False)
    for record in RECORDS.values():
        idle.sift([seen(record)])

    assert [rule.reason for rule in idle.unmatched] == []


@pytest.mark.parametrize("record", IDLE.values(), ids=IDLE)
def test_busy_thread_of_a_pool_is_a_leak(record: Record) -> None:
    """The same thread, while it calls what it was given."""
    kind, name, calls = record
    pools = next(index for index, call in enumerate(calls) if "orker" in call)
    busy = (kind, name, ("app.work:work", *calls[pools:]))
    blocked = (kind, name, ("queue:Queue.get", "app.work:work", *calls[pools:]))

    assert not is_known(seen(busy))
    assert not is_known(seen(blocked))


@pytest.mark.parametrize(
    "record", [each for each in RECORDS.values() if each[2] and each[2] != _THREAD]
)
def test_namesake_in_another_module_is_a_leak(record: Record) -> None:
    """A function of the same name elsewhere is somebody else's."""
    assert not is_known(seen(record, below="app."))


@pytest.mark.parametrize(
    "leak",
    [
        ("thread", "fsspecIO", ("app.io:serve", *_THREAD)),
        ("thread", "my loop", (*_LOOP, *_THREAD)),
        ("thread", "Thread-4 (_poll_wrapper)", ("app.poll:_poll_wrapper", *_THREAD)),
        ("thread", "Thread-4 (poll)", _THREAD),
        ("thread", "pytest_timeout x", (*_BLOCKED, "app.x:run", *_THREAD)),
        ("thread", "Thread-7", (*_BLOCKED, "threading:Timer.run", *_SUBCLASS)),
        ("thread", "Profile", ("app.profile:_watch", *_THREAD)),
        ("thread", "mine", ("app.work:work", *_SENTRY)),
        ("thread", "serve", ("grpc._server:_serve", *_THREAD)),
        ("executor", "ThreadPoolExecutor-0", ()),
        ("process", "python -c from app import main;main(3)", ()),
        ("process", "python -m app --note 'multiprocessing.forkserver'", ()),
    ],
)
def test_look_alike_is_a_leak(leak: Any) -> None:
    """The name alone, or the place alone, makes nothing known."""
    assert not is_known(seen(leak))


@ALL
def test_rule_is_about_one_kind(record: Record) -> None:
    """The same calls in something else are another thing."""
    kind, name, calls = record
    other: Kind = "thread" if kind != "thread" else "task"

    assert not is_known(seen((other, name, calls)))


async def test_runner_of_this_test_is_known() -> None:
    """Of anyio's plugin, on both loops: nothing is left but what a test starts."""
    gc.collect()  # what other tests have dropped is not this runner's
    tasks = [each for each in leaks.snapshot().entries if each.kind == "task"]

    assert tasks
    assert Sieve().sift(tasks).kept == ()
