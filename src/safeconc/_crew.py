"""Workers that each take many jobs: the engine under FanOut and ErrGroup.

A task of its own for every small job costs many times what the job costs. A crew
starts a worker only when a job waits while others could run, and gives a worker
that has finished one job the next. What a job may not notice is that it shares a
task: it runs in its own contextvars, fails with its own traceback, and whatever
it leaves behind in the task retires the worker.
"""

import inspect
import math
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context as ContextVars
from typing import Any, Protocol, final

from anyio.lowlevel import checkpoint

from safeconc._loop import BUDGET, Bell
from safeconc._siblings import Siblings, cancelling_of, raise_fatal

MAX_IDLE = 64
"""Workers that stay parked; one more that finds nothing to do ends."""

Key = Any
Job = tuple[ContextVars, Coroutine[Any, Any, Any], Key]


class Source(Protocol):
    """Where a crew's jobs come from, and where their results go."""

    def jobs(self, worker: "Worker") -> Iterator[Job]:
        """Yield jobs for *worker*, each one started at once; stop when none is left."""
        ...

    def has_jobs(self) -> bool:
        """Tell whether :meth:`jobs` might yield one now."""
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


_NEXT = object()
"""What a driver's runner yields when it wants its next job."""


@types.coroutine
def _receive() -> Generator[object, Coroutine[Any, Any, Any], Coroutine[Any, Any, Any]]:
    return (yield _NEXT)


@final
class JobDriver:
    """Steps jobs through their own contextvars, inside a task that is not theirs.

    The jobs are awaited, one after the other, by a coroutine of the driver's own,
    the runner; the driver steps the runner through the ``Context.run`` of the job
    at hand. So a job that never waits costs one such step and no exception, and
    one that waits is stepped like any coroutine.

    Whoever walks a stack of awaits finds a generator, :meth:`drive`, in whose
    frame ``self`` is the driver, and goes on at :attr:`coroutine`; see
    :func:`driven`.
    """

    __slots__ = ("coroutine", "error", "send", "value")

    coroutine: Coroutine[Any, Any, Any]
    """The runner. What it awaits is the job at hand."""

    error: BaseException | None
    """What the last job raised."""

    value: Any
    """What the last job returned."""

    def __init__(self) -> None:
        self.error = self.value = None
        self.coroutine = self._run_jobs()
        self.send: Callable[[Any], object] = self.coroutine.send
        self.send(None)

    async def _run_jobs(self) -> None:
        job = await _receive()
        while True:
            try:
                self.value = await job
            except BaseException as exc:  # noqa: BLE001 - the worker decides about it
                self.error = exc
            del job
            job = await _receive()

    @types.coroutine
    def drive(
        self, run: Callable[..., Any], step: object
    ) -> Generator[object, Any, None]:
        """Go on with a job that has yielded *step*, until it has ended."""
        send = self.send
        while step is not _NEXT:
            try:
                sent = yield step
            except BaseException as exc:  # noqa: BLE001 - thrown on below
                thrown = exc
            else:
                step = run(send, sent)
                continue
            # Out of the except clause, else the job's later errors would carry
            # this one as their context; and without the entry for this frame.
            traceback = thrown.__traceback__
            thrown.__traceback__ = traceback.tb_next if traceback else None
            del traceback
            try:
                step = run(self.coroutine.throw, thrown)
            finally:
                del thrown

    def forget(self) -> None:
        """Keep nothing of the last job alive."""
        self.error = self.value = None

    def close(self) -> None:
        """End the runner."""
        self.coroutine.close()


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

    __slots__ = ("cancelled", "driver", "job", "retires", "stop")

    stop: Callable[[], None]
    """Cancels the task."""

    def __init__(self) -> None:
        self.driver = JobDriver()
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

    def __init__(
        self, siblings: Siblings, source: Source, results: Results, limit: int | None
    ) -> None:
        self._siblings = siblings
        self._source = source
        self.results = results
        self._limit = math.inf if limit is None else limit
        self._workers: dict[object, Worker] = {}
        self._idle: list[Bell] = []
        self._live = 0
        self._coming = False
        self._closed = False

    def call(self) -> None:
        """Have one more worker look for jobs: a parked one, else a new one."""
        if self._coming or self._closed:
            return
        if self._idle:
            self._coming = True
            self._idle.pop().ring()
        elif self._live < self._limit:
            self._coming = True
            self._live += 1
            worker = Worker()
            handle = self._siblings.tasks.create_task(
                self._work(worker),
                name=f"{self._siblings.name}: worker",
                # Not the contextvars of the job that happens to make it.
                context=self.variables,
            )
            worker.stop = handle.cancel

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

    @property
    def lost(self) -> bool:
        """Whether a worker was called and never came: cancelled before it began."""
        return self._coming

    def current(self) -> Worker | None:
        """Return the worker that is the calling task, if one is."""
        return self._workers.get(self._siblings.loop.current_task())

    async def _work(self, worker: Worker) -> None:
        task = self._siblings.loop.current_task()
        self._workers[task] = worker
        worker.retires = self._closed
        self._coming = False
        try:
            await self._take_jobs(worker, cancelling_of(task))
        except self._siblings.cancelled_class as exc:
            # One that nobody asked for was meant for an earlier job, sent by somebody
            # who kept its task; it ends this worker and nothing else.
            if self._siblings.verdict(exc, own=worker.cancelled) is None:
                raise
        finally:
            worker.driver.close()
            del self._workers[task]
            self._live -= 1
            if not self._closed and self._source.has_jobs():
                self.call()
        await self._siblings.shed(task)

    async def _take_jobs(self, worker: Worker, cancelling: Callable[[], int]) -> None:
        """Run jobs and wait for more, until the crew closes or a job spoils the task.

        This is the hot loop of the library: a job that never waits costs one copy
        of the contextvars and one step, no task and no turn of the event loop.
        """
        loop, context = self._siblings.loop, self._siblings.context
        source, results, driver = self._source, self.results, worker.driver
        send = driver.send
        while True:
            for variables, coroutine, key in source.jobs(worker):
                step = variables.run(send, coroutine)
                if step is _NEXT:
                    loop.left -= 1
                else:
                    if (self._live < self._limit or self._idle) and source.has_jobs():
                        self.call()
                    await driver.drive(variables.run, step)
                if driver.error is None:
                    results[key] = driver.value
                else:
                    self._fail(worker, key, driver.error)
                if worker.retires or cancelling() or context._end is not None:
                    return
                if loop.left <= 0:
                    loop.left = BUDGET
                    await checkpoint()
            await self._park(worker)
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
        worker.driver.forget()
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
                self._coming = False
