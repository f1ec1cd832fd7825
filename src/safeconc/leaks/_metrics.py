"""The metrics that figures make, whoever takes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from safeconc.leaks._figures import Figures

Values: TypeAlias = Mapping[tuple[str, ...], float]
"""Numbers by the values of the labels."""


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is told in numbers."""

    name: str
    """What follows ``safeconc_``."""

    meaning: str
    """What it is, in half a line."""

    labels: tuple[str, ...]
    """What its numbers are told apart by."""

    read: Callable[[Figures], Values]
    """Takes its numbers from the figures of a look."""

    grows: bool = False
    """Whether it only ever grows."""

    @property
    def in_seconds(self) -> bool:
        """Whether it is a time; else it is a count."""
        return self.name.endswith("seconds")


def _by_label(counts: Mapping[str, float]) -> Values:
    return {(label,): count for label, count in counts.items()}


def _by_primitive(figures: Figures) -> Values:
    return {
        (name, what): number
        for name, numbers in figures.primitives.items()
        for what, number in numbers.items()
    }


METRICS = (
    Metric(
        "tasks",
        "Live tasks, by the function that they run",
        ("function",),
        lambda figures: _by_label(figures.tasks),
    ),
    Metric(
        "threads",
        "Live threads, by their names without the numbers",
        ("name",),
        lambda figures: _by_label(figures.threads),
    ),
    Metric(
        "seen",
        "Tasks and threads that a look has found",
        ("kind",),
        lambda figures: _by_label(figures.seen),
        grows=True,
    ),
    Metric(
        "gone",
        "Tasks and threads that a look has found, and that have ended",
        ("kind",),
        lambda figures: _by_label(figures.gone),
        grows=True,
    ),
    Metric(
        "abandoned_threads",
        "Threads whose caller has given up",
        (),
        lambda figures: {(): figures.abandoned},
    ),
    Metric(
        "cancelled_overdue_tasks",
        "Tasks that were cancelled too long ago and are alive",
        (),
        lambda figures: {(): figures.overdue},
    ),
    Metric(
        "oldest_seconds",
        "Time since the oldest task or thread was first seen",
        (),
        lambda figures: {(): figures.oldest},
    ),
    Metric(
        "loop_lag_seconds",
        "The latest that a loop came since the look before",
        (),
        lambda figures: {(): figures.lag},
    ),
    Metric(
        "primitive",
        "Statistics of channels, groups and pools",
        ("name", "statistic"),
        _by_primitive,
    ),
)
"""All of them."""
