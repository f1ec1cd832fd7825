"""Show the readings as tables and write them as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks._judge import ratio
from benchmarks._model import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks._judge import Ratio, Verdict
    from benchmarks._model import Benchmark, Contender, Outcome, Scenario

PEERS = (
    "safeconc",
    "anyio",
    "trio",
    "uvloop",
    "aiologic",
    "aiometer",
    "aiostream",
    "aiotools",
    "culsans",
    "janus",
    "quattro",
    "streamable",
    "trio-util",
)

IN_ALL = {Metric.TOTAL, Metric.PEAK}
"""Shown only where the scenario compares them: elsewhere a figure per item does."""

NARROW = 120
"""Columns that the tables need; a pipe is taken to be at least as wide."""

console = Console(highlight=False)
if not console.is_terminal:
    console.width = max(console.width, NARROW)


def versions() -> dict[str, str]:
    """Return the version of everything that competes, or that it is missing."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}"
    }
    for peer in PEERS:
        try:
            found[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            found[peer] = "not installed"
    return found


def show_versions() -> None:
    """Print what competes."""
    console.print(
        ", ".join(f"{name} {version}" for name, version in versions().items())
    )


def busy(benchmark: Benchmark, scenario: Scenario) -> AbstractContextManager[object]:
    """Show on a terminal what is being measured, as long as the block runs."""
    return console.status(f"measuring {benchmark.name}/{scenario.name}")


def show_outcome(outcome: Outcome) -> None:
    """Print the table of one scenario on one backend, the cheapest first."""
    scenario = outcome.scenario
    where = (
        "in a plain thread" if outcome.backend == "thread" else f"on {outcome.backend}"
    )
    title = f"{outcome.benchmark}/{scenario.name} {where}: {scenario.what}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("contender", no_wrap=True)
    headings = (
        "n",
        *(metric.value for metric in _metrics(outcome)),
        "x baseline",
        "range",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for contender in _ranked(outcome):
        table.add_row(*_row(outcome, contender))
    console.print()
    console.print(table)
    for reason in sorted(set(outcome.missing.values())):
        names = sorted(name for name, why in outcome.missing.items() if why == reason)
        message = f"  missing: {'; '.join(names)}: {reason}"
        console.print(message, style="red", markup=False, soft_wrap=True)


def _metrics(outcome: Outcome) -> list[Metric]:
    """Return the metrics for which there is a figure."""
    return [
        metric
        for metric in Metric
        if any(reading.value(metric) is not None for reading in outcome.readings)
        and (metric not in IN_ALL or outcome.scenario.metric is metric)
    ]


def _ranked(outcome: Outcome) -> list[Contender]:
    """Return the contenders, the cheapest first and the missing ones last.

    Who was not asked to run, for a quick look, is left out.
    """
    seen = {reading.contender for reading in outcome.readings} | outcome.missing.keys()

    def cost(contender: Contender) -> float:
        value = _median(outcome, contender.name, outcome.scenario.metric)
        return math.inf if value is None else value

    contenders = outcome.scenario.on(outcome.backend)
    return sorted((c for c in contenders if c.name in seen), key=cost)


def _median(outcome: Outcome, contender: str, metric: Metric) -> float | None:
    values = outcome.by_round(contender, metric).values()
    return statistics.median(values) if values else None


def _row(outcome: Outcome, contender: Contender) -> list[Text | str]:
    scenario = outcome.scenario
    style = "bold" if contender.name == scenario.baseline else ""
    style += " green" if "safeconc" in contender.needs else ""
    name = Text(contender.name, style=style.strip())
    if contender.name in outcome.missing:
        return [name, Text("missing", style="red")]
    n = next(r.items for r in outcome.readings if r.contender == contender.name)
    figures = [
        _figure(_median(outcome, contender.name, metric))
        for metric in _metrics(outcome)
    ]
    measured = ratio(
        outcome.by_round(contender.name, scenario.metric),
        outcome.by_round(scenario.baseline, scenario.metric),
    )
    return [name, f"{n:,}", *figures, *_ratio_cells(measured)]


def _ratio_cells(measured: Ratio | None) -> list[str]:
    if measured is None:
        return ["-", "-"]
    span = f"{_figure(measured.low)} - {_figure(measured.high)}"
    return [_figure(measured.median), span]


def _figure(value: float | None) -> str:
    """Show three digits that count, and never an exponent."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.3g}"


def show_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Print one line per target."""
    console.print()
    for verdict in verdicts:
        console.print(f"target: {sentence(verdict)}", soft_wrap=True)


def sentence(verdict: Verdict) -> str:
    """Say the promise, what was measured, and whether it is kept."""
    target = verdict.target
    where = f"{verdict.benchmark}/{target.scenario} on {target.backend}"
    return f"[{where}] {_promise(verdict)} -> {_measured(verdict)}".replace(
        "[", r"\[", 1
    )


def _promise(verdict: Verdict) -> str:
    target = verdict.target
    unit = target.metric.value
    peer = verdict.peer or " or ".join(target.versus)
    if verdict.peer and len(target.versus) > 1:
        peer = f"the best peer ({peer})"
    if target.versus_scenario:
        peer = f"{peer} in {target.versus_scenario}"
    if target.at_least is not None:
        return (
            f"{target.ours} at least {target.at_least:g} x better than {peer}, {unit}"
        )
    if target.versus:
        return f"{target.ours} at most {target.at_most:g} x {peer}, {unit}"
    return f"{target.ours} at most {target.at_most:g} {unit}"


def _measured(verdict: Verdict) -> str:
    if verdict.measured is None:
        return f"[yellow]not measured[/] ({verdict.reason})"
    figure, span = _ratio_cells(verdict.measured)
    word = "[green]ok[/]" if verdict.kept else "[bold red]MISSED[/]"
    return f"{figure} ({span}) -> {word}"


def write_json(
    path: Path, outcomes: Iterable[Outcome], verdicts: Iterable[Verdict]
) -> None:
    """Write all readings and verdicts to *path*."""
    document = {
        "versions": versions(),
        "machine": platform.machine(),
        "outcomes": [
            {
                "benchmark": outcome.benchmark,
                "scenario": outcome.scenario.name,
                "backend": outcome.backend,
                "baseline": outcome.scenario.baseline,
                "metric": outcome.scenario.metric.name,
                "missing": outcome.missing,
                "readings": [asdict(reading) for reading in outcome.readings],
            }
            for outcome in outcomes
        ],
        "targets": [
            {
                **asdict(verdict),
                "target": {
                    **asdict(verdict.target),
                    "metric": verdict.target.metric.name,
                },
                "kept": verdict.kept,
            }
            for verdict in verdicts
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
