"""A channel of threads whose ends meet, in many orders of their steps.

Three and more threads have too many orders to try them all.
"""

from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from safeconc import Context, ContextCancelled
from safeconc.threads import Channel, ChannelClosed
from tests.interleaved.conftest import explore, together

capacities = pytest.mark.parametrize("capacity", [0, 1])


class Table:
    """A channel, a context for who uses it, and what came of it."""

    def __init__(self, capacity: int, *buffered: int) -> None:
        self.channel = Channel[int](capacity)
        self.context = Context.root()
        self.sent = list(buffered)
        self.received: list[int] = []
        for item in buffered:
            self.channel.send_nowait(item)

    def send(self, item: int) -> None:
        """Send, unless something comes before."""
        with suppress(ContextCancelled, ChannelClosed), Context(self.context):
            self.channel.send(item)
            self.sent.append(item)

    def receive(self) -> None:
        """Receive, unless something comes before."""
        with suppress(ContextCancelled, ChannelClosed), Context(self.context):
            self.received.append(self.channel.receive())

    def poll(self) -> None:
        """Receive without waiting."""
        with suppress(anyio.WouldBlock, ChannelClosed):
            self.received.append(self.channel.receive_nowait())

    def check(self) -> None:
        """Find each item that was sent in one place, and nobody in line."""
        statistics = self.channel.statistics()
        assert statistics.waiting_senders == statistics.waiting_receivers == 0
        for _ in range(statistics.buffered):
            self.poll()
        assert sorted(self.received) == sorted(self.sent)
        assert self.context.statistics().waiters == 0


def play(table: Table, *acts: Callable[[], object]) -> None:
    """Have all acts at once, then look."""
    together(*acts)
    table.check()


@capacities
def test_two_senders_and_two_receivers(capacity: int) -> None:
    """Whoever comes first, all are served, and none waits for ever."""

    def model() -> None:
        table = Table(capacity)
        play(
            table,
            lambda: table.send(1),
            lambda: table.send(2),
            table.receive,
            table.receive,
        )
        assert len(table.received) == 2

    explore(model, "instructions")


@capacities
def test_send_that_is_cancelled_while_somebody_receives(capacity: int) -> None:
    """It has sent or has not, and says which."""

    def model() -> None:
        table = Table(capacity, *[0] * capacity)
        play(table, lambda: table.send(1), table.context.cancel, table.poll)

    explore(model, "instructions")


def test_receive_that_is_cancelled_while_somebody_sends() -> None:
    """An item that was handed over is returned, and any other is here."""

    def model() -> None:
        table = Table(1)
        table.sent.append(1)
        play(
            table,
            table.receive,
            table.context.cancel,
            lambda: table.channel.send_nowait(1),
        )

    explore(model, "instructions")


def test_both_ends_are_cancelled_while_they_meet() -> None:
    """Both have done it, or neither has."""

    def model() -> None:
        table = Table(0)
        play(table, lambda: table.send(1), table.receive, table.context.cancel)

    explore(model, "instructions")


@capacities
def test_close_while_both_sides_come(capacity: int) -> None:
    """Everybody hears of it, and what was sent is not lost."""

    def model() -> None:
        table = Table(capacity)
        play(table, lambda: table.send(1), table.receive, table.channel.close)

    explore(model, "instructions")


def test_close_and_cancel_at_once() -> None:
    """Whichever comes first ends the wait."""

    def model() -> None:
        table = Table(0)
        play(table, table.receive, table.channel.close, table.context.cancel)

    explore(model, "instructions")
