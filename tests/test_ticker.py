"""Ticks on a running loop: when they come, and what ends the waiting."""

import asyncio
import inspect
import random
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from safeconc import Context, ContextCancelled, DeadlineExceeded, ErrGroup, Tick, Ticker
from safeconc._loop import running_loop
from tests.harness import on_asyncio

virtual_clock = pytest.mark.virtual_clock

now = anyio.current_time


async def take(ticker: Ticker, count: int, busy: dict[int, float]) -> list[float]:
    """Take ticks with a body that is *busy* after some; tell when each was given."""
    given: list[float] = []
    async for tick in ticker:
        given.append(now())
        if len(given) == count:
            break
        await anyio.sleep(busy.get(tick.index, 1))
    return given


def block(seconds: float) -> None:
    """Keep the loop from running for so long, in virtual time."""
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        clock: Any = trio.lowlevel.current_clock()
        clock.jump(seconds)
    else:
        loop._virtual.now += seconds


# When


@virtual_clock
async def test_first_tick_comes_now_and_the_rest_a_period_apart() -> None:
    """Each tick tells its place, its instant, and that all is well."""
    ticker = Ticker(10)
    await anyio.sleep(3)  # the first who asks starts it, not who makes it
    seen = [(await anext(ticker), now()) for _ in range(3)]

    assert seen == [(Tick(n, 3 + n * 10, 0, 0), 3 + n * 10) for n in range(3)]


@virtual_clock
async def test_first_tick_may_come_later() -> None:
    """It has the index 0 all the same."""
    ticker = Ticker(10, first="later")
    seen = [(await anext(ticker), now()) for _ in range(2)]

    assert seen == [(Tick(0, 10, 0, 0), 10), (Tick(1, 20, 0, 0), 20)]


@virtual_clock
@pytest.mark.parametrize("missed", ["skip", "burst", "delay"])
async def test_missed_ticks_are_drawn_as_they_come(missed: Any) -> None:
    """The timelines in the docstring are what happens."""
    lines = (inspect.getdoc(Ticker) or "").splitlines()
    drawn = next(line for line in lines if f'    "{missed}"' in line)
    ticks = drawn[len("    due       ") :]
    expected = [column for column, char in enumerate(ticks) if char != " "]
    ticker = Ticker(5, missed=missed)

    assert await take(ticker, len(expected), {1: 12}) == expected


@virtual_clock
async def test_tick_tells_how_late_it_is_and_what_was_missed() -> None:
    """Late by the clock, and missed since the one before."""
    ticker = Ticker(10)
    await anext(ticker)
    await anyio.sleep(47)

    assert await anext(ticker) == Tick(4, 40, 7, 3)
    assert await anext(ticker) == Tick(5, 50, 0, 0)
    assert now() == 50


@virtual_clock
async def test_body_of_exactly_one_period_misses_nothing() -> None:
    """The tick that is due just now is not overdue."""
    ticker = Ticker(10)

    assert await take(ticker, 4, {0: 10, 1: 10, 2: 10}) == [0, 10, 20, 30]


@virtual_clock
@pytest.mark.parametrize(
    "missed, given, then",
    [
        ("skip", Tick(3, 30, 5, 2), 40),
        ("burst", Tick(1, 10, 25, 0), 35),
        ("delay", Tick(1, 10, 25, 0), 45),
    ],
)
async def test_wait_that_was_overslept_has_missed_ticks_too(
    missed: Any, given: Tick, then: float
) -> None:
    """Who waits while somebody blocks the loop is told as if it had been busy."""
    ticker = Ticker(10, missed=missed)
    await anext(ticker)
    async with ErrGroup(limit=None) as group:
        task = group.go_nowait(ticker.__anext__)
        await anyio.sleep(5)
        block(30)

    assert task.result() == given
    await anext(ticker)
    assert now() == then


@virtual_clock
async def test_late_wake_up_does_not_move_the_schedule() -> None:
    """With "delay" it is the body that must not be hurried, not the timer."""
    ticker = Ticker(10, missed="delay")
    await anext(ticker)
    async with ErrGroup(limit=None) as group:
        task = group.go_nowait(ticker.__anext__)
        await anyio.sleep(5)
        block(9)

    assert task.result() == Tick(1, 10, 4, 0)
    assert await anext(ticker) == Tick(2, 20, 0, 0)


@virtual_clock
async def test_period_that_no_float_can_hold_does_not_drift() -> None:
    """After a million ticks of a tenth of a second it is where it should be."""
    ticker = Ticker(0.1)
    first = await anext(ticker)
    block(100_000.05)
    last = await anext(ticker)

    assert last.index == 1_000_000
    assert last.due == first.due + 1_000_000 * 0.1


@virtual_clock
async def test_jitter_delays_each_tick_by_itself() -> None:
    """The schedule stays; seeding the random module repeats the same delays."""
    ticker = Ticker(8, jitter=4)
    random.seed(7)
    delays = [random.random() * 4 for _ in range(3)]
    random.seed(7)

    seen = [(await anext(ticker), now()) for _ in range(3)]

    assert [tick.due for tick, _ in seen] == [n * 8 + delays[n] for n in range(3)]
    assert [at for _, at in seen] == [tick.due for tick, _ in seen]
    assert [(tick.late, tick.missed) for tick, _ in seen] == [(0, 0)] * 3


async def test_ticks_are_never_early_and_all_are_counted() -> None:
    """On whatever loop, at a period that its timers can hardly keep."""
    counted = 0
    clock = None
    async for tick in Ticker(0.001):
        clock = clock or running_loop().clock
        counted += 1 + tick.missed

        assert 0 <= tick.late <= clock() - tick.due
        assert tick.index + 1 == counted
        if counted >= 50:
            break


async def test_ticker_goes_on_in_another_loop_statement() -> None:
    """The schedule is the ticker's; a statement that iterates only takes part."""
    ticker = Ticker(0.001)
    async for _ in ticker:
        break
    async for tick in ticker:
        assert tick.index == 1 + tick.missed
        break


# Moving the schedule


@virtual_clock
async def test_reset_has_the_next_tick_come_a_period_from_now() -> None:
    """And the ones after it by the new schedule."""
    ticker = Ticker(10)
    await anext(ticker)
    await anyio.sleep(7)
    ticker.reset()

    assert await anext(ticker) == Tick(1, 17, 0, 0)
    assert await anext(ticker) == Tick(2, 27, 0, 0)
    assert now() == 27


@virtual_clock
async def test_reset_moves_overdue_ticks_along() -> None:
    """They are not due any more, so they are neither given at once nor missed."""
    ticker = Ticker(10)
    await anext(ticker)
    await anyio.sleep(35)
    ticker.reset(3)

    assert await anext(ticker) == Tick(1, 38, 0, 0)
    assert now() == 38


@virtual_clock
@pytest.mark.parametrize("period", [2, 5, 6, 50])
async def test_reset_reaches_who_waits(period: float) -> None:
    """The wait ends at the new instant, whether that is earlier or later."""
    ticker = Ticker(10)
    await anext(ticker)
    async with ErrGroup(limit=None) as group:
        task = group.go_nowait(ticker.__anext__)
        await anyio.sleep(5)
        ticker.reset(period)

    assert task.result() == Tick(1, 5 + period, 0, 0)
    assert now() == 5 + period


@virtual_clock
async def test_reset_in_the_turn_of_the_tick_postpones_it() -> None:
    """What has not been given yet is still to be moved."""
    ticker = Ticker(10)
    await anext(ticker)
    async with ErrGroup(limit=None) as group:
        task = group.go_nowait(ticker.__anext__)
        await anyio.sleep(5)
        block(5)
        ticker.reset()

    assert task.result() == Tick(1, 20, 0, 0)


@virtual_clock
@on_asyncio  # trio may run the other one afterwards
async def test_reset_postpones_an_overdue_tick_that_lets_others_run() -> None:
    """When it is the overdue tick's turn again, it is not overdue any more."""
    ticker = Ticker(10)
    await anext(ticker)
    await anyio.sleep(12)

    async def reset() -> None:
        ticker.reset()

    async with ErrGroup(limit=None) as group:
        group.go_nowait(reset)
        running_loop().left = 1
        tick = await anext(ticker)

    assert tick == Tick(1, 22, 0, 0)


@virtual_clock
async def test_reset_again_and_again_keeps_the_tick_away() -> None:
    """That makes a ticker a watch for silence."""
    ticker = Ticker(10, first="later")
    async with ErrGroup(limit=None) as group:
        task = group.go_nowait(ticker.__anext__)
        for _ in range(5):
            await anyio.sleep(9)
            ticker.reset()

    assert task.result() == Tick(0, 55, 0, 0)


@virtual_clock
async def test_reset_before_the_start_only_sets_the_period() -> None:
    """The first tick still comes when somebody asks."""
    ticker = Ticker(10)
    ticker.reset(4)
    await anyio.sleep(1)

    assert await take(ticker, 3, {}) == [1, 5, 9]


async def test_reset_refuses_what_a_ticker_refuses() -> None:
    """A bad period is named, and nothing has changed."""
    ticker = Ticker(10)
    await anext(ticker)
    with pytest.raises(ValueError, match="period must be positive and finite"):
        ticker.reset(0)


async def test_reset_from_a_thread_says_what_to_do() -> None:
    """Only the loop's own thread may wake a task; there it works."""
    ticker = Ticker(0.001)
    await anext(ticker)
    with pytest.raises(
        RuntimeError, match=r"anyio\.from_thread\.run_sync\(ticker\.res"
    ):
        await anyio.to_thread.run_sync(ticker.reset)
    await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(ticker.reset))


# Cancellation


async def test_due_tick_is_a_checkpoint() -> None:
    """A cancelled loop never reaches its body, even when a tick is due."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async for _ in Ticker(1):
            pytest.fail("reached the body of a cancelled loop")

    assert scope.cancelled_caught


async def test_waiting_for_a_tick_is_a_checkpoint() -> None:
    """Likewise when it is not due."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async for _ in Ticker(3600, first="later"):
            pytest.fail("reached the body of a cancelled loop")

    assert scope.cancelled_caught


async def test_overdue_ticks_let_others_run() -> None:
    """A tick that is due at once gives way all the same, a fresh ticker's too."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with ErrGroup(limit=None) as group:
        await group.go_background(count)
        await anyio.lowlevel.checkpoint()
        before = turns
        for _ in range(100):
            await anext(Ticker(3600))
        seen = turns - before

    assert seen >= 99


@virtual_clock
async def test_cancelled_wait_has_taken_no_tick() -> None:
    """Whoever asks again gets the same one, at its own instant."""
    ticker = Ticker(10)
    await anext(ticker)
    for _ in range(3):
        with anyio.move_on_after(2):
            await anext(ticker)

    assert await anext(ticker) == Tick(1, 10, 0, 0)
    assert now() == 10


@virtual_clock
async def test_wait_cancelled_in_the_turn_of_the_tick_has_taken_none() -> None:
    """Also when both come at once: the tick is there for the next who asks."""
    ticker = Ticker(10)
    await anext(ticker)
    with anyio.CancelScope() as scope:
        async with ErrGroup(limit=None) as group:
            group.go_nowait(ticker.__anext__)
            await anyio.sleep(5)
            block(5)
            scope.cancel()

    assert await anext(ticker) == Tick(1, 10, 0, 0)
    assert now() == 10


@on_asyncio
async def test_native_cancellation_takes_no_tick() -> None:
    """A task that is cancelled as its timer rings ends, and the tick stays."""
    ticker = Ticker(10)
    await anext(ticker)
    task = asyncio.create_task(ticker.__anext__())
    asyncio.get_running_loop().call_at(10, task.cancel)
    await asyncio.wait([task])

    assert task.cancelled()
    assert await anext(ticker) == Tick(1, 10, 0, 0)


async def test_context_that_has_ended_ends_the_loop_at_once() -> None:
    """Without waiting for the event loop to hear of it."""
    with pytest.raises(ContextCancelled):
        async with Context() as ctx:
            async for tick in Ticker(1e-9, missed="burst"):
                assert tick.index == 0
                ctx.cancel()


@virtual_clock
@pytest.mark.parametrize("attempt", range(5))  # trio's order of tasks is random
async def test_no_tick_comes_after_the_end_of_the_context(attempt: int) -> None:
    """Not even in the very turn, before the event loop has been told."""
    ended_at_the_tick: list[bool] = []
    async with ErrGroup(limit=None) as group:
        with pytest.raises(ContextCancelled):
            async with Context() as ctx:

                async def end() -> None:
                    await anyio.sleep_until(10)
                    ctx.cancel()

                group.go_nowait(end)
                await anyio.lowlevel.checkpoint()
                async for _ in Ticker(10):
                    ended_at_the_tick.append(ctx.done)  # noqa: PERF401 - that cannot be left

    assert not any(ended_at_the_tick)


@virtual_clock
async def test_context_that_ends_during_the_wait_ends_it() -> None:
    """At its deadline, with no tick given after it."""
    seen: list[float] = []
    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=25):
            async for tick in Ticker(10):
                await anyio.lowlevel.checkpoint()
                seen.append(tick.due)

    assert seen == [0, 10, 20]
    assert now() == 25


async def test_leaving_the_loop_leaves_nothing() -> None:
    """No task was there in the first place, neither while it waits nor after."""
    before = len(anyio.get_running_tasks())
    async with ErrGroup(limit=None) as group:
        waiting = group.go_nowait(Ticker(3600, first="later").__anext__)
        await anyio.lowlevel.checkpoint()

        assert len(anyio.get_running_tasks()) == before + 1
        waiting.cancel()
    async for _ in Ticker(3600):
        break

    assert len(anyio.get_running_tasks()) == before


@virtual_clock
@on_asyncio
async def test_cancelled_wait_leaves_no_timer() -> None:
    """The loop would hold on to it for the rest of a long period."""
    loop: Any = asyncio.get_running_loop()
    task = asyncio.create_task(Ticker(3600, first="later").__anext__())
    await anyio.lowlevel.checkpoint()
    task.cancel()
    await asyncio.wait([task])

    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


# Misuse


async def test_second_task_that_waits_is_refused() -> None:
    """A tick goes to one task; the one that waits already is not disturbed."""
    ticker = Ticker(0.001, first="later")
    seen: list[object] = []

    async def wait() -> None:
        try:
            seen.append(await anext(ticker))
        except RuntimeError as exc:
            seen.append(str(exc))

    async with ErrGroup(limit=None) as group:
        group.go_nowait(wait)
        group.go_nowait(wait)

    refusal, tick = seen
    assert "give each task a Ticker of its own" in str(refusal)
    assert isinstance(tick, Tick)


async def test_task_may_go_on_where_another_has_left_off() -> None:
    """Only at the same time they must not."""
    ticker = Ticker(0.001)
    async with ErrGroup(limit=1) as group:
        tasks = [await group.go(ticker.__anext__) for _ in range(3)]

    indices = [task.result().index for task in tasks]
    assert indices == sorted(set(indices))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ticker_of_another_loop_is_refused(backend: str) -> None:
    """Its clock may be another one, by days."""
    ticker = Ticker(0.001)
    anyio.run(ticker.__anext__, backend=backend)

    async def go_on() -> None:
        with pytest.raises(RuntimeError, match="clock of another event loop"):
            await anext(ticker)

    anyio.run(go_on, backend=backend)


def test_ticker_is_made_anywhere() -> None:
    """It needs no loop until somebody iterates; bad arguments are told at once."""
    assert aiter(ticker := Ticker(5)) is ticker
    with pytest.raises(ValueError, match="period must be positive and finite"):
        Ticker(0)
    with pytest.raises(TypeError, match="period takes seconds as a number"):
        Ticker("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="first must be"):
        Ticker(5, first="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="missed must be"):
        Ticker(5, missed="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="jitter must be between"):
        Ticker(5, jitter=6)
