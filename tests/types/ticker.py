"""What type checkers must infer of tickers, and what they must refuse. Never runs."""

from typing import assert_type

from safeconc import ErrGroup, Tick, Ticker, every


async def check_health(url: str, tries: int) -> bool:
    """Stand for what is called at each tick."""
    return bool(url) and bool(tries)


async def beat() -> None:
    """Stand for what takes nothing."""


def measure() -> int:
    """Stand for what is not async."""
    return 1


async def ticks_tell_their_place() -> None:
    """Infer what a ticker yields."""
    async for tick in Ticker(0.5, first="later", missed="burst", jitter=0.1):
        assert_type(tick, Tick)
        assert_type(tick.index, int)
        assert_type(tick.due, float)
        assert_type(tick.late, float)
        assert_type(tick.missed, int)
    assert_type(await anext(Ticker(1)), Tick)
    assert_type(Ticker(1).reset(), None)
    assert_type(Ticker(1).reset(2.5), None)


async def a_service_is_started_with_its_arguments() -> None:
    """Accept it where it is used most."""
    async with ErrGroup(limit=None) as group:
        await group.go_background(every, 5.0, beat)
        await group.go_background(every, 5.0, check_health, "https://example.org", 3)


async def the_function_gets_its_arguments() -> None:
    """Check them against its parameters."""
    await every(5.0, check_health, "https://example.org", 3, missed="delay", jitter=1)


async def its_arguments_must_fit() -> None:
    """Refuse others."""
    await every(5.0, check_health, 3, "https://example.org")  # type: ignore[arg-type]


async def the_function_must_be_async() -> None:
    """Refuse one that is not."""
    await every(5.0, measure)  # type: ignore[arg-type]


def a_tick_does_not_change(tick: Tick) -> None:
    """Refuse to write to it."""
    tick.index = 3  # type: ignore[misc]


def a_period_is_a_number() -> None:
    """Refuse text, and words that are not known."""
    Ticker("0.5")  # type: ignore[arg-type]
    Ticker(1, first="soon")  # type: ignore[arg-type]
    Ticker(1, missed="drop")  # type: ignore[arg-type]


def options_are_keywords() -> None:
    """Refuse them by position."""
    Ticker(1, "now")  # type: ignore[call-arg]
