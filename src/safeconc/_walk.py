"""A walk over a tree: its options checked, its jobs counted, whoever works."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextvars import Context as ContextVars
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar, final

from safeconc._limit import check_limit, check_whole
from safeconc._policy._frontier import Frontier, Lazy, Order, Overflow

T = TypeVar("T")
R = TypeVar("R")

_new: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


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

    def submit(self, item: Any, by: "Job[Any] | None") -> bool: ...
    def submit_from(self, items: Iterable[Any], by: "Job[Any] | None") -> bool: ...


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
        return (self._tree or self.refuse()).submit(item, self)

    def submit_from(self, items: Iterable[T]) -> bool:
        """Submit children that are taken from *items* one by one, each in its turn.

        So a million of them wait as one. They are refused one by one, too; False
        if all are, since they would be too deep or the frontier is full.
        """
        return (self._tree or self.refuse()).submit_from(items, self)

    def __repr__(self) -> str:
        return f"<Job {self.item!r} at depth {self.depth}>"

    def refuse(self) -> NoReturn:
        """Say that it is over."""
        raise RuntimeError(
            f"the job {self.item!r} is over; submit its children before it returns"
        )


class Walk(ABC):
    """What a tree over tasks and one over threads have in common."""

    def __init__(
        self,
        *,
        max_depth: int | None,
        limit: int,
        key: Callable[[Any], Hashable] | None,
        order: Order,
        max_frontier: int | None,
        overflow: Overflow,
        max_jobs: int | None,
        return_exceptions: bool,
    ) -> None:
        bound = check_limit(limit)
        if bound is None:
            raise TypeError(
                "a pool needs a limit: how many jobs may be under way at once?"
            )
        if key is not None and not callable(key):
            raise TypeError(f"key must be callable, not {key!r}")
        self.limit = bound
        self._frontier: Frontier[Job[Any]] = Frontier(
            max_depth=check_whole("max_depth", max_depth, 0),
            order=order,
            key=key,
            max_frontier=check_whole("max_frontier", max_frontier, 1),
            overflow=overflow,
            max_jobs=check_whole("max_jobs", max_jobs, 0),
        )
        self._return_exceptions = return_exceptions
        self._failures = 0
        self._given_up: Counter[int] = Counter()
        self.running: int = 0
        self.room: float = math.inf
        """How many may run; what waits for the consumer takes up room."""

    def job(
        self, variables: ContextVars | None, depth: int, parent: Any, item: Any
    ) -> Job[Any]:
        """Make a job of this tree."""
        job: Job[Any] = Job()
        job._tree = self
        job._variables = variables
        job.item = item
        job.depth = depth
        job.parent = parent
        return job

    def __setitem__(self, job: Job[Any] | None, value: Any) -> None:
        """Make a visit of a job that has ended."""
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

    def returns(self, error: BaseException) -> bool:
        """Tell whether the error of a job is to be its result."""
        return self._return_exceptions and isinstance(error, Exception)

    def give_up(self, job: Job[Any]) -> None:
        """Note that a job will not become a visit."""
        job._tree = None
        self._given_up[job.depth] += 1

    def is_done(self) -> bool:
        """Tell whether no job waits and none runs."""
        return not self.running and not self._frontier.waiting

    def count(self, buffered: int) -> DepthPoolStatistics:
        """Count the jobs, and the visits that wait for the consumer."""
        frontier = self._frontier
        return DepthPoolStatistics(
            frontier=len(frontier.waiting),
            peak_frontier=frontier.peak,
            running=self.running,
            buffered=buffered,
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
        for job in (*self._frontier.waiting, *self.at_hand()):
            # What a worker has done last stays its job while it looks for another.
            if isinstance(job, Job) and job._tree is not None:
                counts[job.depth] -= 1
        counts.subtract(self._given_up)
        return tuple(counts.values())

    def _clear(self) -> list[Lazy[Job[Any]]]:
        """Give up the jobs that wait; return the iterables, which are to be closed."""
        lazy: list[Lazy[Job[Any]]] = []
        for entry in self._frontier.clear():
            if isinstance(entry, Lazy):
                lazy.append(entry)
            else:
                self.give_up(entry)
        return lazy

    # Who works, and where the results go

    @abstractmethod
    def submit(self, item: Any, by: Job[Any] | None) -> bool:
        """Submit a job; False if it is refused."""

    @abstractmethod
    def submit_from(self, items: Iterable[Any], by: Job[Any] | None) -> bool:
        """Submit jobs that are made of *items* one by one, each in its turn."""

    @abstractmethod
    def at_hand(self) -> Iterable[object]:
        """Return the jobs of the workers, also of those that have just ended."""

    @abstractmethod
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        """Take the visit of a job that has ended."""

    @abstractmethod
    def check_end(self) -> None:
        """Look whether all is done, and say so to who waits for it."""

    def is_over(self) -> bool:
        """Tell whether the end was reached, and told."""
        return False


def place_below(by: Job[Any] | None) -> tuple[int, Any]:
    """Return the depth and the parent of what is submitted by that job, or by none."""
    return (0, None) if by is None else (by.depth + 1, by.item)


def room_of(limit: int, buffer: int | None) -> int:
    """Return how many jobs may be started and not consumed."""
    check_whole("buffer", buffer, 0)
    return limit + (limit if buffer is None else buffer)


def iterate(items: Iterable[T]) -> Iterator[T]:
    """Return an iterator over *items*, or say what is wrong with them."""
    if isinstance(items, (str, bytes)):
        raise TypeError(f"expected an iterable of items, not one: write [{items!r}]")
    try:
        return iter(items)
    except TypeError:
        raise TypeError(f"items must be iterable, not {items!r}") from None
