"""Recursion with a depth, on a fixed crew."""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, final, overload

from safeconc._policy._failures import Mode
from safeconc._policy._frontier import Order, Overflow
from safeconc._policy._visits import END
from safeconc._tree import Collected, Streamed
from safeconc._walk import DepthPoolStatistics, Job, Visit, iterate

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")
U = TypeVar("U")


@final
class DepthPool(Generic[T, R]):
    """Walk a tree whose jobs submit jobs, *limit* at a time and *max_depth* deep.

    ::

        async def page(job: Job[str]) -> Page:
            page = await fetch(job.item)
            for link in page.links:
                job.submit(link)
            return page

        async with DepthPool(page, max_depth=5, limit=10, key=normalise) as pool:
            pool.submit("https://example.org/")
            async for visit in pool:
                print(visit.depth, visit.item)

    The loop ends when nothing is left: no job waits, none runs, and the visits,
    too, have been worked on, since the body of the loop may submit roots as well.
    Then a submit raises. Visits come as the jobs end, and a slow consumer slows
    the workers down: started and not yet consumed are never more than ``limit +
    buffer``. Leaving the block early cancels the rest, quietly; the loop is the
    block's last statement.

    The newest job is started first, so a branch is walked to its end before the
    next is begun and few jobs wait: a tree of a hundred thousand nodes keeps some
    fifty. Depth-first, an item is met by whichever path comes first, not by the
    shortest one; with *key* and *max_depth* together, what lies at the edge may
    then be missed. ``order="breadth"`` meets each item by a shortest path, but for
    jobs that overtake each other, and keeps whole levels waiting.

    The first error, of *fn*, of *key* or of an iterable, ends the block: the other
    jobs and the body are cancelled, and that error is raised. The jobs run on a
    crew of workers, each in a copy of the contextvars of who submitted it;
    :func:`asyncio.current_task` is the worker's.

    :param fn: a coroutine function of one argument, a :class:`Job`.
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
    :param name: shown in errors and dumps.
    """

    @overload
    def __init__(
        self,
        fn: Callable[[Job[T]], Awaitable[R]],
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
        name: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: "DepthPool[U, S | Exception]",
        fn: Callable[[Job[U]], Awaitable[S]],
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
        name: str | None = None,
    ) -> None: ...

    def __init__(
        self,
        fn: Callable[[Job[Any]], Awaitable[Any]],
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

    async def __aenter__(self) -> Self:
        siblings = self._tree.siblings
        if self._entered:
            siblings.refuse_reuse("make a new one")
        self._entered = True
        await siblings.__aenter__()
        self._tree.begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        siblings = self._tree.siblings
        if exc is None and not siblings.over:
            siblings.end(None)
        try:
            return await siblings.__aexit__(exc_type, exc, traceback)
        finally:
            self._tree.end()

    def __aiter__(self) -> AsyncIterator[Visit[T, R]]:
        if not self._entered:
            self._tree.siblings.refuse_unentered("iterate")
        return _Visits(self._tree)


@final
class _Visits(AsyncIterator[Any]):
    """One consumer's way through the visits."""

    def __init__(self, tree: Streamed) -> None:
        self._tree = tree
        self._receipt = 0

    async def __anext__(self) -> Visit[Any, Any]:
        visit, self._receipt = await self._tree.take()
        if visit is END:
            raise StopAsyncIteration
        return visit  # type: ignore[no-any-return]

    def __del__(self) -> None:
        # A loop was left early: what it had in hand is not worked on any more.
        if self._receipt:
            self._tree.let_go(self._receipt)


@overload
async def crawl(
    fn: Callable[[Job[T]], Awaitable[R]],
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
    name: str | None = None,
) -> list[Visit[T, R]]: ...


@overload
async def crawl(
    fn: Callable[[Job[T]], Awaitable[R]],
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
    name: str | None = None,
) -> list[Visit[T, R | Exception]]: ...


async def crawl(
    fn: Callable[[Job[T]], Awaitable[Any]],
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
    name: str | None = None,
) -> list[Visit[T, Any]]:
    """Visit *roots* and all that their jobs submit; return the visits as they ended.

    ::

        visits = await crawl(page, ["https://example.org/"], max_depth=5, limit=10)

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
        name=name,
    )
    try:
        async with tree.siblings:
            tree.begin()
            tree.submit_from(items, None)
        return tree.visits
    finally:
        tree.end()
