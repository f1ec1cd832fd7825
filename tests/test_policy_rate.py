"""The rate, against the definition of one."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeconc._policy._rate import Rate

# Powers of two, so that all instants are exact and nothing needs a tolerance.
rates = st.integers(-6, 6).map(lambda n: 2.0**n)
bursts = st.integers(1, 6)
pauses = st.lists(st.integers(0, 640).map(lambda n: n / 64), max_size=30)


def _starts(rate: Rate, pauses: list[float]) -> list[tuple[float, float]]:
    """Reserve a start after each pause since the last one; return asked and given."""
    now = 0.0
    starts: list[tuple[float, float]] = []
    for pause in pauses:
        now += pause
        start = rate.reserve(now)
        starts.append((now, start))
        now = max(now, start)
    return starts


@given(rates, bursts, pauses)
def test_no_start_is_in_the_past(rate: float, burst: int, pauses: list[float]) -> None:
    """What is reserved is now or later, and never before an earlier start."""
    starts = _starts(Rate(rate, burst), pauses)

    assert all(start >= now for now, start in starts)
    assert [start for _, start in starts] == sorted(start for _, start in starts)


@given(rates, bursts, pauses)
def test_no_span_has_more_starts_than_the_rate_allows(
    rate: float, burst: int, pauses: list[float]
) -> None:
    """Any span of time t has at most ``burst + t * rate`` starts, ends included."""
    starts = [start for _, start in _starts(Rate(rate, burst), pauses)]

    for i, first in enumerate(starts):
        for j, last in enumerate(starts[i:], 1):
            assert j <= burst + Fraction(last - first) * Fraction(rate)


@given(rates, bursts, pauses)
def test_a_start_is_the_earliest_that_the_rate_allows(
    rate: float, burst: int, pauses: list[float]
) -> None:
    """Who had to wait would otherwise have broken the bound."""
    starts = _starts(Rate(rate, burst), pauses)

    for i, (now, start) in enumerate(starts):
        if start > now:
            assert any(
                i - j + 1 == burst + Fraction(start - starts[j][1]) * Fraction(rate)
                for j in range(i)
            )


@given(rates, bursts, st.integers(1, 40))
def test_under_saturation_starts_are_evenly_spaced(
    rate: float, burst: int, n: int
) -> None:
    """Who always wants to start gets a burst, then one start an interval."""
    policy = Rate(rate, burst)

    starts = [policy.reserve(0.0) for _ in range(burst + n)]

    assert starts == [0.0] * burst + [i / rate for i in range(1, n + 1)]


@given(rates, bursts)
def test_a_long_pause_saves_one_burst_up_and_no_more(rate: float, burst: int) -> None:
    """However long nothing started, at most *burst* starts are there at once."""
    policy = Rate(rate, burst)
    policy.reserve(0.0)

    starts = [policy.reserve(1024.0) for _ in range(burst + 1)]

    assert starts == [1024.0] * burst + [1024.0 + 1 / rate]


def test_whole_numbers_will_do() -> None:
    """A rate is a number of starts per second, of whatever type."""
    policy = Rate(2)

    assert [policy.reserve(5) for _ in range(3)] == [5, 5.5, 6]


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, -math.inf])
def test_a_rate_must_be_positive(rate: float) -> None:
    """And finite: without a rate there is no need for one."""
    with pytest.raises(ValueError, match="rate must be positive and finite, not"):
        Rate(rate)


@pytest.mark.parametrize("rate", ["1", None, True, 1j])
def test_a_rate_must_be_a_number(rate: Any) -> None:
    """The error tells its unit."""
    with pytest.raises(TypeError, match="rate must be a number of starts per second"):
        Rate(rate)


@pytest.mark.parametrize("burst", [1.5, "1", None, True])
def test_a_burst_must_be_a_whole_number(burst: Any) -> None:
    """There is no half start."""
    with pytest.raises(TypeError, match="burst must be a whole number, not"):
        Rate(1, burst)


@pytest.mark.parametrize("burst", [0, -3])
def test_a_burst_must_be_positive(burst: int) -> None:
    """One start at once is the least."""
    with pytest.raises(ValueError, match="burst must be at least 1, not"):
        Rate(1, burst)
