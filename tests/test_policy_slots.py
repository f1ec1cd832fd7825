"""Slots against a model: a plain list of who holds and who waits."""

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

from safeconc._policy._slots import Slots


class SlotsMachine(RuleBasedStateMachine):
    """Members take slots, wait in line for one, give up, and give back."""

    @initialize(limit=st.none() | st.integers(1, 4))
    def open(self, limit: int | None) -> None:
        self.limit = limit
        self.slots: Slots[int, str] = Slots(limit)
        self.held = 0
        self.line: list[tuple[int, str | None]] = []
        self.names = iter(range(1_000_000))

    def _is_full(self) -> bool:
        return self.limit is not None and self.held >= self.limit

    def _waiting_holders(self) -> list[str]:
        return [holder for _, holder in self.line if holder is not None]

    @rule()
    def take(self) -> None:
        full = self._is_full()

        assert self.slots.take() is not full
        self.held += not full

    @precondition(_is_full)
    @rule(member=st.booleans())
    def join(self, member: bool) -> None:
        waiter = next(self.names)
        waiting = self._waiting_holders()
        holder = None
        if member:
            circle = self.slots.circle()
            if len(waiting) + 1 == self.limit:
                assert circle == tuple(waiting)
                return
            assert circle is None
            holder = f"holder {waiter}"
        self.slots.join(waiter, holder)
        self.line.append((waiter, holder))

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.line))
        self.line.remove(entry)
        self.slots.leave(entry[0])

    @precondition(lambda self: self.held)
    @rule()
    def free(self) -> None:
        if self.line:
            assert self.slots.free() == self.line.pop(0)[0]
        else:
            assert self.slots.free() is None
            self.held -= 1

    @rule()
    def clear(self) -> None:
        assert self.slots.clear() == [waiter for waiter, _ in self.line]
        self.line.clear()

    @invariant()
    def counts_agree(self) -> None:
        assert self.slots.taken == self.held
        assert self.slots.waiting == len(self.line)

    @invariant()
    def limit_holds(self) -> None:
        assert self.limit is None or self.slots.taken <= self.limit

    @invariant()
    def free_slot_means_empty_line(self) -> None:
        assert self._is_full() or not self.line


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("limit", [1, 3])
def test_line_is_first_in_first_out(limit: int) -> None:
    """Slots are handed over in the order of joining."""
    slots: Slots[str, str] = Slots(limit)
    for _ in range(limit):
        slots.take()
    for waiter in "abc":
        slots.join(waiter)

    assert [slots.free() for _ in range(3)] == ["a", "b", "c"]
    assert slots.taken == limit


def test_circle_names_the_holders_in_line() -> None:
    """They come in the order in which they joined; others in line are no members."""
    slots: Slots[int, str] = Slots(3)
    slots.join(1, "a")
    slots.join(2)

    assert slots.circle() is None
    slots.join(3, "b")
    assert slots.circle() == ("a", "b")
    slots.leave(1)
    assert slots.circle() is None
