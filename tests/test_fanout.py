"""What fan_out and FanOut both promise: results, order, the limit, whose context."""

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from itertools import count
from types import MethodType
from typing import Any
from unittest.mock import ANY, AsyncMock

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeconc import Context, FanOut, current_context, fan_out

Run = Callable[..., Coroutine[Any, Any, list[Any]]]


async def _stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    async with FanOut(fn, items, **options) as results:
        return [result async for result in results]


both = pytest.mark.parametrize(
    "run",
    [fan_out, _stream, functools.partial(_stream, ordered=False)],
    ids=["fan_out", "ordered", "unordered"],
)
in_order = pytest.mark.parametrize("run", [fan_out, _stream], ids=["fan_out", "FanOut"])


async def _double(item: int) -> int:
    await checkpoint()
    return 2 * item


async def _at_once(item: int) -> int:
    return item


async def _forever(item: int) -> None:
    await anyio.sleep_forever()


def _task_count() -> int:
    return len(anyio.get_running_tasks())


# Results


@in_order
async def test_results_are_in_the_order_of_the_items(run: Run) -> None:
    """Whoever finishes first, results come as the items did."""

    async def fn(item: int) -> int:
        for _ in range(10 - item):
            await checkpoint()
        return item

    assert await run(fn, range(10), limit=5) == list(range(10))


@both
async def test_no_items_give_no_results(run: Run) -> None:
    """An empty iterable is no special case."""
    assert await run(_double, [], limit=3) == []


@both
async def test_one_slot_is_a_plain_loop(run: Run) -> None:
    """With a limit of 1, each call ends before the next one begins."""
    seen: list[str] = []

    async def fn(item: int) -> None:
        seen.append(f"start {item}")
        await checkpoint()
        seen.append(f"end {item}")

    await run(fn, range(2), limit=1)

    assert seen == ["start 0", "end 0", "start 1", "end 1"]


@pytest.mark.virtual_clock
@given(
    delays=st.lists(st.sampled_from([None, 0.0, 0.5, 1.0, 3.0]), max_size=12),
    limit=st.integers(1, 5),
    buffer=st.integers(0, 3),
    is_async=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    # The backend is the same for all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_equals_the_list_comprehension(
    anyio_backend: tuple[str, dict[str, Any]],
    delays: list[float | None],
    limit: int,
    buffer: int,
    is_async: bool,
) -> None:
    """Concurrency changes when things happen, and not what comes out."""

    async def fn(item: tuple[int, float | None]) -> int:
        number, delay = item
        if delay is not None:
            await anyio.sleep(delay)
        return number

    async def as_async() -> Any:
        for item in enumerate(delays):
            yield item

    def items() -> Any:
        return as_async() if is_async else enumerate(delays)

    async def main() -> tuple[list[int], ...]:
        return (
            [await fn(item) for item in enumerate(delays)],
            await fan_out(fn, items(), limit=limit),
            await _stream(fn, items(), limit=limit, buffer=buffer),
            sorted(
                await _stream(fn, items(), limit=limit, buffer=buffer, ordered=False)
            ),
        )

    backend, options = anyio_backend
    plain, *others = anyio.run(main, backend=backend, backend_options=options)

    assert others == [plain] * 3


# The limit


@both
@pytest.mark.parametrize("limit", [1, 3, 10])
async def test_never_more_than_the_limit_at_once(run: Run, limit: int) -> None:
    """As many calls as the limit allows are under way, and not one more."""
    running = peak = 0

    async def fn(item: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(item % 4 + 1):
            await checkpoint()
        running -= 1

    await run(fn, range(40), limit=limit)

    assert peak == limit


@both
async def test_an_item_is_taken_only_for_a_free_slot(run: Run) -> None:
    """The iterable is asked for an item when a call may start, not earlier."""
    running = 0
    seen: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            seen.append(running)
            yield item

    async def fn(item: int) -> None:
        nonlocal running
        running += 1
        await checkpoint()
        running -= 1

    await run(fn, items(), limit=3)

    assert max(seen) == 2


@both
async def test_an_endless_iterable_is_not_run_ahead_of(run: Run) -> None:
    """While no call ends, no more items are taken than there are slots."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in count():
            assert item < 100, "ran ahead"
            taken.append(item)
            yield item

    async with anyio.create_task_group() as tg:
        tg.start_soon(functools.partial(run, _forever, items(), limit=3))
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()

    assert taken == [0, 1, 2]


# Tasks


async def test_calls_that_never_wait_need_one_task() -> None:
    """A worker is started for a call that waits, not for an item."""
    counts: list[int] = []

    async def fn(item: int) -> None:
        counts.append(_task_count())

    before = _task_count()

    await fan_out(fn, range(300), limit=10)

    assert max(counts) == before + 1


@both
async def test_workers_are_started_on_demand(run: Run) -> None:
    """Five calls that wait have five workers and one that looks for more."""
    before = _task_count()
    inside: list[int] = []
    release = anyio.Event()

    async def fn(item: int) -> None:
        await release.wait()

    async def look() -> None:
        await anyio.wait_all_tasks_blocked()
        inside.append(_task_count() - before - 1)
        release.set()

    async with anyio.create_task_group() as tg:
        tg.start_soon(look)
        await run(fn, range(5), limit=1000)

    assert inside[0] <= 6


@both
async def test_nothing_is_left_running(run: Run) -> None:
    """All workers are gone when the call returns."""
    before = _task_count()

    await run(_double, range(30), limit=7)

    assert _task_count() == before


@both
async def test_others_run_while_no_call_waits(run: Run) -> None:
    """Ten thousand calls that never wait leave the event loop to others, too."""
    done = False
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        await run(_at_once, range(10_000), limit=10)
        done = True

    assert turns > 10


# Contextvars

_colour: ContextVar[str] = ContextVar("_colour", default="none")


@both
async def test_a_call_sees_the_callers_contextvars(run: Run) -> None:
    """The caller's values reach every call, before and after it waited."""
    _colour.set("red")

    async def fn(item: int) -> tuple[str, str]:
        first = _colour.get()
        await checkpoint()
        return first, _colour.get()

    assert await run(fn, range(3), limit=2) == [("red", "red")] * 3


@both
@pytest.mark.parametrize("waits", [True, False])
async def test_what_a_call_sets_nobody_else_sees(run: Run, waits: bool) -> None:
    """Neither the next call of the same worker nor the caller sees it."""

    async def fn(item: int) -> str:
        before = _colour.get()
        _colour.set(f"item {item}")
        if waits:
            await checkpoint()
        assert _colour.get() == f"item {item}"
        return before

    seen = await run(fn, range(4), limit=1)

    assert seen == ["none"] * 4
    assert _colour.get() == "none"


_anything: ContextVar[object] = ContextVar("_anything")


@both
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(
    "before, equal",
    [(True, 1), (1, 1.0), (0.0, -0.0), ("a", ANY), (_anything, ANY), ([], [])],
    ids=["bool", "int", "zero", "str", "object", "list"],
)
async def test_an_equal_value_that_a_call_sets_nobody_else_sees(
    run: Run, before: object, equal: object, waits: bool
) -> None:
    """What equals the caller's value is still another one."""
    _anything.set(before)

    async def fn(item: int) -> bool:
        seen = _anything.get()
        _anything.set(equal)
        if waits:
            await checkpoint()
        return seen is before

    assert await run(fn, range(4), limit=1) == [True] * 4


@both
async def test_code_that_runs_at_the_call_is_isolated_too(run: Run) -> None:
    """A function that makes the coroutine runs in the item's contextvars."""

    def fn(item: int) -> Awaitable[int]:
        assert _colour.get() == "none"
        _colour.set("set by the call")
        return _double(item)

    await run(fn, range(3), limit=1)

    assert _colour.get() == "none"


@both
async def test_a_marked_function_is_isolated_too(run: Run) -> None:
    """A function that only claims to be a coroutine function runs code when called."""
    if sys.version_info < (3, 12):
        pytest.skip("inspect.markcoroutinefunction is new in 3.12")

    def fn(item: int) -> Awaitable[int]:
        assert _colour.get() == "none"
        _colour.set("set by the call")
        return _double(item)

    assert sorted(await run(inspect.markcoroutinefunction(fn), range(3), limit=1)) == [
        0,
        2,
        4,
    ]


@both
async def test_calls_have_a_context_within_the_callers(run: Run) -> None:
    """The ambient context of a call ends with the caller's."""

    async def fn(item: int) -> tuple[Context | None, float]:
        context = current_context()
        assert context is not None
        return context, context.deadline

    async with Context(timeout=30) as outer:
        results = await run(fn, range(2), limit=2)

    assert all(context is not outer for context, _ in results)
    assert [deadline for _, deadline in results] == [outer.deadline] * 2


@both
async def test_the_ambient_context_is_restored(run: Run) -> None:
    """Afterwards the caller's ambient context is what it was."""
    await run(_double, range(3), limit=2)

    assert current_context() is None


# What can be called


class _Doubler:
    async def __call__(self, item: int) -> int:
        return await _double(item)

    async def method(self, item: int) -> int:
        return await _double(item)


class _Later:
    """An awaitable that is no coroutine."""

    def __init__(self, item: int) -> None:
        self._item = item

    def __await__(self) -> Any:
        return _double(self._item).__await__()


class _Decorated:
    """A decorator that is an object, and binds like a method."""

    def __init__(self, fn: Callable[..., Awaitable[int]]) -> None:
        self._fn = fn

    def __call__(self, *args: object) -> Awaitable[int]:
        return self._fn(*args)

    def __get__(self, instance: object, owner: type) -> MethodType:
        return MethodType(self, instance)


class _Client:
    @_Decorated
    async def double(self, item: int) -> int:
        return await _double(item)


def _call_double(item: int) -> Awaitable[int]:
    return _double(item)


@both
@pytest.mark.parametrize(
    "fn",
    [
        _call_double,
        functools.partial(_double),
        _Doubler(),
        _Doubler().method,
        _Client().double,
        _Later,
        AsyncMock(side_effect=_double),
    ],
    ids=["function", "partial", "object", "method", "decorated", "awaitable", "mock"],
)
async def test_whatever_returns_an_awaitable_will_do(run: Run, fn: Any) -> None:
    """A function is judged by what calling it gives."""
    assert sorted(await run(fn, range(4), limit=2)) == [0, 2, 4, 6]


# Checkpoints


@both
@pytest.mark.parametrize("items", [[], range(3)], ids=["no items", "items"])
async def test_is_a_checkpoint(run: Run, items: Any) -> None:
    """A cancelled caller runs no call, whether there are items or none."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run(_forever, items, limit=2)
        pytest.fail("passed a checkpoint although cancelled")

    assert scope.cancelled_caught


@both
async def test_a_loop_of_empty_runs_lets_others_run(run: Run) -> None:
    """Fan-outs with nothing to do do not starve the event loop."""
    ran = anyio.Event()

    async def other() -> None:
        ran.set()

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        for _ in range(200):
            await run(_double, [], limit=1)
            if ran.is_set():
                break

    assert ran.is_set()


async def test_entering_is_a_checkpoint() -> None:
    """The body of a block that is entered when cancelled is not reached."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with FanOut(_double, [1], limit=1):
            pytest.fail("reached the body although cancelled")

    assert scope.cancelled_caught


async def test_each_result_is_a_checkpoint() -> None:
    """A result that is there is not given to who has been cancelled."""
    async with FanOut(_at_once, range(3), limit=3) as results:
        await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(results)
            pytest.fail("got a result although cancelled")

        assert scope.cancelled_caught
        assert [item async for item in results] == [0, 1, 2]


async def test_the_end_is_a_checkpoint() -> None:
    """Also to be told that there is nothing more, one must not be cancelled."""
    async with FanOut(_at_once, [], limit=3) as results:
        assert [item async for item in results] == []
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(results, None)
            pytest.fail("was told the end although cancelled")

        assert scope.cancelled_caught


async def test_consuming_ready_results_lets_others_run() -> None:
    """A loop over results that are all there does not starve the event loop."""
    done = False
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tg:
        async with FanOut(_at_once, range(2000), limit=1, buffer=2000) as results:
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(other)
            async for _ in results:
                pass
            done = True

    # One less: what is left of a budget when the many begin is not made up for.
    assert turns >= 2000 // 128 - 1
