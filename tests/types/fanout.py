"""What type checkers must infer of fan-outs, and what they must refuse. Never runs."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import partial
from typing import assert_type

import anyio

from safeconc import FanOut, FanOutStatistics, fan_out


async def fetch(url: str) -> bytes:
    """Stand for what a user fans out."""
    return url.encode()


async def fetch_from(host: str, url: str) -> bytes:
    """Stand for what needs a partial."""
    return (host + url).encode()


def measure(url: str) -> int:
    """Stand for what is not async."""
    return len(url)


async def urls() -> AsyncIterator[str]:
    """Stand for an async source."""
    yield ""


async def the_results_are_those_of_the_function() -> None:
    """Infer the results from the function."""
    assert_type(await fan_out(fetch, [""], limit=1), list[bytes])
    assert_type(await fan_out(fetch, urls(), limit=1), list[bytes])
    assert_type(await fan_out(partial(fetch_from, "host"), [""], limit=1), list[bytes])
    assert_type(
        await fan_out(lambda url: fetch_from("host", url), [""], limit=1), list[bytes]
    )


async def errors_that_are_given_back_are_results() -> None:
    """Add errors to the results only where they are asked for."""
    assert_type(
        await fan_out(fetch, [""], limit=1, return_exceptions=True),
        list[bytes | Exception],
    )
    assert_type(
        await fan_out(fetch, [""], limit=1, return_exceptions=False), list[bytes]
    )


async def a_stream_yields_results() -> None:
    """Infer what a stream yields."""
    async with FanOut(fetch, [""], limit=1) as results:
        assert_type(results, FanOut[bytes])
        async for result in results:
            assert_type(result, bytes)
        assert_type(await anext(results), bytes)
        assert_type(results.statistics(), FanOutStatistics)


async def a_stream_may_yield_errors() -> None:
    """Add errors to what a stream yields."""
    async with FanOut(fetch, [""], limit=1, return_exceptions=True) as results:
        async for result in results:
            assert_type(result, bytes | Exception)


async def a_body_that_returns_may_not_be_the_end() -> bytes | None:
    """Know that leaving may be quiet."""
    # Leaving early is quiet, so the block may swallow a cancellation.
    async with FanOut(fetch, [""], limit=1) as results:
        async for result in results:
            return result
    return None


async def options_are_accepted(limiter: anyio.CapacityLimiter) -> None:
    """Take a limiter, numbers and a report."""

    def report(statistics: FanOutStatistics) -> None:
        assert_type(statistics.total, int | None)
        assert_type(statistics.running, int)

    await fan_out(fetch, [""], limit=limiter, rate=0.5, burst=2, progress=report)
    FanOut(fetch, urls(), limit=limiter, ordered=False, buffer=0, progress=True)


async def a_limit_is_required() -> None:
    """Refuse what has no bound."""
    await fan_out(fetch, [""])  # type: ignore[call-overload]
    FanOut(fetch, [""])  # type: ignore[call-overload]
    await fan_out(fetch, [""], limit=None)  # type: ignore[call-overload]


async def the_function_must_be_async() -> None:
    """Refuse a sync function."""
    await fan_out(measure, [""], limit=1)  # type: ignore[arg-type]
    FanOut(measure, [""], limit=1)  # type: ignore[arg-type]


async def the_items_must_fit_the_function() -> None:
    """Refuse items of another type."""
    await fan_out(fetch, [1], limit=1)  # type: ignore[arg-type]
    await fan_out(fetch, 5, limit=1)  # type: ignore[call-overload]


def options_are_keywords() -> None:
    """Refuse a limit by position."""
    FanOut(fetch, [""], 1)  # type: ignore[call-overload]


def a_report_takes_statistics(report: "Iterator[int]", fn: "Awaitable[int]") -> None:
    """Refuse what cannot be called."""
    FanOut(fetch, [""], limit=1, progress=report)  # type: ignore[call-overload]
    FanOut(fn, [""], limit=1)  # type: ignore[call-overload]
