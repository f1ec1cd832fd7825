"""Where the items come from: iterables and async iterables, their errors, their end."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, FanOut, current_context, fan_out
from tests.together import ends_by

Run = Callable[..., Coroutine[Any, Any, list[Any]]]


async def _stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    async with FanOut(fn, items, **options) as results:
        return [result async for result in results]


both = pytest.mark.parametrize("run", [fan_out, _stream], ids=["fan_out", "FanOut"])


async def _echo(item: int) -> int:
    await checkpoint()
    return item


async def _forever(item: int) -> None:
    await anyio.sleep_forever()


async def _fail(item: int) -> None:
    raise ValueError(item)


class _Sequence:
    """An iterable of the old kind, which ``iter`` takes all the same."""

    def __getitem__(self, index: int) -> int:
        return [5, 6, 7][index]


class _Source:
    """An async iterator that is no generator."""

    def __init__(self) -> None:
        self.next = 0

    def __aiter__(self) -> "_Source":
        return self

    async def __anext__(self) -> int:
        await checkpoint()
        self.next += 1
        if self.next > 3:
            raise StopAsyncIteration
        return self.next


async def _generate(*items: int) -> AsyncIterator[int]:
    for item in items:
        await checkpoint()
        yield item


# Kinds


@both
@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: "abc", ["a", "b", "c"]),
        (lambda: iter([1, 2]), [1, 2]),
        (lambda: {1: "x", 2: "y"}, [1, 2]),
        (lambda: map(abs, [-1, -2]), [1, 2]),
        (_Sequence, [5, 6, 7]),
    ],
    ids=["str", "iterator", "dict", "map", "sequence"],
)
async def test_any_iterable_will_do(
    run: Run, make: Callable[[], Any], expected: list[Any]
) -> None:
    """What a for loop takes, a fan-out takes."""
    assert await run(_echo, make(), limit=2) == expected


@both
async def test_any_async_iterable_will_do(run: Run) -> None:
    """What an ``async for`` loop takes, a fan-out takes."""
    assert await run(_echo, _Source(), limit=2) == [1, 2, 3]
    assert await run(_echo, _generate(4, 5, 6), limit=2) == [4, 5, 6]
    assert await run(_echo, _generate(), limit=2) == []


@both
async def test_none_is_an_item_like_any_other(run: Run) -> None:
    """Nothing stands for "no item" but the end."""
    assert await run(_echo, [None, 0, None], limit=2) == [None, 0, None]


# Laziness


@both
async def test_an_async_iterable_is_advanced_only_for_a_free_slot(run: Run) -> None:
    """The source is asked for an item when a call may start, not earlier."""
    ended = 0
    under_way: list[int] = []

    async def items() -> AsyncIterator[int]:
        for item in range(20):
            under_way.append(item - ended)
            yield item

    async def fn(item: int) -> None:
        nonlocal ended
        await checkpoint()
        ended += 1

    await run(fn, items(), limit=3)

    assert max(under_way) == 2


@both
@pytest.mark.parametrize("limit", [10, 5000])
async def test_an_async_iterable_that_never_waits_lets_others_run(
    run: Run, limit: int
) -> None:
    """Neither the source nor the calls need to wait for the loop to get its turn."""
    turns = seen = 0

    async def items() -> AsyncIterator[int]:
        nonlocal seen
        for item in range(2000):
            yield item
        seen = turns

    async def at_once(item: int) -> None:
        pass

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        await run(at_once, items(), limit=limit)
        tg.cancel_scope.cancel()

    assert seen > 10


# Errors


@both
@pytest.mark.parametrize("good", [0, 1, 5])
async def test_an_error_of_the_iterable_ends_it(run: Run, good: int) -> None:
    """The very error comes out, and the calls under way are cancelled."""
    error = ValueError("items")

    def items() -> Iterator[int]:
        yield from range(good)
        raise error

    with pytest.raises(ValueError) as caught:
        await run(_forever, items(), limit=10)

    assert caught.value is error
    assert error.__context__ is None


@both
@pytest.mark.parametrize("good", [0, 1, 5])
async def test_an_error_of_the_async_iterable_ends_it(run: Run, good: int) -> None:
    """It makes no difference that the source can wait."""
    error = ValueError("items")

    async def items() -> AsyncIterator[int]:
        for item in range(good):
            yield item
        raise error

    with pytest.raises(ValueError) as caught:
        await run(_forever, items(), limit=10)

    assert caught.value is error
    assert error.__context__ is None


@both
async def test_an_error_of_the_iterable_is_never_a_result(run: Run) -> None:
    """return_exceptions is about the calls."""

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("items")

    with pytest.raises(ValueError, match="items"):
        await run(_echo, items(), limit=1, return_exceptions=True)


@both
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_an_iterable_that_was_cancelled_has_not_ended(run: Run) -> None:
    """A source that reads a cancelled future is no source that has no more items."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.cancel()

    def items() -> Iterator[int]:
        yield 1
        yield future.result()

    async def async_items() -> AsyncIterator[int]:
        yield 1
        yield await future

    with pytest.raises(anyio.TaskCancelled):
        await run(_echo, items(), limit=2)
    with pytest.raises(anyio.TaskCancelled):
        await run(_echo, async_items(), limit=2)


@both
@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_an_order_to_the_program_stays_bare(
    anyio_backend: tuple[str, dict[str, Any]],
    run: Run,
    order: type[BaseException],
    is_async: bool,
) -> None:
    """KeyboardInterrupt inside the source comes out as it is."""

    def items() -> Iterator[int]:
        yield 1
        raise order

    async def async_items() -> AsyncIterator[int]:
        yield 1
        await anyio.wait_all_tasks_blocked()
        raise order

    source = async_items() if is_async else items()
    ends_by(order, functools.partial(run, _forever, source, limit=2), anyio_backend)


# The end


@both
@pytest.mark.parametrize("rate", [None, 1000.0], ids=["", "rate"])
async def test_a_generator_is_closed_after_a_failure(
    run: Run, rate: float | None
) -> None:
    """Its cleanup has run when the error comes out."""
    events: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            events.append("closed")

    with pytest.raises(ValueError):
        await run(_fail, items(), limit=1, rate=rate)

    assert events == ["closed"]


@both
async def test_an_async_generator_is_closed_after_a_failure(run: Run) -> None:
    """Its cleanup may wait, and has run when the error comes out."""
    events: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await checkpoint()
            events.append("closed")

    with pytest.raises(ValueError):
        await run(_fail, items(), limit=1)

    assert events == ["closed"]


@both
async def test_no_item_is_taken_after_a_failure(run: Run) -> None:
    """The slot that the failure made free is not used."""
    taken: list[int] = []

    async def items() -> AsyncIterator[int]:
        for item in range(5):
            taken.append(item)
            yield item

    async def fn(item: int) -> None:
        await anyio.wait_all_tasks_blocked()
        raise ValueError(item)

    with pytest.raises(ValueError):
        await run(fn, items(), limit=1)

    assert taken == [0]


async def test_generators_are_closed_when_the_block_is_left_early() -> None:
    """The cleanup is over when the block is."""
    events: list[str] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            events.append("sync")

    async def async_items() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await checkpoint()
            events.append("async")

    for source in (items(), async_items()):
        async with FanOut(_echo, source, limit=2) as results:
            async for _ in results:
                break

    assert events == ["sync", "async"]


async def test_generators_are_closed_when_the_body_fails() -> None:
    """The body's error does not keep the source open."""
    events: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            events.append("closed")

    with pytest.raises(ValueError):
        async with FanOut(_echo, items(), limit=1, buffer=0):
            await anyio.wait_all_tasks_blocked()
            raise ValueError

    assert events == ["closed"]


@both
async def test_generators_are_closed_when_cancelled_from_outside(run: Run) -> None:
    """The cleanup is shielded: it may wait although the block is being cancelled."""
    events: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            events.append("sync")

    async def async_items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await checkpoint()
            await anyio.sleep(0.001)
            events.append("async")

    for source in (items(), async_items()):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(functools.partial(run, _forever, source, limit=1))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()

    assert events == ["sync", "async"]


@both
async def test_an_error_in_the_close_of_a_generator_is_raised(run: Run) -> None:
    """After a failure it is a later error, told in a note."""

    def items() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise KeyError("close")

    with pytest.raises(ValueError) as caught:
        await run(_fail, items(), limit=1)

    assert "KeyError('close')" in caught.value.__notes__[0]


@both
async def test_an_error_in_the_close_of_an_async_generator_is_raised(
    run: Run,
) -> None:
    """It is told in a note, as that of a plain generator is."""

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await checkpoint()
            raise KeyError("close")

    async def fn(item: int) -> None:
        await anyio.wait_all_tasks_blocked()
        raise ValueError(item)

    with pytest.raises(ValueError) as caught:
        await run(fn, items(), limit=1)

    assert "KeyError('close')" in caught.value.__notes__[0]


async def test_an_error_in_the_close_breaks_the_quiet_of_an_early_leave() -> None:
    """An error is an error, also where cancellations are quiet."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise KeyError("sync")

    async def async_items() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise KeyError("async")

    with pytest.raises(KeyError, match="async"):
        async with FanOut(_echo, async_items(), limit=2):
            await anyio.wait_all_tasks_blocked()
    with pytest.raises(KeyError, match="sync"):
        async with FanOut(_echo, items(), limit=2):
            await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
def test_an_order_to_the_program_in_the_close_stays_bare(
    anyio_backend: tuple[str, dict[str, Any]],
    order: type[BaseException],
    is_async: bool,
) -> None:
    """KeyboardInterrupt in the cleanup of a source comes out as it is."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise order

    async def async_items() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise order

    async def main() -> None:
        source: Any = async_items() if is_async else items()
        async with FanOut(_echo, source, limit=2):
            await anyio.wait_all_tasks_blocked()

    ends_by(order, main, anyio_backend)


async def test_a_source_whose_block_was_not_entered_is_left_alone() -> None:
    """Nothing starts before the block, so nothing needs to be closed."""
    events: list[str] = []

    def items() -> Iterator[int]:
        events.append("started")
        yield 1

    FanOut(_echo, items(), limit=1)

    assert events == []


# One task, one scope


@both
async def test_one_task_advances_and_closes_an_async_generator(run: Run) -> None:
    """A source may hold what belongs to a task: a lock, a scope."""
    tasks: set[int] = set()

    def note() -> None:
        tasks.add(anyio.get_current_task().id)

    async def items() -> AsyncIterator[int]:
        try:
            note()
            for item in range(5):
                yield item
                note()
            await anyio.sleep_forever()
        finally:
            note()

    async def fn(item: int) -> None:
        await anyio.wait_all_tasks_blocked()
        if item == 4:
            raise ValueError

    with pytest.raises(ValueError):
        await run(fn, items(), limit=2)

    assert len(tasks) == 1


@both
async def test_an_async_generator_may_hold_a_scope_across_its_yields(
    run: Run,
) -> None:
    """It is left where it was entered, at the end and in the cleanup."""

    async def items(n: int) -> AsyncIterator[int]:
        with anyio.CancelScope():
            async with anyio.create_task_group():
                for item in range(n):
                    yield item

    assert await run(_echo, items(5), limit=2) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError):
        await run(_fail, items(100), limit=2)


async def test_a_scope_of_the_source_survives_an_early_leave() -> None:
    """Leaving early closes the source, inside out, in its own task."""
    events: list[str] = []

    async def items() -> AsyncIterator[int]:
        with anyio.CancelScope():
            try:
                while True:
                    yield 1
            finally:
                await checkpoint()
                events.append("closed")

    async with FanOut(_echo, items(), limit=2) as results:
        async for _ in results:
            break

    assert events == ["closed"]


@both
@pytest.mark.virtual_clock
async def test_a_deadline_of_the_source_is_no_end_of_the_items(run: Run) -> None:
    """A scope of the generator that expires between two items has failed it."""

    async def items() -> AsyncIterator[int]:
        with anyio.move_on_after(1):
            for item in range(10):
                yield item

    async def fn(item: int) -> None:
        await anyio.sleep(3)

    with pytest.raises(anyio.TaskCancelled):
        await run(fn, items(), limit=1)


# Contexts

_colour: ContextVar[str] = ContextVar("_colour", default="none")


@both
async def test_the_source_sees_the_callers_contextvars(run: Run) -> None:
    """Generators of both kinds run with the values of whoever opened the block."""
    _colour.set("red")
    seen: list[tuple[str, bool]] = []

    def note() -> None:
        context = current_context()
        seen.append((_colour.get(), context is not None and context is not outer))

    def items() -> Iterator[int]:
        note()
        yield 1

    async def async_items() -> AsyncIterator[int]:
        note()
        yield 1

    async def fn(item: int) -> None:
        _colour.set("blue")

    async with Context() as outer:
        await run(fn, items(), limit=1)
        await run(fn, async_items(), limit=1)

    assert seen == [("red", True)] * 2


@both
async def test_a_failed_feeder_names_no_context(run: Run) -> None:
    """The error of a source carries no cancellation of ours as its context."""

    async def items() -> AsyncIterator[int]:
        yield 1
        await anyio.wait_all_tasks_blocked()
        raise ValueError("late")

    with pytest.raises(ValueError, match="late") as caught:
        await run(_forever, items(), limit=2)

    assert caught.value.__context__ is None
