"""Schedules of a few threads, chosen by a tool: each switch where it may hurt most.

The tool runs one thread at a time and decides after each step of ours who is next,
so that it comes upon orders that threads of their own accord hardly ever take.
"""

import os
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from safeconc import Context, ContextCancelled
from safeconc.threads import Channel, ChannelClosed

SCHEDULES = int(os.environ.get("SAFECONC_TEST_SCHEDULES", "5"))
"""How many are tried of each model; CI has a leg with very many."""

it = pytest.importorskip(
    "interleave_test", reason="it needs sys.monitoring, of CPython 3.12 and later"
)


@pytest.fixture(autouse=True)
def locks_of_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our modules make locks that the tool knows of."""
    monkeypatch.setattr("safeconc.threads._channel.Lock", it.Lock)

    def allocate() -> object:
        return it.Lock()

    monkeypatch.setattr("safeconc._parker.allocate_lock", allocate)


def explore(model: Callable[[], None]) -> None:
    """Run *model* by many schedules."""
    it.explore(model, strategy="pct", iterations=SCHEDULES, seed=1)


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
    for task in [it.spawn(act) for act in acts]:
        task.join()
    table.check()


@pytest.mark.parametrize("capacity", [0, 1])
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

    explore(model)


@pytest.mark.parametrize("capacity", [0, 1])
def test_send_that_is_cancelled_while_somebody_receives(capacity: int) -> None:
    """It has sent or has not, and says which."""

    def model() -> None:
        table = Table(capacity, *[0] * capacity)
        play(table, lambda: table.send(1), table.context.cancel, table.poll)

    explore(model)


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

    explore(model)


def test_both_ends_are_cancelled_while_they_meet() -> None:
    """Both have done it, or neither has."""

    def model() -> None:
        table = Table(0)
        play(table, lambda: table.send(1), table.receive, table.context.cancel)

    explore(model)


@pytest.mark.parametrize("capacity", [0, 1])
def test_close_while_both_sides_come(capacity: int) -> None:
    """Everybody hears of it, and what was sent is not lost."""

    def model() -> None:
        table = Table(capacity)
        play(table, lambda: table.send(1), table.receive, table.channel.close)

    explore(model)


def test_close_and_cancel_at_once() -> None:
    """Whichever comes first ends the wait."""

    def model() -> None:
        table = Table(0)
        play(table, table.receive, table.channel.close, table.context.cancel)

    explore(model)


def test_context_that_is_cancelled_while_children_come_and_wait() -> None:
    """Each wait ends, whether it began before or after."""

    def model() -> None:
        context = Context.root()
        ended: list[bool] = []

        def wait() -> None:
            ended.append(Context(context).wait())

        for task in [it.spawn(each) for each in (wait, wait, context.cancel)]:
            task.join()
        assert ended == [True, True]
        assert context.statistics().waiters == 0

    explore(model)
