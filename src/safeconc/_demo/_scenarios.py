"""What the callers of each vice do, and live through."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, final

import anyio

CALL = 0.02
"""Seconds within which a caller is through."""

PAGE = 16_384
"""Bytes of an update, or of a page."""


@final
@dataclass(frozen=True, slots=True)
class Scenario:
    """How a vice is called, and how to tell what happened."""

    title: str
    """What the vice is."""

    verdict: str
    """What was seen, when the vice has left tasks and the cure none."""

    caller: Callable[[Any], Awaitable[None]]
    """Make one call of the function given: the vice, or its cure."""


async def _hang_up(serve: Callable[..., Awaitable[None]]) -> None:
    """Connect, get one update, hear nothing more, and leave."""
    received: list[bytes] = []

    async def send(update: bytes) -> None:
        received.append(update)

    with anyio.move_on_after(CALL):
        await serve(_quiet_topic(), send, anyio.sleep_forever)


async def _quiet_topic() -> AsyncIterator[bytes]:
    yield bytes(PAGE)
    await anyio.sleep_forever()


async def _fail_early(
    fetch_all: Callable[
        [Callable[[int], Awaitable[bytes]], Sequence[int]], Awaitable[list[bytes]]
    ],
) -> None:
    """Fetch thirty pages, of which the first to answer is broken."""
    with suppress(OSError):
        await fetch_all(_fetch, range(30))


async def _fetch(url: int) -> bytes:
    if url == 0:
        await _fail()
    await anyio.sleep(CALL)
    return bytes(PAGE)


async def _fail() -> NoReturn:
    await anyio.sleep(CALL / 4)
    raise OSError("the database is away")


async def _need_all(run_all: Callable[..., Awaitable[list[NoReturn]]]) -> None:
    """Run three queries, of which one fails and two hang."""
    with suppress(OSError):
        await run_all(_fail, anyio.sleep_forever, anyio.sleep_forever)


SCENARIOS = {
    "forgotten_cancellation": Scenario(
        title="a worker that does not know that its caller is gone",
        verdict=(
            "{callers} clients hung up, and {left} forwarders still wait for an "
            "update to send them; in an ErrGroup each was over with its client."
        ),
        caller=_hang_up,
    ),
    "abandoned_senders": Scenario(
        title="senders that wait for a reader who has given up",
        verdict=(
            "{callers} batches failed at their first page, and {left} senders still "
            "stand there with a page each; fan_out ran ten at a time and took them "
            "along."
        ),
        caller=_fail_early,
    ),
    "orphaned_siblings": Scenario(
        title="calls that go on after their group has failed",
        verdict=(
            "{callers} requests failed on one query, and {left} others still run for "
            "them; an ErrGroup cancelled them with the first error."
        ),
        caller=_need_all,
    ),
}
"""By the name of the module under :mod:`safeconc.antipatterns`, in order."""
