"""What others keep to themselves and a census has to know.

The one module of ours that reads private names, of asyncio, trio and the standard
library. Each of them may be gone tomorrow: then that much less is seen, and the census
says so. Nothing here is written to, and nothing is called that has an effect.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from concurrent.futures import thread as futures
from functools import partial
from threading import Thread
from types import AsyncGeneratorType, FrameType
from typing import Any, NamedTuple, TypeAlias, final
from weakref import ref

AsyncGenerator = AsyncGeneratorType[Any, Any]

Place: TypeAlias = tuple[str, str]
"""The names of a module and of a function in it."""


@final
class Timer(NamedTuple):
    """A call that an event loop is to make."""

    handle: asyncio.TimerHandle
    """What cancels it."""

    callback: Any
    """What is called, without partials around it."""


# Loops

RUNNERS = {"run", "run_forever", "unrolled_run"}
"""How the functions are called that :func:`loop_of` and others know."""


def loop_of(frame: FrameType) -> asyncio.AbstractEventLoop | None:
    """Return the asyncio loop that this very frame runs, if it runs one.

    uvloop has no frames. What runs it mostly has: the runner of ``asyncio.run``.
    """
    code = frame.f_code
    if code is _RUN_FOREVER:
        loop = frame.f_locals.get("self")
    elif code is _RUNNER_RUN:
        loop = loop_of_runner(frame.f_locals.get("self"))
    else:
        return None
    return loop if isinstance(loop, asyncio.AbstractEventLoop) else None


def loop_of_runner(runner: object) -> asyncio.AbstractEventLoop | None:
    """Return the loop of a runner; to ask the runner itself would make one."""
    return getattr(runner, "_loop", None)


def loop_with(thing: object) -> Any:
    """Return the loop of asyncio in which a task or a timer is."""
    if isinstance(thing, asyncio.Task):
        return thing.get_loop()
    return getattr(thing, "_loop", None)


def running_loops() -> set[asyncio.AbstractEventLoop]:
    """Return the asyncio loops that run and have a task, where all tasks are known."""
    tasks = (mark() for mark in asyncio_marks() or ())
    loops = {task.get_loop() for task in tasks if task is not None}
    return {loop for loop in loops if loop.is_running()}


def thread_of(loop: object) -> int:
    """Return the thread in which an asyncio loop runs; 0 if it does not tell."""
    return getattr(loop, "_thread_id", None) or 0


def trio_run_of(frame: FrameType) -> Any:
    """Return the runner of trio that this very frame runs, if it runs one."""
    if frame.f_code.co_name == "unrolled_run":
        runner = frame.f_locals.get("runner")
        if type(runner).__module__ == "trio._core._run":
            return runner
    return None


def trio_tasks(runner: Any) -> list[Any] | None:
    """Return all tasks of a runner of trio."""
    tasks = getattr(runner, "tasks", None)
    return None if tasks is None else copied(tasks)


def is_cancelled(task: Any) -> bool:
    """Tell whether a task of trio is to end, shielded as its cleanup may be."""
    return any(
        getattr(getattr(holder, "_cancel_status", None), "effectively_cancelled", False)
        for holder in (task, task.parent_nursery)
    )


def asyncio_marks() -> set[ref[asyncio.Task[Any]]] | None:
    """Return references to all tasks of asyncio, of all loops; None if nobody knows.

    Until Python 3.13 all tasks are in one set of such references, and what is there
    already need not be made. Ended ones are among them while somebody keeps them.
    """
    references = getattr(_REGISTRY, "data", None)
    if references is None:
        return None
    marks: set[ref[asyncio.Task[Any]]] = references.copy()
    marks.update(map(ref, copied(_EAGER)))
    return marks


def lost_error(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the error of a task that has ended by it, if nobody has asked for it."""
    if not getattr(task, "_log_traceback", False):
        return None
    error: BaseException | None = getattr(task, "_exception", None)
    return error


# What loops hold


def timers(loop: object) -> list[Timer] | None:
    """Return the pending timers of an asyncio loop; None if it does not tell.

    Without those that a task waits for, or a scope around it: the task counts.
    """
    scheduled = getattr(loop, "_scheduled", None)
    if scheduled is None:
        return None
    return list(_foreign_timers(copied(scheduled)))


def _foreign_timers(handles: Iterable[asyncio.TimerHandle]) -> Iterator[Timer]:
    for handle in handles:
        callback = getattr(handle, "_callback", None)
        if callback is _WAKE_SLEEPER:  # most are
            continue
        while isinstance(callback, partial):
            callback = callback.func
        if handle.cancelled() or _qualified(callback) in _TIMERS_OF_TASKS:
            continue
        yield Timer(handle, callback)


def async_generators(holder: object) -> list[AsyncGenerator] | None:
    """Return the open async generators of an asyncio loop or of a runner of trio."""
    known = getattr(holder, "_asyncgens", None)
    if known is None:
        known = getattr(getattr(holder, "asyncgens", None), "alive", None)
    return None if known is None else copied(known)


def default_executor(loop: object) -> object:
    """Return the executor that an asyncio loop brings with it, and shuts down."""
    return getattr(loop, "_default_executor", None)


# Executors


def executor_of(thread: Thread) -> Executor | None:
    """Return the pool of threads that has one, or the one of processes it manages."""
    if type(thread).__module__ == "concurrent.futures.process":
        return _open(getattr(thread, "executor_reference", None))
    if getattr(thread, "_target", None) is _WORKER:
        return _open(next(iter(getattr(thread, "_args", ())), None))
    return None


def is_idle(calls: Iterable[Place]) -> bool:
    """Tell whether the thread of a pool waits for work; its innermost call first."""
    for call in calls:
        if call[0] not in _WAITING:
            return call in _POOLS
    return False


def is_pooled(calls: Iterable[Place]) -> bool:
    """Tell whether a thread belongs to a pool."""
    return any(call in _POOLS for call in calls)


def executor_name(executor: Executor) -> str:
    """Name an executor: by what its threads are called, or by its class."""
    prefix: str = getattr(executor, "_thread_name_prefix", "")
    return prefix or type(executor).__name__


def _open(reference: Callable[[], Any] | None) -> Executor | None:
    executor = reference() if callable(reference) else None
    if not isinstance(executor, Executor):
        return None
    over = getattr(executor, "_shutdown", False)
    return None if over or getattr(executor, "_shutdown_thread", False) else executor


def copied(items: Any) -> list[Any]:
    """Copy what another thread may change meanwhile."""
    for _ in range(1000):
        try:
            return list(items)
        except RuntimeError:  # it has changed; asyncio.all_tasks tries again as well
            continue
    return []


def _qualified(callback: Any) -> str:
    name: str = getattr(callback, "__qualname__", "")
    module: str = getattr(callback, "__module__", None) or ""
    return f"{module}.{name}"


def _code(holder: object, name: str) -> object:
    return getattr(getattr(holder, name, None), "__code__", None)


_RUN_FOREVER = _code(asyncio.BaseEventLoop, "run_forever")
_RUNNER_RUN = _code(asyncio.Runner, "run")

_WORKER: Any = getattr(futures, "_worker", _code)

_REGISTRY: Any = getattr(
    asyncio.tasks,
    # 3.14 has the newer name, too, for tasks that are written in Python.
    "_scheduled_tasks" if (3, 12) <= sys.version_info < (3, 14) else "_all_tasks",
    None,
)
_EAGER: Any = getattr(asyncio.tasks, "_eager_tasks", ())

_WAKE_SLEEPER = getattr(asyncio.futures, "_set_result_unless_cancelled", _code)
"""What the timer of ``asyncio.sleep`` calls."""

_WAITING = {"queue", "threading"}
"""Where a thread stands that waits for work."""

_POOLS = {
    ("anyio._backends._asyncio", "run"),
    ("concurrent.futures.thread", "_worker"),
    ("trio._core._thread_cache", "_work"),
}
"""Where it comes from."""

_TIMERS_OF_TASKS = {
    "asyncio.timeouts.Timeout._on_timeout",
    "asyncio.tasks._release_waiter",  # asyncio.wait
    "anyio._backends._asyncio.CancelScope._timeout",
    "safeconc._ticker._TimerAlarm.ring",
    "safeconc._loop._FutureBell.ring",
    "safeconc._context._TaskBlock._fire",
}


# Threads that work for nobody


def is_abandoned(inner: FrameType) -> bool:
    """Tell whether a thread of anyio works on a call that its caller has given up.

    Our own ``to_thread`` gives up in this sense, too, and goes on waiting.
    """
    frame: FrameType | None = inner
    while frame is not None:
        if frame.f_code.co_name == "run":
            module = frame.f_globals.get("__name__")
            if module == "safeconc._to_thread":
                return False
            if module == "anyio._backends._asyncio":
                future = frame.f_locals.get("future")
                return isinstance(future, asyncio.Future) and future.cancelled()
        frame = frame.f_back
    return False
