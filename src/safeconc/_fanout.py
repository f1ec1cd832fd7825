"""One function, many items, never more than a limit at once."""

import math
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextvars import Context as ContextVars
from dataclasses import dataclass
from operator import length_hint
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, final, overload

import anyio
from typing_extensions import override

from safeconc._context import spend
from safeconc._crew import Crew, Job, Results, Worker
from safeconc._limit import check_limit
from safeconc._loop import running_loop
from safeconc._policy._rate import Rate
from safeconc._policy._window import Window
from safeconc._progress import Bar
from safeconc._siblings import Siblings, as_coroutine, check_function, is_plain
from safeconc._waiter import Waiter

T = TypeVar("T")
R = TypeVar("R")

_END: Any = object()


@final
@dataclass(frozen=True, slots=True)
class FanOutStatistics:
    """A snapshot of a fan-out, safe to keep and to compare."""

    total: int | None
    """Items there are in all, where the iterable can tell beforehand."""

    started: int
    """Items taken from the iterable."""

    finished: int
    """Items whose call has ended."""

    failed: int
    """Errors given back in place of results, with ``return_exceptions``."""

    buffered: int
    """Results that the consumer has not taken; always 0 in :func:`fan_out`."""

    @property
    def running(self) -> int:
        """Items whose call has not ended."""
        return self.started - self.finished


Progress = Callable[[FanOutStatistics], object]


class _Run:
    """Items in, jobs out: what does not depend on where the results go.

    Workers take items straight from a plain iterable. Where something has to be
    waited for first (an async iterable's next item, a rate, a token of a shared
    limiter), one task waits: the feeder. So an async generator is advanced and
    closed by one task only, and may hold a cancel scope across its yields.
    """

    def __init__(
        self,
        kind: str,
        name: str | None,
        fn: Callable[[Any], Awaitable[Any]],
        items: Iterable[Any] | AsyncIterable[Any],
        limit: int | anyio.CapacityLimiter,
        rate: float | None,
        burst: int,
        progress: bool | Progress,
        return_exceptions: bool,
    ) -> None:
        check_function(fn)
        self._fn = fn
        self._plain = is_plain(fn)
        self._limiter = limit if isinstance(limit, anyio.CapacityLimiter) else None
        self.limit: float = math.inf if self._limiter is None else limit.total_tokens
        if self._limiter is None:
            if limit is None:
                raise TypeError(
                    "a fan-out needs a limit: how many items may be under way at once?"
                )
            self.limit = check_limit(limit)
        self._rate = None if rate is None else Rate(rate, burst)
        if not isinstance(progress, bool) and not callable(progress):
            raise TypeError(f"progress must be a bool or a callable, not {progress!r}")
        self._progress = progress
        self._report: Progress | None = None
        self._return_exceptions = return_exceptions
        self._iterator: Iterator[Any] | None = None
        self._async_iterator: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async_iterator = aiter(items)
        elif isinstance(items, Iterable):
            self._iterator = iter(items)
        else:
            raise TypeError(f"items must be iterable, or async iterable, not {items!r}")
        hint = length_hint(items, -1)
        self.total = hint if hint >= 0 else None
        self._fed: deque[tuple[Any, Any]] | None = None
        if self._iterator is None or self._rate or self._limiter:
            self._fed = deque()
        self._tokens: dict[Any, object] = {}
        self._room: Waiter | None = None
        self._exhausted = False
        self.failures = 0
        self.siblings = Siblings(kind, name)
        self.siblings.on_over = self._on_over
        self._variables: ContextVars
        self.crew = Crew(
            self.siblings,
            self,
            self.results(),
            None if math.isinf(self.limit) else int(self.limit),
        )

    def begin(self) -> None:
        """Start, inside the block."""
        self._variables = self.siblings.contextvars()
        if self._progress is True:
            self._report = Bar(self.siblings.name)
        elif callable(self._progress):
            self._report = self._progress
        if self._fed is None:
            self.crew.call()
        else:
            self.siblings.tasks.create_task(
                self._feed(), name=f"{self.siblings.name}: feeder"
            )

    def end(self) -> None:
        """Finish what is shown; the block has been left."""
        if isinstance(self._report, Bar):
            self._report.close(self.statistics())

    def statistics(self) -> FanOutStatistics:
        """Count the items."""
        raise NotImplementedError

    # What depends on where the results go

    def results(self) -> Results:
        """Return what takes the results of the jobs."""
        raise NotImplementedError

    def start_item(self) -> Any:
        """Note that an item was taken; return its key."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Tell whether there is room for one more result."""
        raise NotImplementedError

    def check_end(self) -> None:
        """Look whether all is done, and say so to who waits for it."""
        raise NotImplementedError

    # A source of jobs, and what becomes of them; see _crew

    def jobs(self, worker: Worker) -> Iterator[Job]:
        """Make a job of each item that may start now."""
        del worker
        for key, item in self._fed_items() if self._fed is not None else self._items():
            variables = self._variables.copy()
            try:
                made = variables.run(self._fn, item)
            except Exception as exc:  # noqa: BLE001 - it goes where errors go
                self.failed(key, exc)
                continue
            try:
                coroutine = as_coroutine(self._fn, made)
            except TypeError as exc:
                self.siblings.fail(exc)
                return
            yield variables, coroutine, key
        if self._exhausted and not self.has_jobs():
            self.crew.close()
        self.check_end()

    def has_jobs(self) -> bool:
        """Tell whether an item may start now."""
        if self._fed is not None:
            return bool(self._fed)
        return not self._exhausted and self.has_room()

    def failed(self, key: Any, error: BaseException) -> None:
        """Take the error of an item."""
        if self._return_exceptions and isinstance(error, Exception):
            self.failures += 1
            self.crew.results[key] = error
        else:
            self.siblings.fail(error)
            self.settled(key)

    def cancelled(self, key: Any) -> None:
        """Note that an item's call was cancelled; so is everything else."""
        self.settled(key)

    def settled(self, key: Any) -> None:
        """Note that an item has ended: its slot is free, its token goes back."""
        self.finished += 1
        token = self._tokens.pop(key, None)
        if token is not None and self._limiter is not None:
            self._limiter.release_on_behalf_of(token)
        if self._report is not None:
            self._report(self.statistics())
        self.ring()

    def ring(self) -> None:
        """Wake the feeder, if it waits and there is room now."""
        if self._room is not None and self._may_feed():
            room, self._room = self._room, None
            room.hand()

    # The items

    def _items(self) -> Generator[tuple[Any, Any], None, None]:
        iterator = self._iterator
        assert iterator is not None
        while not self._exhausted and self.has_room():
            try:
                item = next(iterator, _END)
            except BaseException as exc:  # noqa: BLE001 - it ends the block
                self._exhausted = True
                self.siblings.fail(exc)
                if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                    raise
                return
            if item is _END:
                self._exhausted = True
                return
            yield self.start_item(), item

    def _fed_items(self) -> Generator[tuple[Any, Any], None, None]:
        assert self._fed is not None
        while self._fed:
            yield self._fed.popleft()

    def _may_feed(self) -> bool:
        return self.started - self.finished < self.limit and self.has_room()

    async def _feed(self) -> None:
        """Be the feeder: take each item as soon as it may start, then close."""
        with anyio.CancelScope() as scope:
            try:
                while await self._feed_one():
                    await spend(self.siblings.loop)
            except BaseException as exc:
                error = self.siblings.verdict(exc)
                if error is None:
                    raise
                self.siblings.fail(error)
                if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                    raise
            finally:
                self._exhausted = True
                # Not a scope of its own: a generator that holds one open across
                # its yields could not leave it inside of ours.
                scope.shield = True
                await self._aclose()
        if not self._fed:
            self.crew.close()
        self.check_end()

    async def _feed_one(self) -> bool:
        """Take one item when its time has come; False if there is none."""
        if not self._may_feed():
            self._room = Waiter()
            await self._room.wait()
        token = object()
        if self._limiter is not None:
            await self._limiter.acquire_on_behalf_of(token)
        key = item = _END
        try:
            if self._rate is not None:
                await anyio.sleep_until(self._rate.reserve(anyio.current_time()))
            item = await self._next()
            if item is not _END:
                key = self.start_item()
        finally:
            if self._limiter is not None:
                if key is _END:
                    self._limiter.release_on_behalf_of(token)
                else:
                    self._tokens[key] = token
        if item is _END:
            return False
        assert self._fed is not None
        self._fed.append((key, item))
        self.crew.call()
        return True

    async def _next(self) -> Any:
        if self._async_iterator is not None:
            return await anext(self._async_iterator, _END)
        assert self._iterator is not None
        return next(self._iterator, _END)

    async def _aclose(self) -> None:
        if isinstance(self._async_iterator, AsyncGenerator):
            try:
                await self._async_iterator.aclose()
            except BaseException as exc:  # noqa: BLE001 - it ends the block
                self.siblings.fail(exc)

    def _on_over(self) -> None:
        self._exhausted = True
        self.crew.close()
        for key, _ in self._fed or ():
            self.cancelled(key)
        if self._fed is not None:
            self._fed.clear()
        if isinstance(self._iterator, Generator):
            try:
                self._iterator.close()
            except BaseException as exc:  # noqa: BLE001 - it ends the block
                self.siblings.fail(exc)


@final
class _Collected(_Run):
    """The run of :func:`fan_out`: all results into one list."""

    def __init__(self, *args: Any) -> None:
        self.collected: list[Any] = []
        self.finished = 0
        super().__init__("fan_out", *args)

    @property
    def started(self) -> int:
        """Items taken so far."""
        return len(self.collected)

    @override
    def statistics(self) -> FanOutStatistics:
        return FanOutStatistics(
            self.total, self.started, self.finished, self.failures, 0
        )

    @override
    def results(self) -> Results:
        # The list itself, unless somebody must hear of each result.
        return self if self._fed is not None or self._progress else self.collected

    def __setitem__(self, key: int, value: Any) -> None:
        self.collected[key] = value
        self.settled(key)

    @override
    def start_item(self) -> int:
        self.collected.append(None)
        return len(self.collected) - 1

    @override
    def has_room(self) -> bool:
        return True

    @override
    def check_end(self) -> None:
        pass

    @override
    def jobs(self, worker: Worker) -> Iterator[Job]:
        if self._fed is None and self._plain:
            return self._plain_jobs()
        return super().jobs(worker)

    def _plain_jobs(self) -> Iterator[Job]:
        """Do what :meth:`_Run.jobs` does, for the common case at half the price.

        A call of a plain coroutine function runs none of its code, so it needs
        neither the contextvars nor a look at what comes out.
        """
        copy, fn = self._variables.copy, self._fn
        hold, key = self.collected.append, len(self.collected)
        iterator = self._iterator
        assert iterator is not None
        try:
            for item in iterator:
                key = len(self.collected)
                hold(None)
                yield copy(), fn(item), key
        except GeneratorExit:
            raise
        except BaseException as exc:
            self.siblings.fail(exc)
            if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                raise
        self._exhausted = True
        self.crew.close()


@final
class _Streamed(_Run):
    """The run of :class:`FanOut`: results leave through a window."""

    def __init__(self, ordered: bool, buffer: int | None, *args: Any) -> None:
        self.finished = 0
        self._consumers: deque[Waiter] = deque()
        self.window: Window[Any]
        super().__init__("FanOut", *args)
        if not isinstance(ordered, bool):
            raise TypeError(f"ordered must be a bool, not {ordered!r}")
        if buffer is not None and (
            isinstance(buffer, bool) or not isinstance(buffer, int)
        ):
            raise TypeError(f"buffer must be a whole number or None, not {buffer!r}")
        if buffer is not None and buffer < 0:
            raise ValueError(f"buffer must not be negative: {buffer}")
        room = self.limit + (self.limit if buffer is None else buffer)
        self.window = Window(room, ordered=ordered)

    @property
    def started(self) -> int:
        """Items taken so far."""
        return self.window.started

    @override
    def statistics(self) -> FanOutStatistics:
        return FanOutStatistics(
            self.total,
            self.started,
            self.finished,
            self.failures,
            self.window.buffered,
        )

    @override
    def results(self) -> Results:
        return self

    def __setitem__(self, key: int, value: Any) -> None:
        self.window.finish(key, value)
        while self._consumers and self.window.is_ready():
            self._consumers.popleft().hand(self.window.take())
        self.settled(key)

    @override
    def start_item(self) -> int:
        return self.window.start()

    @override
    def has_room(self) -> bool:
        return self.window.has_room()

    def has_ended(self) -> bool:
        """Tell whether every item there is was taken, ended, and consumed."""
        return self._exhausted and self.window.outstanding == 0

    @override
    def check_end(self) -> None:
        if self.has_ended() and not self.siblings.over:
            while self._consumers:
                self._consumers.popleft().hand(_END)

    @override
    def _on_over(self) -> None:
        super()._on_over()
        while self._consumers:
            self._consumers.popleft().refuse(self.siblings.refusal())

    async def take(self) -> Any:
        """Wait for the next result; ``_END`` after the last one."""
        await spend(self.siblings.loop)
        if self.window.is_ready():
            result = self.window.take()
        elif self.siblings.over:
            raise self.siblings.refusal()
        elif self.has_ended():
            return _END
        else:
            waiter = Waiter()
            self._consumers.append(waiter)
            try:
                result = await waiter.wait()
            except BaseException:
                if not waiter.refused:
                    self._consumers.remove(waiter)
                raise
        if self._fed is not None:
            self.ring()
        elif self.has_jobs():
            self.crew.call()
        self.check_end()
        return result


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
        self: "FanOut[R | Exception]",
        fn: Callable[[T], Awaitable[R]],
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
        self._run = _Streamed(
            ordered,
            buffer,
            name,
            fn,
            items,
            limit,
            rate,
            burst,
            progress,
            return_exceptions,
        )
        self._entered = False

    def statistics(self) -> FanOutStatistics:
        """Count the items."""
        return self._run.statistics()

    async def __aenter__(self) -> Self:
        siblings = self._run.siblings
        if self._entered:
            raise RuntimeError(
                f"{siblings.label} has been entered before; make a new one"
            )
        self._entered = True
        await siblings.__aenter__()
        self._run.begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
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
            raise RuntimeError(
                f"{self._run.siblings.label} has not been entered; iterate inside "
                "'async with FanOut(...) as results'"
            )
        result: R = await self._run.take()
        if result is _END:
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
    run = _Collected(
        name, fn, items, limit, rate, burst, progress, return_exceptions
    )
    try:
        async with run.siblings:
            run.begin()
    finally:
        run.end()
    return run.collected
