"""The options of a fan-out, checked, and the count of its items, whoever works."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import Any, final

from safeconc._limit import check_limit, check_whole
from safeconc._policy._rate import Rate
from safeconc._policy._window import Window
from safeconc._progress import Bar

END: Any = object()
"""There is no further item, or no further result."""


@final
@dataclass(frozen=True, slots=True)
class FanOutStatistics:
    """A snapshot of a fan-out, safe to keep and to compare."""

    total: int | None
    """Items there are in all, where the iterable can tell beforehand."""

    started: int
    """Items taken from the iterable."""

    finished: int
    """Items whose call has ended."""

    failed: int
    """Errors given back in place of results, with ``return_exceptions``."""

    buffered: int
    """Results that the consumer has not taken; always 0 in :func:`fan_out`."""

    @property
    def running(self) -> int:
        """Items whose call has not ended."""
        return self.started - self.finished


Progress = Callable[[FanOutStatistics], object]


class Fan(ABC):
    """What a fan-out over tasks and one over threads have in common."""

    def __init__(
        self,
        *,
        name: str,
        items: object,
        limit: float,
        rate: float | None,
        burst: int,
        progress: bool | Progress,
        return_exceptions: bool,
    ) -> None:
        self.limit = limit
        self.rate = _rate(rate, burst)
        if not isinstance(progress, bool) and not callable(progress):
            raise TypeError(f"progress must be a bool or a callable, not {progress!r}")
        self.report: Progress | None = None
        if progress is True:
            self.report = Bar(name)
        elif progress is not False:
            self.report = progress
        self._return_exceptions = return_exceptions
        hint = length_hint(items, -1)
        self.total = hint if hint >= 0 else None
        self.finished: int = 0
        self.failures = 0

    def gives_back(self, error: BaseException) -> bool:
        """Tell whether the error of an item's call is to be its result."""
        return self._return_exceptions and isinstance(error, Exception)

    def statistics(self) -> FanOutStatistics:
        """Count the items."""
        return FanOutStatistics(
            self.total, self.started, self.finished, self.failures, self.buffered()
        )

    @property
    @abstractmethod
    def started(self) -> int:
        """Items taken so far."""

    def buffered(self) -> int:
        """Count the results that wait for the consumer."""
        return 0

    def open_bar(self) -> None:
        """Put the bar on the screen, if one is to be drawn."""
        if isinstance(self.report, Bar):
            self.report.start()

    def close_bar(self) -> None:
        """Leave the bar on the screen as it is at the end."""
        if isinstance(self.report, Bar):
            self.report.close(self.statistics())


def check_bound(limit: int | None) -> int:
    """Return *limit*, which may not be None, or say what is wrong with it."""
    bound = check_limit(limit)
    if bound is None:
        raise TypeError(
            "a fan-out needs a limit: how many items may be under way at once?"
        )
    return bound


def iterate(items: Iterable[Any], kind: str) -> Iterator[Any]:
    """Begin to iterate over *items*, or say of which *kind* they are to be."""
    try:
        return iter(items)
    except TypeError:
        raise TypeError(f"items must be {kind}, not {items!r}") from None


def make_window(*, ordered: bool, buffer: int | None) -> tuple[Window[Any], int | None]:
    """Make the window of a stream, and check how many results may wait in it."""
    if not isinstance(ordered, bool):
        raise TypeError(f"ordered must be a bool, not {ordered!r}")
    return Window(ordered=ordered), check_whole("buffer", buffer, 0)


def room_for(limit: float, buffer: int | None) -> float:
    """Return how many items of a stream may be started and not consumed."""
    return max(1, limit + (limit if buffer is None else buffer))


def _rate(rate: float | None, burst: int) -> Rate | None:
    if rate is not None:
        return Rate(rate, burst)
    if burst != 1:
        raise ValueError(f"burst ({burst!r}) has a meaning only together with rate")
    return None
