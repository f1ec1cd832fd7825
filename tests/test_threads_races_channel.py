"""Channel and Ticker of threads when everything happens at once.

``SAFECONC_TEST_RACES`` says how many rounds; see tests/races.py.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from safeconc import Context, ContextCancelled
from safeconc.threads import Channel, ChannelClosed, Ticker, consume
from tests.races import race

pytestmark = pytest.mark.timeout(600)


class Table:
    """A channel, a context for one side of it, and what came of the round."""

    def __init__(self, capacity: int, *buffered: int) -> None:
        self.channel = Channel[int](capacity)
        for item in buffered:
            self.channel.send_nowait(item)
        self.context = Context.root()

    def send(self, item: int) -> bool:
        """Send until cancelled or refused; tell whether it was sent."""
        with suppress(ContextCancelled, ChannelClosed), Context(self.context):
            self.channel.send(item)
            return True
        return False

    def receive(self) -> int | None:
        """Receive until cancelled or told of the end."""
        with suppress(ContextCancelled, ChannelClosed), Context(self.context):
            return self.channel.receive()
        return None

    def cancel(self) -> None:
        """Cancel who waits."""
        self.context.cancel()

    def poll(self) -> int | None:
        """Receive what is there, sooner or later, for a while."""
        for _ in range(10):
            with suppress(anyio.WouldBlock, ChannelClosed):
                return self.channel.receive_nowait()
            time.sleep(0)
        return None

    def rest(self) -> list[int]:
        """Take what is left, when all is quiet."""
        statistics = self.channel.statistics()
        assert statistics.waiting_senders == statistics.waiting_receivers == 0
        return [self.channel.receive_nowait() for _ in range(statistics.buffered)]


def sent(*flags: object) -> list[int]:
    """Tell which items, numbered from 1, were sent."""
    for flag in flags:
        assert isinstance(flag, bool)
    return [item for item, flag in enumerate(flags, start=1) if flag]


def items(*results: object) -> list[int]:
    """Tell which items were received."""
    for result in results:
        assert result is None or isinstance(result, int)
    return [result for result in results if isinstance(result, int)]


def as_list(result: Any) -> list[int]:
    """Take a result that is no exception."""
    assert isinstance(result, list), result
    return result  # pyright: ignore[reportUnknownVariableType]


@pytest.mark.parametrize("capacity", [0, 1])
def test_cancelled_send_has_sent_or_not(capacity: int) -> None:
    """What it says is what happened: the item is here, or still the sender's."""

    def check(table: Table, results: list[object]) -> None:
        assert items(results[2]) + table.rest() == [0] * capacity + sent(results[0])

    race(
        lambda: Table(capacity, *[0] * capacity),
        [lambda table: table.send(1), Table.cancel, Table.poll],
        check,
    )


def test_cancelled_receive_has_received_or_not() -> None:
    """An item that it was handed is returned; else it stays here."""

    def check(table: Table, results: list[object]) -> None:
        assert items(results[0]) + table.rest() == [1]

    race(
        lambda: Table(1),
        [Table.receive, Table.cancel, lambda table: table.channel.send_nowait(1)],
        check,
    )


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_closing_in_between_loses_nothing(capacity: int) -> None:
    """What was sent is received, or left to be; all others are told."""

    def check(table: Table, results: list[object]) -> None:
        received = items(*results[2:4]) + table.rest()
        assert sorted(received) == sent(*results[:2])

    race(
        lambda: Table(capacity),
        [
            lambda table: table.send(1),
            lambda table: table.send(2),
            Table.receive,
            Table.receive,
            lambda table: table.channel.close(),
        ],
        check,
    )


def test_both_ends_cancelled_at_once() -> None:
    """Nobody is left in line, and the item is in exactly one place."""

    def check(table: Table, results: list[object]) -> None:
        assert items(results[1]) + table.rest() == sent(results[0])

    race(
        lambda: Table(0),
        [lambda table: table.send(1), Table.receive, Table.cancel, Table.cancel],
        check,
    )


@pytest.mark.parametrize("capacity", [0, 1, 5])
def test_many_at_both_ends(capacity: int) -> None:
    """Each item arrives once, and those of one producer in order."""
    share = 5

    def produce(first: int) -> Callable[[Table], object]:
        def run(table: Table) -> None:
            for item in range(first, first + share):
                table.channel.send(item)

        return run

    def consume_some(table: Table) -> list[int]:
        return [table.channel.receive() for _ in range(share)]

    def check(table: Table, results: list[object]) -> None:
        received: list[int] = []
        for each in map(as_list, results[2:]):
            for first in (0, 100):
                own = [item for item in each if first <= item < first + share]
                assert own == sorted(own)
            received += each
        assert sorted(received) == [*range(share), *range(100, 100 + share)]

    race(
        lambda: Table(capacity),
        [produce(0), produce(100), consume_some, consume_some],
        check,
    )


def test_drain_and_producers_race_for_the_end() -> None:
    """Each item that was sent is handled once, or is still there and counted."""
    handled: list[int] = []

    def drain(table: Table) -> None:
        with suppress(ContextCancelled, ChannelClosed), Context(table.context):
            consume(table.channel, handled.append, drain=100)

    def check(table: Table, results: list[object]) -> None:
        counts = Counter([*handled, *table.rest()])
        handled.clear()
        assert counts == Counter(sent(*results[:2]))

    race(
        lambda: Table(1),
        [lambda table: table.send(1), lambda table: table.send(2), Table.cancel, drain],
        check,
    )


def test_ticker_is_moved_while_its_context_ends() -> None:
    """The wait ends once, by a tick or without one, and the next one is in order."""

    def wait(ticker: tuple[Ticker, Context]) -> list[int]:
        with ticker[1]:
            for tick in ticker[0]:
                return [tick.index]
        return []

    def check(ticker: tuple[Ticker, Context], results: list[object]) -> None:
        given = as_list(results[0])
        ticker[0].reset(1e-9)
        tick = next(ticker[0])
        assert tick.index - tick.missed == (given[0] + 1 if given else 0)

    race(
        lambda: (Ticker(1000, first="later"), Context.root()),
        [
            wait,
            lambda ticker: ticker[0].reset(1e-9),
            lambda ticker: ticker[1].cancel(),
        ],
        check,
    )
