"""Look for leaks, and look again while something is left that may be about to end."""

import asyncio
import gc
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeAlias, final

from safeconc.leaks._model import Entry, Snapshot
from safeconc.leaks._pauses import pauses
from safeconc.leaks._sieve import Sieve

LEAST = 0.1
"""Seconds that what was cancelled has at least: to end takes turns of its loop."""

Seen: TypeAlias = tuple[Iterable[Entry], Iterable[str]]
"""What one look has seen, and remarks on what it could not see."""


@final
class Search:
    """Looks for what should not be, until there is nothing or the time is up.

    :param see: takes one look: what there is, and remarks on what could not be seen,
        which are complete once all has been looked at.
    :param sieve: parts what may stay from what may not.
    """

    found: Snapshot
    """What the last look has found; nothing before the first."""

    def __init__(self, see: Callable[[], Seen], sieve: Sieve) -> None:
        self._see = see
        self._sieve = sieve
        self.found = Snapshot(())

    def look(self) -> bool:
        """Look; True if anything was found."""
        entries, remarks = self._see()
        kept = self._sieve.sift(entries).kept
        self.found = Snapshot(kept, time.time(), tuple(remarks))
        return bool(kept)

    def rounds(self, grace: float) -> Iterator[float]:
        """Look, and again after each pause that is yielded, while anything is left.

        The collector runs only then: a clean end costs nothing.
        """
        if self.look():
            gc.collect()
            yield from self._again(grace)

    def _again(self, grace: float) -> Iterator[float]:
        for pause in pauses(grace):
            yield pause
            if not self.look():
                return

    def end(self, grace: float, refused: list[Entry]) -> Generator[float, None, None]:
        """Cancel what was found, and add to *refused* what goes on all the same.

        What was found stays what it was, also if the pauses are cut short and closed.
        """
        found, ended = self.found, end(self.found.entries)
        if ended:
            try:
                yield from self._again(max(grace, LEAST))
                refused += [entry for entry in self.found.entries if entry.ref in ended]
            finally:
                self.found = found


def end(entries: Iterable[Entry]) -> set[object]:
    """Cancel what can be cancelled; return the marks of that."""
    ended: set[object] = set()
    for entry in entries:
        thing: Any = entry.ref()
        if isinstance(thing, (asyncio.Task, asyncio.TimerHandle)):
            ended.add(entry.ref)
            _cancel(thing)  # pyright: ignore[reportUnknownArgumentType] - of any result
    return ended


def _cancel(thing: "asyncio.Task[Any] | asyncio.TimerHandle") -> None:
    if isinstance(thing, asyncio.TimerHandle):
        thing.cancel()
        return
    try:
        thing.get_loop().call_soon_threadsafe(thing.cancel)
    except RuntimeError:  # the loop was closed meanwhile, and the task with it
        pass
