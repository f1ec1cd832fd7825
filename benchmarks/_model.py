"""The vocabulary of a benchmark: who is compared, in what, and what we promised."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks._watch import Watch

Backend: TypeAlias = Literal["thread", "asyncio", "uvloop", "trio"]

THREAD: frozenset[Backend] = frozenset({"thread"})
ASYNCIO: frozenset[Backend] = frozenset({"asyncio", "uvloop"})
TRIO: frozenset[Backend] = frozenset({"trio"})
LOOPS: frozenset[Backend] = ASYNCIO | TRIO
ANYWHERE: frozenset[Backend] = LOOPS | THREAD


class Metric(Enum):
    """What is compared; the value is the unit in which it is shown."""

    CPU = "µs CPU"
    """CPU time of the process per item: the steadiest on a shared machine."""

    WALL = "µs wall"
    """Time on the clock per item; for latencies, the median of the samples."""

    TOTAL = "ms CPU in all"
    """CPU time of the whole run."""

    BYTES = "bytes"
    """Peak of traced memory per item."""

    PEAK = "KiB in all"
    """Peak of traced memory of the whole run."""

    HELD = "held"
    """What waited at the same time, at the most: the size of a backlog."""


@dataclass(frozen=True)
class Run:
    """What the body of a contender is given."""

    n: int
    """How many items, children or repetitions to work through."""

    backend: Backend
    """What the body runs on."""

    watch: Watch
    """Measures whatever runs in its ``with`` block."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a scenario, written as its users would.

    *body* is called once per round. A coroutine function runs on the backend; a
    plain function runs in a thread without a loop.
    """

    name: str
    """Unique among the contenders of one scenario on one backend."""

    body: Callable[[Run], Coroutine[object, object, None]] | Callable[[Run], None]
    """Does the work, and the measured part of it in ``with run.watch``."""

    needs: tuple[str, ...] = ()
    """The modules it imports beyond anyio and the standard library."""

    backends: frozenset[Backend] = LOOPS
    """Where it can run."""

    share: float = 1.0
    """The part of the scenario's items it gets: slow ones need fewer.

    All figures are per item, and fewer items flatter whoever holds all in memory.
    """


@dataclass(frozen=True)
class Scenario:
    """One kind of work, done by several contenders in turns."""

    name: str
    what: str
    """One sentence that says what is measured."""

    contenders: tuple[Contender, ...]
    baseline: str
    """The contender to which the table compares the others."""

    n: int
    """How many items a run works through."""

    quick_n: int
    """The same, for ``--quick``."""

    metric: Metric = Metric.CPU
    """What the table compares."""

    backends: tuple[Backend, ...] = ("asyncio", "uvloop", "trio")
    timed: bool = True
    """Whether the contenders are timed, in interleaved rounds."""

    weighed: bool = False
    """Whether memory is measured, once per contender, on the first backend."""

    def size(self, *, quick: bool) -> int:
        """Return how many items a contender with a full share gets."""
        return self.quick_n if quick else self.n

    def on(self, backend: Backend) -> tuple[Contender, ...]:
        """Return the contenders that can run on *backend*."""
        return tuple(
            contender
            for contender in self.contenders
            if backend in contender.backends or contender.backends == THREAD
        )


@dataclass(frozen=True)
class Target:
    """A promise about a measured figure.

    With *versus*, the figure is a ratio: ours over the best of *versus* for
    *at_most*, and the inverse, "so many times better", for *at_least*. Without it,
    *at_most* bounds the figure itself, in the unit of the metric.
    """

    scenario: str
    ours: str
    """The contender that promises."""

    versus: tuple[str, ...] = ()
    """The contenders it is compared with: the best of them counts."""

    at_most: float | None = None
    at_least: float | None = None
    metric: Metric = Metric.CPU
    backend: Backend = "asyncio"
    versus_scenario: str | None = None
    """Where *versus* was measured, if not in *scenario*."""


@dataclass(frozen=True)
class Benchmark:
    """A named set of scenarios and the promises about them."""

    name: str
    scenarios: tuple[Scenario, ...]
    targets: tuple[Target, ...] = ()
    on_request: bool = False
    """Whether it runs only when it is named: it needs programs of its own."""

    def asked(self, scenario: Scenario, backend: Backend) -> set[str]:
        """Return the contenders of which a target wants to know something."""
        return {
            name
            for target in self.targets
            if scenario.name in {target.scenario, target.versus_scenario}
            and backend == target.backend
            for name in (target.ours, *target.versus)
        }


@dataclass(frozen=True)
class Reading:
    """What one run of one contender measured."""

    contender: str
    round: int
    items: int
    """By how many to divide to get a figure per item."""

    cpu: float | None = None
    """Seconds of CPU time."""

    wall: float | None = None
    """Seconds on the clock."""

    peak: int | None = None
    """Bytes of traced memory above the start, at the highest point."""

    held: int | None = None
    """How many items waited at the same time, at the highest point."""

    error: str | None = None
    """Why there is no figure."""

    def value(self, metric: Metric) -> float | None:
        """Return the figure of this reading in the unit of *metric*."""
        raw, scale = {
            Metric.CPU: (self.cpu, 1e6 / self.items),
            Metric.WALL: (self.wall, 1e6 / self.items),
            Metric.TOTAL: (self.cpu, 1e3),
            Metric.BYTES: (self.peak, 1 / self.items),
            Metric.PEAK: (self.peak, 1 / 1024),
            Metric.HELD: (self.held, 1),
        }[metric]
        return None if raw is None else raw * scale


@dataclass
class Outcome:
    """All readings of one scenario on one backend."""

    benchmark: str
    scenario: Scenario
    backend: Backend
    readings: list[Reading] = field(default_factory=list[Reading])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """Contenders that could not run, each with the reason."""

    def by_round(self, contender: str, metric: Metric) -> dict[int, float]:
        """Return the figures of *contender*, keyed by the round they are from."""
        return {
            reading.round: value
            for reading in self.readings
            if reading.contender == contender
            and (value := reading.value(metric)) is not None
        }
