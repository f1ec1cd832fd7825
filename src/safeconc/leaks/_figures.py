"""What a sample means in numbers, with a bound on how many there are."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import final

from safeconc.leaks._model import Entry
from safeconc.leaks._sample import Sample
from safeconc.leaks._text import one_line

LABELS = 50
"""Different names that a number is given for; the rarer ones are called "other"."""

OTHER = "other"

_DIGITS = re.compile(r"\d+")


@final
@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of one look, for metrics."""

    tasks: Mapping[str, int]
    """Live tasks by the function that they run, at most 50 and "other"."""

    threads: Mapping[str, int]
    """Live threads by their names, with ``#`` for numbers in them, likewise."""

    oldest: float
    """Seconds since the oldest task or thread was first seen."""

    abandoned: int
    """Threads whose caller has given up."""

    overdue: int
    """Tasks that were cancelled too long ago and are alive."""

    lag: float
    """Seconds that a loop was late at most, since the look before."""

    seen: Mapping[str, int]
    """Tasks and threads that a look has found since the monitor was opened, by
    ``"task"`` and ``"thread"``. What came and went between two looks is not in it."""

    primitives: Mapping[str, Mapping[str, float]]
    """The statistics of what :meth:`Monitor.include` was given, by name."""

    @property
    def gone(self) -> Mapping[str, int]:
        """Those of :attr:`seen` that have ended."""
        alive = {"task": self.tasks, "thread": self.threads}
        return {
            kind: count - sum(alive[kind].values()) for kind, count in self.seen.items()
        }


def figures(
    sample: Sample,
    lag: float,
    overdue: int,
    seen: Mapping[str, int],
    primitives: Mapping[str, Mapping[str, float]],
) -> Figures:
    """Count a sample by labels.

    :param seen: tasks and threads up to now, those of the sample among them.
    """
    tasks: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for entries in sample.groups.values():
        if entries[0].kind == "task":
            tasks[_function(entries[0])] += len(entries)
        else:
            threads.update(map(_name, entries))
    return Figures(
        tasks=_bounded(tasks),
        threads=_bounded(threads),
        oldest=sample.oldest,
        abandoned=sample.abandoned,
        overdue=overdue,
        lag=lag,
        seen=dict(seen),
        primitives=primitives,
    )


def _function(entry: Entry) -> str:
    """Name the function that a task runs; its own name is mostly but a number."""
    if not entry.stack:
        return _name(entry)
    code = entry.stack[-1].code
    return one_line(f"{_stem(code.co_filename)}.{code.co_qualname}")


@lru_cache(maxsize=4096)
def _stem(file: str) -> str:
    # Each look asks, and pathlib has the interpreter intern the parts of a path.
    return PurePath(file).stem


def _name(entry: Entry) -> str:
    return _DIGITS.sub("#", one_line(entry.name))


def _bounded(counts: Counter[str]) -> Mapping[str, int]:
    if len(counts) <= LABELS:
        return dict(counts)
    bounded = dict(counts.most_common(LABELS))
    bounded[OTHER] = bounded.get(OTHER, 0) + counts.total() - sum(bounded.values())
    return bounded
