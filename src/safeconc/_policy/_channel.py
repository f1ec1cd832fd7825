"""What a channel is, whoever waits at it: its items, its block, and its end."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar, final

import anyio

from safeconc._policy._endings import Node
from safeconc._policy._exchange import EMPTY, Exchange

T = TypeVar("T")


class ChannelClosed(Exception):  # noqa: N818 - a signal, named as Go names it
    """A :class:`Channel` was closed; ``__cause__`` is the error it was closed with."""


@final
@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A snapshot of a channel, safe to keep and to compare."""

    buffered: int
    """Items sent and not yet received."""

    peak: int
    """The largest :attr:`buffered` so far."""

    waiting_senders: int
    """Calls of :meth:`Channel.send` that wait for room."""

    waiting_receivers: int
    """Calls of :meth:`Channel.receive`, and loops, that wait for an item."""

    closed: bool
    """Whether nothing more can be sent."""


class AnyChannel(ABC, Generic[T]):
    """The part of a channel in which nobody waits.

    What has an underscore is to be called by one at a time: tasks of a loop are,
    threads hold a lock.
    """

    def __init__(self, capacity: int, *, name: str | None = None) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise TypeError(
                f"capacity must be a whole number, not {capacity!r}; a channel without "
                "a bound would only hide that its consumer is too slow"
            )
        if capacity < 0:
            raise ValueError(f"capacity must not be negative: {capacity}")
        self._capacity = capacity
        self._label = f"Channel {name!r}" if name else "this Channel"
        self._exchange: Exchange[T] = Exchange(capacity)
        self._error: BaseException | None = None
        self._entered = False

    @property
    def capacity(self) -> int:
        """How many items may wait in it."""
        return self._capacity

    def statistics(self) -> ChannelStatistics:
        """Count the items, and who waits."""
        exchange = self._exchange
        return ChannelStatistics(
            buffered=len(exchange.buffer),
            peak=exchange.peak,
            waiting_senders=len(exchange.senders),
            waiting_receivers=len(exchange.receivers),
            closed=exchange.closed,
        )

    def __repr__(self) -> str:
        closed = ", closed" if self._exchange.closed else ""
        label = self._label.removeprefix("this ")
        return f"<{label} {len(self._exchange.buffer)}/{self._capacity}{closed}>"

    @abstractmethod
    def receive_nowait(self) -> T:
        """Return an item that is there, or raise."""

    # Without waiting

    def _send_now(self, item: T) -> None:
        if not self._exchange.put(item):
            if self._exchange.closed:
                self._refuse()
            raise anyio.WouldBlock

    def _receive_now(self) -> T:
        item = self._exchange.take()
        if item is not EMPTY:
            return item
        if self._exchange.closed:
            self._end(ChannelClosed)
        raise anyio.WouldBlock

    @abstractmethod
    def _put_back(self, item: T) -> None:
        """Make what was received the next item again."""

    def _leftovers(self, unbegun: list[T], count: int, context: Node) -> Iterator[T]:
        """Take what was received already, and *count* more, until *context* ends."""
        for item in unbegun:
            if context.done:
                self._put_back(item)
                return
            yield item
        for _ in range(count):
            if context.done:
                return
            try:
                item = self.receive_nowait()
            except (anyio.WouldBlock, ChannelClosed):
                return
            yield item

    # Its end

    def _close(self, error: BaseException | None) -> None:
        if not self._exchange.closed:
            self._error = error
            self._exchange.close()

    def _enter(self) -> None:
        if self._entered:
            raise RuntimeError(
                f"the block of {self._label} has been entered before; who leaves it "
                "first closes the channel for all: with several producers put their "
                "group inside one block"
            )
        self._entered = True

    def _cut_off(self) -> BaseException:
        """Make the error to close with when a cancellation leaves the block.

        Not the cancellation itself: raised again by a receiver, it would look like
        one of its own.
        """
        return anyio.TaskCancelled(f"the producer of {self._label} was cancelled")

    def _refuse(self) -> NoReturn:
        raise self._closed("nothing more can be sent") from self._error

    def _end(self, end: type[Exception]) -> NoReturn:
        """Tell a receiver of the end: by *end*, if that is a loop's and all is well."""
        if end is not ChannelClosed and self._error is None:
            raise end
        raise self._closed("all that was sent has been received") from self._error

    def _closed(self, consequence: str) -> ChannelClosed:
        why = "" if self._error is None else f" by {self._error!r}"
        return ChannelClosed(f"{self._label} was closed{why}: {consequence}")


def check_error(error: object) -> None:
    """Refuse what a channel cannot be closed with."""
    if error is not None and not isinstance(error, BaseException):
        raise TypeError(f"error must be an exception, not {error!r}")
