"""Turn readings into ratios, and ratios into kept or missed targets."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks._model import Backend, Benchmark, Metric, Outcome, Target


@dataclass(frozen=True)
class Ratio:
    """How one contender compares with another."""

    median: float
    """The median of the ratios of all rounds: a disturbed round drops out."""

    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured."""

    benchmark: str
    target: Target
    measured: Ratio | None
    """A ratio, or a plain figure for a target without a peer."""

    peer: str | None
    """The best of the peers, to which the ratio is."""

    reason: str = ""
    """Why nothing was measured."""

    @property
    def kept(self) -> bool | None:
        """Whether the target is met; ``None`` if it was not measured."""
        if self.measured is None:
            return None
        if self.target.at_least is not None:
            return self.measured.median >= self.target.at_least
        return (
            self.target.at_most is None or self.measured.median <= self.target.at_most
        )


def spread(values: Iterable[float]) -> Ratio | None:
    """Return the median and the range of *values*; ``None`` if there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Ratio(statistics.median(ordered), ordered[0], ordered[-1])


def ratio(ours: dict[int, float], theirs: dict[int, float]) -> Ratio | None:
    """Compare two contenders round by round."""
    rounds = ours.keys() & theirs.keys()
    return spread(ours[turn] / theirs[turn] for turn in rounds if theirs[turn])


def judge(benchmark: Benchmark, outcomes: Iterable[Outcome]) -> list[Verdict]:
    """Hold every target of *benchmark* whose scenario was run to its figures."""
    found: dict[tuple[str, Backend], Outcome] = {
        (outcome.scenario.name, outcome.backend): outcome for outcome in outcomes
    }
    return [
        _verdict(benchmark.name, target, found)
        for target in benchmark.targets
        if (target.scenario, target.backend) in found
    ]


def _verdict(
    benchmark: str, target: Target, found: dict[tuple[str, Backend], Outcome]
) -> Verdict:
    here = found[target.scenario, target.backend]
    ours = here.by_round(target.ours, target.metric)
    if not ours:
        reason = here.missing.get(target.ours, "not measured")
        return Verdict(benchmark, target, None, None, f"{target.ours}: {reason}")
    if not target.versus:
        return Verdict(benchmark, target, spread(ours.values()), None)
    there = found.get((target.versus_scenario or target.scenario, target.backend))
    peer = None if there is None else _best(there, target.versus, target.metric)
    if there is None or peer is None:
        return Verdict(benchmark, target, None, None, "no peer was measured")
    theirs = there.by_round(peer, target.metric)
    measured = ratio(ours, theirs) if target.at_least is None else ratio(theirs, ours)
    return Verdict(benchmark, target, measured, peer)


def _best(outcome: Outcome, peers: tuple[str, ...], metric: Metric) -> str | None:
    """Return the peer with the lowest median."""
    medians = {
        peer: statistics.median(values.values())
        for peer in peers
        if (values := outcome.by_round(peer, metric))
    }
    return min(medians, key=medians.__getitem__, default=None)
