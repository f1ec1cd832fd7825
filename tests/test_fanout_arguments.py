"""Bad arguments are refused at the call, before anything starts, with the way out."""

import math
from collections.abc import Awaitable, Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from safeconc import FanOut, FanOutStatistics, fan_out


async def _echo(item: int) -> int:
    await checkpoint()
    return item


async def _construct(fn: Any, items: Any, **options: Any) -> None:
    """Only construct: what is wrong is told before the block."""
    FanOut(fn, items, **options)


async def _call(fn: Any, items: Any, **options: Any) -> None:
    await fan_out(fn, items, **options)


Refused = Callable[..., Awaitable[None]]
both = pytest.mark.parametrize("make", [_call, _construct], ids=["fan_out", "FanOut"])


@both
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"limit": 0}, ValueError, "limit must be at least 1, not 0"),
        ({"limit": -1}, ValueError, "limit must be at least 1, not -1"),
        ({"limit": True}, TypeError, "limit must be a whole number.*True"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number.*1.5"),
        ({"limit": "3"}, TypeError, "limit must be a whole number.*'3'"),
        ({"limit": None}, TypeError, "needs a limit"),
        ({"limit": 1, "rate": 0}, ValueError, "rate must be positive.*0"),
        ({"limit": 1, "rate": -2.0}, ValueError, "rate must be positive.*-2.0"),
        ({"limit": 1, "rate": math.nan}, ValueError, "rate must be positive.*nan"),
        ({"limit": 1, "rate": math.inf}, ValueError, "rate must be.*finite.*inf"),
        ({"limit": 1, "rate": "1"}, TypeError, "rate must be a number.*'1'"),
        ({"limit": 1, "rate": True}, TypeError, "rate must be a number.*True"),
        ({"limit": 1, "rate": 1, "burst": 0}, ValueError, "burst must be at least 1"),
        ({"limit": 1, "rate": 1, "burst": 1.5}, TypeError, "burst must be a whole"),
        ({"limit": 1, "rate": 1, "burst": True}, TypeError, "burst must be a whole"),
        ({"limit": 1, "burst": 2}, ValueError, "burst.*only together with rate"),
        ({"limit": 1, "burst": 0}, ValueError, "burst"),
        ({"limit": 1, "progress": "yes"}, TypeError, "progress must be a bool or a"),
        ({"limit": 1, "progress": None}, TypeError, "progress must be a bool or a"),
    ],
)
async def test_a_bad_option_is_refused(
    make: Refused, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error says what is wrong with which option, and no item is taken."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        taken.append(1)
        yield 1

    with pytest.raises(error, match=message):
        await make(_echo, items(), **options)

    assert taken == []


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"buffer": -1}, ValueError, "buffer must be at least 0, not -1"),
        ({"buffer": 1.5}, TypeError, "buffer must be a whole number or None.*1.5"),
        ({"buffer": True}, TypeError, "buffer must be a whole number or None.*True"),
        ({"ordered": None}, TypeError, "ordered must be a bool, not None"),
    ],
)
async def test_a_bad_option_of_the_stream_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """So are those that only FanOut has."""
    with pytest.raises(error, match=message):
        FanOut(_echo, [1], limit=1, **options)


@both
@pytest.mark.parametrize("items", [None, 5, _echo])
async def test_items_must_be_iterable(make: Refused, items: Any) -> None:
    """The error names what was given instead."""
    with pytest.raises(TypeError, match="items must be iterable, or async iterable"):
        await make(_echo, items, limit=1)


@both
@pytest.mark.parametrize("fn", [None, 5, "fetch"])
async def test_fn_must_be_callable(make: Refused, fn: Any) -> None:
    """The error names what was given instead."""
    with pytest.raises(TypeError, match=rf"expected a coroutine function, not {fn!r}$"):
        await make(fn, [1], limit=1)


@both
async def test_a_coroutine_is_no_coroutine_function(make: Refused) -> None:
    """The error says how to write it; the coroutine is closed, so nothing warns."""
    with pytest.raises(TypeError, match=r"got the coroutine _echo\(\); pass the funct"):
        await make(_echo(1), [1], limit=1)


def _sync(item: int) -> int:
    return item


async def _generate(item: int) -> Any:
    yield item


@pytest.mark.parametrize("fn", [_sync, _generate, repr])
async def test_a_function_that_makes_no_coroutine(fn: Any) -> None:
    """The error says what came out, and what to do with blocking code."""
    with pytest.raises(TypeError, match=r"calling it returned .*safeconc.to_thread"):
        await fan_out(fn, [1, 2], limit=1)
    with pytest.raises(TypeError, match=r"calling it returned .*safeconc.to_thread"):
        async with FanOut(fn, [1, 2], limit=1) as results:
            await anext(results)


async def test_the_error_names_the_function() -> None:
    """Also one without a name of its own can be told."""
    with pytest.raises(TypeError, match=r"^_sync is not a coroutine function"):
        await fan_out(_sync, [1], limit=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Fraction is not a coroutine function"):
        await fan_out(Fraction, [1], limit=1)  # type: ignore[arg-type]


async def test_a_name_is_shown_in_errors() -> None:
    """Who has several fan-outs can tell them apart."""
    results = FanOut(_echo, [1], limit=1, name="pages")

    with pytest.raises(RuntimeError, match="FanOut 'pages' has not been entered"):
        await anext(results)


async def test_statistics_are_a_value() -> None:
    """Snapshots can be kept, compared, and not changed."""
    statistics = FanOut(_echo, [1], limit=1).statistics()

    assert statistics == FanOutStatistics(1, 0, 0, 0, 0)
    with pytest.raises(AttributeError):
        statistics.total = 5  # type: ignore[misc]
