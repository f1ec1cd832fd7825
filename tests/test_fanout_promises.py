"""What a fan-out promises of calls, be they tasks or threads."""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from safeconc import ContextCancelled, FanOutStatistics, current_context
from tests.worlds import World, in_every_world

VAR: ContextVar[str] = ContextVar("VAR", default="unset")


async def collect(world: World, fn: Any, items: Any, **options: Any) -> list[Any]:
    """Have all results at once."""
    results: list[Any] = await world.fan_out(fn, items, **options)
    return results


async def stream(world: World, fn: Any, items: Any, **options: Any) -> list[Any]:
    """Have the results one by one."""
    async with world.FanOut(fn, items, **options) as results:
        return [result async for result in results]
    pytest.fail("the block was left in its middle")


async def construct(world: World, fn: Any, items: Any, **options: Any) -> None:
    """Only make one: what is wrong is told before the block."""
    world.FanOut(fn, items, **options)


Run = Callable[..., Any]
both = pytest.mark.parametrize("run", [collect, stream])
told = pytest.mark.parametrize("run", [collect, construct])


async def double(item: int) -> int:
    """Return twice *item*."""
    return 2 * item


def numbers(taken: list[int], end: list[str]) -> Iterator[int]:
    """Count for ever; note what was taken, and the end."""
    number = 0
    try:
        while True:
            taken.append(number)
            yield number
            number += 1
    finally:
        end.append("closed")


# Results


@both
@in_every_world
async def test_results_are_in_the_order_of_the_items(world: World, run: Run) -> None:
    """Whichever call ends first."""
    later = world.event()

    async def wait(item: int) -> int:
        if item == 0:
            await later.wait()
        elif item == 3:
            later.set()
        return item

    assert await run(world, wait, range(6), limit=4) == [0, 1, 2, 3, 4, 5]


@in_every_world
async def test_unordered_results_leave_when_they_are_ready(world: World) -> None:
    """The slow one holds nobody up."""
    later = world.event()

    async def wait(item: int) -> int:
        if item == 0:
            await later.wait()
        return item

    seen: list[int] = []
    async with world.FanOut(wait, range(4), limit=2, ordered=False) as results:
        async for result in results:
            seen.append(result)
            if len(seen) == 3:
                later.set()

    assert sorted(seen[:3]) == [1, 2, 3]
    assert seen[3] == 0


@both
@pytest.mark.parametrize("items", [[], (), {}, "", range(0), iter([])], ids=repr)
@in_every_world
async def test_no_items_give_no_results(world: World, run: Run, items: Any) -> None:
    """An empty iterable is fine."""
    assert await run(world, double, items, limit=3) == []


@both
@pytest.mark.parametrize("limit", [1, 3, 50])
@in_every_world
async def test_equals_the_list_comprehension(
    world: World, run: Run, limit: int
) -> None:
    """That is what it stands for."""
    assert await run(world, double, range(20), limit=limit) == list(range(0, 40, 2))


@both
@in_every_world
async def test_none_is_an_item_and_a_result_like_any_other(
    world: World, run: Run
) -> None:
    """Nothing is taken for an end but the end."""

    async def same(item: object) -> object:
        return item

    assert await run(world, same, [None, 1, None], limit=2) == [None, 1, None]


# How many at once


@both
@in_every_world
async def test_never_more_than_the_limit_at_once(world: World, run: Run) -> None:
    """And the limit is used to the full."""
    inside: set[int] = set()
    seen: list[int] = []
    full = world.event()

    async def work(item: int) -> None:
        inside.add(item)
        seen.append(len(inside))
        if len(inside) == 3:
            full.set()
        await full.wait()
        inside.remove(item)

    await run(world, work, range(12), limit=3)
    assert max(seen) == 3
    assert len(seen) == 12


@in_every_world
async def test_an_item_is_taken_only_for_a_free_slot(world: World) -> None:
    """And when there is room for its result: so an endless iterable will do."""
    taken: list[int] = []
    end: list[str] = []

    async with world.FanOut(double, numbers(taken, end), limit=2, buffer=3) as results:
        await world.until(lambda: results.statistics().buffered == 5)
        assert taken == [0, 1, 2, 3, 4]
        assert results.statistics() == FanOutStatistics(
            total=None, started=5, finished=5, failed=0, buffered=5
        )
        async for result in results:
            assert result == 0
            break
        await world.until(lambda: results.statistics().buffered == 5)
        assert taken == [0, 1, 2, 3, 4, 5]

    assert end == ["closed"]


@in_every_world
async def test_a_window_of_one_is_passed_from_hand_to_hand(world: World) -> None:
    """With no buffer, each result taken lets one more start."""
    seen: list[int] = []
    async with world.FanOut(double, range(50), limit=1, buffer=0) as results:
        async for result in results:
            seen.append(result)
            assert results.statistics().started <= len(seen) + 1

    assert seen == list(range(0, 100, 2))


@in_every_world
async def test_consumers_share_the_results(world: World) -> None:
    """Each result goes to one of them, and all hear of the end."""
    seen: list[int] = []

    async def consume() -> None:
        seen.extend([result async for result in results])

    async with world.FanOut(double, range(30), limit=3) as results:
        async with world.ErrGroup(limit=None) as consumers:
            for _ in range(3):
                await consumers.go(consume)

    assert sorted(seen) == list(range(0, 60, 2))


@in_every_world
async def test_a_cancelled_consumer_loses_no_result(world: World) -> None:
    """Cancelled means not done."""
    go_on = world.event()

    async def wait(item: int) -> int:
        await go_on.wait()
        return item

    async def consume() -> None:
        async for _ in results:
            pytest.fail("there is no result yet")

    async with world.FanOut(wait, range(3), limit=3) as results:
        async with world.ErrGroup(limit=None) as consumers:
            consumer = await consumers.go(consume)
            await world.until(lambda: results._run._consumers)
            consumer.cancel()
        go_on.set()
        seen = [result async for result in results]

        assert seen == [0, 1, 2]


# Where context flows


@both
@in_every_world
async def test_a_call_sees_the_callers_contextvars(world: World, run: Run) -> None:
    """Each in a copy of its own: what it sets nobody else sees."""

    async def look(item: int) -> str:
        before = VAR.get()
        VAR.set(f"item {item}")
        return before

    token = VAR.set("caller")
    assert await run(world, look, range(6), limit=2) == ["caller"] * 6
    assert VAR.get() == "caller"
    VAR.reset(token)


@both
@in_every_world
async def test_a_source_keeps_what_it_sets(world: World, run: Run) -> None:
    """Whoever advances it; and the calls do not see it."""

    def items() -> Iterator[int]:
        for number in range(5):
            assert VAR.get() == ("unset" if number == 0 else f"item {number - 1}")
            VAR.set(f"item {number}")
            yield number

    async def look(item: int) -> str:
        return VAR.get()

    if world.name == "threads":  # the tasks' workers share it
        assert await run(world, look, items(), limit=2) == ["unset"] * 5


@both
@in_every_world
async def test_calls_have_a_context_within_the_callers(world: World, run: Run) -> None:
    """It is the block's, and over with it."""
    seen: list[Any] = []

    async def look(item: int) -> None:
        seen.append(current_context())

    await run(world, look, range(3), limit=2, name="crawl")
    assert {context.name for context in seen} == {"crawl"}
    assert all(context.done for context in seen)
    assert current_context() is None


# Errors


@both
@in_every_world
async def test_an_error_is_raised_itself(world: World, run: Run) -> None:
    """That very object; no item is taken any more, and the iterable is closed."""
    error = ValueError("no")
    taken: list[int] = []
    end: list[str] = []

    async def fail(item: int) -> int:
        if item == 3:
            raise error
        return item

    with pytest.raises(ValueError, match="no") as caught:
        await run(world, fail, numbers(taken, end), limit=2)

    assert caught.value is error
    assert error.__context__ is None
    assert not hasattr(error, "__notes__")
    assert end == ["closed"]


@both
@in_every_world
async def test_the_rest_is_cancelled_and_awaited(world: World, run: Run) -> None:
    """Nobody goes on when one has failed."""
    ended: list[int] = []
    begun = world.event()

    async def work(item: int) -> None:
        if item == 1:
            await begun.wait()
            raise ValueError("no")
        begun.set()
        try:
            await world.sleep_forever()
        finally:
            ended.append(item)

    with pytest.raises(ValueError, match="no"):
        await run(world, work, [0, 1], limit=2)
    assert ended == [0]


@in_every_world
async def test_the_body_is_cancelled_at_once(world: World) -> None:
    """The error does not wait until somebody takes a result."""

    async def fail(item: int) -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with world.FanOut(fail, [1], limit=1):
            await world.sleep_forever()
            pytest.fail("the body went on")


@both
@in_every_world
async def test_exceptions_are_given_back(world: World, run: Run) -> None:
    """In place of the results, if one asks for it, and counted."""
    error = ValueError("no")

    async def work(item: int) -> int:
        if item == 1:
            raise error
        return item

    assert await run(world, work, range(3), limit=2, return_exceptions=True) == [
        0,
        error,
        2,
    ]


@in_every_world
async def test_statistics_count_errors_that_were_given_back(world: World) -> None:
    """They have finished like the others."""

    async def work(item: int) -> int:
        raise ValueError("no")

    options: dict[str, Any] = {"limit": 2, "return_exceptions": True}
    async with world.FanOut(work, range(3), **options) as results:
        await world.until(lambda: results.statistics().finished == 3)
        assert results.statistics() == FanOutStatistics(3, 3, 3, 3, 3)
        assert results.statistics().running == 0


class _Order(BaseException):
    pass


@both
@in_every_world
async def test_other_base_exceptions_are_not_given_back(world: World, run: Run) -> None:
    """They are no results."""

    async def work(item: int) -> int:
        raise _Order

    with pytest.raises(_Order):
        await run(world, work, [1], limit=2, return_exceptions=True)


@both
@in_every_world
async def test_an_error_of_the_iterable_ends_it(world: World, run: Run) -> None:
    """And is never a result."""
    error = ValueError("no")

    def items() -> Iterator[int]:
        yield 1
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        await run(world, double, items(), limit=2, return_exceptions=True)
    assert caught.value is error


@both
@in_every_world
async def test_an_error_in_the_close_of_a_generator_is_raised(
    world: World, run: Run
) -> None:
    """After the error that had it closed, which it does not hide."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise KeyError("close")

    async def fail(item: int) -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        await run(world, fail, items(), limit=1)
    assert "KeyError('close')" in caught.value.__notes__[0]


@in_every_world
async def test_break_is_quiet_and_cancels_the_rest(world: World) -> None:
    """Leaving the block early is no error."""
    taken: list[int] = []
    end: list[str] = []
    stopped: list[int] = []

    async def work(item: int) -> int:
        if item > 2:
            try:
                await world.sleep_forever()
            finally:
                stopped.append(item)
        return item

    async with world.FanOut(work, numbers(taken, end), limit=2) as results:
        async for result in results:
            if result == 2:
                break

    assert end == ["closed"]
    assert results.statistics().running == 0
    assert set(stopped) <= {3, 4}


@in_every_world
async def test_an_error_of_the_body_is_that_error(world: World) -> None:
    """The body is a member of the block."""
    error = ValueError("no")
    taken: list[int] = []
    end: list[str] = []

    with pytest.raises(ValueError, match="no") as caught:
        async with world.FanOut(double, numbers(taken, end), limit=2) as results:
            async for _ in results:
                raise error

    assert caught.value is error
    assert end == ["closed"]


@both
@in_every_world
async def test_a_cancelled_context_ends_it(world: World, run: Run) -> None:
    """From above, and it says so."""

    async def work(item: int) -> None:
        outer.cancel()
        await world.sleep_forever()

    with pytest.raises(ContextCancelled):
        async with world.context() as outer:
            await run(world, work, range(3), limit=2)


# Rate and progress


@both
@in_every_world
async def test_a_rate_spaces_the_starts(world: World, run: Run) -> None:
    """All items get their turn, in their order."""
    assert await run(world, double, range(5), limit=2, rate=5000, burst=2) == [
        0,
        2,
        4,
        6,
        8,
    ]


@both
@in_every_world
async def test_waiting_for_the_rate_can_be_cancelled(world: World, run: Run) -> None:
    """The next start is an hour away."""

    async def work(item: int) -> None:
        assert item == 0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await run(world, work, range(3), limit=2, rate=1 / 3600)


@both
@in_every_world
async def test_progress_is_told_after_each_item(world: World, run: Run) -> None:
    """The callable gets the statistics, one call at a time, and none that are old."""
    told: list[FanOutStatistics] = []

    await run(world, double, range(5), limit=2, progress=told.append)
    finished = [each.finished for each in told]
    assert len(finished) == 5
    assert finished == sorted(finished)  # two threads may have ended before one tells
    assert told[-1].finished == told[-1].total == 5


@both
@in_every_world
async def test_progress_is_told_of_errors_that_were_given_back(
    world: World, run: Run
) -> None:
    """They have finished like the others, and are counted."""
    told: list[FanOutStatistics] = []

    async def fail(item: int) -> int:
        raise ValueError("no")

    options: dict[str, Any] = {"return_exceptions": True, "progress": told.append}
    await run(world, fail, range(3), limit=2, **options)
    assert len(told) == 3
    assert told[-1].finished == told[-1].failed == 3


@both
@in_every_world
async def test_an_error_of_the_progress_callable_is_raised_itself(
    world: World, run: Run
) -> None:
    """It is a member's error like any other."""
    error = ValueError("no")

    def tell(_: FanOutStatistics) -> None:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        await run(world, double, range(5), limit=2, progress=tell)
    assert caught.value is error


# What is refused


@told
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"limit": 0}, ValueError, "limit must be at least 1, not 0"),
        ({"limit": True}, TypeError, r"limit must be a whole number.*True"),
        ({"limit": 1.5}, TypeError, r"limit must be a whole number.*1.5"),
        ({"limit": None}, TypeError, "needs a limit"),
        ({"limit": 1, "rate": 0}, ValueError, r"rate must be positive.*0"),
        ({"limit": 1, "rate": math.nan}, ValueError, r"rate must be positive.*nan"),
        ({"limit": 1, "rate": "1"}, TypeError, r"rate must be a number.*'1'"),
        ({"limit": 1, "rate": 1, "burst": 0}, ValueError, "burst must be at least 1"),
        ({"limit": 1, "rate": 1, "burst": 1.5}, TypeError, "burst must be a whole"),
        ({"limit": 1, "burst": 2}, ValueError, r"burst.*only together with rate"),
        ({"limit": 1, "progress": "yes"}, TypeError, "progress must be a bool or a"),
    ],
)
@in_every_world
async def test_a_bad_option_is_refused(
    world: World,
    run: Run,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """The error says what is wrong with which option, and no item is taken."""
    taken: list[int] = []

    with pytest.raises(error, match=message):
        await run(world, double, numbers(taken, []), **options)
    assert taken == []


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"buffer": -1}, ValueError, "buffer must be at least 0, not -1"),
        ({"buffer": 1.5}, TypeError, r"buffer must be a whole number or None.*1.5"),
        ({"ordered": None}, TypeError, "ordered must be a bool, not None"),
    ],
)
@in_every_world
async def test_a_bad_option_of_the_stream_is_refused(
    world: World, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Likewise."""
    with pytest.raises(error, match=message):
        await construct(world, double, [1], limit=1, **options)


@told
@in_every_world
async def test_items_must_be_iterable(world: World, run: Run) -> None:
    """A number of items is not the items."""
    with pytest.raises(TypeError, match=r"items must be iterable.*not 3"):
        await run(world, double, 3, limit=1)


@told
@in_every_world
async def test_fn_must_be_callable(world: World, run: Run) -> None:
    """The function goes first."""
    with pytest.raises(TypeError, match="not 3"):
        await run(world, 3, [double], limit=1)


@in_every_world
async def test_a_stream_has_one_block(world: World) -> None:
    """It is iterated over inside, and made anew for another time."""
    results = world.FanOut(double, [1], limit=1)
    with pytest.raises(RuntimeError, match="has not been entered; iterate inside its"):
        async for _ in results:
            pytest.fail("it has not begun")
    async with results:
        with pytest.raises(RuntimeError, match="entered before; make a new one"):
            await results.__aenter__()
    with pytest.raises(RuntimeError, match="has ended"):
        async for _ in results:
            pytest.fail("it is over")


@in_every_world
async def test_a_stream_that_failed_says_so_later(world: World) -> None:
    """With the reason."""
    error = ValueError("no")

    async def fail(item: int) -> int:
        raise error

    results = world.FanOut(fail, [1], limit=1, name="crawl")
    with pytest.raises(ValueError, match="no"):
        async with results:
            async for _ in results:
                pytest.fail("there is no result")
    with pytest.raises(RuntimeError, match="FanOut 'crawl' has failed") as caught:
        async for _ in results:
            pytest.fail("it is over")
    assert caught.value.__cause__ is error


async def words() -> AsyncIterator[str]:
    """Yield nothing."""
    return
    yield ""


@told
@in_every_world
async def test_async_items_are_for_tasks(world: World, run: Run) -> None:
    """Threads cannot await them, and say who can."""
    if world.name != "threads":
        await run(world, double, words(), limit=1)
        return
    with pytest.raises(TypeError, match=r"use safeconc\.(FanOut|fan_out), in a task"):
        await run(world, double, words(), limit=1)


@told
@in_every_world
async def test_a_shared_limiter_is_for_tasks(world: World, run: Run) -> None:
    """It belongs to an event loop."""
    limiter: Any = object.__new__(anyio.CapacityLimiter)
    if world.name == "threads":
        with pytest.raises(TypeError, match="belongs to an event loop"):
            await run(world, double, [1], limit=limiter)
