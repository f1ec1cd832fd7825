"""The window of results, against a model that is simple enough to be right."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from pytest import raises  # noqa: PT013 - pytest's other names are not needed here

from safeconc._policy._window import Window


@given(st.permutations(range(8)))
def test_ordered_results_leave_in_the_order_of_the_starts(finish: list[int]) -> None:
    """However they finish, 0 leaves first."""
    window: Window[int] = Window(ordered=True)
    keys = [window.start() for _ in finish]
    left: list[int] = []

    for key in finish:
        window.finish(key, key)
        while window.is_ready():
            left.append(window.take())

    assert left == keys == list(range(8))


@given(st.permutations(range(8)))
def test_unordered_results_leave_in_the_order_of_the_finishes(
    finish: list[int],
) -> None:
    """Who is ready first leaves first."""
    window: Window[int] = Window(ordered=False)
    for _ in finish:
        window.start()
    left: list[int] = []

    for key in finish:
        window.finish(key, key)
        while window.is_ready():
            left.append(window.take())

    assert left == finish


def test_nothing_to_take() -> None:
    """An empty window has nothing; neither has one whose first is not finished."""
    window: Window[int] = Window(ordered=True)
    window.start()
    window.finish(window.start(), 1)

    assert not window.is_ready()
    with raises(IndexError):
        window.take()


class _Machine(RuleBasedStateMachine):
    """A window beside two lists: what has finished, and what has left."""

    @initialize(ordered=st.booleans())
    def make(self, ordered: bool) -> None:
        self.ordered = ordered
        self.window: Window[str] = Window(ordered=ordered)
        self.running: list[int] = []
        self.finished: list[int] = []
        self.taken: list[int] = []
        self.started = 0

    @rule()
    def start(self) -> None:
        assert self.window.start() == self.started
        self.running.append(self.started)
        self.started += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.window.finish(key, f"result {key}")
        self.finished.append(key)

    def next(self) -> int | None:
        """Return which result may leave, by the definition."""
        if not self.ordered:
            return self.finished[0] if self.finished else None
        return len(self.taken) if len(self.taken) in self.finished else None

    @rule()
    def take(self) -> None:
        key = self.next()
        if key is None:
            with raises(IndexError):
                self.window.take()
        else:
            assert self.window.take() == f"result {key}"
            self.finished.remove(key)
            self.taken.append(key)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "window"):
            assert self.window.started == self.started
            assert self.window.buffered == len(self.finished)
            assert self.window.outstanding == self.started - len(self.taken)
            assert self.window.is_ready() == (self.next() is not None)


test_window_agrees_with_the_model = _Machine.TestCase
test_window_agrees_with_the_model.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)


def test_what_is_put_back_is_the_next_one() -> None:
    """And counts as outstanding again."""
    window: Window[int] = Window(ordered=True)
    for key in range(2):
        window.start()
        window.finish(key, key)

    window.put_back(window.take())

    assert window.outstanding == window.buffered == 2
    assert [window.take(), window.take()] == [0, 1]


def test_clear_drops_what_nobody_will_take() -> None:
    """Finished results go, whether they may leave already or not."""
    window: Window[int] = Window(ordered=True)
    for _ in range(3):
        window.start()
    window.finish(0, 0)
    window.finish(2, 2)

    window.clear()

    assert window.buffered == 0
    assert not window.is_ready()
