"""Workers that each take many jobs: the engine under FanOut and ErrGroup.

A task of its own for every small job costs many times what the job costs. A crew
starts a worker only when a job waits while others could run, and gives a worker
that has finished one job the next. What a job may not notice is that it shares a
task: it runs in its own contextvars, fails with its own traceback, and whatever
it leaves behind in the task retires the worker.
"""

import inspect
import math
import sysconfig
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context as ContextVars
from contextvars import ContextVar, copy_context
from gc import get_referents
from typing import Any, Protocol, final

import anyio
from anyio.lowlevel import checkpoint

from safeconc._block import Members
from safeconc._loop import BUDGET, Bell
from safeconc._siblings import Siblings, cancelling_of, raise_fatal

AT_ONCE = 2
"""Workers under way to their first job, at most, before one of them is there."""

MAX_IDLE = 64
"""Workers that stay parked; one more that finds nothing to do ends."""

Key = Any
Job = tuple[ContextVars | None, Awaitable[Any], Key]
"""The contextvars to run in, or None for a copy of the crew's own; what to await; and
the key of its result."""


class Source(Protocol):
    """Where a crew's jobs come from, and where their results go."""

    def jobs(self, worker: "Worker") -> Iterator[Job]:
        """Yield jobs for *worker*, each one started at once; stop when none is left."""
        ...

    def has_jobs(self) -> int:
        """Tell how many jobs :meth:`jobs` might yield now: 0 if none, else a guess."""
        ...

    def failed(self, key: Key, error: BaseException) -> None:
        """Take the error of a job."""
        ...

    def cancelled(self, key: Key) -> None:
        """Learn that a job was cancelled, by somebody who may."""
        ...


class Results(Protocol):
    """Takes results: a list does, and a dict."""

    def __setitem__(self, key: Key, value: Any, /) -> None: ...


_NONE: Any = None

_SWITCH = object()
"""What a driven coroutine yields to go on in other contextvars."""


@types.coroutine
def _switch() -> Generator[object, Any, None]:
    yield _SWITCH


def _mapping(variables: ContextVars) -> object:
    """Return what *variables* maps to what: an immutable object, a new one at each set.

    To compare two contexts instead compares their values, and ``1 == True``: what a
    job has set to something equal would pass for untouched.
    """
    return get_referents(variables)[-1]


def _can_tell() -> bool:
    """Find out whether :func:`_mapping` works here; PyPy keeps contexts otherwise."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False  # it does, but stops all threads for it
    probe: ContextVar[int] = ContextVar("probe")
    variables = copy_context()
    before = _mapping(variables)
    untouched = variables.run(_mapping, variables) is before
    variables.run(probe.set, 1)
    return untouched and _mapping(variables) is not before


def _untold(_: ContextVars) -> list[object]:
    """Stand in for ``get_referents`` where it does not serve: nothing is untouched."""
    return [object()]


referents: Callable[[ContextVars], list[Any]] = (
    get_referents if _can_tell() else _untold
)
"""What *variables* refers to; the last one is what it maps to what."""


@final
class JobDriver:
    """Steps a worker through contextvars that change from job to job.

    A task runs in one set of contextvars all its life. So a worker's own coroutine
    is not what its task awaits: the driver stands in between, and takes each step
    of it through ``Context.run``. Between two jobs the worker has the driver
    switch to the next job's contextvars, or to a fresh copy of its own; while a
    job leaves them untouched, no switch is needed and the copy serves the next.

    Whoever walks a stack of awaits finds a generator, :meth:`drive`, in whose
    frame ``self`` is the driver, and goes on at :attr:`coroutine`; see
    :func:`driven`.
    """

    __slots__ = ("_base", "_crew", "coroutine", "mapping", "resting", "variables")

    coroutine: Coroutine[Any, Any, Any]
    """The worker's coroutine. What it awaits is the job at hand."""

    resting: bool
    """Whether it is the worker that waits, not a job."""

    mapping: object
    """What untouched contextvars of the worker's own map."""

    variables: ContextVars
    """The contextvars of the job at hand."""

    def __init__(self, base: ContextVars, crew: "Crew") -> None:
        self._base = base
        self.mapping = referents(base)[-1]
        self._crew = crew
        self.resting = False
        self.variables = base.copy()

    @types.coroutine
    def drive(
        self, coroutine: Coroutine[Any, Any, Any]
    ) -> Generator[object, Any, None]:
        """Await *coroutine*, a worker's."""
        self.coroutine = coroutine
        crew = self._crew
        send: Any = coroutine.send
        step = send
        sent: Any = None
        while True:
            crew.stepping = True
            try:
                waits_for = self.variables.run(step, sent)
            except StopIteration:
                return
            finally:
                crew.stepping = False
                step = send
                sent = None
            if waits_for is _SWITCH:
                continue
            if not self.resting and (crew._idle or crew._live < crew._limit):
                crew.call_more()
            try:
                sent = yield waits_for
            except BaseException as exc:  # noqa: BLE001 - thrown on, see below
                # Out of this clause, else the job's later errors would carry this
                # one as their context; and without the entry for this frame.
                traceback = exc.__traceback__
                sent = exc.with_traceback(traceback.tb_next if traceback else None)
                step = coroutine.throw
                del traceback

    def switch(self, variables: ContextVars | None = None) -> Awaitable[None]:
        """Go on in *variables*; in a fresh copy of the worker's own if None."""
        self.variables = self._base.copy() if variables is None else variables
        return _switch()


def driven(awaited: object) -> Coroutine[Any, Any, Any] | None:
    """Return what a driver steps, if *awaited* is one at work: a step of a stack walk.

    *awaited* is a ``cr_await``; the walk goes on at the coroutine returned.
    """
    if isinstance(awaited, types.GeneratorType) and awaited.gi_code is _DRIVE:
        frame = awaited.gi_frame
        if frame is not None:
            driver: JobDriver = frame.f_locals["self"]
            return driver.coroutine
    return None


_DRIVE = inspect.unwrap(JobDriver.drive).__code__


@final
class Worker:
    """One task of a crew."""

    __slots__ = ("cancelled", "job", "retires", "stop")

    stop: Callable[[], None]
    """Cancels the task."""

    def __init__(self) -> None:
        self.job: Key = None
        self.retires = False
        self.cancelled = False

    def cancel(self) -> None:
        """Cancel the job at hand. It may finish all the same, the worker is spoiled."""
        self.retires = self.cancelled = True
        self.stop()


@final
class Crew:
    """The workers of one block.

    It is owned by the block whose task group it works in, and over with it.

    :param limit: how many workers there may be; None for no bound.
    """

    variables: ContextVars
    """The contextvars of the workers themselves, set when the block is opened."""

    stepping: bool
    """Whether the code that runs now is a worker's, or its job's."""

    def __init__(
        self, siblings: Siblings, source: Source, results: Results, limit: int | None
    ) -> None:
        self._siblings = siblings
        self._source = source
        self.results = results
        self._limit = math.inf if limit is None else limit
        self._workers: dict[object, Worker] = {}
        self._idle: list[Bell] = []
        self._unstarted: dict[Worker, anyio.TaskHandle[None]] = {}
        self._live = 0
        self._coming = 0
        self._closed = False
        self.stepping = False

    def call(self) -> None:
        """There is a job: have a worker look for it, unless one is on its way."""
        if not self._coming and not self._closed:
            self._call()

    def _call(self) -> None:
        """Have one more worker look for jobs: a parked one, else a new one."""
        if self._idle:
            self._coming += 1
            self._idle.pop().ring()
        elif self._live < self._limit:
            self._coming += 1
            self._live += 1
            worker = Worker()
            handle = self._siblings.tasks.create_task(
                self._work(worker),
                name=f"{self._siblings.name}: worker",
                # Not the contextvars of the job that happens to make it.
                context=self.variables,
            )
            worker.stop = handle.cancel
            self._unstarted[worker] = handle

    def call_more(self) -> None:
        """Have other jobs run while one waits, if there are any.

        Two at a time, so that a crew that is needed as a whole is there after a few
        turns of the loop, and one that is not stays small.
        """
        while (
            self._coming < AT_ONCE
            and (self._idle or self._live < self._limit)
            and not self._closed
            and self._source.has_jobs() > self._coming
        ):
            self._call()

    def close(self) -> None:
        """Let the workers go home; nothing more will come."""
        self._closed = True
        for worker in self._workers.values():
            worker.retires = True
        for bell in self._idle:
            bell.ring()
        self._idle.clear()

    def disband(self) -> None:
        """Keep nothing of the owner alive; the block has been left."""
        del self._source, self.results

    def find_lost(self) -> bool:
        """Tell whether a worker's task was cancelled before it began."""
        lost = bool(self._unstarted)
        while self._unstarted:
            _, handle = self._unstarted.popitem()
            handle.coro.close()
        return lost

    def jobs(self) -> list[Key]:
        """Return the jobs under way, for those sources that note them."""
        return [worker.job for worker in self._workers.values()]

    def at_work(self) -> Iterator[tuple[object, Key]]:
        """Yield the tasks of those that are at a job, and the job."""
        for task, worker in self._workers.copy().items():
            if (job := worker.job) is not None:
                yield task, job

    def members(self) -> Members:
        """Yield all, where the block itself has asked for them."""
        made = self._siblings.made
        return ((task, made) for task in self._workers.copy())

    def current(self) -> Worker | None:
        """Return the worker that is the calling task, if one is."""
        return self._workers.get(self._siblings.loop.current_task())

    async def _work(self, worker: Worker) -> None:
        task = self._siblings.loop.current_task()
        del self._unstarted[worker]
        self._workers[task] = worker
        worker.retires = self._closed
        self._coming -= 1
        driver = JobDriver(self.variables, self)
        try:
            if not worker.retires:
                jobs = self._take_jobs(worker, driver, cancelling_of(task))
                await driver.drive(jobs)
        except self._siblings.cancelled_class as exc:
            # One that nobody asked for was meant for an earlier job, sent by somebody
            # who kept its task; it ends this worker and nothing else.
            if self._siblings.verdict(exc, own=worker.cancelled) is None:
                raise
        finally:
            del self._workers[task]
            self._live -= 1
            self.call_more()
        await self._siblings.shed(task)

    async def _take_jobs(
        self, worker: Worker, driver: JobDriver, cancelling: Callable[[], int]
    ) -> None:
        """Run jobs and wait for more, until the crew closes or a job spoils the task.

        This is the hot loop of the library: a job that never waits costs one plain
        await and a look at its contextvars, no task and no turn of the event loop.
        """
        loop, context = self._siblings.loop, self._siblings.context
        source, results = self._source, self.results
        mapping = driver.mapping
        while True:
            for variables, job, key in source.jobs(worker):
                if variables is not None and referents(variables)[-1] is not mapping:
                    await driver.switch(variables)
                try:
                    value = await job
                except BaseException as exc:  # noqa: BLE001 - all ends are the job's
                    self._fail(worker, key, exc)
                else:
                    if referents(driver.variables)[-1] is not mapping:
                        await driver.switch()
                    results[key] = value
                    value = _NONE
                if worker.retires or cancelling():
                    return
                if context._end is not None:
                    await self._siblings.refuse()
                loop.left -= 1
                if loop.left <= 0:
                    loop.left = BUDGET
                    driver.resting = True
                    await checkpoint()
                    driver.resting = False
            # Whatever the last job left here would be kept while the worker is idle.
            variables = job = key = value = _NONE
            driver.resting = True
            await self._park(worker)
            driver.resting = False
            if worker.retires:
                return

    def _fail(self, worker: Worker, key: Key, exc: BaseException) -> None:
        """Hand on how a job failed, and raise it where it concerns the task, too."""
        worker.retires = True
        error = self._siblings.verdict(exc, own=worker.cancelled)
        if error is None:
            self._source.cancelled(key)
            raise exc
        self._source.failed(key, error)
        raise_fatal(exc)

    async def _park(self, worker: Worker) -> None:
        """Wait to be called, unless there are enough who do."""
        if worker.retires or self._source.has_jobs():
            return
        if len(self._idle) >= MAX_IDLE:
            worker.retires = True
            return
        bell = self._siblings.loop.bell()
        self._idle.append(bell)
        try:
            await bell
        finally:
            if bell in self._idle:
                self._idle.remove(bell)
            else:
                self._coming -= 1
