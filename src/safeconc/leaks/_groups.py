"""Leaks that wait at one place and were made at one place are one leak, many times."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, final

from safeconc.leaks._advice import Advice, advice
from safeconc.leaks._crowd import Crowd, Crowds
from safeconc.leaks._model import Entry, RawFrame
from safeconc.leaks._places import Place, distance, function, innermost, place
from safeconc.leaks._text import one_line


@final
class Group:
    """Leaks of one kind that wait at the same lines and were made at the same lines."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        """All of them, as they came."""

        whole = entries if isinstance(entries, Crowds) else Crowds((entries,))
        self._samples = tuple(whole.samples())
        self._sample = self._samples[0][0]
        self.kind = self._sample.kind
        """What they are."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.entries)

    @property
    def oldest(self) -> float | None:
        """The age of the oldest one in seconds; None if no age is known."""
        ages = [entry.age for entry, _ in self._samples if entry.age is not None]
        return max(ages, default=None)

    @cached_property
    def stack(self) -> tuple[Place, ...]:
        """Where they wait, innermost call first."""
        return _named(self._sample.stack)

    @cached_property
    def created(self) -> tuple[Place, ...]:
        """Where they were made, innermost call first; empty if nobody noted it."""
        return _named(self._sample.created)

    @property
    def waits_at(self) -> Place | None:
        """The line of the reader's own code that waits, or what comes nearest to it."""
        frames = self._sample.stack
        return self.stack[innermost(frames)] if frames else None

    @property
    def created_at(self) -> Place | None:
        """The line of the reader's own code that made them, or the nearest."""
        frames = self._sample.created
        return self.created[innermost(frames)] if frames else None

    @property
    def advice(self) -> Advice | None:
        """What usually mends such a leak."""
        inward = reversed(self._sample.stack)
        return advice(self.kind, (function(f) for f in inward if distance(f)))

    def names(self, at_most: int) -> list[str]:
        """Return different names of theirs, fit to be shown."""
        names = dict.fromkeys(entry.name for entry in self.entries[: 4 * at_most])
        return [one_line(name) for name in list(names)[:at_most]]

    def tally(self, what: str, at_most: int) -> dict[str, int]:
        """Count their states or owners; the most frequent ones, fit to be shown."""
        counts: Counter[Any] = Counter()
        for entry, count in self._samples:
            counts[getattr(entry, what)] += count
        return {
            one_line(value): count
            for value, count in counts.most_common(at_most)
            if value is not None
        }


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Put like and like together; the largest group first, then the oldest."""
    groups = list(by_lines(entries).values())
    groups.sort(key=lambda group: (-group.count, -(group.oldest or 0)))
    return groups


def by_lines(entries: Iterable[Entry]) -> dict[Hashable, Group]:
    """Put like and like together, by what makes them alike."""
    alike: dict[Hashable, list[Sequence[Entry]]] = {}
    for part in entries.parts if isinstance(entries, Crowds) else (entries,):
        if isinstance(part, Crowd):
            alike.setdefault(_likeness(part.sample), []).append(part)
            continue
        for entry in part:
            alike.setdefault(_likeness(entry), []).append((entry,))
    return {key: Group(Crowds(parts)) for key, parts in alike.items()}


def _likeness(entry: Entry) -> Hashable:
    return entry.kind, entry.stack, entry.created


def _named(frames: Iterable[RawFrame]) -> tuple[Place, ...]:
    return tuple(map(place, frames))
