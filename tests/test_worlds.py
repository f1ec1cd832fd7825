"""The worlds that tests run in are what they say."""

import threading
from collections.abc import Generator

import pytest

from safeconc import current_context
from tests.worlds import Threads, World, blocking, drive, in_every_group, in_every_world


@in_every_world
async def test_a_child_runs_where_the_world_says(world: World) -> None:
    """In threads it has one of its own, in tasks it has not."""

    async def look() -> int:
        return threading.get_ident()

    async with world.ErrGroup(limit=1) as group:
        task = await group.go(look)
        ident = await task

    assert (ident != threading.get_ident()) == (world.name == "threads")


@in_every_group
async def test_event_ends_a_wait(world: World) -> None:
    """Who waits goes on when it is set."""
    event = world.event()

    async with world.ErrGroup(limit=None) as group:
        task = await group.go(event.wait)
        event.set()
        await task

    assert event.is_set()


@in_every_world
async def test_end_of_the_block_ends_the_waits(world: World) -> None:
    """A wait for what never comes ends with its block."""
    async with world.ErrGroup(limit=None) as group:
        waits = await group.go(world.event().wait)
        sleeps = await group.go(world.sleep_forever)
        group.cancel()
        with pytest.raises(world.cancelled):
            await world.until(lambda: False)

    assert repr(waits).endswith("wait cancelled>")
    assert repr(sleeps).endswith("sleep_forever cancelled>")


@in_every_world
async def test_context_of_a_world_is_ambient_inside(world: World) -> None:
    """It is entered as blocks are there."""
    async with world.context(name="one"):
        inside = current_context()

    assert inside is not None
    assert inside.name == "one"
    assert current_context() is None


def test_coroutine_that_suspends_is_no_blocking_one() -> None:
    """A test that awaits something of another world is told."""

    async def suspend() -> None:
        await Suspends()

    class Suspends:
        def __await__(self) -> Generator[None, None, None]:
            yield

    with pytest.raises(pytest.fail.Exception, match="does not block"):
        drive(suspend())


def test_only_coroutine_functions_are_converted() -> None:
    """All else goes to the primitives as it is."""
    assert blocking(3) == 3
    assert blocking(len) is len


def test_error_of_a_driven_coroutine_is_raised_itself() -> None:
    """The object is the same in every world."""
    error = ValueError("no")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        Threads().run(fail)
    assert caught.value is error
