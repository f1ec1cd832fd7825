"""What well-known packages leave by design, each with the reason.

Each rule was written beside the real thing: the package ran, and its threads and tasks
were looked at. A rule names a function that nothing but them is in, or, in a pool, the
calls of a thread that has nothing to do. So what a user's function leaks in the same
pool, or on the same loop, is none of its business.

Looked at and found to leave nothing: pytest-asyncio, unittest's
``IsolatedAsyncioTestCase``, coverage, and aiohttp's client.
"""

import re
from typing import Final

from safeconc.leaks._rules import Ignore

_IDLE = "an idle thread of an executor; the executor itself is what one forgets"
_OURS = "an idle worker of a block of ours; an open block itself is what one forgets"
_RUNNER = "anyio's pytest plugin runs tests and fixtures in this task"
_TRIO = "every trio program has this task"
_XDIST = "pytest-xdist's worker, or its connection to the process that started it"
_DEBUGGER = "a debugger, attached for as long as the process lives"
_SENTRY = "sentry_sdk sends its events from here, until the process ends"
_OTEL = "OpenTelemetry exports from here, until its provider is shut down at exit"
_KERNEL = "part of the Jupyter kernel that this code runs in"
_SERVER = "multiprocessing starts this process once, and it ends after this one"
_JOBLIB = "joblib keeps its processes for the next Parallel"
_DASK = "Dask shares one thread for work on files and never gives it up"

_METRICS = "opentelemetry.sdk.metrics._internal.export"
_PYTEST_TRIO = "pytest_trio.plugin._trio_test_runner_factory"

_THREADS: tuple[tuple[str | tuple[str, ...], str], ...] = (
    (("queue._PySimpleQueue.get", "concurrent.futures.thread._worker"), _IDLE),  # PyPy
    (
        ("queue.Queue.get", "anyio._backends._asyncio.WorkerThread.run"),
        "an idle worker thread of anyio, which goes when the loop does",
    ),
    (
        "asyncio.unix_events.ThreadedChildWatcher._do_waitpid",
        "asyncio waits in this thread for a child; the child itself is what counts",
    ),
    ("execnet.gateway_base.BaseGateway._thread_receiver", _XDIST),
    (
        "pytest_rerunfailures.ServerStatusDB.run_server",
        "pytest-rerunfailures counts here what its workers report",
    ),
    (
        "pytest_rerunfailures.ServerStatusDB.run_connection",
        "pytest-rerunfailures listens here to one of its workers",
    ),
    ("safeconc.threads._worker.Worker.rest", _OURS),
    ("_pydevd_bundle.pydevd_daemon_thread.PyDBDaemonThread.run", _DEBUGGER),
    (
        "tqdm._monitor.TMonitor.run",
        "tqdm has one thread that watches over all bars, and never stops it",
    ),
    (
        "distributed.profile._watch",
        "Dask starts this profiler with its first worker and does not wait for it",
    ),
    (
        "joblib.externals.loky.process_executor._ExecutorManagerThread.run",
        _JOBLIB,
    ),
    ("joblib.externals.loky.backend.queues.Queue._feed", _JOBLIB),
    ("sentry_sdk.worker.BackgroundWorker._target", _SENTRY),
    ("sentry_sdk.monitor.Monitor._ensure_running.<locals>._thread", _SENTRY),
    ("sentry_sdk.sessions.SessionFlusher._ensure_running.<locals>._thread", _SENTRY),
    ("sentry_sdk._batcher.Batcher._flush_loop", _SENTRY),
    ("sentry_sdk.profiler.transaction_profiler.ThreadScheduler.run", _SENTRY),
    ("sentry_sdk.profiler.continuous_profiler.ContinuousScheduler.run", _SENTRY),
    ("opentelemetry.sdk._shared_internal.BatchProcessor.worker", _OTEL),
    (
        f"{_METRICS}.PeriodicExportingMetricReader._ticker",
        _OTEL,
    ),
    (
        "posthog.consumer.Consumer.run",
        "posthog sends its events from here, until the process ends",
    ),
    (
        "zmq.utils.garbage.GarbageCollectorThread.run",
        "pyzmq frees here the messages that it has sent without copying them",
    ),
    ("ipykernel.iostream.IOPubThread._thread_main", _KERNEL),
    ("ipykernel.iostream.OutStream._watch_pipe_fd", _KERNEL),
    ("ipykernel.heartbeat.Heartbeat.run", _KERNEL),
    ("ipykernel.thread.BaseThread.run", _KERNEL),
    ("ipykernel.parentpoller.ParentPollerUnix.run", _KERNEL),
    ("IPython.core.history.HistorySavingThread.run", _KERNEL),
)
_TASKS: tuple[tuple[str, str], ...] = (
    ("anyio._backends._asyncio.TestRunner._run_tests_and_fixtures", _RUNNER),
    (
        "anyio._backends._asyncio.TestRunner._call_in_runner_task",
        "anyio's pytest plugin waits here for a test or a fixture",
    ),
    ("anyio._backends._trio.TestRunner._run_tests_and_fixtures", _RUNNER),
    (
        f"{_PYTEST_TRIO}.<locals>._bootstrap_fixtures_and_run_test",
        "pytest-trio runs a test and its fixtures under this task",
    ),
    ("safeconc._crew.Crew._park", _OURS),
    ("trio._core._run.Runner.init", _TRIO),
    ("trio._core._entry_queue.EntryQueue.task", _TRIO),
    ("ipykernel.iostream.IOPubThread._run_event_pipe_gc", _KERNEL),
    ("ipykernel.ipkernel.IPythonKernel.poll_stopped_queue", _KERNEL),
)
_PROCESSES: tuple[tuple[str, str], ...] = (
    (r".* from multiprocessing\.resource_tracker import main;.*", _SERVER),
    (r".* from multiprocessing\.forkserver import main;.*", _SERVER),
    (r".* -c import sys;exec\(eval\(sys\.stdin\.readline\(\)\)\)", _XDIST),
    (r".* from joblib\.externals\.loky\.backend\.resource_tracker import .*", _JOBLIB),
    (r".* -m joblib\.externals\.loky\.backend\.popen_loky_posix .*", _JOBLIB),
)


BUILTIN: Final = (
    Ignore(kind="thread", function="concurrent.futures.thread._worker", reason=_IDLE),
    Ignore(
        kind="thread",
        function="trio._core._thread_cache.WorkerThread._work",
        reason="an idle thread in trio's cache, which goes after ten seconds",
    ),
    Ignore(
        kind="thread",
        name=re.compile(r"pytest_timeout .*"),
        any_function="threading.Timer.run",
        reason="pytest-timeout's alarm for the test that runs",
    ),
    Ignore(
        kind="thread",
        name=re.compile(r"Thread-\d+ \(_poll_wrapper\)"),
        function="threading.Thread.run",
        reason="grpc.aio has one thread that polls, and never stops it",
    ),
    Ignore(
        kind="thread",
        name="fsspecIO",
        any_function="asyncio.base_events.BaseEventLoop.run_forever",
        reason="fsspec runs one event loop for all its file systems",
    ),
    Ignore(
        kind="task",
        function="ipykernel.utils._async_in_context.<locals>.run_in_context",
        reason=_KERNEL,
    ),
    Ignore(kind="executor", name="Dask-Offload", reason=_DASK),
    Ignore(
        kind="timer",
        function="distributed.deploy.spec.SpecCluster._update_worker_status.<locals>.f",
        reason="Dask forgets a worker that has gone after 15 seconds",
    ),
    *(
        Ignore(kind="thread", any_function=where, reason=reason)
        for where, reason in _THREADS
    ),
    *(
        Ignore(kind="task", any_function=where, reason=reason)
        for where, reason in _TASKS
    ),
    *(
        Ignore(kind="process", name=re.compile(command, re.DOTALL), reason=reason)
        for command, reason in _PROCESSES
    ),
)
