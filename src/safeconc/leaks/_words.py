"""Numbers of leaks, in words."""

from collections import Counter
from collections.abc import Iterable, Mapping

_NOUNS = {
    "task": "task",
    "thread": "thread",
    "timer": "timer",
    "asyncgen": "async generator",
    "process": "process",
    "executor": "executor",
    "error": "failed task",
    "primitive": "open block",
}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def several(count: int, what: str) -> str:
    """Return the two, with a plural where it is due."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def noun(kind: str) -> str:
    """Return what people call a leak of a kind."""
    return _NOUNS.get(kind, kind)


def members(count: int, kind: str) -> str:
    """Return how many leaks of a kind there are."""
    return several(count, noun(kind))


def total(counts: Iterable[tuple[str, int]]) -> str:
    """Add counts of kinds up, and list them, the highest first."""
    sums: Counter[str] = Counter()
    for kind, count in counts:
        sums[kind] += count
    return ", ".join(members(count, kind) for kind, count in sums.most_common())


def duration(seconds: float) -> str:
    """Return a time with as many digits as one needs to judge it."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.1f} days"


def shares(counts: Mapping[str, int], of: int) -> str:
    """Return values with their counts; without, if all have one value."""
    if list(counts.values()) == [of]:
        return next(iter(counts))
    listed = [f"{value} ({count:,})" for value, count in counts.items()]
    if (rest := of - sum(counts.values())) > 0:
        listed.append(f"others ({rest:,})")
    return ", ".join(listed)
