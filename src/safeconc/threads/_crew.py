"""Threads that each take many jobs: the engine under the primitives for threads.

To start a thread costs many times what a small job costs. So a worker that has done
a job takes the next, or rests until it is called, and goes home when the block ends.
"""

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

    def __init__(
        self, siblings: Siblings, work: Callable[[Worker], object], limit: int | None
    ) -> None:
        self._siblings = siblings
        self._work = work
        self._limit = inf if limit is None else limit
        self._idle: list[Worker] = []
        self._hired = 0
        self.closed = False

    # Under the block's lock

    def hire(self, job: Any = None) -> Worker | None:
        """Have one more worker look for work, or do *job*, if there may be one.

        Return it if it is a new one, which is to be started.
        """
        if self._idle:
            worker = self._idle.pop()
            worker.job = job
            worker.call()
            return None
        if len(self._siblings.workers) >= self._limit:
            return None
        self._hired += 1
        worker = Worker(f"{self._siblings.name}: worker-{self._hired}", self._live)
        worker.job = job
        self._siblings.workers[worker] = None
        return worker

    def wake(self) -> None:
        """Have one idle worker look for work, if there is one."""
        if self._idle:
            self._idle.pop().call()

    def line_up(self, worker: Worker) -> bool:
        """Note that *worker* is going to rest; False if it is to go home."""
        if self.closed:
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
