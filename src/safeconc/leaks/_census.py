"""Everything that is alive in this process, one by one."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from threading import Thread, get_ident
from types import FrameType
from typing import Any, final
from weakref import ref

from safeconc.leaks import _private
from safeconc.leaks._model import NOWHERE, Entry, RawFrame, Snapshot, Stack
from safeconc.leaks._origins import owner_of, threads
from safeconc.leaks._own import own
from safeconc.leaks._processes import children, command_of, is_zombie
from safeconc.leaks._stacks import Stacks

# As NamedTuple does itself, at half the price.
_new: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def snapshot() -> Snapshot:
    """Take a census: all that is alive now, whoever made it.

    It sees the tasks of asyncio and trio in every thread whose loop runs Python code
    that can be recognised, and threads, timers, async generators, executors and child
    processes. What it cannot see it says in :attr:`Snapshot.notes`.
    """
    census = Census()
    entries = tuple(census)
    return Snapshot(entries, time.time(), tuple(census.notes))


@final
class Census:
    """One look around, to be iterated over once; each entry is made when it is due.

    :param known: marks of what is of no interest; see :meth:`marks`.
    """

    def __init__(self, known: AbstractSet[object] = frozenset()) -> None:
        self.notes: list[str] = []
        """What could not be seen, once all has been."""

        self._known = known
        self._stacks = Stacks()
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._trios: dict[int, Any] = {}
        self._executors: dict[int, Executor] = {}

    def marks(self) -> set[object]:
        """Return by what all that is alive now is known again, at little cost.

        A mark keeps nothing alive, and no later thing has the same.
        """
        self._scan(sys._current_frames())
        marks: set[object] = set()
        for loop in self._loops.values():
            marks.update(map(ref, asyncio.all_tasks(loop)))
            marks.update(ref(timer.handle) for timer in _private.timers(loop) or ())
        for runner in self._trios.values():
            marks.update(ref(task) for task, _ in _trio_tasks(runner))
        for holder in (*self._loops.values(), *self._trios.values()):
            marks.update(map(ref, _private.async_generators(holder) or ()))
        marks.update(map(ref, self._living_threads()))
        marks.update(map(ref, self._executors.values()))
        marks.update(map(_pid, children() or ()))
        return marks

    def __iter__(self) -> Iterator[Entry]:
        frames = sys._current_frames()
        self._scan(frames)
        for ident, loop in self._loops.items():
            yield from self._asyncio_tasks(loop, frames.get(ident))
        for ident, runner in self._trios.items():
            yield from self._trio_tasks(runner, frames.get(ident))
        yield from self._threads(frames)
        frames.clear()  # one of them is ours, and has this very dict
        for loop in self._loops.values():
            yield from self._timers(loop)
        for holder in (*self._loops.values(), *self._trios.values()):
            yield from self._async_generators(holder)
        yield from self._open_executors()
        yield from self._processes()

    def _scan(self, frames: dict[int, FrameType]) -> None:
        """Find out what the threads are there for."""
        for ident, inner in frames.items():
            frame: FrameType | None = inner
            while frame is not None:
                if (loop := _private.loop_of(frame)) is not None:
                    self._loops[ident] = loop
                elif (runner := _private.trio_run_of(frame)) is not None:
                    self._trios[ident] = runner
                elif (executor := _private.executor_of(frame)) is not None:
                    self._executors[id(executor)] = executor
                frame = frame.f_back
        try:
            self._loops[get_ident()] = asyncio.get_running_loop()
        except RuntimeError:  # none here, or trio's
            pass

    # Tasks

    def _asyncio_tasks(
        self, loop: asyncio.AbstractEventLoop, inner: FrameType | None
    ) -> Iterator[Entry]:
        stacks, new, watched = self._stacks, _new, bool(own)
        running = asyncio.current_task(loop)
        tasks = asyncio.all_tasks(loop)
        for mark in set(map(ref, tasks)) - self._known:
            task = mark()
            if task is None or (watched and task in own):
                continue
            coroutine: Any = task.get_coro()
            if task is running:
                state, stack = "running", self._running(coroutine, inner)
            else:
                stack = stacks.of(coroutine)
                if task.cancelling():
                    state = "cancelling"
                elif getattr(coroutine, "cr_await", coroutine) is None:
                    state = "not started"
                else:
                    state = "waiting"
            origin = getattr(coroutine, "cr_origin", None)
            yield new(
                Entry,
                (
                    "task",
                    task.get_name(),
                    state,
                    stack,
                    NOWHERE if origin is None else stacks.of_origin(origin),
                    owner_of(task),
                    None,
                    id(task),
                    mark,
                ),
            )

    def _trio_tasks(self, runner: Any, inner: FrameType | None) -> Iterator[Entry]:
        if _private.trio_root(runner) is None:
            self.notes.append("The tasks of a trio program could not be found.")
        for task, cancelled in _trio_tasks(runner):
            if ref(task) not in self._known and task not in own:
                yield self._trio_task(task, inner, cancelled=cancelled)

    def _trio_task(
        self, task: Any, inner: FrameType | None, *, cancelled: bool
    ) -> Entry:
        coroutine = task.coro
        state, stack = "waiting", self._stacks.of(coroutine)
        if getattr(coroutine, "cr_running", False):
            state, stack = "running", self._running(coroutine, inner)
        elif cancelled:
            state = "cancelling"
        elif getattr(coroutine, "cr_await", coroutine) is None:
            state = "not started"
        created = self._stacks.of_origin(getattr(coroutine, "cr_origin", None))
        return Entry(
            "task",
            task.name,
            state,
            stack,
            created,
            owner_of(task),
            None,
            id(task),
            ref(task),
        )

    def _running(self, coroutine: Any, inner: FrameType | None) -> Stack:
        """Return where a task is that runs: on top of its thread's stack."""
        outermost = getattr(coroutine, "cr_frame", None)
        frames: list[RawFrame] = []
        while inner is not None and inner is not outermost:
            frames.append(RawFrame(inner.f_code, inner.f_lineno or 0))
            inner = inner.f_back
        if inner is None:  # it has gone on since
            return self._stacks.of(coroutine)
        return Stack((*frames, RawFrame(inner.f_code, inner.f_lineno or 0)))

    # Threads, and who works with them

    def _living_threads(self) -> Iterator[Thread]:
        for thread in threading.enumerate():
            if (executor := _private.executor_managed_by(thread)) is not None:
                self._executors[id(executor)] = executor
            yield thread

    def _threads(self, frames: dict[int, FrameType]) -> Iterator[Entry]:
        for thread in self._living_threads():
            mark = ref(thread)
            if mark in self._known or thread in own:
                continue
            created, owner = threads.of(thread)
            yield Entry(
                "thread",
                thread.name,
                "daemon" if thread.daemon else "alive",
                self._stacks.of_thread(frames.get(thread.ident or 0)),
                created,
                owner,
                None,
                thread.ident or 0,
                mark,
            )

    def _open_executors(self) -> Iterator[Entry]:
        by_design = {
            id(_private.default_executor(loop)) for loop in self._loops.values()
        }
        for ident, executor in self._executors.items():
            mark = ref(executor)
            if ident not in by_design and mark not in self._known:
                name = _private.executor_name(executor)
                yield Entry("executor", name, "open", ident=ident, ref=mark)

    # What loops hold

    def _timers(self, loop: asyncio.AbstractEventLoop) -> Iterator[Entry]:
        pending = _private.timers(loop)
        if pending is None:
            self.notes.append(
                f"{type(loop).__module__} does not tell which timers are pending."
            )
            return
        for handle, callback in pending:
            mark = ref(handle)
            if mark in self._known:
                continue
            yield Entry(
                "timer",
                _name_of(callback),
                f"due in {max(0.0, handle.when() - loop.time()):.3g} s",
                _where(callback),
                ident=id(handle),
                ref=mark,
            )

    def _async_generators(self, holder: object) -> Iterator[Entry]:
        generators = _private.async_generators(holder)
        if generators is None:
            self.notes.append(
                f"{type(holder).__module__} does not tell which async generators are "
                "open."
            )
            return
        for generator in generators:
            mark = ref(generator)
            if generator.ag_frame is not None and mark not in self._known:
                yield Entry(
                    "asyncgen",
                    generator.__qualname__,
                    "running" if generator.ag_running else "suspended",
                    self._stacks.of(generator),
                    ident=id(generator),
                    ref=mark,
                )

    def _processes(self) -> Iterator[Entry]:
        pids = children()
        if pids is None:
            self.notes.append("This system does not tell which child processes live.")
            return
        for pid in pids:
            if _pid(pid) in self._known:
                continue
            state = "ended, and not waited for" if is_zombie(pid) else "running"
            yield Entry("process", command_of(pid) or str(pid), state, ident=pid)


def _trio_tasks(runner: Any) -> Iterator[tuple[Any, bool]]:
    """Yield all tasks of a runner of trio, and whether each is cancelled."""
    root = _private.trio_root(runner)
    waiting: list[tuple[Any, bool]] = [] if root is None else [(root, False)]
    while waiting:
        task, cancelled = waiting.pop()
        for nursery in task.child_nurseries:
            scope = nursery.cancel_scope
            ends = scope.cancel_called or (cancelled and not scope.shield)
            waiting += [(child, ends) for child in nursery.child_tasks]
        yield task, cancelled


def mark_of(entry: Entry) -> object:
    """Return by what an entry is known again; see :meth:`Census.marks`."""
    return _pid(entry.ident) if entry.kind == "process" else entry.ref


def _pid(pid: int) -> object:
    return ("process", pid)


def _name_of(callback: Any) -> str:
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__


def _where(callback: Any) -> Stack:
    """Return the function that is called, as the only call of a stack."""
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    return NOWHERE if code is None else Stack([RawFrame(code, code.co_firstlineno)])
