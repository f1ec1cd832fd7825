"""One function, many items, never more than a limit of threads at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, final, overload

from safeconc._fan import END, FanOutStatistics, Progress
from safeconc.threads._run import Collected, Streamed

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


@final
class FanOut(Generic[R]):
    """Stream the results of ``fn(item)`` for many items, at most *limit* at a time.

    ::

        with FanOut(fetch, urls, limit=10) as pages:
            for page in pages:
                print(page.title)

    An item is taken from *items* only when there is a thread for it and room for its
    result: started and not yet consumed are never more than ``limit + buffer``. So
    the iterable may be endless, and a slow consumer slows the threads down instead of
    filling the memory. Items are taken by one thread at a time.

    The first error, of *fn* or of the iterable, ends the block: its context is
    cancelled, which the other calls and the body see where they look, a generator is
    closed, and that error is raised when all threads have ended. Leaving the block
    early is quiet and does the same. The loop is the block's last statement:
    ``break`` alone does not reach us, the end of the block does.

    The threads belong to the block, are named after it, and take many items each;
    each call runs in a copy of the contextvars of who opened the block.

    With an *executor* the calls that wait in it are cancelled at the end of the block,
    and those that run are waited for. Contextvars go along only to threads of this
    process: a function that runs elsewhere does not see the end.

    :param fn: a function of one argument.
    :param items: an iterable. One that blocks holds up the end of the block, unless
        it sees the end: inside of it the block's context is the ambient one.
    :param limit: calls under way at once.
    :param ordered: results in the order of the items, else as they are ready.
    :param buffer: results that may wait for the consumer; *limit* if None.
    :param return_exceptions: give an :exc:`Exception` of *fn* back as the result.
    :param rate: calls started per second, at most.
    :param burst: calls that may start at once after a pause, with *rate*.
    :param progress: True draws a bar (extra ``progress``); a callable gets
        :meth:`statistics` after each item, from the threads, one at a time.
    :param executor: makes the calls in place of threads of ours: a pool of processes
        or of interpreters, a cluster. It is given at most *limit* calls at once, and
        never shut down.
    :param name: shown in errors, dumps, and the names of threads.
    """

    @overload
    def __init__(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        limit: int,
        ordered: bool = True,
        buffer: int | None = None,
        return_exceptions: Literal[False] = False,
        rate: float | None = None,
        burst: int = 1,
        progress: bool | Progress = False,
        executor: Executor | None = None,
        name: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: "FanOut[S | Exception]",
        fn: Callable[[T], S],
        items: Iterable[T],
        *,
        limit: int,
        ordered: bool = True,
        buffer: int | None = None,
        return_exceptions: Literal[True],
        rate: float | None = None,
        burst: int = 1,
        progress: bool | Progress = False,
        executor: Executor | None = None,
        name: str | None = None,
    ) -> None: ...

    def __init__(
        self,
        fn: Callable[[T], Any],
        items: Iterable[T],
        *,
        limit: int,
        ordered: bool = True,
        buffer: int | None = None,
        return_exceptions: bool = False,
        rate: float | None = None,
        burst: int = 1,
        progress: bool | Progress = False,
        executor: Executor | None = None,
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
            executor=executor,
            name=name,
        )
        self._entered = False

    def statistics(self) -> FanOutStatistics:
        """Count the items."""
        return self._run.statistics()

    def __enter__(self) -> Self:
        siblings = self._run.siblings
        if self._entered:
            siblings.refuse_reuse("make a new one")
        siblings.__enter__()
        self._entered = True
        try:
            self._run.begin()
        except BaseException as exc:  # noqa: BLE001 - raised by the end of the block,
            siblings.fail(exc)  # which would not come if it were raised here
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return self._run.siblings.__exit__(exc_type, exc, traceback)
        finally:
            self._run.end()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        if not self._entered:
            self._run.siblings.refuse_unentered("iterate")
        result: R = self._run.take()
        if result is END:
            raise StopIteration
        return result


@overload
def fan_out(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    limit: int,
    return_exceptions: Literal[False] = False,
    rate: float | None = None,
    burst: int = 1,
    progress: bool | Progress = False,
    executor: Executor | None = None,
    name: str | None = None,
) -> list[R]: ...


@overload
def fan_out(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    limit: int,
    return_exceptions: Literal[True],
    rate: float | None = None,
    burst: int = 1,
    progress: bool | Progress = False,
    executor: Executor | None = None,
    name: str | None = None,
) -> list[R | Exception]: ...


def fan_out(
    fn: Callable[[T], Any],
    items: Iterable[T],
    *,
    limit: int,
    return_exceptions: bool = False,
    rate: float | None = None,
    burst: int = 1,
    progress: bool | Progress = False,
    executor: Executor | None = None,
    name: str | None = None,
) -> list[Any]:
    """Call ``fn(item)`` for every item, in at most *limit* threads.

    Results come back in the order of *items*. This is::

        [fn(item) for item in items]

    made concurrent, with one difference: when a call fails, the others are told to
    end, and waited for, before its error is raised.

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
        executor=executor,
        name=name,
    )
    try:
        with run.siblings:
            run.begin()
        return run.collected
    finally:
        run.end()
