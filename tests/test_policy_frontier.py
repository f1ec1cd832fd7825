"""The frontier, against a model that is simple enough to be right."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from safeconc._policy._frontier import (
    IN_A_ROW,
    NOTHING,
    PAUSE,
    USED_UP,
    Frontier,
    FrontierFull,
    Lazy,
    Order,
    Overflow,
)

Made = tuple[str, int, int]
"""A job in these tests: how it came, its depth and its item."""

orders: st.SearchStrategy[Order] = st.sampled_from(("depth", "breadth"))
overflows: st.SearchStrategy[Overflow] = st.sampled_from(("raise", "drop"))


def run(fn: Callable[..., Any], *args: Any) -> Any:
    """Call it here: in these tests all surroundings are the same."""
    return fn(*args)


def lazily(depth: int, items: Iterable[int]) -> Lazy[Any]:
    """Make an iterable of jobs."""
    return Lazy(depth, iter(items), lambda item: ("lazy", depth, item), run)


def submit(frontier: Frontier[Any], item: int, depth: int = 0) -> bool:
    """Do what a tree does to submit a job."""
    admitted = frontier.admits(item, depth)
    if admitted:
        frontier.waiting.append(("job", depth, item))
    return admitted


def submit_lazy(frontier: Frontier[Any], items: Iterable[int], depth: int = 0) -> bool:
    """Do what a tree does to submit an iterable."""
    admitted = frontier.admits_lazy(depth)
    if admitted:
        frontier.waiting.append(lazily(depth, items))
    return admitted


def drain(frontier: Frontier[Any]) -> Iterator[Any]:
    """Take all the jobs."""
    while (job := frontier.take()) is not NOTHING:
        yield job


# Order


@given(st.lists(st.integers()))
def test_depth_first_takes_the_newest(items: list[int]) -> None:
    """Last in, first out."""
    frontier: Frontier[Made] = Frontier()
    for item in items:
        submit(frontier, item)

    assert [job[2] for job in drain(frontier)] == items[::-1]


@given(st.lists(st.integers()))
def test_breadth_first_takes_the_oldest(items: list[int]) -> None:
    """First in, first out."""
    frontier: Frontier[Made] = Frontier(order="breadth")
    for item in items:
        submit(frontier, item)

    assert [job[2] for job in drain(frontier)] == items


@given(orders, st.lists(st.integers()))
def test_items_of_an_iterable_keep_their_order(order: Order, items: list[int]) -> None:
    """Whichever the order of the jobs is."""
    frontier: Frontier[Made] = Frontier(order=order)
    submit_lazy(frontier, items)

    assert [job[2] for job in drain(frontier)] == items


@pytest.mark.parametrize(
    "order, visited, peak", [("depth", "acgfbed", 3), ("breadth", "abcdefg", 4)]
)
def test_drawing_in_the_docstring(order: Order, visited: str, peak: int) -> None:
    """The tree that is drawn there is walked as it says."""
    children = {"a": "bc", "b": "de", "c": "fg"}
    frontier: Frontier[str] = Frontier(order=order)
    frontier.waiting.append("a")
    seen = ""

    while (job := frontier.take()) is not NOTHING:
        seen += job
        frontier.waiting.extend(children.get(job, ""))

    assert (seen, frontier.peak) == (visited, peak)


def test_children_come_before_the_rest_of_the_iterable_of_their_parent() -> None:
    """Depth-first, a branch is walked to its end before the next item is taken."""
    frontier: Frontier[Made] = Frontier()
    submit_lazy(frontier, [1, 2])

    assert frontier.take() == ("lazy", 0, 1)
    submit_lazy(frontier, [11, 12], depth=1)
    assert [job[2] for job in drain(frontier)] == [11, 12, 2]


def test_a_deep_tree_of_iterables_waits_as_one_entry_for_each_level() -> None:
    """A tree of 1,111 nodes never has more than three waiting."""
    frontier: Frontier[Made] = Frontier(max_depth=3)
    submit_lazy(frontier, [0])
    count = 0

    for _, depth, _ in drain(frontier):
        count += 1
        submit_lazy(frontier, range(10), depth + 1)

    assert count == 1111
    assert frontier.peak == 4
    assert frontier.accepted == [1, 10, 100, 1000]


# Who is refused


def test_too_deep() -> None:
    """What is deeper than the maximum is counted, an iterable as one."""
    frontier: Frontier[Made] = Frontier(max_depth=0)

    assert submit(frontier, 1)
    assert not submit(frontier, 1, depth=1)
    assert not submit_lazy(frontier, [1, 2, 3], depth=1)
    assert frontier.too_deep == 2
    assert frontier.accepted == [1]


def test_equal_keys_are_one_job() -> None:
    """The first one is accepted, from an iterable too; the others are counted."""
    frontier: Frontier[Made] = Frontier(key=abs)

    assert submit(frontier, 1)
    assert not submit(frontier, -1)
    submit_lazy(frontier, [1, 2, -2, 3])
    assert [job[2] for job in drain(frontier)] == [2, 3, 1]
    assert frontier.duplicates == 3
    assert frontier.seen == 3


def test_none_is_a_key_like_any_other() -> None:
    """A function that gives None for two items says that they are equal."""
    frontier: Frontier[Made] = Frontier(key=lambda _: None)

    assert submit(frontier, 1)
    assert not submit(frontier, 2)


def test_what_was_dropped_may_come_again() -> None:
    """Only the keys of jobs that were accepted are remembered."""
    frontier: Frontier[Made] = Frontier(key=abs, max_frontier=1, overflow="drop")
    submit(frontier, 1)

    assert not submit(frontier, 2)
    frontier.take()
    assert submit(frontier, 2)
    assert (frontier.dropped, frontier.duplicates, frontier.seen) == (1, 0, 2)


def test_a_duplicate_of_a_full_frontier_is_a_duplicate() -> None:
    """It would have been refused anyway, so nothing is raised."""
    frontier: Frontier[Made] = Frontier(key=abs, max_frontier=1)
    submit(frontier, 1)

    assert not submit(frontier, -1)
    assert frontier.duplicates == 1


def test_a_full_frontier_raises() -> None:
    """The error says what to do; nothing was accepted."""
    frontier: Frontier[Made] = Frontier(max_frontier=2)
    submit(frontier, 1)
    submit_lazy(frontier, [2])

    with pytest.raises(FrontierFull, match=r"2 jobs wait.*submit_from"):
        submit(frontier, 3)
    with pytest.raises(FrontierFull):
        submit_lazy(frontier, [3])
    assert frontier.dropped == 2
    assert frontier.accepted == [1]


def test_items_of_an_iterable_need_no_place() -> None:
    """They are taken when their turn comes, so a full frontier takes them."""
    frontier: Frontier[Made] = Frontier(max_frontier=1)
    submit_lazy(frontier, range(5))

    assert len(list(drain(frontier))) == 5
    assert frontier.dropped == 0


def test_budget_is_for_all_jobs() -> None:
    """After so many the rest is refused; an iterable is closed, and counts as one."""
    frontier: Frontier[Made] = Frontier(max_jobs=3)
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(1)

    submit(frontier, 1)
    submit_lazy(frontier, items())

    assert [frontier.take()[2] for _ in range(2)] == [0, 1]
    assert not submit(frontier, 2, depth=1)
    assert closed == []
    assert [job[2] for job in drain(frontier)] == [1]
    assert closed == [1]
    assert frontier.over_budget == 2


def test_no_budget_at_all() -> None:
    """Nothing is accepted, and no iterable is even looked at."""
    frontier: Frontier[Made] = Frontier(max_jobs=0)

    def items() -> Iterator[int]:
        pytest.fail("was asked for an item")
        yield 1

    assert not submit(frontier, 1)
    submit_lazy(frontier, items())
    assert list(drain(frontier)) == []
    assert frontier.over_budget == 2
    assert frontier.accepted == []


def test_budget_costs_the_same_at_any_depth() -> None:
    """A chain of jobs is no slower for being long: its levels are not added up."""

    class Counts(list[int]):
        def __iter__(self) -> Iterator[int]:
            pytest.fail("looked at all levels")

    frontier: Frontier[Made] = Frontier(max_jobs=10)
    frontier.accepted = Counts()

    assert [submit(frontier, 1, depth) for depth in range(11)] == [True] * 10 + [False]


def test_words_are_checked() -> None:
    """An unknown order or overflow is refused, and the known ones are named."""
    with pytest.raises(ValueError, match='"depth" or "breadth", not \'random\''):
        Frontier(order="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='"raise" or "drop", not \'block\''):
        Frontier(overflow="block")  # type: ignore[arg-type]


# Faults


def test_a_key_that_raises_leaves_no_trace() -> None:
    """Its item is neither accepted nor refused."""

    def key(item: int) -> int:
        return 1 // item

    frontier: Frontier[Made] = Frontier(key=key)

    with pytest.raises(ZeroDivisionError):
        submit(frontier, 0)
    assert frontier.accepted == []
    assert frontier.seen == frontier.duplicates == 0


def test_an_iterable_that_raises_is_gone() -> None:
    """The error comes out of the take, and the next take looks elsewhere."""

    def items() -> Iterator[int]:
        yield 1
        raise ValueError

    frontier: Frontier[Made] = Frontier()
    submit(frontier, 0)
    submit_lazy(frontier, items())

    assert frontier.take()[2] == 1
    with pytest.raises(ValueError):
        frontier.take()
    assert [job[2] for job in drain(frontier)] == [0]


def test_an_iterable_is_closed_when_the_key_of_an_item_raises() -> None:
    """It learns at once that no more will be taken."""
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            closed.append(1)

    def key(item: int) -> int:
        return 1 // item

    frontier: Frontier[Made] = Frontier(key=key)
    submit_lazy(frontier, items())

    with pytest.raises(ZeroDivisionError):
        frontier.take()
    assert closed == [1]
    assert frontier.take() is NOTHING


def test_an_iterable_that_submits_while_it_is_asked() -> None:
    """What it submitted is taken next, and itself is found where it stands."""
    frontier: Frontier[Made] = Frontier()

    def items() -> Iterator[int]:
        submit(frontier, 10)
        yield 1
        submit(frontier, 20)
        submit(frontier, 30)

    submit_lazy(frontier, items())

    assert [job[2] for job in drain(frontier)] == [1, 10, 30, 20]
    assert frontier.peak == 3


def test_an_iterable_that_has_the_frontier_cleared() -> None:
    """It is not there any more when it is to be removed."""
    frontier: Frontier[Made] = Frontier()

    def items() -> Iterator[int]:
        frontier.clear()
        yield from ()

    submit_lazy(frontier, items())

    assert frontier.take() is NOTHING


def test_peak_counts_what_waited_before_it_was_cleared() -> None:
    """Though nobody has taken a job in between."""
    frontier: Frontier[Made] = Frontier()
    for item in range(5):
        submit(frontier, item)

    assert len(frontier.clear()) == 5
    assert frontier.peak == 5


def test_closing_reaches_generators_in_their_surroundings() -> None:
    """Other iterators have no end that one could tell them."""
    called: list[object] = []
    generator = (item for item in range(3))

    Lazy(0, generator, str, called.append).close()
    Lazy(0, iter([1, 2]), str, called.append).close()

    assert called == [generator.close]


def test_many_refusals_in_a_row_make_a_pause() -> None:
    """So that others get their turn; then it goes on where it stood."""
    frontier: Frontier[Made] = Frontier(key=lambda _: 0)
    submit_lazy(frontier, range(3 * IN_A_ROW - 1))

    assert frontier.take() == ("lazy", 0, 0)
    assert [frontier.take() for _ in range(2)] == [PAUSE, PAUSE]
    assert frontier.take() is NOTHING
    assert frontier.duplicates == 3 * IN_A_ROW - 2


def test_empty_iterables_make_a_pause_too() -> None:
    """A hundred of them are as much work as a hundred refused items."""
    frontier: Frontier[Made] = Frontier()
    for _ in range(IN_A_ROW + 1):
        submit_lazy(frontier, [])

    assert frontier.take() is PAUSE
    assert frontier.take() is NOTHING


def test_a_used_up_iterable_is_found_without_a_search() -> None:
    """However many jobs wait before it."""

    class Deaf:
        def __eq__(self, other: object) -> bool:
            pytest.fail("was compared")

        __hash__ = None  # type: ignore[assignment]

    frontier: Frontier[Any] = Frontier()
    frontier.waiting.append(Deaf())
    submit_lazy(frontier, [])

    assert isinstance(frontier.take(), Deaf)


# The model


class _Machine(RuleBasedStateMachine):
    """A frontier beside a list, and the rules in their plainest words."""

    @initialize(
        options=st.fixed_dictionaries(
            {
                "order": orders,
                "overflow": overflows,
                "max_depth": st.none() | st.integers(0, 3),
                "max_frontier": st.none() | st.integers(1, 4),
                "max_jobs": st.none() | st.integers(0, 12),
            }
        ),
        modulus=st.none() | st.integers(1, 8),
    )
    def make(self, options: Any, modulus: int | None) -> None:
        self.newest_first = options["order"] == "depth"
        self.raises = options["overflow"] == "raise"
        self.max_depth: int | None = options["max_depth"]
        self.max_frontier: int | None = options["max_frontier"]
        self.max_jobs: int | None = options["max_jobs"]
        self.modulus = modulus
        self.frontier: Frontier[Any] = Frontier(
            key=None if modulus is None else lambda item: item % modulus, **options
        )
        self.waiting: list[Any] = []
        self.accepted: list[tuple[int, int]] = []
        self.refused: list[str] = []
        self.peak = 0

    def refusal(self, item: int | None, depth: int, *, waits: bool) -> str | None:
        """Say why an item, or an iterable, is refused, by the definition."""
        if self.max_depth is not None and depth > self.max_depth:
            return "too_deep"
        if item is not None:
            if self.modulus is not None and any(
                item % self.modulus == known % self.modulus
                for known, _ in self.accepted
            ):
                return "duplicates"
            if len(self.accepted) == self.max_jobs:
                return "over_budget"
        if waits and len(self.waiting) == self.max_frontier:
            return "dropped"
        return None

    def expect(self, call: Callable[[], bool], reason: str | None) -> None:
        """Submit, and see that it is refused for *reason*."""
        if reason == "dropped" and self.raises:
            with pytest.raises(FrontierFull):
                call()
        else:
            assert call() == (reason is None)
        if reason is not None:
            self.refused.append(reason)
        self.peak = max(self.peak, len(self.waiting))

    def deepest(self) -> int:
        """Return how deep a job may be: one deeper than those that there were."""
        return 1 + max((depth for _, depth in self.accepted), default=-1)

    @rule(data=st.data(), item=st.integers(0, 20))
    def submit(self, data: st.DataObject, item: int) -> None:
        depth = data.draw(st.integers(0, self.deepest()))
        reason = self.refusal(item, depth, waits=True)
        assert reason is None or depth >= self.frontier.easy
        if reason is None:
            self.accepted.append((item, depth))
            self.waiting.append(("job", depth, item))
        self.expect(lambda: submit(self.frontier, item, depth), reason)

    @rule(data=st.data(), items=st.lists(st.integers(0, 20), max_size=5))
    def submit_lazy(self, data: st.DataObject, items: list[int]) -> None:
        depth = data.draw(st.integers(0, self.deepest()))
        reason = self.refusal(None, depth, waits=True)
        if reason is None:
            self.waiting.append((depth, list(items)))
        self.expect(lambda: submit_lazy(self.frontier, items, depth), reason)

    def next(self) -> Any:
        """Return the job whose turn it is, by the definition."""
        while self.waiting:
            place = -1 if self.newest_first else 0
            entry = self.waiting[place]
            if entry[0] == "job":
                return self.waiting.pop(place)
            depth, items = entry
            spent = len(self.accepted) == self.max_jobs
            if spent:  # nobody looks whether it would have had an item
                self.refused.append("over_budget")
            if spent or not items:
                self.waiting.pop(place)
                continue
            item = items.pop(0)
            reason = self.refusal(item, depth, waits=False)
            if reason is None:
                self.accepted.append((item, depth))
                return ("lazy", depth, item)
            self.refused.append(reason)
        return NOTHING

    @rule()
    def take(self) -> None:
        assert self.frontier.take() == self.next()

    @precondition(lambda self: bool(self.waiting))
    @rule()
    def clear(self) -> None:
        assert len(self.frontier.clear()) == len(self.waiting)
        self.waiting.clear()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "frontier"):
            return
        frontier = self.frontier
        assert len(frontier.waiting) == len(self.waiting)
        assert frontier.peak == self.peak
        assert frontier.accepted == [
            sum(depth == level for _, depth in self.accepted)
            for level in range(self.deepest())
        ]
        for reason in ("too_deep", "duplicates", "over_budget", "dropped"):
            assert getattr(frontier, reason) == self.refused.count(reason)
        assert frontier.seen == (0 if self.modulus is None else len(self.accepted))
        if (self.modulus, self.max_frontier, self.max_jobs) == (None, None, None):
            assert frontier.easy == self.deepest()


test_frontier_agrees_with_the_model = _Machine.TestCase
test_frontier_agrees_with_the_model.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)


# In steps


@given(
    orders,
    st.lists(st.none() | st.lists(st.integers(), max_size=3), max_size=6),
    st.randoms(use_true_random=False),
)
def test_what_is_in_hand_is_nobody_elses(
    order: Order, entries: list[list[int] | None], random: Random
) -> None:
    """Others get what comes after it, and in the end each item has come once."""
    frontier: Frontier[Any] = Frontier(order=order)
    for number, items in enumerate(entries):
        if items is None:
            submit(frontier, number)
        else:
            submit_lazy(frontier, items)
    first = -1 if order == "depth" else 0
    hands: list[Lazy[Any]] = []
    taken: list[Any] = []
    while frontier.waiting:
        free = [entry for entry in frontier.waiting if entry not in hands]
        assert frontier.has_free() == bool(free)
        if hands and (not free or random.random() < 0.5):
            hand = hands.pop(random.randrange(len(hands)))
            if (item := hand.next()) is USED_UP:
                frontier.drop(hand)
            else:
                taken.append(item)
                frontier.lay_back(hand)
            continue
        entry: Any = frontier.pick()
        assert entry == free[first]
        if isinstance(entry, Lazy):
            hands.append(entry)  # pyright: ignore[reportUnknownArgumentType]
        else:
            taken.append(entry)

    assert frontier.pick() is NOTHING
    assert Counter(taken) == Counter(
        each
        for number, items in enumerate(entries)
        for each in ([("job", 0, number)] if items is None else items)
    )


def test_what_comes_to_its_turn_too_late_is_asked_nothing() -> None:
    """It is still in hand, to be closed and dropped."""
    frontier: Frontier[Any] = Frontier(max_jobs=0)
    submit_lazy(frontier, [1, 2])

    entry: Any = frontier.pick()
    assert entry.next() is USED_UP
    assert frontier.over_budget == 1
    frontier.drop(entry)
    assert not frontier.waiting


def test_an_iterable_in_hand_may_have_been_cleared_away() -> None:
    """Whoever has it lays it back, and nothing is miscounted."""
    frontier: Frontier[Any] = Frontier()
    submit_lazy(frontier, [1])
    entry: Any = frontier.pick()
    assert frontier.clear() == [entry]
    submit(frontier, 2)

    frontier.drop(entry)
    assert frontier.has_free()
    assert list(drain(frontier)) == [("job", 0, 2)]
