"""What a ticker promises, in tasks and in threads, whatever the clock."""

from typing import Any

import pytest

from safeconc import ContextCancelled, Tick
from tests.worlds import World, in_every_world


async def take(ticker: Any, count: int) -> list[Tick]:
    """Take so many ticks."""
    ticks: list[Tick] = []
    async for tick in ticker:
        ticks.append(tick)
        if len(ticks) == count:
            break
    return ticks


@in_every_world
async def test_ticks_are_on_the_grid_and_all_are_counted(world: World) -> None:
    """Never early, without drift, each one given or missed."""
    ticks = await take(world.Ticker(0.001), 10)

    counted = 0
    for tick in ticks:
        counted += 1 + tick.missed
        assert tick.index + 1 == counted
        assert tick.due == ticks[0].due + tick.index * 0.001
        assert tick.late >= 0


@in_every_world
async def test_first_tick_comes_now_or_later(world: World) -> None:
    """It has the index 0 in both cases."""
    [now] = await take(world.Ticker(0.001, missed="burst"), 1)
    [later] = await take(world.Ticker(0.001, missed="burst", first="later"), 1)

    assert (now.index, later.index) == (0, 0)
    assert later.due >= now.due + 0.001


@pytest.mark.parametrize("missed", ["burst", "delay"])
@in_every_world
async def test_ticks_that_are_not_to_be_missed_are_not(
    world: World, missed: str
) -> None:
    """However late they come."""
    ticks = await take(world.Ticker(0.0001, missed=missed), 20)

    assert [tick.index for tick in ticks] == list(range(20))
    assert {tick.missed for tick in ticks} == {0}


@in_every_world
async def test_jitter_is_a_part_of_when_it_is_due(world: World) -> None:
    """The schedule itself stays."""
    ticks = await take(world.Ticker(0.001, jitter=0.0005, missed="burst"), 5)
    shifts = [tick.due - ticks[0].due - tick.index * 0.001 for tick in ticks]

    assert all(-0.0005 <= shift <= 0.0005 for shift in shifts)


@in_every_world
async def test_reset_before_the_first_tick_sets_the_period(world: World) -> None:
    """There is no schedule to move yet, so the first tick comes at once."""
    ticker = world.Ticker(1000)
    ticker.reset(0.001)
    ticks = await take(ticker, 2)

    assert [tick.index for tick in ticks] == [0, 1 + ticks[1].missed]


@in_every_world
async def test_reset_moves_a_wait_that_has_begun(world: World) -> None:
    """To a new instant that comes much earlier."""
    ticker = world.Ticker(1000)
    await take(ticker, 1)
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(take, ticker, 1)
        await world.pause()
        ticker.reset(0.001)
    [tick] = task.result()

    assert tick.index == 1 + tick.missed


@in_every_world
async def test_bad_period_is_refused_and_changes_nothing(world: World) -> None:
    """Neither where it is made, nor by a reset."""
    with pytest.raises(ValueError, match="period must be positive"):
        world.Ticker(0)
    ticker = world.Ticker(0.001)
    with pytest.raises(ValueError, match="period must be positive"):
        ticker.reset(-1)

    assert len(await take(ticker, 2)) == 2


@in_every_world
async def test_a_second_who_waits_is_refused(world: World) -> None:
    """A tick is for one; the first goes on."""
    ticker = world.Ticker(1000, first="later")
    refused: list[object] = []

    async def wait() -> None:
        try:
            await take(ticker, 1)
        except RuntimeError as exc:
            refused.append(exc)
            ticker.reset(0.001)

    async with world.ErrGroup(limit=None) as group:
        for _ in range(2):
            await group.go(wait)

    assert "give each" in str(refused[0])
    assert len(refused) == 1


# every


@in_every_world
async def test_function_is_called_with_its_arguments(world: World) -> None:
    """At each tick, until it fails; that error is raised."""
    calls: list[Any] = []

    async def call(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("enough")

    with pytest.raises(OSError, match="enough"):
        await world.every(0.001, call, "a", 2)

    assert calls == [("a", 2)] * 3


@in_every_world
async def test_service_ends_with_its_group(world: World) -> None:
    """The body does not wait for it, and nothing calls any more."""
    calls: list[None] = []

    async def call() -> None:
        calls.append(None)

    async with world.ErrGroup(limit=1) as group:
        await group.go_background(world.every, 1000, call)
        await world.until(lambda: calls)

    assert calls == [None]


@in_every_world
async def test_cancellation_in_the_function_goes_through(world: World) -> None:
    """What the function raises is raised, also if that is the end of the context."""

    async def call() -> None:
        context.cancel()
        await world.pause()

    with pytest.raises(ContextCancelled, match="the service"):
        async with world.context(name="the service") as context:
            await world.every(0.001, call)


@pytest.mark.parametrize(
    "error, match, arguments, options",
    [
        (ValueError, "period must be", (0, take), {}),
        (TypeError, "period takes seconds", ("5", take), {}),
        (ValueError, "jitter must be", (5, take), {"jitter": 6}),
        (ValueError, "first must be", (5, take), {"first": "soon"}),
        (ValueError, "missed must be", (5, take), {"missed": "drop"}),
        (TypeError, "not 3", (5, 3), {}),
    ],
)
@in_every_world
async def test_bad_arguments_are_refused_before_the_first_wait(
    world: World, error: type[Exception], match: str, arguments: Any, options: Any
) -> None:
    """Even when the first tick would be far away."""
    all_options: dict[str, Any] = {"first": "later", **options}
    with pytest.raises(error, match=match):
        await world.every(*arguments, **all_options)
