"""The leaks of the article, as they come into a service: one more call a request.

Each is the ``leaky`` of an anti-pattern, called with what a handler has at hand. It
answers like a sound one, and leaves something behind.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from safeconc.antipatterns import (
    abandoned_senders,
    forgotten_cancellation,
    silent_producer,
    unbounded_recursion,
    unstopped_ticker,
)

Leak = Callable[[], Awaitable[object]]


async def forget_cancellation() -> None:
    """Forward updates to a client that has hung up; no update comes any more."""
    await forgotten_cancellation.leaky(_silence(), _work, _closed)


async def abandon_senders() -> None:
    """Read five parts, and stop reading when the first one fails."""

    async def fetch(number: int) -> int:
        await anyio.sleep(0.001)
        if number == 0:
            raise LookupError("no such part")
        return number

    try:
        await abandoned_senders.leaky(fetch, range(5))
    except LookupError:
        pass


async def leave_the_ticker_on() -> None:
    """Check on a client every minute, also when it is gone."""
    await unstopped_ticker.leaky(_check, _closed, 60.0)


async def wait_for_silence() -> None:
    """Have rows stored whose source fails in the middle."""

    async def rows() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("the source has gone away")

    try:
        await silent_producer.leaky(rows(), _work)
    except ConnectionError:
        pass


async def recurse_without_bound() -> None:
    """Follow the links of a page, two levels down, with a task for each."""

    async def read(page: int) -> range:
        await anyio.sleep(60 if page else 0)  # a slow site holds them all
        return range(1, 4)

    await unbounded_recursion.leaky(read, 0, 2)


LEAKS: dict[str, Leak] = {
    "forgotten_cancellation": forget_cancellation,
    "abandoned_senders": abandon_senders,
    "unstopped_ticker": leave_the_ticker_on,
    "silent_producer": wait_for_silence,
    "unbounded_recursion": recurse_without_bound,
}
"""By the name of the anti-pattern, in the order of the article."""


async def _silence() -> AsyncIterator[int]:
    await anyio.sleep_forever()
    yield 0


async def _work(_: object) -> None:
    """Take an item."""


async def _check() -> None:
    """Look whether the client is still there."""


async def _closed() -> None:
    """Return when the client hangs up: these ones do at once."""
