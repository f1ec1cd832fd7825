"""A block of threads that fail together: what ErrGroup and FanOut have in common.

A thread cannot be stopped: it sees the end of the block's context, or it does not.
So the owner waits until all are over, whatever happens meanwhile, and tells of those
that stay.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self, final

from typing_extensions import override

from safeconc._block import Block, Members, raise_as_it_is
from safeconc._context import (
    ContextCancelled,
    DeadlineExceeded,
    check,
    check_seconds,
)
from safeconc._parker import Parker
from safeconc._policy._failures import Mode
from safeconc._stuck import PATIENCE, is_reported, report
from safeconc.threads._waiter import Waiter, refuse_task
from safeconc.threads._worker import StuckThread, Worker


@final
class StuckThreadsError(RuntimeError):
    """A block gave up threads that ignored its end, and that still run.

    :ivar threads: those threads, and where they were.
    """

    def __init__(
        self, label: str, grace: float, threads: tuple[StuckThread, ...]
    ) -> None:
        count = f"{len(threads)} thread" + "s" * (len(threads) > 1)
        shown = "\n".join(
            f"{each.what} in thread {each.name!r} ({each.ident}), most recent call "
            f"last:\n{each.stack}"
            for each in threads
        )
        super().__init__(
            f"{label} was to end, and after {grace:g} s of grace {count} still ran. "
            "Nothing can stop a thread, so they run on, with no owner. Have the "
            "functions call safeconc.check() in their loops, and give a timeout to "
            f"whatever blocks.\n{shown}"
        )
        self.threads = threads


@final
class Siblings(Block):
    """The members of one block, threads and the block's body.

    :ivar lock: guards what they share. It is held for a few steps, never while a
        thread waits or somebody else's code runs, and nothing that a signal handler
        may call takes it.
    :ivar workers: the threads that have not ended, or are about to be started.
    """

    OPENING: ClassVar[str] = "with"

    def __init__(
        self,
        kind: str,
        name: str | None,
        errors: Mode = "first",
        grace: float | None = None,
    ) -> None:
        super().__init__(kind, name, errors)
        self.grace = inf if grace is None else check_seconds("grace", grace)
        self.lock = Lock()
        self.workers: dict[Worker, None] = {}
        self.is_done = self._is_deserted  # whether there is nothing to wait for
        self.members = self._who_works
        # What else to do when those who are waited for are done; when a worker will
        # never begin, under the lock; when all threads are gone.
        self.dismiss: Callable[[], object] = _nothing
        self.on_lost: Callable[[Worker], object] = _nothing
        self.on_gone: Callable[[], object] = _nothing
        self.cut_short = False
        self.ends_with_body = False  # instead of waiting for the members
        self._is_shut = False
        self._joiner = Parker()
        self._gone: list[Thread] = []
        self._since = 0.0  # when the owner began to wait for those told to end

    def __enter__(self) -> Self:
        """Begin the block in the calling thread."""
        refuse_task()
        self.context.__enter__()
        self.enter(current_thread())
        return self

    # Members

    def check_process(self) -> None:
        """Refuse to start anything in a forked process, which has none of us."""
        if self.is_inherited():
            raise RuntimeError(
                f"{self.label} was left behind in the process that has forked this "
                "one, with its threads; make a new one"
            )

    @override
    def is_cancellation(self, exc: BaseException) -> bool:
        return self.context._explains(exc)

    def fail(self, exc: BaseException) -> None:
        """Take the error of a member; the first one ends the block at once."""
        error = self.without_cancellation(exc)
        if error is None:
            return
        with self.lock:
            first = self.failures.add(error)
        if first:
            self.end(error)

    def end(self, cause: BaseException | None) -> None:
        """Tell all members to end, the body included."""
        try:
            self._tell(cause)
        except BaseException as order:  # noqa: BLE001 - of what was registered, perhaps
            with self.lock:
                self.failures.add(order)
            self._tell(cause)
        self.close()

    def close(self) -> None:
        """Let nothing more start."""
        with self.lock:
            self.shut()
        self.look()

    def look(self) -> None:
        """Have the owner look whether there is something left to wait for."""
        self._joiner.unpark()

    def refuse(self) -> NoReturn:
        """Stop who comes too late: a member by its cancellation, others by an error."""
        check()
        raise self.refusal()

    def wait(
        self,
        waiter: Waiter,
        leave: Callable[[Waiter], object],
        look: Callable[[], object] | None = None,
    ) -> Any:
        """Wait in a line of this block, whose end ends the wait; see :class:`Waiter`.

        Who stands outside of the block is refused by its end.
        """
        try:
            return waiter.wait(self.lock, leave, self.context, look)
        except (ContextCancelled, DeadlineExceeded):
            check()
            raise self.refusal() from None

    def leave(self, worker: Worker) -> None:
        """Take out a worker that has ended."""
        with self.lock:
            self._gone.append(worker.thread)  # first, for the owner looks without it
            del self.workers[worker]
            deserted = self._is_deserted()
        if deserted:
            self.look()

    # The end

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Leave the block: wait for all members, then say how it went.

        An error comes first, then an end that the context's parents caused. What we
        stopped ourselves is quiet.
        """
        if self.is_inherited():
            # The child of a fork has the calling thread only, and perhaps our lock as
            # a thread held it that is not here: there is nothing to wait for.
            self.context.__exit__(None, None, None)
            return False
        if exc is not None and self.without_cancellation(exc) is None:
            self.cut_short = True
        stuck = self._join(exc)
        self.left()
        quiet = self.context.done and self.context._ending is self._quiet
        try:
            self.context.__exit__(None, None, None)
        except BaseException as late:  # noqa: BLE001 - raised below
            self.failures.add(late)
        failure = self._outcome(stuck)
        try:
            if failure is None and self.cut_short and not quiet:
                failure = self.context.err
                assert failure is not None
                if failure is not exc:
                    failure.__traceback__ = None  # of earlier raises
            if failure is None or failure is exc:
                return failure is None and self.cut_short
            raise_as_it_is(failure)
        finally:
            del exc, failure

    def _join(self, exc: BaseException | None) -> tuple[StuckThread, ...]:
        """Wait for the members, through every Ctrl-C; return who would not end.

        :param exc: what the block is to end with.
        """
        while True:
            try:
                if exc is not None:
                    self.fail(exc)
                    if not self.is_cancellation(exc):
                        self.end(exc)  # again, if that was what was interrupted
                elif self.ends_with_body and not self.over:
                    self.end(None)
                self._wind_up()
                stuck = self._outlast()
                self.on_gone()
                return stuck
            except BaseException as late:  # noqa: BLE001 - raised by the block's end
                exc = late

    def _wind_up(self) -> None:
        """Wait until the members are done, or the context has ended."""
        while not self.over:
            # Under the lock, so that we see the last member end, or it sees us wait.
            with self.lock:
                done = self.is_done()
                if done or self.context.done:
                    self.cut_short = self.cut_short or not done
                    self.shut()
            self._joiner.park(self._is_settled, (self.context,))
        self.dismiss()

    def _outlast(self) -> tuple[StuckThread, ...]:
        """Wait until all threads are gone, and report those that stay."""
        for worker in list(self.workers):
            if worker.prevent():  # or its start was interrupted
                self.leave(worker)
                with self.lock:
                    self.on_lost(worker)
        self._since = since = self._since or time.monotonic()
        report_at = time.monotonic()
        give_up = since + self.grace
        while self.workers:
            report_at += PATIENCE
            self._joiner.park(self._is_deserted, (), min(report_at, give_up))
            if self.workers and time.monotonic() >= give_up:
                return tuple(worker.stuck() for worker in self._stubborn())
            if self.workers and is_reported():
                with suppress(Exception):  # a broken handler must not end the wait
                    self._report(time.monotonic() - since)
        for thread in self._gone:
            with suppress(RuntimeError):  # it was never started
                thread.join()
        return ()

    def _report(self, seconds: float) -> None:
        for worker in self._stubborn():
            what = worker.doing or "nothing"
            report(what, self.label, seconds, worker.ident, worker.stack())

    def _stubborn(self) -> list[Worker]:
        """Return the workers that keep the block from being over."""
        workers = list(self.workers)
        # Some may only wait for another one, to take their turn.
        return [worker for worker in workers if worker.doing is not None] or workers

    def _outcome(self, stuck: tuple[StuckThread, ...]) -> BaseException | None:
        failure = self.failures.outcome()
        if not stuck:
            return failure
        error = StuckThreadsError(self.label, self.grace, stuck)
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            failure.add_note(str(error))
            return failure
        error.__cause__ = failure
        return error

    def _tell(self, cause: BaseException | None) -> None:
        """End the context, or do what a Ctrl-C has kept another call from doing."""
        if not self._finish(cause):
            self.context._tell(self.context._ending)

    def shut(self) -> None:
        """Do so; under the lock. Again, if a Ctrl-C has cut that short."""
        if not self._is_shut:
            self.over = True
            self.on_over()
            self._is_shut = True

    def _is_settled(self) -> bool:
        return self.over or self.is_done()

    def _who_works(self) -> Members:
        return ((worker.thread, self.made) for worker in self.workers.copy())

    def _is_deserted(self) -> bool:
        return not self.workers


def _nothing(*_: object) -> None:
    """Do nothing more."""
