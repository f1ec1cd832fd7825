"""Jobs that submit jobs: the engine of DepthPool and crawl."""

import math
from _thread import get_ident
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextvars import Context as ContextVars
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar, final

from anyio.lowlevel import checkpoint
from typing_extensions import override

from safeconc._callables import is_plain
from safeconc._context import ambient, look
from safeconc._crew import AT_ONCE, Crew, Worker, referents
from safeconc._crew import Job as CrewJob
from safeconc._limit import check_limit, check_whole
from safeconc._loop import BUDGET
from safeconc._policy._exchange import leaving
from safeconc._policy._failures import Mode
from safeconc._policy._frontier import (
    NOTHING,
    PAUSE,
    Frontier,
    Lazy,
    Order,
    Overflow,
)
from safeconc._policy._passes import Passes
from safeconc._siblings import (
    NotACoroutineFunction,
    Siblings,
    call,
    check_function,
    raise_fatal,
)
from safeconc._waiter import Waiter

T = TypeVar("T")
R = TypeVar("R")

END: Any = object()
"""There is no further visit."""

_new: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

_ENDED: Any = object()
"""The block has ended before a visit could be handed over."""


@final
@dataclass(frozen=True, slots=True)
class DepthPoolStatistics:
    """A snapshot of a pool, safe to keep and to compare."""

    frontier: int
    """Jobs that wait to be started; an iterable of jobs counts as one."""

    peak_frontier: int
    """The largest :attr:`frontier` so far."""

    running: int
    """Jobs started and not ended."""

    buffered: int
    """Visits that the consumer has not taken."""

    accepted: tuple[int, ...]
    """Jobs accepted, by depth. Items of an iterable count when they are taken."""

    finished: tuple[int, ...]
    """Jobs that have become visits, by depth; not those that were cancelled."""

    failed: int
    """Errors given back as results, with ``return_exceptions``."""

    too_deep: int
    """Items refused for their depth; a whole iterable counts as one."""

    duplicates: int
    """Items refused because one of an equal key was accepted before."""

    over_budget: int
    """Items refused because there had been ``max_jobs``; likewise."""

    dropped: int
    """Items refused by a full frontier; likewise."""

    keys: int
    """Keys remembered, to tell duplicates."""


class Visit(NamedTuple, Generic[T, R]):
    """A job that has ended."""

    item: T
    """What was submitted."""

    depth: int
    """How far it is from a root; a root's depth is 0."""

    parent: T | None
    """The item of the job that submitted it; None for a root."""

    result: R
    """What ``fn`` returned; with ``return_exceptions``, or raised."""


class _Submits(Protocol):
    """What a job needs of its tree."""

    def submit(self, item: Any, depth: int, parent: Any) -> bool: ...
    def submit_from(self, items: Iterable[Any], depth: int, parent: Any) -> bool: ...


@final
class Job(Generic[T]):
    """An item to be worked on, and the way to submit its children.

    It ends when the call that it was given to returns.
    """

    __slots__ = ("_tree", "_variables", "depth", "item", "parent")

    item: T
    """What was submitted."""

    depth: int
    """How far it is from a root; a root's depth is 0."""

    parent: T | None
    """The item of the job that submitted it; None for a root."""

    # No __init__: a call of it would be a twentieth of the price of a job.

    _tree: "_Submits | None"
    """Takes its children; None when it is over."""

    _variables: ContextVars | None
    """The contextvars to run in; None for a copy of a worker's own."""

    def submit(self, item: T) -> bool:
        """Submit a child, one level deeper; False if it is refused.

        It is refused, and counted in the pool's statistics, if it is too deep, if
        an item of an equal key was accepted before, if there have been
        ``max_jobs``, or if the frontier is full and ``overflow`` is ``"drop"``;
        else :exc:`FrontierFull` is raised. Raises :exc:`RuntimeError` when this
        job, or the pool, is over.
        """
        return (self._tree or self._refuse()).submit(item, self.depth + 1, self.item)

    def submit_from(self, items: Iterable[T]) -> bool:
        """Submit children that are taken from *items* one by one, each in its turn.

        So a million of them wait as one. They are refused one by one, too; False
        if all are, since they would be too deep or the frontier is full.
        """
        tree = self._tree or self._refuse()
        return tree.submit_from(items, self.depth + 1, self.item)

    def __repr__(self) -> str:
        return f"<Job {self.item!r} at depth {self.depth}>"

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            f"the job {self.item!r} is over; submit its children before it returns"
        )


class Tree(ABC):
    """Jobs that submit jobs, until none is left: without where the results go."""

    def __init__(
        self,
        kind: str,
        *,
        fn: Callable[[Job[Any]], Awaitable[Any]],
        max_depth: int | None,
        limit: int,
        key: Callable[[Any], Hashable] | None,
        order: Order,
        max_frontier: int | None,
        overflow: Overflow,
        max_jobs: int | None,
        errors: Mode,
        return_exceptions: bool,
        name: str | None,
    ) -> None:
        check_function(fn)
        bound = check_limit(limit)
        if bound is None:
            raise TypeError(
                "a pool needs a limit: how many jobs may be under way at once?"
            )
        if key is not None and not callable(key):
            raise TypeError(f"key must be callable, not {key!r}")
        self._fn = fn
        self._plain = is_plain(fn)
        self._return_exceptions = return_exceptions
        self._frontier: Frontier[Job[Any]] = Frontier(
            max_depth=check_whole("max_depth", max_depth, 0),
            order=order,
            key=key,
            max_frontier=check_whole("max_frontier", max_frontier, 1),
            overflow=overflow,
            max_jobs=check_whole("max_jobs", max_jobs, 0),
        )
        self.siblings = Siblings(kind, name, errors)
        self.siblings.on_over = self._on_over
        self.siblings.find_lost = self._find_lost
        self.siblings.is_done = self.is_done
        self.crew = Crew(self.siblings, self, self, bound)
        self._thread: int | None = None
        self._open_in: int | None = None
        self._untouched: object = None
        self._failures = 0
        self._given_up: Counter[int] = Counter()
        self.running = 0
        self.room = math.inf
        """How many may run; what waits for the consumer takes up room."""

    def begin(self) -> None:
        """Start, inside the block."""
        self.crew.variables = self.siblings.contextvars()
        self._untouched = referents(self.crew.variables)[-1]
        self._thread = self._open_in = get_ident()

    def end(self) -> None:
        """Keep nothing of the owner alive; the block has been left."""
        self.crew.disband()

    # Submitting

    def submit(self, item: Any, depth: int, parent: Any) -> bool:
        """Submit a job; False if it is refused."""
        if get_ident() != self._open_in:
            self._refuse()
        frontier = self._frontier
        if depth < frontier.easy:
            frontier.accepted[depth] += 1
        elif not frontier.admits(item, depth):
            return False
        # None if a worker's own will do, as nearly always: to keep each copy would
        # give the collector something to walk.
        variables: ContextVars | None = None
        current = copy_context()
        if referents(current)[-1] is not self._untouched:
            variables = self.siblings.adopted(current)
        frontier.waiting.append(self._job(variables, depth, parent, item))
        # A worker that is at a step of its own looks for jobs afterwards, and has
        # others look when it waits.
        if not self.crew.stepping:
            self.crew.call()
        return True

    def submit_from(self, items: Iterable[Any], depth: int, parent: Any) -> bool:
        """Submit jobs that are made of *items* one by one, each in its turn."""
        if get_ident() != self._open_in:
            self._refuse()
        iterator = iterate(items)
        if not self._frontier.admits_lazy(depth):
            return False
        variables = self.siblings.contextvars()

        def make(item: Any) -> Job[Any]:
            return self._job(variables.copy(), depth, parent, item)

        self._frontier.waiting.append(Lazy(depth, iterator, make, variables.run))
        if not self.crew.stepping:
            self.crew.call()
        return True

    def _job(
        self, variables: ContextVars | None, depth: int, parent: Any, item: Any
    ) -> Job[Any]:
        job: Job[Any] = Job()
        job._tree = self
        job._variables = variables
        job.item = item
        job.depth = depth
        job.parent = parent
        return job

    def _refuse(self) -> NoReturn:
        if self._thread is None:
            self.siblings.refuse_unentered("submit")
        if get_ident() != self._thread:
            raise RuntimeError(
                f"{self.siblings.label} belongs to an event loop in another thread; "
                "submit with anyio.from_thread.run_sync"
            )
        raise self.siblings.refusal()

    # A source of jobs, and what becomes of them; see _crew

    def jobs(self, worker: Worker) -> Iterator[CrewJob]:
        """Make a job of what may start now."""
        fn, plain, frontier = self._fn, self._plain, self._frontier
        while self.running < self.room:
            try:
                job = frontier.take()
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self._fail_items(exc)
                return
            if job is NOTHING:
                break
            if job is PAUSE:
                yield None, checkpoint(), None
                continue
            self.running += 1
            worker.job = job
            try:
                coroutine: Any = fn(job) if plain else call(fn, job)
            except TypeError:  # it takes other arguments
                coroutine = call(fn, job)
            yield job._variables, coroutine, job
        worker.job = None
        self.check_end()

    def has_jobs(self) -> int:
        """Guess how many jobs may start now."""
        return AT_ONCE if self._frontier.waiting and self.running < self.room else 0

    def __setitem__(self, job: Job[Any] | None, value: Any) -> None:
        if job is not None:
            job._tree = None
            self.running -= 1
            # As NamedTuple does itself, at half the price.
            visit: Visit[Any, Any] = _new(
                Visit, (job.item, job.depth, job.parent, value)
            )
            self._deliver(visit)
            if not self.running and not self._frontier.waiting:
                self.check_end()

    def failed(self, key: Job[Any] | None, error: BaseException) -> None:
        """Take the error of a job."""
        if self._returns(error) and key is not None:
            self._failures += 1
            self[key] = error
        else:
            self.siblings.fail(error)
            self.cancelled(key)

    def cancelled(self, key: Job[Any] | None) -> None:
        """Note that a job was cancelled; so is everything else."""
        if key is not None:
            self._give_up(key)
            self.running -= 1

    def _give_up(self, job: Job[Any]) -> None:
        job._tree = None
        self._given_up[job.depth] += 1

    def _returns(self, error: BaseException) -> bool:
        mistaken = isinstance(error, NotACoroutineFunction)
        return self._return_exceptions and isinstance(error, Exception) and not mistaken

    def _fail_items(self, exc: BaseException) -> None:
        """End the block for an error of an iterable, or go with a cancellation."""
        error = self.siblings.verdict(exc)
        if error is None:
            raise exc
        self.siblings.fail(error)
        raise_fatal(exc)

    def is_done(self) -> bool:
        """Tell whether no job waits and none runs."""
        return not self.running and not self._frontier.waiting

    def _find_lost(self) -> bool:
        return self.crew.find_lost()

    def _on_over(self) -> None:
        self._open_in = None
        self.crew.close()
        for entry in self._frontier.clear():
            if isinstance(entry, Lazy):
                try:
                    entry.close()
                except BaseException as exc:  # noqa: BLE001 - the block's error
                    self.siblings.fail(exc)
            else:
                self._give_up(entry)

    # What depends on where the results go

    @abstractmethod
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        """Take the visit of a job that has ended."""

    @abstractmethod
    def check_end(self) -> None:
        """Look whether all is done, and say so to who waits for it."""


@final
class Collected(Tree):
    """The tree of :func:`crawl`: all visits into one list."""

    def __init__(self, **options: Any) -> None:
        self.visits: list[Visit[Any, Any]] = []
        super().__init__("crawl", **options)

    @override
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        self.visits.append(visit)

    @override
    def check_end(self) -> None:
        if self.is_done():
            self.crew.close()


@final
class Streamed(Tree):
    """The tree of :class:`DepthPool`: visits leave one by one.

    A visit in a consumer's hand counts as work, since the consumer may still
    submit. It is over when the task that took it asks for the next one, or has
    dropped the iterator.
    """

    def __init__(self, *, buffer: int | None, **options: Any) -> None:
        self._ready: deque[Visit[Any, Any]] = deque()
        self._consumers: OrderedDict[Waiter, object] = OrderedDict()
        self._hands: dict[object, int] = {}
        self._passes = Passes()
        self._taken = 0
        self._done = False
        super().__init__("DepthPool", **options)
        limit: int = options["limit"]
        buffer = check_whole("buffer", buffer, 0)
        self.room = limit + (limit if buffer is None else buffer)

    @override
    def end(self) -> None:
        super().end()
        self._ready.clear()  # of jobs that paid no heed to the end

    def statistics(self) -> DepthPoolStatistics:
        """Count the jobs."""
        frontier = self._frontier
        return DepthPoolStatistics(
            frontier=len(frontier.waiting),
            peak_frontier=frontier.peak,
            running=self.running,
            buffered=len(self._ready),
            accepted=tuple(frontier.accepted),
            finished=self._finished(),
            failed=self._failures,
            too_deep=frontier.too_deep,
            duplicates=frontier.duplicates,
            over_budget=frontier.over_budget,
            dropped=frontier.dropped,
            keys=frontier.seen,
        )

    def _finished(self) -> tuple[int, ...]:
        """Count the visits by depth: all jobs but those that are still to end."""
        counts = Counter(dict(enumerate(self._frontier.accepted)))
        for job in (*self._frontier.waiting, *self.crew.jobs()):
            # What a worker has done last stays its job while it looks for another.
            if isinstance(job, Job) and job._tree is not None:
                counts[job.depth] -= 1
        counts.subtract(self._given_up)
        return tuple(counts.values())

    @override
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        if self._consumers:
            waiter, task = self._consumers.popitem(last=False)
            waiter.hand((visit, self._hold(task)))
        else:
            self._ready.append(visit)
            self.room -= 1

    @override
    def check_end(self) -> None:
        if self._consumers and self._has_ended():
            self._finish()

    def _has_ended(self) -> bool:
        # Asked only where no visit is ready: by who has looked, or for who waits.
        return not self._hands and self.is_done()

    def _finish(self) -> None:
        self._done = True
        for waiter in leaving(self._consumers):
            waiter.hand((END, 0))
        self.siblings.close()

    @override
    def _on_over(self) -> None:
        super()._on_over()
        self._ready.clear()
        self._hands.clear()
        for waiter in leaving(self._consumers):
            waiter.hand((_ENDED, 0))

    async def take(self) -> tuple[Any, int]:
        """Wait for the next visit, ``END`` after the last one; and a receipt for it."""
        loop = self.siblings.loop
        task = loop.current_task()
        if self._hands.pop(task, None) is not None:
            self.check_end()
        passes = self._passes
        if passes.left < 1 or ((context := ambient.get()) and context._end):
            passes = self._passes = await look(loop, passes)
        passes.left -= 1
        if self._done:
            return END, 0
        if self.siblings.over:
            await self.siblings.refuse()
        if self._ready:
            visit, receipt = self._ready.popleft(), self._hold(task)
            self.room += 1
        elif self._has_ended():
            self._finish()
            return END, 0
        else:
            loop.left = BUDGET  # while it waits, others have their turn
            waiter = Waiter(loop)
            self._consumers[waiter] = task
            visit, receipt = await waiter.wait(self._consumers.pop)
            passes.pause()
            if visit is _ENDED:
                await self.siblings.refuse()
        if self.has_jobs():
            self.crew.call()
        return visit, receipt

    def _hold(self, task: object) -> int:
        self._taken += 1
        self._hands[task] = self._taken
        return self._taken

    def let_go(self, receipt: int) -> None:
        """Learn, from any thread, that nobody works any more on what was taken."""
        self.siblings.loop.hop(partial(self._let_go, receipt))

    def _let_go(self, receipt: int) -> None:
        for task, held in self._hands.items():
            if held == receipt:
                del self._hands[task]
                self.check_end()
                return


def iterate(items: Iterable[T]) -> Iterator[T]:
    """Return an iterator over *items*, or say what is wrong with them."""
    if isinstance(items, (str, bytes)):
        raise TypeError(f"expected an iterable of items, not one: write [{items!r}]")
    try:
        return iter(items)
    except TypeError:
        raise TypeError(f"items must be iterable, not {items!r}") from None
