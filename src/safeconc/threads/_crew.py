"""Threads that each take many jobs: the engine under the primitives for threads.

To start a thread costs many times what a small job costs. So a worker that has done
a job takes the next, or rests until it is called, and goes home when the block ends.
"""

from collections import deque
from collections.abc import Callable
from contextvars import Context as ContextVars
from math import inf
from typing import Any, final

from safeconc.threads._siblings import Siblings
from safeconc.threads._worker import Worker


@final
class Crew:
    """The workers of one block.

    Whoever has work calls :meth:`hire` under the block's lock, and :meth:`start` after
    it for the worker that this returns, if any: a thread is not started under a lock.

    :param work: what a worker does: jobs, and :meth:`rest` in between, until that
        returns False.
    :param limit: how many workers there may be; None for no bound.
    """

    variables: ContextVars
    """The contextvars of the workers themselves, set when the block is opened."""

    parting: bool
    """Whether a worker that is free goes home, as no more work is expected. Some may
    come nevertheless, and then they rest again."""

    closed: bool
    """Whether all go home."""

    def __init__(
        self, siblings: Siblings, work: Callable[[Worker], object], limit: int | None
    ) -> None:
        self._siblings = siblings
        self._work = work
        self._limit = inf if limit is None else limit
        self._idle: list[Worker] = []
        self._coming: Worker | None = None
        self._handed: deque[Any] = deque()  # never more than who is idle, or coming
        self._hired = 0
        self.parting = False
        self.closed = False

    # Under the block's lock

    def hire(self) -> Worker | None:
        """Have one more worker look for work, if there may be one.

        Return it if it is a new one, which is to be started.
        """
        if self._idle:
            self.wake()
            return None
        if len(self._siblings.workers) >= self._limit:
            return None
        return self._recruit()

    def hand(self, job: Any) -> Worker | None:
        """Have *job* done, by whoever is free first; likewise.

        Only one idle worker is on its way at a time. That one calls the next before it
        begins, if jobs are left then: mostly those that were at work have done them.
        """
        self.parting = False
        if len(self._handed) < len(self._idle) + (self._coming is not None):
            self._handed.append(job)
            self._call_one()
            return None
        return self._recruit(job)

    def seek(self, worker: Worker) -> bool:
        """Give *worker* the next job that was handed over; True if it is to rest."""
        if worker is self._coming:
            self._coming = None
        if not self._handed:
            return self.line_up(worker)
        worker.job = self._handed.popleft()
        if self._handed:
            self._call_one()
        return False

    def pass_on(self, job: Any) -> None:
        """Hand over *job* where a worker is about to seek one."""
        self._handed.append(job)

    def wake(self) -> None:
        """Have one idle worker look for work, if there is one."""
        if self._idle:
            self._idle.pop().call()

    def line_up(self, worker: Worker) -> bool:
        """Note that *worker* is going to rest; False if it is to go home."""
        if self.closed or self.parting:
            return False
        worker.doing = worker.job = None
        worker.called = False
        self._idle.append(worker)
        return True

    def close(self) -> None:
        """Let the workers go home; nothing more will come."""
        self.closed = True
        # Not only the idle ones: a Ctrl-C may have come between the choice of one
        # and its call.
        for worker in self._siblings.workers:
            worker.call()
        self._idle.clear()

    def _call_one(self) -> None:
        """Have a worker on its way, if one is left."""
        if self._coming is None and self._idle:
            self._coming = self._idle.pop()
        # Once more for each job: a Ctrl-C may have cut the first call short.
        if self._coming is not None:
            self._coming.call()

    def _recruit(self, job: Any = None) -> Worker:
        self._hired += 1
        worker = Worker(f"{self._siblings.name}: worker-{self._hired}", self._live)
        worker.job = job
        self._siblings.workers[worker] = None
        return worker

    # Without it

    def start(self, worker: Worker, undo: Callable[[], object]) -> None:
        """Start a new worker.

        Raises :exc:`RuntimeError` where the system gives no more threads.

        :param undo: called, under the lock, if the worker will never work: its job is
            the caller's again.
        """
        try:
            worker.thread.start()
        except BaseException as exc:
            others = self.take_back(worker, undo)
            if others is not None and isinstance(exc, Exception):
                exc.add_note(f"{self._siblings.label} had {others} threads already")
            raise

    def take_back(
        self, worker: Worker | None, undo: Callable[[], object]
    ) -> int | None:
        """Have a new worker never work; return how many others there are.

        A Ctrl-C may come before its start, in it, or after it. None if it works
        already, or was taken back, or if there is none.
        """
        if worker is None or not worker.prevent():
            return None
        siblings = self._siblings
        with siblings.lock:
            if worker not in siblings.workers:
                return None
            del siblings.workers[worker]
            undo()
            others = len(siblings.workers)
        siblings.look()
        return others

    def _live(self, worker: Worker) -> None:
        siblings = self._siblings
        try:
            self.variables.copy().run(self._work, worker)
        except BaseException as exc:  # noqa: BLE001 - the block's error
            siblings.fail(exc)
        finally:
            worker.doing = None
            siblings.leave(worker)
