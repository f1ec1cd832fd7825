"""One look at all that is alive, in slices that a service does not feel."""

import time
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from itertools import chain
from math import inf
from time import perf_counter
from typing import TypeVar, final

from anyio.lowlevel import checkpoint

from safeconc._frames import walkable
from safeconc.leaks import _private
from safeconc.leaks._alerts import Reading
from safeconc.leaks._census import Census
from safeconc.leaks._groups import Group, by_lines
from safeconc.leaks._model import Entry, Snapshot

T = TypeVar("T")

SLICE = 0.002
"""Seconds for which a look keeps the loop before it lets others run."""


@final
class Sample:
    """What was alive, put together by where it waits and where it was made.

    :param at: when, on the clock of who takes it.
    :param since: when things were first seen, as of the sample before.
    """

    def __init__(self, at: float, since: Mapping[Hashable, float]) -> None:
        self.at = at
        self.groups: dict[Hashable, list[Entry]] = {}
        self.cancelled: dict[Hashable, Hashable] = {}
        self.abandoned = 0
        self.notes: tuple[str, ...] = ()
        self.since: dict[Hashable, float] = {}
        """When each task and thread was first seen. The keys keep nothing alive."""

        self.fresh = {"task": 0, "thread": 0}
        """Those that the sample before did not have, by kind."""

        self._before: Mapping[Hashable, float] = since
        self._counts = {"task": 0, "thread": 0}

    def add(self, entry: Entry) -> None:
        """Take one, if it is a task or a thread."""
        if entry.kind not in self._counts:
            return
        self._counts[entry.kind] += 1
        key = entry.kind, entry.stack, entry.created
        self.groups.setdefault(key, []).append(entry)
        mark = entry.ref
        self.fresh[entry.kind] += mark not in self._before
        self.since[mark] = self._before.get(mark, self.at)
        if entry.state == "cancelling":
            self.cancelled[mark] = key

    def close(self, notes: Iterable[str], abandoned: int) -> None:
        """Note what else there is to know, once all have been taken."""
        self.notes = tuple(notes)
        self.abandoned = abandoned
        self._before = {}

    @property
    def tasks(self) -> int:
        """How many tasks there were."""
        return self._counts["task"]

    @property
    def threads(self) -> int:
        """How many threads there were."""
        return self._counts["thread"]

    @property
    def oldest(self) -> float:
        """For how long something has been there at most, as far as anybody looked."""
        return self.at - min(self.since.values(), default=self.at)

    def reading(self, lag: float) -> Reading:
        """Return what rules look at."""
        return Reading(
            at=self.at,
            tasks=self.tasks,
            threads=self.threads,
            sites={key: len(entries) for key, entries in self.groups.items()},
            cancelled=self.cancelled,
            abandoned=self.abandoned,
            lag=lag,
        )

    def group(self, key: Hashable) -> Group | None:
        """Return what is alive at a site, if anything is."""
        entries = self.groups.get(key)
        return self._grouped(entries) if entries else None

    def thread(self, ident: object) -> Group | None:
        """Return a single thread, if it was seen."""
        for entry in chain.from_iterable(self.groups.values()):
            if entry.kind == "thread" and entry.ident == ident:
                return self._grouped([entry])
        return None

    def snapshot(self) -> Snapshot:
        """Return all of it, with the ages that are known."""
        entries = chain.from_iterable(self.groups.values())
        return Snapshot(tuple(map(self._aged, entries)), time.time(), self.notes)

    def _grouped(self, entries: list[Entry]) -> Group:
        (group,) = by_lines(map(self._aged, entries)).values()
        return group

    def _aged(self, entry: Entry) -> Entry:
        return entry._replace(age=self.at - self.since[entry.ref])


def take(at: float, since: Mapping[Hashable, float]) -> Generator[None, None, Sample]:
    """Take a sample, one entry a step."""
    sample = Sample(at, since)
    census = Census()
    for entry in census:
        sample.add(entry)
        yield
    sample.close(census.notes, _count_abandoned())
    return sample


def look() -> Generator[None, None, Snapshot]:
    """Take a snapshot, one entry a step."""
    entries: list[Entry] = []
    census = Census()
    for entry in census:
        entries.append(entry)
        yield
    return Snapshot(tuple(entries), time.time(), tuple(census.notes))


def in_one_go(work: Generator[None, None, T]) -> T:
    """Do *work* in the calling thread."""
    (result,) = _advance(work, inf)
    return result


async def in_slices(
    work: Generator[None, None, T], note: Callable[[float], object]
) -> T:
    """Do *work* in the running loop, and let others run every few steps.

    :param note: is told how long each slice was, in seconds.
    """
    while True:
        begun = perf_counter()
        result = _advance(work, begun + SLICE)
        note(perf_counter() - begun)
        if result:
            return result[0]
        await checkpoint()


def _advance(work: Generator[None, None, T], until: float) -> list[T]:
    """Go on until an instant; return the result in a list if there is one by then."""
    try:
        next(work)
        while perf_counter() < until:
            next(work)
    except StopIteration as stop:
        return [stop.value]
    return []


def _count_abandoned() -> int:
    return sum(map(_private.is_abandoned, walkable().values()))
