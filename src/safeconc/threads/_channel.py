"""A bounded queue between threads, whose end always arrives."""

from collections.abc import Callable
from sys import get_asyncgen_hooks
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar, final

from typing_extensions import override

from safeconc._callables import check_blocking, check_returned
from safeconc._context import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    ambient,
    check,
    check_seconds,
)
from safeconc._policy._channel import (
    AnyChannel,
    ChannelClosed,
    ChannelStatistics,
    check_error,
)
from safeconc._policy._exchange import EMPTY, END, REFUSED
from safeconc.threads._waiter import ADVICE, Waiter, refuse_task

T = TypeVar("T")


@final
class Channel(AnyChannel[T]):
    """Hand items from thread to thread, at most *capacity* of them ahead.

    ::

        numbers = Channel[int](100)
        with ErrGroup(limit=None) as group:
            group.go(consume, numbers, handle)
            with numbers:
                for number in range(1000):
                    numbers.send(number)

    It is the :class:`safeconc.Channel` of threads: the same order, the same bound and
    the same end. Every call looks at the ambient context, and a wait ends when
    that does, by raising its error; what was raised from has not been done.

    A block that is left by that error counts as cancelled. Receivers get an
    ordinary error, as they do for a task.

    Any thread may use it, and so may tasks of any event loop, by what does not wait:
    :meth:`send_nowait`, :meth:`receive_nowait`, :meth:`close`. A signal handler may
    not: it could interrupt its own thread in the middle of a step. It cancels a
    :class:`Context` instead.

    :param capacity: items that may wait in the channel; with 0 each is handed from
        thread to thread.
    :param name: shown in errors and dumps.
    """

    def __init__(self, capacity: int, *, name: str | None = None) -> None:
        super().__init__(capacity, name=name)
        # Held for one step of the exchange, never while anybody waits.
        self._lock = Lock()

    @override
    def statistics(self) -> ChannelStatistics:
        """Count the items, and who waits, at one and the same moment."""
        with self._lock:
            return super().statistics()

    # Sending

    def send(self, item: T) -> None:
        """Send *item*; block until there is room for it.

        Raises :exc:`ChannelClosed` once the channel is closed, and the error of the
        ambient context once that has ended: then the item is still the caller's.
        """
        context = ambient.get()
        if context is not None and context.done:
            context.check()
        if get_asyncgen_hooks()[0] is not None:
            refuse_task()
        exchange = self._exchange
        waiter = None
        answer: object = REFUSED
        try:
            with self._lock:
                buffer = exchange.buffer
                if len(buffer) < exchange.easy:
                    buffer.append(item)
                    return
                if exchange.put(item):
                    return
                if not exchange.closed:
                    waiter = Waiter()
                    exchange.join_senders(waiter, item)
            if waiter is not None:
                answer = waiter.wait(self._lock, exchange.leave)
        except BaseException:
            self._abandon(waiter)
            raise
        if answer is REFUSED:
            check()  # before the end, as in tasks
            self._refuse()

    def send_nowait(self, item: T) -> None:
        """Send *item* if that needs no wait; else raise :exc:`anyio.WouldBlock`."""
        with self._lock:
            self._send_now(item)

    # Receiving

    def receive(self) -> T:
        """Return the next item; block until there is one.

        Raises :exc:`ChannelClosed` when there will be none any more, and the error of
        the ambient context once that has ended: then no item was taken.
        """
        return self._receive(ChannelClosed)

    @override
    def receive_nowait(self) -> T:
        """Return the next item if it is there; else raise :exc:`anyio.WouldBlock`."""
        with self._lock:
            return self._receive_now()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._receive(StopIteration)

    def _receive(self, end: type[Exception]) -> T:
        context = ambient.get()
        if context is not None and context.done:
            context.check()
        if get_asyncgen_hooks()[0] is not None:
            refuse_task()
        exchange = self._exchange
        waiter = None
        try:
            with self._lock:
                ready = exchange.ready
                if ready:
                    return ready.popleft()
                item = exchange.take()
                if item is not EMPTY:
                    return item
                item = END
                if not exchange.closed:
                    waiter = Waiter()
                    exchange.join_receivers(waiter)
            if waiter is not None:
                item = waiter.wait(self._lock, exchange.leave)
        except BaseException:
            item = self._abandon(waiter)
            if item is not END:
                self._put_back(item)
            raise
        if item is END:
            check()
            self._end(end)
        return item

    # Its end

    def close(self, error: BaseException | None = None) -> None:
        """End the channel, and all waits at it; a second call changes nothing.

        :param error: why what was sent is not all that was to come.
        """
        check_error(error)
        with self._lock:
            self._close(error)

    def __enter__(self) -> Self:
        check()
        refuse_task()
        with self._lock:
            self._enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        context = ambient.get()
        if exc is not None and context is not None and context._explains(exc):
            exc = self._cut_off()
        self.close(exc)

    def _abandon(self, waiter: Waiter | None) -> T:
        """See that nobody is in line any more who will not come, after a Ctrl-C.

        Returns the item that a receiver was handed, or ``END``.
        """
        item: T = END
        with self._lock:
            if waiter is not None:
                exchange = self._exchange
                if waiter in exchange.senders or waiter in exchange.receivers:
                    exchange.leave(waiter)
                elif waiter._handed:
                    item = waiter._value
        return item

    @override
    def _put_back(self, item: T) -> None:
        with self._lock:
            self._exchange.put_back(item)


def consume(
    channel: Channel[T],
    handler: Callable[[T], object],
    *,
    drain: float | None = None,
) -> None:
    """Call ``handler(item)`` for every item of *channel*, until its end.

    ::

        group.go(consume, orders, ship)
        group.go_background(partial(consume, events, log, drain=5))

    When the ambient context ends, so does this, by its error, once *handler* has
    returned: a thread cannot be stopped in the middle of an item. With *drain*, what
    was buffered at that moment still goes to *handler* before, under a context
    of its own. See :func:`safeconc.consume` for what becomes of the rest.

    :param drain: seconds for that, after which no item is begun; None handles
        nothing more.

    Raises what *handler* raises, and :exc:`ChannelClosed` if the channel was closed
    with an error.
    """
    if not isinstance(channel, Channel):
        raise TypeError(f"expected a Channel of safeconc.threads, not {channel!r}")
    check_blocking(handler, ADVICE)
    if drain is not None:
        check_seconds("drain", drain)
    context = ambient.get()
    unbegun: list[T] = []
    try:
        for item in channel:
            if drain is not None:
                unbegun.append(item)  # drained, too, if the end came with it
                check()
                unbegun.clear()
            check_returned(handler(item), ADVICE)
    except (ContextCancelled, DeadlineExceeded) as exc:
        if drain is not None and context is not None and context._explains(exc):
            _drain(channel, unbegun, handler, drain)
        raise


def _drain(
    channel: Channel[T],
    unbegun: list[T],
    handler: Callable[[T], object],
    seconds: float,
) -> None:
    """Handle what is there now, and begin nothing more after so many seconds."""
    buffered = channel.statistics().buffered
    with Context.root(timeout=seconds, name="consume: drain") as context:
        try:
            for item in channel._leftovers(unbegun, buffered, context):
                check_returned(handler(item), ADVICE)
        except DeadlineExceeded as exc:
            if not context._explains(exc):
                raise
