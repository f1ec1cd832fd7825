"""The exchange against a model: three plain lists, moved up after every step."""

import random
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from safeconc._policy._exchange import EMPTY, END, REFUSED, Exchange


@dataclass(eq=False)
class Member:
    """Somebody in line, who keeps what is handed over."""

    item: int | None = None
    """What a sender brings."""

    handed: list[object] = field(default_factory=list[object])

    def hand(self, value: object = None) -> None:
        """Take what is handed over."""
        self.handed.append(value)


class ExchangeMachine(RuleBasedStateMachine):
    """Items come and go, by the shortcuts as well; members wait, give up, are told.

    The model never decides: it puts everybody in line, and then lets whoever can
    be served go, always from the front.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open(0)

    @initialize(capacity=st.integers(0, 3))
    def begin(self, capacity: int) -> None:
        self.open(capacity)

    @precondition(lambda self: self.closed)
    @rule(capacity=st.integers(0, 3))
    def begin_anew(self, capacity: int) -> None:
        self.open(capacity)

    def open(self, capacity: int) -> None:
        self.capacity = capacity
        self.exchange: Exchange[int] = Exchange(capacity)
        self.items = iter(range(1_000_000))
        self.buffer: list[int] = []
        self.senders: list[Member] = []
        self.receivers: list[Member] = []
        self.expected: dict[Member, list[object]] = {}
        self.closed = False
        self.peak = 0

    def _serve(self) -> None:
        """Let all go who can, in the model."""
        while True:
            if self.receivers and (self.buffer or self.senders):
                item = self.buffer.pop(0) if self.buffer else self._admit()
                self.expected[self.receivers.pop(0)] = [item]
            elif self.senders and len(self.buffer) < self.capacity:
                self.buffer.append(self._admit())
            else:
                break
        self.peak = max(self.peak, len(self.buffer))

    def _admit(self) -> int:
        sender = self.senders.pop(0)
        self.expected[sender] = [None]
        assert sender.item is not None
        return sender.item

    @rule(shortcut=st.booleans())
    def send(self, shortcut: bool) -> None:
        sender = Member(next(self.items))
        assert sender.item is not None
        if shortcut and len(self.exchange.buffer) < self.exchange.easy:
            self.exchange.buffer.append(sender.item)
            done = True
        else:
            done = self.exchange.put(sender.item)
            if not (done or self.closed):
                self.exchange.join_senders(sender, sender.item)
        if self.closed:
            assert not done
            return
        self.expected[sender] = []
        self.senders.append(sender)
        self._serve()

        assert done == (sender not in self.senders)
        if done:
            del self.expected[sender]

    @rule(shortcut=st.booleans())
    def receive(self, shortcut: bool) -> None:
        receiver = Member()
        item = (
            self.exchange.ready.popleft()
            if shortcut and self.exchange.ready
            else (self.exchange.take())
        )
        if self.closed and not self.buffer:
            assert item is EMPTY
            return
        if item is EMPTY:
            self.exchange.join_receivers(receiver)
        self.expected[receiver] = []
        self.receivers.append(receiver)
        self._serve()

        assert (item is EMPTY) == (receiver in self.receivers)
        if item is not EMPTY:
            assert self.expected.pop(receiver) == [item]

    @precondition(lambda self: self.senders or self.receivers)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from([self.senders, self.receivers]).filter(bool))
        member = data.draw(st.sampled_from(line))
        line.remove(member)
        self.exchange.leave(member)
        self._serve()

    @rule()
    def close(self) -> None:
        assert self.exchange.close() is not self.closed

        self.expected.update({member: [END] for member in self.receivers})
        self.expected.update({member: [REFUSED] for member in self.senders})
        self.receivers.clear()
        self.senders.clear()
        self.closed = True

    @invariant()
    def all_is_where_the_model_has_it(self) -> None:
        exchange = self.exchange

        assert list(exchange.buffer) == self.buffer
        assert dict(exchange.senders) == {each: each.item for each in self.senders}
        assert list(exchange.senders) == self.senders
        assert list(exchange.receivers) == self.receivers
        assert exchange.closed is self.closed
        assert exchange.peak == self.peak

    @invariant()
    def each_member_was_handed_what_the_model_says_and_once(self) -> None:
        for member, handed in self.expected.items():
            assert member.handed == handed

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        assert not (self.exchange.receivers and self.exchange.senders)
        assert not (self.exchange.receivers and self.exchange.buffer)
        if self.exchange.senders:
            assert len(self.exchange.buffer) == self.capacity

    @invariant()
    def shortcuts_are_open_when_nobody_waits(self) -> None:
        """They may be taken whenever they can, or they would spare nothing."""
        exchange = self.exchange
        if not (exchange.receivers or self.closed):
            assert exchange.easy == self.peak
        if not exchange.senders:
            assert exchange.ready is exchange.buffer


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None
)


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_items_keep_their_order_across_the_line(capacity: int) -> None:
    """Those in the buffer come before those of senders in line."""
    exchange: Exchange[int] = Exchange(capacity)
    for item in range(6):
        if not exchange.put(item):
            exchange.join_senders(Member(), item)

    assert [exchange.take() for _ in range(6)] == list(range(6))
    assert exchange.take() is EMPTY


def test_what_is_buffered_outlives_the_close() -> None:
    """The senders in line are told, the items in the buffer stay to be taken."""
    exchange: Exchange[int] = Exchange(1)
    exchange.put(1)
    sender = Member()
    exchange.join_senders(sender, 2)

    assert exchange.close()
    assert sender.handed == [REFUSED]
    assert not exchange.put(3)
    assert exchange.take() == 1
    assert exchange.take() is EMPTY
    assert not exchange.close()


def test_any_object_is_an_item() -> None:
    """What is falsy, or equal to everything, is no signal."""
    exchange: Exchange[object] = Exchange(4)
    items = [None, False, (), mock.ANY]
    for item in items:
        exchange.put(item)

    assert [id(exchange.take()) for _ in items] == [id(item) for item in items]


class Counted(Member):
    """A member that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return self is other

    def __hash__(self) -> int:
        return id(self) >> 4


@pytest.mark.parametrize("side", ["senders", "receivers"])
def test_who_gives_up_is_found_without_a_search(side: str) -> None:
    """A thousand that leave in any order are not compared with each other."""
    exchange: Exchange[int] = Exchange(0)
    members = [Counted() for _ in range(1000)]
    for member in members:
        if side == "senders":
            exchange.join_senders(member, 1)
        else:
            exchange.join_receivers(member)
    random.Random(0).shuffle(members)
    Counted.comparisons = 0
    for member in members:
        exchange.leave(member)

    assert not exchange.senders
    assert not exchange.receivers
    assert Counted.comparisons < 10 * len(members)
