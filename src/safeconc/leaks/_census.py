"""Everything that is alive in this process, one by one."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from threading import Thread, get_ident
from types import FrameType
from typing import Any, TypeAlias, TypeVar, final
from weakref import ref

from safeconc._frames import can_walk
from safeconc.leaks import _private
from safeconc.leaks._ask import ask
from safeconc.leaks._blocks import Blocks
from safeconc.leaks._crowd import Crowd, Crowds
from safeconc.leaks._model import NOWHERE, Entry, RawFrame, Snapshot, Stack
from safeconc.leaks._origins import threads
from safeconc.leaks._own import own
from safeconc.leaks._processes import children, command_of, is_zombie
from safeconc.leaks._stacks import Stacks, held_generators, with_callers
from safeconc.leaks._tasks import Mark, Tasks
from safeconc.leaks._whereabouts import Whereabouts

AT_A_TIME = 128
"""Tasks that are looked at in one go, where somebody takes entry by entry."""

T = TypeVar("T")

_Look: TypeAlias = Callable[[Iterable[Mark]], Iterable[Crowd]]


def snapshot() -> Snapshot:
    """Take a census: all that is alive now, whoever made it.

    It sees the tasks of asyncio and trio in every thread whose loop runs Python code
    that can be recognised, and threads, timers, async generators, executors, child
    processes, and blocks of ours that nobody can leave any more. What it cannot see it
    says in :attr:`Snapshot.notes`.
    """
    census = Census()
    entries = Crowds(census.crowds())
    return Snapshot(entries, time.time(), tuple(census.notes))


@final
class Census:
    """One look around, to be taken once: entry by entry, or in crowds.

    :param known: marks of what is of no interest, see :meth:`marks`, where one asks
        what is left at an end; None where one just looks.
    :param loops: loops of asyncio to look at though they do not run now.
    """

    def __init__(
        self,
        known: AbstractSet[object] | None = None,
        loops: Iterable[asyncio.AbstractEventLoop] = (),
    ) -> None:
        self.notes: list[str] = []
        """What could not be seen, once all has been."""

        self._known = known or frozenset()
        self._at_end = known is not None
        self._stacks = Stacks()
        self._threads = Whereabouts(self._stacks)
        self._blocks = Blocks(self._stacks)
        self._tasks = Tasks(self._stacks, self._threads.frames, self._blocks.made)
        self._loops = dict.fromkeys(loops, 0)
        self._trios: dict[int, Any] = {}
        self._executors: dict[int, Executor] = {}
        self._workers: dict[int, int] = {}  # a thread of each executor
        self._here: asyncio.AbstractEventLoop | None = None
        self._silent: set[asyncio.AbstractEventLoop] = set()

    def marks(self) -> set[object]:
        """Return by what all that is alive now is known again, at little cost.

        A mark keeps nothing alive, and no later thing has the same.
        """
        self._scan()
        marks: set[object] = {*self._asyncio_marks()}
        for loop in self._loops:
            marks.update(ref(timer.handle) for timer in _private.timers(loop) or ())
        for runner in self._trios.values():
            marks.update(map(ref, _private.trio_tasks(runner) or ()))
        marks |= self.generators()
        for thread in self._living_threads():
            if not _private.is_idle(self._threads.places(thread.ident or 0)):
                marks.add(ref(thread))
        marks.update(map(ref, self._executors.values()))
        marks |= self._blocks.marks()
        marks.update(map(_pid, children() or ()))
        self._threads.forget()
        return marks

    def __iter__(self) -> Iterator[Entry]:
        """Yield all that is alive. Tasks are looked at some at a time, when due."""
        self._scan()
        for look, marks in self._marked_tasks():
            waiting = iter(marks)
            while some := list(islice(waiting, AT_A_TIME)):
                for crowd in look(some):
                    yield from crowd
        yield from self._others()

    def crowds(self) -> Iterator[Sequence[Entry]]:
        """Yield the same, those tasks together that are alike."""
        self._scan()
        for look, marks in self._marked_tasks():
            yield from look(marks)
        yield tuple(self._others())

    def of_loops(self) -> Iterator[Entry]:
        """Yield what the loops hold of which one was told, and nothing else."""
        tasks = {ref(task) for loop in self._loops for task in asyncio.all_tasks(loop)}
        for crowd in self._tasks.asyncio(tasks - self._known):
            yield from crowd
        for loop in self._loops:
            yield from self._timers(loop)
            yield from self._async_generators(loop)

    def of_trio(self) -> Iterator[Entry]:
        """Yield what the run of trio holds that the caller is in, and nothing else."""
        self._scan()
        runner = self._trios.get(get_ident())
        for crowd in self._tasks.trio(self._trio_marks(runner)):
            yield from crowd
        if runner is not None:
            yield from self._async_generators(runner)

    def generators(self) -> set[object]:
        """Return marks of all open async generators, of the loops that were found."""
        holders = (*self._loops, *self._trios.values())
        found = (_private.async_generators(holder) or () for holder in holders)
        marks: set[object] = {ref(each) for some in found for each in some}
        return marks - self._known

    def host_of(self, entry: Entry) -> Thread | None:
        """Return the thread in whose loop a task or timer is, if it runs."""
        ident = self._loops.get(_private.loop_with(entry.ref()), 0)
        threads = threading.enumerate() if ident else ()
        return next((thread for thread in threads if thread.ident == ident), None)

    def _marked_tasks(self) -> Iterator[tuple[_Look, set[Mark]]]:
        """Yield marks of tasks, and by whom to have them looked at."""
        marks = self._asyncio_marks() - self._known
        if can_walk():
            yield self._tasks.asyncio, marks
        else:
            yield from self._parted(marks)
        for runner in self._trios.values():
            yield self._tasks.trio, self._trio_marks(runner)

    def _parted(self, marks: set[Mark]) -> Iterator[tuple[_Look, set[Mark]]]:
        """Yield the same, by loops: each is to look at its own."""
        loops: dict[asyncio.AbstractEventLoop, list[Mark]] = {}
        for mark, task in _alive(marks):
            loops.setdefault(task.get_loop(), []).append(mark)
        for loop, waiting in loops.items():
            look = partial(self._look_at, loop)
            for start in range(0, len(waiting), AT_A_TIME):
                yield look, set(waiting[start : start + AT_A_TIME])

    def _look_at(
        self, loop: asyncio.AbstractEventLoop, marks: Iterable[Mark]
    ) -> Iterable[Crowd]:
        return self._asked(loop, partial(self._tasks.asyncio, marks))

    def _asked(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Iterable[T]]
    ) -> Iterable[T]:
        """Have *work* done where it may be: without the GIL, in the loop's thread."""
        if can_walk() or loop is self._here or not loop.is_running():
            return work()
        found = None if loop in self._silent else ask(loop, work)
        if found is not None:
            return found
        if loop not in self._silent:
            self._silent.add(loop)
            count = len(asyncio.all_tasks(loop))
            self.notes.append(
                f"An event loop in another thread does not answer; its {count} tasks "
                "were not looked at, since without the GIL nobody else may."
            )
        return ()

    def _others(self) -> Iterator[Entry]:
        """Yield what is no task."""
        yield from self._tasks.lost
        yield from self._living()
        self._threads.forget()
        for loop in self._loops:
            yield from self._timers(loop)
            yield from self._asked(loop, partial(self._async_generators, loop))
        for runner in self._trios.values():
            yield from self._async_generators(runner)
        yield from self._open_executors()
        yield from self._blocks.left_open(self._known, at_end=self._at_end)
        yield from self._processes()

    def _scan(self) -> None:
        """Find out what the threads are there for."""
        self._threads.look()
        self._blocks.look()
        for ident, inner in self._threads.frames.items():
            if ident == get_ident() and _is_at_rest():
                continue
            frame: FrameType | None = inner
            while frame is not None:
                if frame.f_code.co_name in _private.RUNNERS:
                    self._recognise(ident, frame)
                frame = frame.f_back
        try:
            self._here = asyncio.get_running_loop()
            self._loops[self._here] = get_ident()
        except RuntimeError:  # none here, or trio's
            pass
        if not can_walk():
            if self._threads.others:
                self.notes.append(
                    "Without the GIL nobody may look into other threads: runs of trio "
                    "there are not seen, nor are loops that have no task."
                )
            for loop in _private.running_loops():
                self._loops[loop] = _private.thread_of(loop)

    def _recognise(self, ident: int, frame: FrameType) -> None:
        if (loop := _private.loop_of(frame)) is not None:
            self._loops[loop] = ident
        elif (runner := _private.trio_run_of(frame)) is not None:
            self._trios[ident] = runner

    # Tasks

    def _asyncio_marks(self) -> set[Mark]:
        marks = _private.asyncio_marks()
        if marks is not None:
            return marks
        tasks = (task for loop in self._loops for task in asyncio.all_tasks(loop))
        return set(map(ref, tasks))

    def _trio_marks(self, runner: Any) -> set[Mark]:
        tasks = _private.trio_tasks(runner)
        if tasks is None:
            self.notes.append("The tasks of a trio program could not be found.")
            return set()
        return set(map(ref, tasks)) - self._known

    # Threads, and who works with them

    def _living_threads(self) -> Iterator[Thread]:
        for thread in threading.enumerate():
            if (executor := _private.executor_of(thread)) is not None:
                self._executors[id(executor)] = executor
                self._workers[id(executor)] = thread.ident or 0
            yield thread

    def _living(self) -> Iterator[Entry]:
        for thread in self._living_threads():
            mark = ref(thread)
            if mark in self._known or thread in own:
                continue
            ident = thread.ident or 0
            created, owner = threads.of(thread)
            if _private.is_pooled(self._threads.places(ident)):
                # Of a pool it serves many, and was made for the first of them.
                created, owner = NOWHERE, None
            created = with_callers(self._blocks.made.get(mark), created)
            yield Entry(
                "thread",
                thread.name,
                "daemon" if thread.daemon else "alive",
                self._threads.stack(ident),
                created,
                owner,
                None,
                ident,
                mark,
            )

    def _open_executors(self) -> Iterator[Entry]:
        by_design = {id(_private.default_executor(loop)) for loop in self._loops}
        living = {thread.ident: thread for thread in threading.enumerate()}
        for ident, executor in self._executors.items():
            mark = ref(executor)
            if ident not in by_design and mark not in self._known:
                name = _private.executor_name(executor)
                # Nobody notes where one is made, but where a thread of it is.
                worker = living.get(self._workers[ident])
                created, owner = threads.of(worker) if worker else (NOWHERE, None)
                yield Entry(
                    "executor", name, "open", NOWHERE, created, owner, None, ident, mark
                )

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
        marks = set(map(ref, generators)) - self._known
        # Whoever iterates over one is counted already.
        held = held_generators(self._coroutines(holder)) if marks else ()
        for mark in marks:
            generator = mark()
            if generator is None or generator.ag_frame is None:
                continue
            if id(generator) not in held:
                yield Entry(
                    "asyncgen",
                    generator.__qualname__,
                    "running" if generator.ag_running else "suspended",
                    self._stacks.of(generator),
                    ident=id(generator),
                    ref=mark,
                )

    def _coroutines(self, holder: object) -> Iterator[object]:
        """Yield the coroutines of all tasks of a loop, or of a run of trio."""
        for _, task in _alive(self._asyncio_marks()):
            if task.get_loop() is holder:
                yield task.get_coro()
        for task in _private.trio_tasks(holder) or ():
            yield task.coro

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


def _alive(marks: Iterable[Mark]) -> Iterator[tuple[Mark, asyncio.Task[Any]]]:
    for mark in marks:
        if (task := mark()) is not None:
            yield mark, task


def _is_at_rest() -> bool:
    """Tell whether the main thread is calling, and runs no loop.

    The stack of a test is deep. To ask for hooks, which all loops install, is to know
    without walking over it.
    """
    return (
        sys.get_asyncgen_hooks()[0] is None
        and threading.current_thread() is threading.main_thread()
    )


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
