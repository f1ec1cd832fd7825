"""One function, many items, never more than a limit at once."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, final, overload

import anyio

from safeconc._fan import END, FanOutStatistics, Progress
from safeconc._run import Collected, Streamed

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


@final
class FanOut(Generic[R]):
    """Stream the results of ``fn(item)`` for many items, at most *limit* at a time.

    ::

        async with FanOut(fetch, urls, limit=10) as pages:
            async for page in pages:
                print(page.title)

    An item is taken from *items* only when there is a slot for it and room for
    its result: started and not yet consumed are never more than ``limit +
    buffer``. So the iterable may be endless, and a slow consumer slows the
    workers down instead of filling the memory.

    The first error, of *fn* or of the iterable, ends the block: the other calls
    and the body are cancelled, the iterable is closed, and that error is raised.
    Leaving the block early is quiet and does the same. The loop is the block's
    last statement: ``break`` alone does not reach us, the end of the block does.

    The calls run on a crew of workers, each in a copy of the contextvars of who
    opened the block; :func:`asyncio.current_task` is the worker's.

    :param fn: a coroutine function of one argument.
    :param items: an iterable or async iterable.
    :param limit: calls under way at once; or a :class:`anyio.CapacityLimiter` that
        is shared with other work, one token a call.
    :param ordered: results in the order of the items, else as they are ready.
    :param buffer: results that may wait for the consumer; *limit* if None.
    :param return_exceptions: give an :exc:`Exception` of *fn* back as the result.
    :param rate: calls started per second, at most.
    :param burst: calls that may start at once after a pause, with *rate*.
    :param progress: True draws a bar (extra ``progress``); a callable gets
        :meth:`statistics` after each item.
    :param name: shown in errors and dumps.
    """

    @overload
    def __init__(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        limit: int | anyio.CapacityLimiter,
        ordered: bool = True,
        buffer: int | None = None,
        return_exceptions: Literal[False] = False,
        rate: float | None = None,
        burst: int = 1,
        progress: bool | Progress = False,
        name: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: "FanOut[S | Exception]",
        fn: Callable[[T], Awaitable[S]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        limit: int | anyio.CapacityLimiter,
        ordered: bool = True,
        buffer: int | None = None,
        return_exceptions: Literal[True],
        rate: float | None = None,
        burst: int = 1,
        progress: bool | Progress = False,
        name: str | None = None,
    ) -> None: ...

    def __init__(
        self,
        fn: Callable[[T], Awaitable[Any]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        limit: int | anyio.CapacityLimiter,
        ordered: bool = True,
        buffer: int | None = None,
        return_exceptions: bool = False,
        rate: float | None = None,
        burst: int = 1,
        progress: bool | Progress = False,
        name: str | None = None,
    ) -> None:
        self._run = Streamed(
            fn=fn,
            items=items,
            limit=limit,
            ordered=ordered,
            buffer=buffer,
            return_exceptions=return_exceptions,
            rate=rate,
            burst=burst,
            progress=progress,
            name=name,
        )
        self._entered = False

    def statistics(self) -> FanOutStatistics:
        """Count the items."""
        return self._run.statistics()

    async def __aenter__(self) -> Self:
        siblings = self._run.siblings
        if self._entered:
            siblings.refuse_reuse("make a new one")
        self._entered = True
        await siblings.__aenter__()
        self._run.begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        siblings = self._run.siblings
        if exc is None and not siblings.over:
            siblings.end(None)
        try:
            return await siblings.__aexit__(exc_type, exc, traceback)
        finally:
            self._run.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if not self._entered:
            self._run.siblings.refuse_unentered("iterate")
        result: R = await self._run.take()
        if result is END:
            raise StopAsyncIteration
        return result


@overload
async def fan_out(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int | anyio.CapacityLimiter,
    return_exceptions: Literal[False] = False,
    rate: float | None = None,
    burst: int = 1,
    progress: bool | Progress = False,
    name: str | None = None,
) -> list[R]: ...


@overload
async def fan_out(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int | anyio.CapacityLimiter,
    return_exceptions: Literal[True],
    rate: float | None = None,
    burst: int = 1,
    progress: bool | Progress = False,
    name: str | None = None,
) -> list[R | Exception]: ...


async def fan_out(
    fn: Callable[[T], Awaitable[Any]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int | anyio.CapacityLimiter,
    return_exceptions: bool = False,
    rate: float | None = None,
    burst: int = 1,
    progress: bool | Progress = False,
    name: str | None = None,
) -> list[Any]:
    """Await ``fn(item)`` for every item, at most *limit* at a time.

    Results come back in the order of *items*. This is::

        [await fn(item) for item in items]

    made concurrent, with one difference: when a call fails, the calls still
    running are cancelled before its error is raised.

    The parameters are those of :class:`FanOut`, which also tells who runs the
    calls, and when an item is taken. Use that one to have the results as they
    come: this function keeps them all.
    """
    run = Collected(
        fn=fn,
        items=items,
        limit=limit,
        return_exceptions=return_exceptions,
        rate=rate,
        burst=burst,
        progress=progress,
        name=name,
    )
    try:
        async with run.siblings:
            run.begin()
        return run.collected
    finally:
        run.end()
