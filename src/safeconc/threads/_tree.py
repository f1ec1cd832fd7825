"""Jobs that submit jobs, over threads: the engine of DepthPool and crawl.

The block's lock guards the frontier and where the visits go. Items of an iterable are
taken without it, by one thread at a time: that may take as long as the iterable likes,
and others get on meanwhile.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from threading import current_thread
from types import CoroutineType
from typing import Any, final

from typing_extensions import override

from safeconc._callables import check_blocking, check_returned, name_of
from safeconc._context import check
from safeconc._policy._failures import Mode
from safeconc._policy._frontier import NOTHING, USED_UP, Lazy
from safeconc._policy._visits import END, ENDED, Visits
from safeconc._walk import (
    DepthPoolStatistics,
    Job,
    Visit,
    Walk,
    iterate,
    place_below,
    room_of,
)
from safeconc.threads._crew import Crew
from safeconc.threads._siblings import Siblings
from safeconc.threads._waiter import ADVICE, Waiter
from safeconc.threads._worker import Worker

_COROUTINE: type = CoroutineType


class Tree(Walk):
    """Jobs that submit jobs, until none is left: without where the results go.

    Whoever brings a job, or makes room for one, has one more worker look for it. So
    there are never more of them than jobs.
    """

    def __init__(
        self,
        kind: str,
        *,
        fn: Callable[[Job[Any]], Any],
        errors: Mode,
        grace: float | None,
        name: str | None,
        **options: Any,
    ) -> None:
        check_blocking(fn, ADVICE)
        super().__init__(**options)
        self.siblings = Siblings(kind, name, errors, grace)
        self.siblings.on_over = self._on_over
        self.siblings.on_gone = self._close_lazy
        self.crew = Crew(self.siblings, self._work, self.limit)
        self._fn = fn
        self._what = name_of(fn)
        self._begun = False
        self._unclosed: list[Lazy[Job[Any]]] = []

    def begin(self) -> None:
        """Start, inside the block."""
        self.crew.variables = self.siblings.contextvars()
        self._begun = True

    # Submitting

    @override
    def submit(self, item: Any, by: Job[Any] | None) -> bool:
        frontier, lock = self._frontier, self.siblings.lock
        depth, parent = place_below(by)
        self._check_begun()
        with lock:
            self._check_open(by)
            if frontier.is_too_deep(depth):
                return False
        key = frontier.key_of(item)
        job = self.job(self.siblings.contextvars(), depth, parent, item)
        with lock:
            self._check_open(by)
            if not frontier.accepts(key, depth):
                return False
            frontier.waiting.append(job)
            worker = self.call()
        self.start(worker)
        return True

    @override
    def submit_from(self, items: Iterable[Any], by: Job[Any] | None) -> bool:
        depth, parent = place_below(by)
        self._check_begun()
        with self.siblings.lock:
            self._check_open(by)
        iterator = iterate(items)
        variables = self.siblings.contextvars()

        def make(item: Any) -> Job[Any]:
            return self.job(variables.copy(), depth, parent, item)

        with self.siblings.lock:
            self._check_open(by)
            if not self._frontier.admits_lazy(depth):
                return False
            self._frontier.waiting.append(Lazy(depth, iterator, make, variables.run))
            worker = self.call()
        self.start(worker)
        return True

    def _check_begun(self) -> None:
        if not self._begun:
            self.siblings.refuse_unentered("submit")
        self.siblings.check_process()

    def _check_open(self, by: Job[Any] | None) -> None:
        """Refuse who comes too late; under the lock, so that the end is exact."""
        if by is not None and by._tree is None:
            by.refuse()
        if self.siblings.ended:
            raise self.siblings.refusal()
        if self.is_over():
            raise self.siblings.mistake()

    # Workers

    def call(self) -> Worker | None:
        """Have one more worker look for jobs, if one may start; under the lock.

        Return it if it is a new one, which is to be started.
        """
        if self.crew.closed or self.running >= self.room:
            return None
        return self.crew.hire() if self._frontier.has_free() else None

    def start(self, worker: Worker | None) -> None:
        """Start a new worker, if it is one; end the block if the system gives none."""
        if worker is not None:
            try:
                self.crew.start(worker, _nothing)
            except BaseException as exc:
                self.siblings.fail(exc)
                raise

    def _work(self, worker: Worker) -> None:
        """Be a worker."""
        entry: Any = None
        while (entry := self._pick(worker)) is not None:
            if entry is NOTHING:
                worker.rest()
            elif isinstance(entry, Lazy):
                self._ask(entry, worker)  # pyright: ignore[reportUnknownArgumentType]
            else:
                self._do(entry)

    def _pick(self, worker: Worker) -> Any:
        """Choose what to do: ``NOTHING`` is to rest, and None to go home."""
        frontier = self._frontier
        with self.siblings.lock:
            if self.siblings.ended:
                return None
            entry: Any = NOTHING
            if self.running < self.room:
                entry = frontier.pick()
            if entry is NOTHING:
                self.check_end()
                return entry if self.crew.line_up(worker) else None
            worker.doing = self._what
            if isinstance(entry, Lazy):
                self.room -= 1  # for the job that may come of it
            else:
                self._begin(entry, worker)
            another = self.call()
        self._start_another(another)
        return entry  # pyright: ignore[reportUnknownVariableType]

    def _begin(self, job: Job[Any], worker: Worker) -> None:
        self.running += 1
        worker.job = job

    def _start_another(self, worker: Worker | None) -> None:
        with suppress(Exception):  # the block has failed; this one finishes its job
            self.start(worker)

    def _do(self, job: Job[Any]) -> None:
        """Do a job."""
        variables, job._variables = job._variables, None
        assert variables is not None
        mistaken = False
        try:
            value: object = variables.run(self._fn, job)
            if type(value) is _COROUTINE:
                mistaken = True
                check_returned(value, ADVICE)
        except BaseException as exc:  # noqa: BLE001 - judged there
            self._failed(job, exc, mistaken=mistaken)
        else:
            with self.siblings.lock:
                self[job] = value

    def _failed(self, job: Job[Any], exc: BaseException, *, mistaken: bool) -> None:
        """Take the error of a job."""
        siblings = self.siblings
        if not mistaken and self.returns(exc) and not siblings.is_aftermath(exc):
            with siblings.lock:
                self._failures += 1
                self[job] = exc
            return
        self._fail(exc)
        with siblings.lock:
            self.give_up(job)
            self.running -= 1

    def _fail(self, exc: BaseException) -> None:
        """End the block for an error, unless it came of the end."""
        error = self.siblings.without_cancellation(exc)
        if error is None:
            self.siblings.cut_short = True
        else:
            self.siblings.fail(error)

    # Iterables

    def _ask(self, entry: Lazy[Job[Any]], worker: Worker) -> None:
        """Do the job that is made of the next item of an iterable, if one is."""
        frontier = self._frontier
        made: tuple[Job[Any], Hashable] | None = None
        job = another = None
        try:
            made = entry.run(self._make_next, entry)
        except BaseException as exc:  # noqa: BLE001 - the block's error
            self._fail(exc)
        if made is None:
            self._close(entry)  # before it is out: it may submit something yet
        try:
            with self.siblings.lock:
                self.room += 1
                if made is None:
                    frontier.drop(entry)
                else:
                    frontier.lay_back(entry)
                    if not self.siblings.ended and frontier.accepts(
                        made[1], entry.depth, waits=False
                    ):
                        job = made[0]
                        self._begin(job, worker)
                another = self.call()
        except BaseException as exc:  # noqa: BLE001 - likewise: two keys do not compare
            self._fail(exc)
        self._start_another(another)
        if job is not None:
            self._do(job)

    def _make_next(self, entry: Lazy[Job[Any]]) -> tuple[Job[Any], Hashable] | None:
        """Make a job of the next item, and its key; None if there is no item."""
        item = entry.next()
        if item is USED_UP:
            return None
        key = self._frontier.key_of(item)
        hash(key)  # here, where an error of it has the iterable closed
        return entry.make(item), key

    def _close(self, entry: Lazy[Job[Any]]) -> None:
        try:
            entry.close()
        except BaseException as exc:  # noqa: BLE001 - the block's error
            self._fail(exc)

    def _close_lazy(self) -> None:
        """Close the iterables that were left, once nobody is in them."""
        while self._unclosed:
            entry = self._unclosed.pop()
            # A thread that was given up may stand in there for ever.
            if not entry.taken:
                entry.close()

    # The end

    @override
    def at_hand(self) -> Iterable[object]:
        return [worker.job for worker in self.siblings.workers]

    def _on_over(self) -> None:
        if not self.is_done():
            self.siblings.cut_short = True
        self.crew.close()
        self._unclosed += self._clear()


@final
class Collected(Tree):
    """The tree of :func:`crawl`: all visits into one list."""

    def __init__(self, **options: Any) -> None:
        self.visits: list[Visit[Any, Any]] = []
        super().__init__("crawl", **options)
        self.siblings.is_done = self.is_done

    @override
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        self.visits.append(visit)

    @override
    def check_end(self) -> None:
        if self.is_done():
            self.siblings.look()


@final
class Streamed(Tree):
    """The tree of :class:`DepthPool`: visits leave one by one."""

    def __init__(self, *, buffer: int | None, **options: Any) -> None:
        self.visits: Visits[Visit[Any, Any]] = Visits()
        # Receipts that were let go of, and nobody has looked at yet.
        self._let_go: deque[int] = deque()
        self._waiters: dict[Waiter, None] = {}
        super().__init__("DepthPool", **options)
        self.room = room_of(self.limit, buffer)
        self.siblings.ends_with_body = True

    def statistics(self) -> DepthPoolStatistics:
        """Count the jobs, all at one and the same moment."""
        with self.siblings.lock:
            return self.count(len(self.visits.ready))

    @override
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        if self.visits.deliver(visit):
            self.room -= 1

    @override
    def check_end(self) -> None:
        if self.visits.consumers:
            self._look_for_end()

    def _look_for_end(self) -> bool:
        """Tell all if the end is reached; to be asked only where no visit is ready."""
        visits = self.visits
        while self._let_go:
            visits.let_go(self._let_go.popleft())
        if visits.hands or self.siblings.ended or not self.is_done():
            return False
        visits.finish()
        self.crew.close()
        return True

    @override
    def is_over(self) -> bool:
        return self.visits.done

    @override
    def _on_over(self) -> None:
        super()._on_over()
        self.visits.close()

    def take(self) -> tuple[Any, int]:
        """Wait for the next visit, ``END`` after the last one; and a receipt for it."""
        visits, siblings, consumer = self.visits, self.siblings, current_thread()
        if consumer in visits.hands:
            with siblings.lock:
                visits.put_down(consumer)
                self.check_end()
        check()
        waiter = worker = None
        visit, receipt = END, 0
        with siblings.lock:
            if visits.done:
                pass
            elif siblings.ended:
                visit = ENDED
            elif visits.ready:
                visit, receipt = visits.take(consumer)
                self.room += 1
                worker = self.call()
            elif not self._look_for_end():
                waiter = Waiter()
                visits.consumers[waiter] = consumer
        self.start(worker)
        if waiter is not None:
            visit, receipt = self._wait(waiter)
        if visit is ENDED:
            siblings.refuse()
        return visit, receipt

    def _wait(self, waiter: Waiter) -> tuple[Any, int]:
        self._waiters[waiter] = None
        try:
            taken: tuple[Any, int] = self.siblings.wait(
                waiter, self.visits.consumers.pop, self._look_up
            )
            return taken
        finally:
            del self._waiters[waiter]

    def _look_up(self) -> None:
        """Look, in a wait, whether somebody else has let go of the last visit."""
        if self._let_go:
            with self.siblings.lock:
                self.check_end()

    def let_go(self, receipt: int) -> None:
        """Learn that nobody works any more on what was taken.

        The collector may say so, in any thread and under any lock: so this takes none,
        and leaves it to those who wait for the end to look.
        """
        self._let_go.append(receipt)
        for waiter in list(self._waiters):
            waiter.poke()


def _nothing() -> None:
    """Take nothing back: a worker of a tree has no job yet."""
