"""Who gets which visit, and who is at work on one, against the obvious."""

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from safeconc._policy._visits import END, ENDED, Visits


class _Waiter:
    """A consumer in line."""

    def __init__(self) -> None:
        self.handed: Any = None

    def hand(self, value: object = None) -> None:
        """Take it."""
        assert self.handed is None
        self.handed = value


steps = st.lists(
    st.tuples(st.sampled_from(["deliver", "ask", "let go"]), st.integers(0, 3))
)


@given(steps)
def test_each_visit_goes_to_one_in_turn(history: list[tuple[str, int]]) -> None:
    """In the order in which they came, of visits and of consumers."""
    visits: Visits[int] = Visits()
    ready: deque[int] = deque()
    line: deque[tuple[_Waiter, int]] = deque()
    receipts: dict[int, int] = {}
    made = 0

    def got(consumer: int, pair: tuple[int, int], expected: int) -> None:
        assert pair[0] == expected
        assert pair[1] not in receipts.values()
        receipts[consumer] = pair[1]

    for step, consumer in history:
        if step == "deliver":
            made += 1
            assert visits.deliver(made) == (not line)
            if line:
                waiter, first = line.popleft()
                got(first, waiter.handed, made)
            else:
                ready.append(made)
        elif step == "ask" and consumer not in [each for _, each in line]:
            assert visits.put_down(consumer) == (consumer in receipts)
            receipts.pop(consumer, None)
            if ready:
                got(consumer, visits.take(consumer), ready.popleft())
            else:
                waiter = _Waiter()
                visits.consumers[waiter] = consumer
                line.append((waiter, consumer))
        elif step == "let go":
            known = receipts.pop(consumer, 0)
            assert visits.let_go(known) == bool(known)
        assert visits.hands == receipts
        assert list(visits.ready) == list(ready)


def test_the_end_is_told_to_all_in_line() -> None:
    """By a receipt for nothing."""
    visits: Visits[int] = Visits()
    line = [_Waiter(), _Waiter()]
    for number, waiter in enumerate(line):
        visits.consumers[waiter] = number

    visits.finish()
    assert visits.done
    assert [waiter.handed for waiter in line] == [(END, 0)] * 2
    assert not visits.consumers


def test_when_it_is_closed_nothing_is_kept() -> None:
    """Not what was ready or in hand, and not what still comes."""
    visits: Visits[int] = Visits()
    waiter = _Waiter()
    for visit in range(2):
        assert visits.deliver(visit)
    visits.take("a")
    visits.consumers[waiter] = "b"

    visits.close()
    assert not visits.deliver(3)
    assert waiter.handed == (ENDED, 0)
    assert not visits.ready
    assert not visits.hands
