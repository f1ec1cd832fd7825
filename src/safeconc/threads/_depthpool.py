"""Recursion with a depth, on a fixed crew of threads."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, final, overload

from safeconc._policy._failures import Mode
from safeconc._policy._frontier import Order, Overflow
from safeconc._policy._visits import END
from safeconc._walk import DepthPoolStatistics, Job, Visit, iterate
from safeconc.threads._tree import Collected, Streamed

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")
U = TypeVar("U")


@final
class DepthPool(Generic[T, R]):
    """Walk a tree whose jobs submit jobs, in *limit* threads and *max_depth* deep.

    ::

        def page(job: Job[str]) -> Page:
            page = fetch(job.item)
            for link in page.links:
                job.submit(link)
            return page

        with DepthPool(page, max_depth=5, limit=10, key=normalise) as pool:
            pool.submit("https://example.org/")
            for visit in pool:
                print(visit.depth, visit.item)

    It is the :class:`safeconc.DepthPool` of threads: the same order, the same exact
    end, the same bounds. The loop ends when no job waits, none runs, and the visits
    have been worked on; started and not yet consumed are never more than ``limit +
    buffer``. Leaving the block early ends the rest, quietly; the loop is the block's
    last statement. Any thread may submit and consume.

    The newest job is started first. Each thread may walk a branch of its own, so what
    waits is what a walk by recursion would keep, for each. An iterable of children is
    advanced by one thread at a time, and one that blocks holds up no other branch.

    The first error, of *fn*, of *key* or of an iterable, ends the block: its context
    is cancelled, which the other jobs and the body see where they look, and that error
    is raised when all threads have ended. A job that does not look is waited for, and
    reported, as in :class:`threads.ErrGroup`.

    The threads belong to the block, are named after it, and do many jobs each, every
    one in a copy of the contextvars of who submitted it.

    :param fn: a function of one argument, a :class:`Job`.
    :param max_depth: jobs deeper than that are refused; roots have depth 0, and
        ``None`` says aloud that there is no bound.
    :param limit: jobs under way at once.
    :param key: items of an equal key are visited once; all are different if None.
    :param order: ``"depth"`` or ``"breadth"``.
    :param buffer: visits that may wait for the consumer; *limit* if None.
    :param max_frontier: jobs that may wait to be started.
    :param overflow: what a submit to a full frontier does: ``"raise"``
        :exc:`FrontierFull`, or ``"drop"`` the job and count it.
    :param max_jobs: jobs that are accepted in all; further ones are refused.
    :param errors: ``"first"`` raises the first error, ``"group"`` an
        :exc:`ExceptionGroup` of all.
    :param return_exceptions: give an :exc:`Exception` of *fn* back as the result.
    :param grace: seconds that a job may go on after the block was to end; then
        :exc:`StuckThreadsError` gives up those that still run. None waits for ever.
    :param name: shown in errors, dumps, and the names of threads.
    """

    @overload
    def __init__(
        self,
        fn: Callable[[Job[T]], R],
        *,
        max_depth: int | None,
        limit: int,
        key: Callable[[T], Hashable] | None = None,
        order: Order = "depth",
        buffer: int | None = None,
        max_frontier: int | None = None,
        overflow: Overflow = "raise",
        max_jobs: int | None = None,
        errors: Mode = "first",
        return_exceptions: Literal[False] = False,
        grace: float | None = None,
        name: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: "DepthPool[U, S | Exception]",
        fn: Callable[[Job[U]], S],
        *,
        max_depth: int | None,
        limit: int,
        key: Callable[[U], Hashable] | None = None,
        order: Order = "depth",
        buffer: int | None = None,
        max_frontier: int | None = None,
        overflow: Overflow = "raise",
        max_jobs: int | None = None,
        errors: Mode = "first",
        return_exceptions: Literal[True],
        grace: float | None = None,
        name: str | None = None,
    ) -> None: ...

    def __init__(
        self,
        fn: Callable[[Job[Any]], Any],
        *,
        max_depth: int | None,
        limit: int,
        key: Callable[[Any], Hashable] | None = None,
        order: Order = "depth",
        buffer: int | None = None,
        max_frontier: int | None = None,
        overflow: Overflow = "raise",
        max_jobs: int | None = None,
        errors: Mode = "first",
        return_exceptions: bool = False,
        grace: float | None = None,
        name: str | None = None,
    ) -> None:
        self._tree = Streamed(
            fn=fn,
            max_depth=max_depth,
            limit=limit,
            key=key,
            order=order,
            buffer=buffer,
            max_frontier=max_frontier,
            overflow=overflow,
            max_jobs=max_jobs,
            errors=errors,
            return_exceptions=return_exceptions,
            grace=grace,
            name=name,
        )
        self._limit = limit
        self._entered = False

    @property
    def limit(self) -> int:
        """How many jobs may be under way at once."""
        return self._limit

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """All errors so far, oldest first."""
        return self._tree.siblings.failures.errors

    def statistics(self) -> DepthPoolStatistics:
        """Count the jobs."""
        return self._tree.statistics()

    def submit(self, item: T) -> bool:
        """Submit a root; False if it is refused, as :meth:`Job.submit` tells."""
        return self._tree.submit(item, None)

    def submit_from(self, items: Iterable[T]) -> bool:
        """Submit roots that are taken from *items* one by one, each in its turn."""
        return self._tree.submit_from(items, None)

    def __enter__(self) -> Self:
        siblings = self._tree.siblings
        if self._entered:
            siblings.refuse_reuse("make a new one")
        siblings.__enter__()
        self._entered = True
        self._tree.begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._tree.siblings.__exit__(exc_type, exc, traceback)

    def __iter__(self) -> Iterator[Visit[T, R]]:
        if not self._entered:
            self._tree.siblings.refuse_unentered("iterate")
        return _Visits(self._tree)


@final
class _Visits(Iterator[Any]):
    """One consumer's way through the visits."""

    def __init__(self, tree: Streamed) -> None:
        self._tree = tree
        self._receipt = 0

    def __next__(self) -> Visit[Any, Any]:
        visit, self._receipt = self._tree.take()
        if visit is END:
            raise StopIteration
        return visit  # type: ignore[no-any-return]

    def __del__(self) -> None:
        # A loop was left early: what it had in hand is not worked on any more.
        if self._receipt:
            self._tree.let_go(self._receipt)


@overload
def crawl(
    fn: Callable[[Job[T]], R],
    roots: Iterable[T],
    *,
    max_depth: int | None,
    limit: int,
    key: Callable[[T], Hashable] | None = None,
    order: Order = "depth",
    max_frontier: int | None = None,
    overflow: Overflow = "raise",
    max_jobs: int | None = None,
    errors: Mode = "first",
    return_exceptions: Literal[False] = False,
    grace: float | None = None,
    name: str | None = None,
) -> list[Visit[T, R]]: ...


@overload
def crawl(
    fn: Callable[[Job[T]], R],
    roots: Iterable[T],
    *,
    max_depth: int | None,
    limit: int,
    key: Callable[[T], Hashable] | None = None,
    order: Order = "depth",
    max_frontier: int | None = None,
    overflow: Overflow = "raise",
    max_jobs: int | None = None,
    errors: Mode = "first",
    return_exceptions: Literal[True],
    grace: float | None = None,
    name: str | None = None,
) -> list[Visit[T, R | Exception]]: ...


def crawl(
    fn: Callable[[Job[T]], Any],
    roots: Iterable[T],
    *,
    max_depth: int | None,
    limit: int,
    key: Callable[[T], Hashable] | None = None,
    order: Order = "depth",
    max_frontier: int | None = None,
    overflow: Overflow = "raise",
    max_jobs: int | None = None,
    errors: Mode = "first",
    return_exceptions: bool = False,
    grace: float | None = None,
    name: str | None = None,
) -> list[Visit[T, Any]]:
    """Visit *roots* and all that their jobs submit; return the visits as they ended.

    ::

        visits = crawl(page, ["https://example.org/"], max_depth=5, limit=10)

    The parameters are those of :class:`DepthPool`. Use that one to have the visits
    as they come, or to submit further roots: this function keeps them all.

    :param roots: items; each is taken when its turn comes.
    """
    items = iterate(roots)
    tree = Collected(
        fn=fn,
        max_depth=max_depth,
        limit=limit,
        key=key,
        order=order,
        max_frontier=max_frontier,
        overflow=overflow,
        max_jobs=max_jobs,
        errors=errors,
        return_exceptions=return_exceptions,
        grace=grace,
        name=name,
    )
    with tree.siblings:
        tree.begin()
        tree.submit_from(items, None)
    return tree.visits
