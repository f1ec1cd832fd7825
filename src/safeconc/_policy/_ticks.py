"""Which tick is due, and what becomes of those that nobody came for."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

First = Literal["now", "later"]
Missed = Literal["skip", "burst", "delay"]

SHORTEST = 1e-9
"""The shortest period, in seconds. No clock tells less than a nanosecond."""


@final
@dataclass(frozen=True, slots=True)
class Tick:
    """One tick, as it was given."""

    index: int
    """The number of ticks before it, given or missed."""

    due: float
    """The instant at which it was to be given, on the clock of the ticker."""

    late: float
    """Seconds between :attr:`due` and the instant at which it was given."""

    missed: int
    """Ticks skipped between the previous one and this."""


@final
class Ticks:
    """A grid of instants, and the tick that is next on it.

    Whoever uses it asks, waits until :attr:`due`, and takes the tick. Asking takes
    nothing, so a wait that was given up has lost nothing.

    Each instant is one multiplication away from where the grid is anchored, never
    the sum of periods: the billionth tick is as exact as the first. Which of many
    overdue ticks is the latest is found by comparing instants, too. A division
    would be rounded in its own way, and give a tick before it is due.

    :param choose: returns a number from 0 up to 1, for *jitter*.
    """

    __slots__ = (
        "_asked",
        "_base",
        "_choose",
        "_first",
        "_jitter",
        "_missed",
        "_next",
        "_origin",
        "_period",
        "_shift",
        "_started",
        "due",
    )

    due: float
    """The instant of the next tick, once somebody has asked."""

    def __init__(
        self,
        period: float,
        *,
        first: First = "now",
        missed: Missed = "skip",
        jitter: float = 0.0,
        choose: Callable[[], float] = random.random,
    ) -> None:
        if first not in ("now", "later"):
            raise ValueError(f'first must be "now" or "later", not {first!r}')
        if missed not in ("skip", "burst", "delay"):
            raise ValueError(
                f'missed must be "skip", "burst" or "delay", not {missed!r}'
            )
        self._jitter = _seconds("jitter", jitter)
        self._period = self._checked(period)
        self._first = first
        self._missed = missed
        self._choose = choose
        self._next = 0
        self._base = 0
        self._origin = self._asked = 0.0
        self._started = False
        self._shift = 0.0

    def ask(self, now: float) -> None:
        """Begin to wait for the next tick; the first time, anchor the grid."""
        self._asked = now
        if not self._started:
            self._anchor(now if self._first == "now" else now + self._period)
            self._started = True

    def take(self, now: float) -> Tick:
        """Give the tick, which is due by *now*, and go on to the next one.

        If it was due before it was asked for, the body overran; otherwise only the
        wake-up came late.
        """
        index, due = self._next, self.due
        overslept = self._instant(index + 1) <= now
        if overslept and self._missed == "skip":
            index = self._latest(now)
            due = self._instant(index)
        missed = index - self._next
        if self._missed == "delay" and (overslept or self._asked > due):
            self._base, self._origin = index, now
        self._next = index + 1
        self._plan()
        return Tick(index, due, now - due, missed)

    def reset(self, period: float | None, now: float) -> None:
        """Move the grid, so that the next tick is one period after *now*.

        Before anybody has asked, only the period counts.

        :param period: the new one; None keeps the old one.
        """
        if period is not None:
            self._period = self._checked(period)
        self._anchor(now + self._period)

    def _anchor(self, instant: float) -> None:
        self._base, self._origin = self._next, instant
        self._plan()

    def _plan(self) -> None:
        if self._jitter:
            self._shift = self._jitter * self._choose()
        self.due = self._instant(self._next)

    def _instant(self, index: int) -> float:
        return self._origin + (index - self._base) * self._period + self._shift

    def _latest(self, now: float) -> int:
        """Find the latest tick that is due, given that the next one is."""
        index, step = self._next, 1
        while self._instant(index + step) <= now:
            index += step
            step *= 2
        while step > 1:
            step //= 2
            if self._instant(index + step) <= now:
                index += step
        return index

    def _checked(self, period: float) -> float:
        seconds = _seconds("period", period)
        if not SHORTEST <= seconds < math.inf:
            raise ValueError(
                "period must be positive and finite, a nanosecond at least, "
                f"not {period!r}"
            )
        if not 0 <= self._jitter <= seconds:
            raise ValueError(
                "jitter must be between 0 and the period, or ticks would overtake "
                f"each other: it is {self._jitter!r}, the period {seconds!r}"
            )
        return seconds


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} takes seconds as a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf
