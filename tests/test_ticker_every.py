"""A function that is called at each tick."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from safeconc import Context, DeadlineExceeded, ErrGroup, every

virtual_clock = pytest.mark.virtual_clock

now = anyio.current_time


async def note(calls: list[Any], *args: object) -> None:
    """Be a function that says when it was called, and how."""
    await anyio.lowlevel.checkpoint()
    calls.append((now(), *args))


@virtual_clock
async def test_function_is_called_at_each_tick_until_cancelled() -> None:
    """With its arguments; the cancellation goes through."""
    calls: list[Any] = []
    with anyio.move_on_after(25) as scope:
        await every(10, note, calls, "a", "b")

    assert scope.cancelled_caught
    assert calls == [(0, "a", "b"), (10, "a", "b"), (20, "a", "b")]


@virtual_clock
async def test_service_ends_with_its_group() -> None:
    """The body does not wait for it, and nothing calls any more."""
    calls: list[Any] = []
    async with ErrGroup(limit=1) as group:
        await group.go_background(every, 5.0, note, calls)
        await anyio.sleep(12)
    await anyio.sleep(100)

    assert calls == [(0,), (5,), (10,)]


@virtual_clock
async def test_deadline_of_the_context_ends_it() -> None:
    """Like any await."""
    calls: list[Any] = []
    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=7):
            await every(5, note, calls)

    assert calls == [(0,), (5,)]


@virtual_clock
@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [0, 25, 30, 40]),
        ({"first": "later"}, [10, 35, 40]),
        ({"missed": "burst"}, [0, 25, 26, 30, 40]),
        ({"missed": "delay"}, [0, 25, 35, 45]),
    ],
)
async def test_calls_never_overlap(
    options: dict[str, Any], expected: list[float]
) -> None:
    """When one takes longer than the period, it is over before the next begins."""
    calls: list[float] = []

    async def slow() -> None:
        calls.append(now())
        await anyio.sleep(1 if calls[1:] else 25)

    with anyio.move_on_after(49):
        await every(10, slow, **options)

    assert calls == expected


@virtual_clock
async def test_jitter_is_the_random_module_s() -> None:
    """Whoever seeds that has the same calls again."""
    calls: list[Any] = []
    random.seed(7)
    delay = 4 * random.random()
    random.seed(7)
    with anyio.move_on_after(9):
        await every(10, note, calls, jitter=4)

    assert calls == [(delay,)]


@virtual_clock
async def test_error_goes_through() -> None:
    """It is the error itself, and there is no next call."""
    error = OSError("the database is away")
    calls: list[float] = []

    async def fail() -> None:
        calls.append(now())
        if len(calls) == 3:
            raise error

    with pytest.raises(OSError, match="away") as caught:
        await every(10, fail)

    assert caught.value is error
    assert calls == [0, 10, 20]


@virtual_clock
async def test_error_of_a_service_fails_the_group() -> None:
    """A check that fails is the root cause of what follows."""

    async def fail() -> None:
        raise OSError("unhealthy")

    with pytest.raises(OSError, match="unhealthy"):
        async with ErrGroup(limit=None) as group:
            await group.go_background(every, 5, fail)
            await anyio.sleep_forever()

    assert now() == 0


async def test_anything_that_makes_an_awaitable_will_do() -> None:
    """A partial, a method, and a function that returns a coroutine."""
    calls: list[Any] = []

    class StopError(Exception):
        pass

    class Checker:
        async def check(self) -> None:
            calls.append(self)
            raise StopError

    checker = Checker()
    functions: list[Callable[[], Any]] = [
        checker.check,
        partial(Checker.check, checker),
        lambda: checker.check(),  # noqa: PLW0108 - it is plain, what it returns is not
    ]
    for fn in functions:
        with pytest.raises(StopError):
            await every(1, fn)

    assert calls == [checker] * 3


@virtual_clock
@pytest.mark.parametrize(
    "error, match, arguments, options",
    [
        (ValueError, "period must be", (0, note), {}),
        (TypeError, "period takes seconds", ("5", note), {}),
        (ValueError, "jitter must be", (5, note), {"jitter": 6}),
        (ValueError, "first must be", (5, note), {"first": "soon"}),
        (ValueError, "missed must be", (5, note), {"missed": "drop"}),
        (TypeError, "expected a coroutine function, not 3", (5, 3), {}),
    ],
)
async def test_bad_arguments_are_refused_before_the_first_wait(
    error: type[Exception], match: str, arguments: Any, options: Any
) -> None:
    """Even when the first tick would be far away."""
    all_options: dict[str, Any] = {"first": "later", **options}
    with pytest.raises(error, match=match):
        await every(*arguments, **all_options)

    assert now() == 0


async def test_coroutine_in_place_of_a_function_is_refused() -> None:
    """It could be awaited once, and is closed."""
    with pytest.raises(TypeError, match=r"got the coroutine note\(\); pass the funct"):
        await every(5, note([]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_sync_function_is_refused_when_it_is_called() -> None:
    """What it is shows only then: a plain function may return an awaitable."""
    with pytest.raises(TypeError, match="is not a coroutine function"):
        await every(5, lambda: None)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
