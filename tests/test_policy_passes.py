"""Passes: which calls of a hot loop look, and what a look that failed leaves."""

import inspect
import re
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from safeconc._policy._passes import CAREFUL, EVERY, Passes


def grown() -> Passes:
    """Make passes whose first calls are behind them, and where the next one looks."""
    passes = Passes()
    for _ in range(CAREFUL):
        passes.revoke()
        passes.renew()
    passes.revoke()
    return passes


def _is_looking(machine: "PassesMachine") -> bool:
    # No lambda: to show one, Hypothesis parses this file, which CPython 3.11 may fail.
    return machine.looking > 0


class PassesMachine(RuleBasedStateMachine):
    """Calls of several tasks, of which some yield in their look, wait, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = Passes()
        self.looks = 0
        self.looking = 0
        self.allowed = 0
        self.calls = 0
        self.reported = 0
        self.counted = True

    def _renew(self) -> None:
        self.passes.renew()
        self.looks += 1
        self.allowed = 0 if self.looks < CAREFUL else EVERY
        self.counted = self.counted and not self.looking
        self._go()

    def _go(self) -> None:
        self.passes.left -= 1
        self.allowed -= 1
        self.calls += 1

    @rule(count=st.sampled_from([1, 2, EVERY, EVERY + 1, CAREFUL]))
    def call(self, count: int) -> None:
        """Look if one must, and go on."""
        for _ in range(count):
            if self.passes.left < 1:
                self.reported += self.passes.revoke()
                self._renew()
            else:
                assert self.allowed >= 1
                self._go()

    @rule()
    def begin_a_look(self) -> None:
        """Yield in it; a call whose context has ended looks whatever is left."""
        self.reported += self.passes.revoke()
        self.looking += 1
        self.allowed = 0

    @precondition(_is_looking)
    @rule()
    def end_a_look(self) -> None:
        self.looking -= 1
        self._renew()

    @precondition(_is_looking)
    @rule()
    def fail_in_a_look(self) -> None:
        self.looking -= 1

    @rule()
    def wait(self) -> None:
        self.passes.pause()
        if self.looks >= CAREFUL:
            self.allowed = EVERY
            self.counted = False

    @invariant()
    def no_more_calls_are_spared_than_allowed(self) -> None:
        assert max(self.passes.left, 0) == max(self.allowed, 0)
        assert self.passes.left <= EVERY

    @invariant()
    def every_call_is_reported_once(self) -> None:
        """Unless somebody waited, or two looked at once, the budget counts it."""
        if self.counted and self.passes.left == EVERY - 1:
            assert self.reported + self.looks == self.calls


TestPasses = PassesMachine.TestCase
TestPasses.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def looks(passes: Passes, calls: int) -> list[int]:
    """Make calls; tell which of them looked, from 1."""
    looked: list[int] = []
    for call in range(1, calls + 1):
        if passes.left < 1:
            looked.append(call)
            passes.revoke()
            passes.renew()
        passes.left -= 1
    return looked


def test_looks_are_drawn_as_they_come() -> None:
    """The docstring shows which calls look."""
    lines = (inspect.getdoc(Passes) or "").splitlines()
    calls, marks = next(pair for pair in pairwise(lines) if "call: " in pair[0])
    numbers = list(re.finditer(r"\d+", calls))
    drawn = [int(n.group()) for n in numbers if "x" in marks[n.start() : n.end()]]
    shown = {int(number.group()) for number in numbers}

    assert drawn == [call for call in looks(Passes(), 1129) if call in shown]


def test_the_first_thousand_calls_all_look() -> None:
    """After them it is one in 128."""
    assert looks(Passes(), 1300) == [*range(1, 1001), 1128, 1256]


def test_a_look_is_told_how_many_calls_there_were() -> None:
    """So that the budget of the loop counts those that did not look."""
    passes = grown()
    passes.renew()
    passes.left -= 1 + 37  # the call that looked is known

    assert passes.revoke() == 37
    assert passes.revoke() == 0


def test_a_look_that_failed_spares_no_call() -> None:
    """Nor does one that has not ended yet: the next call looks as well."""
    passes = grown()
    passes.renew()
    passes.revoke()

    assert passes.left == 0


def test_a_wait_is_a_look() -> None:
    """Where calls are many, those after a wait need not look again."""
    passes = grown()
    passes.pause()

    assert passes.left == EVERY


def test_a_wait_spares_no_look_while_calls_are_few() -> None:
    """At first every call looks, also after a wait."""
    passes = Passes()
    passes.revoke()
    passes.renew()
    passes.pause()

    assert passes.left == 0
