"""Measure the part of a run that counts: its time, or its memory."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from benchmarks._model import Reading

if TYPE_CHECKING:
    from types import TracebackType


class Watch(ABC):
    """Measures what runs between :meth:`start` and :meth:`stop`.

    The cyclic collector stays on, since our users leave it on, and the garbage of
    whoever ran before is collected before the measured part begins.
    """

    def __init__(self) -> None:
        self.latencies: list[float] = []
        """Seconds, one per event; given by bodies that measure latencies."""
        self.held: int | None = None
        """Items that waited at most; given by bodies that count them."""
        self.elsewhere: tuple[int, float, float] | None = None
        """Items, and seconds of CPU time and on the clock that they took; given by
        bodies whose work is done in another process."""

    def start(self) -> None:
        """Begin the measured part."""
        gc.collect()
        self._start()

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """End the measured part."""

    @abstractmethod
    def reading(self, contender: str, turn: int, n: int) -> Reading:
        """Return what was measured over *n* items."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()


class Stopwatch(Watch):
    """Takes CPU time and time on the clock."""

    def __init__(self) -> None:
        super().__init__()
        self._cpu = self._wall = 0.0

    @override
    def _start(self) -> None:
        self._wall = -time.perf_counter()
        self._cpu = -time.process_time()

    @override
    def stop(self) -> None:
        self._cpu += time.process_time()
        self._wall += time.perf_counter()

    @override
    def reading(self, contender: str, turn: int, n: int) -> Reading:
        if self.latencies:
            p50 = statistics.median(self.latencies)
            return Reading(contender, turn, items=1, wall=p50)
        if self.elsewhere is not None:
            items, cpu, wall = self.elsewhere
            return Reading(contender, turn, items=items, cpu=cpu, wall=wall)
        return Reading(contender, turn, items=n, cpu=self._cpu, wall=self._wall)


class Scales(Watch):
    """Takes the peak of the memory that the measured part allocated.

    Tracing begins with the measured part, so what was there before is not counted,
    and it slows the run: the time of such a run says nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._peak = 0

    @override
    def _start(self) -> None:
        tracemalloc.start()

    @override
    def stop(self) -> None:
        self._peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    @override
    def reading(self, contender: str, turn: int, n: int) -> Reading:
        return Reading(contender, turn, items=n, peak=self._peak, held=self.held)
