"""Workers that each take many jobs: the engine under FanOut and ErrGroup.

A task of its own for every small job costs many times what the job costs. A crew
starts a worker only when a job waits while others could run, and gives a worker
that has finished one job the next. What a job may not notice is that it shares a
task: it runs in its own contextvars, fails with its own traceback, and whatever
it leaves behind in the task retires the worker.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context as ContextVars
from types import FrameType
from typing import Any, Protocol, final

import anyio
from anyio.lowlevel import checkpoint

from safeconc._loop import BUDGET
from safeconc._siblings import Siblings

MAX_IDLE = 64
"""Workers that stay parked; one more that finds nothing to do ends."""

Key = Any
Job = tuple[ContextVars, Coroutine[Any, Any, Any], Key]


class Source(Protocol):
    """Where a crew's jobs come from, and where their results go."""

    def jobs(self, worker: "Worker") -> Iterator[Job]:
        """Yield jobs for *worker*, each one started at once; stop when none is left."""

    def has_jobs(self) -> bool:
        """Tell whether :meth:`jobs` might yield one now."""

    def failed(self, key: Key, error: BaseException) -> None:
        """Take the error of a job."""

    def cancelled(self, key: Key) -> None:
        """Learn that a job was cancelled, by somebody who may."""


class Results(Protocol):
    """Takes results: a list does, and a dict."""

    def __setitem__(self, key: Key, value: Any, /) -> None: ...


@final
class JobDriver:
    """Steps a job's coroutine inside the job's own contextvars.

    A worker awaits its driver, and the driver stands in for the coroutine: what
    the loop sends or throws goes to :attr:`coroutine`, step by step, through
    ``Context.run``. It is no generator, so a thrown error reaches the job outside
    of any ``except`` of ours and gets no ``__context__`` from us.

    Whoever walks a stack of awaits goes on through :attr:`cr_frame` and
    :attr:`cr_await`, which are those of the job: asyncio's call graph and trio's
    ``iter_await_frames`` see through a driver as if it were not there.
    """

    __slots__ = ("_first", "_run", "_send", "_started", "coroutine")

    coroutine: Coroutine[Any, Any, Any]
    """The coroutine of the job at hand."""

    def resume(
        self, variables: ContextVars, coroutine: Coroutine[Any, Any, Any], first: object
    ) -> "JobDriver":
        """Go on with a coroutine that has made its first step and yielded *first*."""
        self.coroutine = coroutine
        self._run: Callable[..., Any] = variables.run
        self._send = coroutine.send
        self._first = first
        self._started = False
        return self

    def __await__(self) -> "JobDriver":
        return self

    def __iter__(self) -> "JobDriver":
        return self

    def __next__(self) -> object:
        if self._started:
            return self._run(self._send, None)
        self._started = True
        return self._first

    def send(self, value: object) -> object:
        """Resume the job with *value*."""
        return self._run(self._send, value)

    def throw(self, *exc: Any) -> object:
        """Raise an exception inside the job."""
        return self._run(self.coroutine.throw, *exc)

    def close(self) -> None:
        """End the job where it stands."""
        self._run(self.coroutine.close)

    def forget(self) -> None:
        """Keep nothing of the last job alive."""
        self._run = self._send = self._first = self.coroutine = None

    @property
    def cr_frame(self) -> FrameType | None:
        """The job's outermost frame."""
        return self.coroutine.cr_frame  # type: ignore[attr-defined, no-any-return]

    @property
    def cr_await(self) -> object:
        """What the job's outermost frame awaits."""
        return self.coroutine.cr_await  # type: ignore[attr-defined, no-any-return]


@final
class Worker:
    """One task of a crew."""

    __slots__ = ("cancel", "driver", "job", "retires")

    def __init__(self) -> None:
        self.driver = JobDriver()
        self.job: Key = None
        self.retires = False
        self.cancel: Callable[[], None]


@final
class Crew:
    """The workers of one block.

    It is owned by the block whose task group it works in, and over with it.

    :param limit: how many workers there may be; None for no bound.
    """

    def __init__(
        self, siblings: Siblings, source: Source, results: Results, limit: int | None
    ) -> None:
        self._siblings = siblings
        self._source = source
        self.results = results
        self._limit = limit
        self._workers: dict[object, Worker] = {}
        self._idle: list[anyio.Event] = []
        self._live = 0
        self._coming = False
        self._closed = False

    def call(self) -> None:
        """Have one more worker look for jobs: a parked one, else a new one."""
        if self._coming or self._closed:
            return
        if self._idle:
            self._coming = True
            self._idle.pop().set()
        elif self._limit is None or self._live < self._limit:
            self._coming = True
            self._live += 1
            worker = Worker()
            handle = self._siblings.tasks.create_task(
                self._work(worker), name=f"{self._siblings.name}: worker"
            )
            worker.cancel = handle.cancel

    def close(self) -> None:
        """Let the workers go home; nothing more will come."""
        self._closed = True
        for worker in self._workers.values():
            worker.retires = True
        for bell in self._idle:
            bell.set()
        self._idle.clear()

    def current(self) -> Worker | None:
        """Return the worker that is the calling task, if one is."""
        return self._workers.get(self._siblings.loop.current_task())

    async def _work(self, worker: Worker) -> None:
        task = self._siblings.loop.current_task()
        self._workers[task] = worker
        worker.retires = self._closed
        self._coming = False
        try:
            while not worker.retires:
                await self._take_jobs(worker, getattr(task, "cancelling", _never))
                if not worker.retires:
                    await self._park(worker)
        except self._siblings.cancelled_class as exc:
            # One that was meant for an earlier job, sent by somebody who kept its
            # task, ends this worker and nothing else.
            if self._siblings.is_cancellation(exc):
                raise
        finally:
            del self._workers[task]
            self._live -= 1
            if not self._closed and self._source.has_jobs():
                self.call()

    async def _take_jobs(self, worker: Worker, cancelling: Callable[[], int]) -> None:
        """Run jobs until there are none, or until one spoils the task.

        This is the hot loop of the library: a job that never waits costs one copy
        of the contextvars and one step, no task and no turn of the event loop.
        """
        loop, context = self._siblings.loop, self._siblings.context
        results, driver = self.results, worker.driver
        for variables, coroutine, key in self._source.jobs(worker):
            try:
                first = variables.run(coroutine.send, None)
            except StopIteration as stop:
                results[key] = stop.value
            except BaseException as exc:
                if self._fail(worker, key, exc):
                    raise
            else:
                if self._source.has_jobs():
                    self.call()
                try:
                    value = await driver.resume(variables, coroutine, first)
                except BaseException as exc:
                    if self._fail(worker, key, exc):
                        raise
                else:
                    results[key] = value
            if worker.retires or cancelling() or context._end is not None:
                worker.retires = True
                return
            loop.left -= 1
            if loop.left <= 0:
                loop.left = BUDGET
                await checkpoint()

    def _fail(self, worker: Worker, key: Key, exc: BaseException) -> bool:
        """Hand on how a job failed; True if the worker must raise it, too."""
        worker.retires = True
        error = self._siblings.verdict(exc)
        if error is None:
            self._source.cancelled(key)
            return True
        self._source.failed(key, error)
        return isinstance(exc, (KeyboardInterrupt, SystemExit))

    async def _park(self, worker: Worker) -> None:
        """Wait to be called, unless there are enough who do."""
        worker.driver.forget()
        if self._source.has_jobs():
            return
        if len(self._idle) >= MAX_IDLE:
            worker.retires = True
            return
        bell = anyio.Event()
        self._idle.append(bell)
        try:
            await bell.wait()
        finally:
            if bell in self._idle:
                self._idle.remove(bell)
            else:
                self._coming = False


def _never() -> int:
    return 0
