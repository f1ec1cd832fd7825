"""Looks that many share."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import final

import anyio

from safeconc._loop import Loop, running_loop
from safeconc._to_thread import to_thread
from safeconc.leaks._groups import by_lines
from safeconc.leaks._model import Snapshot
from safeconc.leaks._page import Row

FRESH = 1.0
"""Seconds for which a look is good enough for others."""


@final
class Look:
    """What was alive at an instant, and how that compares with the last one shown.

    A look that was taken for something else, a profile say, has not been counted, so
    the one before it is still the last.
    """

    def __init__(self, snapshot: Snapshot, at: float, before: "Look | None") -> None:
        self.snapshot: Snapshot | None = snapshot
        self.at = at
        self.counts: Mapping[Hashable, int] | None = None
        self.bodies: dict[object, bytes] = {}
        self._before: tuple[float, Mapping[Hashable, int]] | None = None
        if before is not None:
            counts = before.counts
            self._before = before._before if counts is None else (before.at, counts)

    @property
    def ago(self) -> float | None:
        """How long before it the one was that it is compared with; None without one."""
        return None if self._before is None else self.at - self._before[0]

    def rows(self) -> list[Row]:
        """Return the groups, the largest first."""
        assert self.snapshot is not None
        groups = by_lines(self.snapshot.entries)
        self.counts = {key: group.count for key, group in groups.items()}
        before = None if self._before is None else self._before[1]
        rows = [
            Row(group, None if before is None else group.count - before.get(key, 0))
            for key, group in groups.items()
        ]
        rows.sort(key=lambda row: -row.group.count)
        return rows


@final
class Looks:
    """Takes a look when there is none that is fresh, and never two at a time.

    Whoever comes while one is being taken waits for it. If the one who takes it is
    cancelled, the next in line takes it: nothing runs that no request waits for.

    A look is large. It is let go when nobody waits any more; what was made of it
    stays.
    """

    def __init__(self, take: Callable[[], Awaitable[Snapshot]]) -> None:
        self._take = take
        self._look: Look | None = None
        self._loop: Loop | None = None
        self._lock = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)

    async def body(self, what: object, make: Callable[[Look], bytes]) -> bytes:
        """Return what *make* makes of a fresh look, once for all who want *what*.

        It is made in a thread, for it reads files and may take a while.
        """
        loop = running_loop()
        if loop is not self._loop:  # the app serves in another loop than before
            self._loop = loop
            self._look = None
            self._lock = anyio.Lock()
            self._limiter = anyio.CapacityLimiter(1)
        async with self._lock:
            look = self._look
            if look is not None and loop.clock() < look.at + FRESH:
                if what in look.bodies:
                    return look.bodies[what]
                if look.snapshot is None:
                    look.snapshot = await self._take()
            else:
                look = Look(await self._take(), loop.clock(), look)
                self._look = look
            try:
                body = await to_thread(make, look, limiter=self._limiter)
                look.bodies[what] = body
                return body
            finally:
                if not self._lock.statistics().tasks_waiting:
                    look.snapshot = None
