"""A loop that ticks, and that nobody stops.

Symptom: more health checks per minute with every client that comes, and no fewer
when it goes; ``asyncio.all_tasks`` shows a crowd in ``sleep``. The checks do not come
at their times either: each one is late by what all before it have taken.

Cause: the loop is a task of its own. That it belongs to one client, only the
programmer knows; it has no end, and who started it has nothing to stop it with. It
also sleeps a period *after* each check, so the time of the checks adds up.

Cure: :func:`~safeconc.every`, started with :meth:`~safeconc.ErrGroup.go_background`
in the client's own block. It is over when the block is left, and keeps its times;
missed ones are skipped, not made up for.

Linters: none sees it. The rule next to it, ASYNC110 of ruff and flake8-async, is
about loops that do nothing but sleep.
"""

from collections.abc import Awaitable, Callable

import anyio

from safeconc import ErrGroup, every
from safeconc.antipatterns._spawn import spawn


async def leaky(
    check: Callable[[], Awaitable[object]],
    closed: Callable[[], Awaitable[object]],
    period: float,
) -> None:
    """Serve a client until its connection is *closed*; *check* it every *period*."""
    spawn(_tick, check, period)
    await closed()


async def safe(
    check: Callable[[], Awaitable[object]],
    closed: Callable[[], Awaitable[object]],
    period: float,
) -> None:
    """Serve a client in the same way, and stop checking when it is gone."""
    async with ErrGroup(limit=None) as group:
        await group.go_background(every, period, check)
        await closed()


async def _tick(check: Callable[[], Awaitable[object]], period: float) -> None:
    while True:
        await check()
        await anyio.sleep(period)
