"""The ticks, against the definition of a grid."""

import math
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeconc._policy._ticks import First, Missed, Tick, Ticks

MISSED: tuple[Missed, ...] = ("skip", "burst", "delay")

policies = st.sampled_from(MISSED)
firsts: st.SearchStrategy[First] = st.sampled_from(("now", "later"))

# Powers of two and their multiples, so that all instants are exact.
exact_periods = st.integers(-6, 6).map(lambda n: 2.0**n)
exact_times = st.integers(0, 640).map(lambda n: n / 64)

# And what users write, where every sum and product is rounded.
periods = st.floats(1e-9, 1e6)
times = st.floats(0, 1e9)


def waits(ticks: Ticks, steps: list[tuple[float, float]], now: float) -> Iterator[Any]:
    """Yield each tick with the instants at which it was asked for and given.

    :param steps: how long each body takes, and how late each wake-up is.
    """
    for busy, late in steps:
        now += busy
        ticks.ask(now)
        asked, now = now, max(now, ticks.due) + late
        yield ticks.take(now), asked, now


@given(exact_periods, firsts, policies, exact_times, st.integers(1, 40))
def test_a_punctual_body_gets_every_tick_on_the_grid(
    period: float, first: First, missed: Missed, start: float, n: int
) -> None:
    """Tick n is due n periods after the first one, whatever the policy."""
    ticks = Ticks(period, first=first, missed=missed)

    seen = [tick for tick, _, _ in waits(ticks, [(0, 0)] * n, start)]

    origin = start + period * (first == "later")
    assert seen == [Tick(i, origin + i * period, 0.0, 0) for i in range(n)]


@given(periods, firsts, policies, times, st.lists(st.tuples(times, times), min_size=1))
def test_no_tick_is_early_and_none_comes_twice(
    period: float,
    first: First,
    missed: Missed,
    start: float,
    steps: list[tuple[float, float]],
) -> None:
    """Also where the grid is finer than the clock can tell."""
    last = -1
    for tick, _, now in waits(Ticks(period, first=first, missed=missed), steps, start):
        assert tick.due <= now
        assert tick.late == now - tick.due
        assert tick.index > last
        last = tick.index


@given(periods, firsts, policies, times, st.lists(st.tuples(times, times), min_size=1))
def test_every_tick_is_given_or_counted(
    period: float,
    first: First,
    missed: Missed,
    start: float,
    steps: list[tuple[float, float]],
) -> None:
    """The index is one less than the ticks given so far and all that they missed."""
    counted = 0
    for tick, _, _ in waits(Ticks(period, first=first, missed=missed), steps, start):
        counted += 1 + tick.missed
        assert tick.index + 1 == counted


@given(exact_periods, st.lists(st.tuples(exact_times, exact_times), min_size=1))
def test_skip_gives_the_latest_tick_that_is_due(
    period: float, steps: list[tuple[float, float]]
) -> None:
    """It is the one that a division of exact numbers finds."""
    for tick, _, now in waits(Ticks(period, missed="skip"), steps, 0.0):
        origin = steps[0][0]
        assert tick.index == (Fraction(now) - Fraction(origin)) // Fraction(period)
        assert tick.due == origin + tick.index * period


@given(periods, times, st.lists(st.tuples(times, times), min_size=1))
def test_skip_leaves_nothing_overdue(
    period: float, start: float, steps: list[tuple[float, float]]
) -> None:
    """However instants are rounded, the next tick is in the future."""
    ticks = Ticks(period, missed="skip")
    for _, _, now in waits(ticks, steps, start):
        assert ticks.due > now


@given(exact_periods, st.lists(st.tuples(exact_times, exact_times), min_size=1))
def test_burst_gives_each_tick_at_its_due_instant_or_as_soon_as_possible(
    period: float, steps: list[tuple[float, float]]
) -> None:
    """None is missed, and the grid stays where it was."""
    for n, (tick, asked, now) in enumerate(
        waits(Ticks(period, missed="burst"), steps, 0.0)
    ):
        due = steps[0][0] + n * period
        assert (tick.index, tick.due, tick.missed) == (n, due, 0)
        assert now - max(asked, due) == steps[n][1]


@given(exact_periods, st.lists(st.tuples(exact_times, exact_times), min_size=2))
def test_delay_keeps_a_period_after_each_tick_that_was_asked_for_too_late(
    period: float, steps: list[tuple[float, float]]
) -> None:
    """Otherwise the grid stays, unless a whole period was slept through."""
    ticks = Ticks(period, missed="delay")
    for n, (tick, asked, now) in enumerate(waits(ticks, steps, 0.0)):
        moved = asked > tick.due or now >= tick.due + period
        assert (tick.index, tick.missed) == (n, 0)
        assert ticks.due == (now if moved else tick.due) + period


@pytest.mark.parametrize("missed", MISSED)
@pytest.mark.parametrize("back", [0.0, 1.0, 1e9])
def test_a_clock_that_stands_still_or_goes_back_gives_no_tick_twice(
    missed: Missed, back: float
) -> None:
    """What was given stays given, and the next tick waits for its own instant."""
    ticks = Ticks(0.5, missed=missed)
    ticks.ask(2e9)
    first = ticks.take(2e9)
    ticks.ask(2e9 - back)

    assert first == Tick(0, 2e9, 0.0, 0)
    assert ticks.due == 2e9 + 0.5


@given(periods, times)
def test_a_clock_that_stands_still_has_an_end_of_overdue_ticks(
    period: float, now: float
) -> None:
    """Even a burst on a grid finer than the clock comes to a tick in the future."""
    ticks = Ticks(period, missed="burst")
    ticks.ask(now)
    while ticks.due <= now:
        ticks.take(now)

    assert ticks.due > now


@pytest.mark.parametrize("period", [0.1, 1 / 3, 1e-9, 86_400.0])
def test_the_billionth_tick_has_not_drifted(period: float) -> None:
    """Its instant is rounded as one multiplication is, not as a billion sums are."""
    ticks = Ticks(period)
    ticks.ask(0.0)
    tick = ticks.take(10**9 * period)

    assert tick == Tick(10**9, 10**9 * period, 0.0, 10**9)
    assert ticks.due == (10**9 + 1) * period


def test_to_find_the_latest_tick_takes_no_time_per_missed_one() -> None:
    """A machine that slept for a century is told so at once."""
    ticks = Ticks(2.0**-20)
    ticks.ask(0.0)

    assert ticks.take(2.0**32) == Tick(2**52, 2.0**32, 0.0, 2**52)


@given(
    exact_periods,
    policies,
    st.lists(st.tuples(st.integers(0, 63), exact_times, exact_times), min_size=1),
)
def test_jitter_is_added_to_each_instant_and_does_not_add_up(
    period: float, missed: Missed, draws: list[tuple[int, float, float]]
) -> None:
    """A tick comes in its own part of the grid, as far from the line as was drawn."""
    numbers = [each / 64 for each, _, _ in draws]
    choose = iter([*numbers, 0.0]).__next__
    ticks = Ticks(period, missed=missed, jitter=period, choose=choose)
    steps = [(busy, 0.0) for _, busy, _ in draws]

    line = steps[0][0]
    seen = waits(ticks, steps, 0.0)
    for number, (tick, asked, now) in zip(numbers, seen, strict=True):
        if missed == "delay":
            assert tick.due == line + number * period
            line = period + (now if asked > tick.due else line)
        else:
            assert tick.due == line + (tick.index + number) * period


@given(exact_periods, exact_periods, exact_times, policies, firsts)
def test_reset_moves_the_grid(
    period: float, new: float, busy: float, missed: Missed, first: First
) -> None:
    """The next tick is one period away, the one after it another, and none is lost."""
    ticks = Ticks(period, first=first, missed=missed)
    tick, _, now = next(waits(ticks, [(0, 0)], 0.0))
    now += busy
    ticks.reset(new, now)
    later = [next(waits(ticks, [(0, 0)], now)) for _ in range(2)]

    assert tick.index == 0
    assert [each.due for each, _, _ in later] == [now + new, now + 2 * new]
    assert [(each.index, each.missed) for each, _, _ in later] == [(1, 0), (2, 0)]


def test_reset_without_a_period_keeps_it() -> None:
    """Only the instant of the next tick is another."""
    ticks = Ticks(4)
    ticks.ask(0.0)
    ticks.take(0.0)
    ticks.reset(None, 3.0)
    ticks.ask(3.0)

    assert ticks.take(7.0) == Tick(1, 7.0, 0.0, 0)
    assert ticks.due == 11.0


def test_reset_before_the_start_sets_the_period_alone() -> None:
    """Where the grid begins is still for the first who asks."""
    ticks = Ticks(4)
    ticks.reset(2, 100.0)
    ticks.ask(1.0)

    assert ticks.take(1.0) == Tick(0, 1.0, 0.0, 0)
    assert ticks.due == 3.0


def test_asking_again_takes_nothing() -> None:
    """Who gives up and comes back finds the same tick at the same instant."""
    ticks = Ticks(2.0, first="later", jitter=1.0, choose=iter([0.5, 0.25]).__next__)
    dues: list[float] = []
    for now in (0.0, 1.0, 2.0):
        ticks.ask(now)
        dues.append(ticks.due)

    assert dues == [2.5, 2.5, 2.5]
    assert ticks.take(2.5) == Tick(0, 2.5, 0.0, 0)
    assert ticks.due == 4.25


def test_a_tick_is_a_value() -> None:
    """It can be compared, hashed and kept, and never changes."""
    tick = Tick(index=3, due=1.5, late=0.25, missed=1)

    assert tick == Tick(3, 1.5, 0.25, 1)
    assert len({tick, Tick(3, 1.5, 0.25, 1)}) == 1
    assert not hasattr(tick, "__dict__")
    with pytest.raises(FrozenInstanceError):
        tick.index = 4  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "period", [0, 0.0, -1, math.nan, math.inf, -math.inf, 1e-10, 5e-324, 10**400]
)
def test_a_period_must_be_a_positive_time(period: float) -> None:
    """And finite, and no less than what a clock can tell."""
    with pytest.raises(ValueError, match="period must be positive and finite"):
        Ticks(period)


@pytest.mark.parametrize("period", ["1", None, True, 1j, [1]])
def test_a_period_must_be_a_number(period: Any) -> None:
    """The error tells its unit."""
    with pytest.raises(TypeError, match="period takes seconds as a number, not"):
        Ticks(period)


@pytest.mark.parametrize("jitter", [-0.1, 2.1, math.nan, math.inf, 10**400])
def test_a_jitter_must_not_exceed_the_period(jitter: float) -> None:
    """Otherwise a tick could come before the one that it follows."""
    with pytest.raises(ValueError, match="jitter must be between 0 and the period"):
        Ticks(2, jitter=jitter)


@pytest.mark.parametrize("jitter", ["1", None, False])
def test_a_jitter_must_be_a_number(jitter: Any) -> None:
    """A flag would say that there is one, and not how much."""
    with pytest.raises(TypeError, match="jitter takes seconds as a number, not"):
        Ticks(2, jitter=jitter)


@pytest.mark.parametrize("first", ["soon", None, True, []])
def test_first_is_one_of_two_words(first: Any) -> None:
    """The error names them."""
    with pytest.raises(ValueError, match='first must be "now" or "later", not'):
        Ticks(1, first=first)


@pytest.mark.parametrize("missed", ["drop", None, False, []])
def test_missed_is_one_of_three_words(missed: Any) -> None:
    """Likewise."""
    with pytest.raises(ValueError, match='missed must be "skip", "burst" or "delay"'):
        Ticks(1, missed=missed)


@pytest.mark.parametrize("period", [0, -1, math.nan, math.inf, 0.5])
def test_a_new_period_must_be_good_too(period: float) -> None:
    """A reset that is refused has changed nothing."""
    ticks = Ticks(2.0, jitter=1.0, choose=lambda: 0.0)
    ticks.ask(0.0)
    with pytest.raises(ValueError):
        ticks.reset(period, 1.0)
    ticks.take(0.0)

    assert ticks.due == 2.0


def test_whole_numbers_will_do() -> None:
    """Seconds are a number, of whatever type."""
    ticks = Ticks(2, jitter=0)
    ticks.ask(1)

    assert ticks.take(1) == Tick(0, 1, 0, 0)
    assert ticks.due == 3


def test_grid_whose_anchor_was_interrupted_is_anchored_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one who asks does not find half of it."""
    ticks = Ticks(1.0, first="now")

    def interrupt(_: Ticks, __: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as half, pytest.raises(KeyboardInterrupt):
        half.setattr(Ticks, "_anchor", interrupt)
        ticks.ask(5.0)

    ticks.ask(6.0)
    assert ticks.due == 6.0
