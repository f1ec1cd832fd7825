"""The command line: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _catalog, _harness, _judge, _report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._model import Benchmark, Outcome, Scenario

QUICK_ROUNDS = 3
ROUNDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit code."""
    options = _parser().parse_args(argv)
    benchmarks = [_catalog.load(name) for name in _catalog.names()]
    if options.list:
        _list(benchmarks)
        return 0
    try:
        chosen = _chosen(benchmarks, options.names)
    except LookupError as exc:
        print(exc, file=sys.stderr)
        return 2
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    _report.show_versions()
    outcomes: list[Outcome] = []
    for benchmark, scenario in chosen:
        with _report.busy(benchmark, scenario):
            for outcome in _harness.measure(
                benchmark,
                scenario,
                rounds=rounds,
                quick=options.quick,
                targets=options.targets,
                only=options.backend,
            ):
                _report.show_outcome(outcome)
                outcomes.append(outcome)
    verdicts = _verdicts(benchmarks, outcomes)
    _report.show_verdicts(verdicts)
    if options.json is not None:
        _report.write_json(options.json, outcomes, verdicts)
    return int(options.check and any(verdict.kept is False for verdict in verdicts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the primitives beside their peers.",
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a benchmark, or one scenario of it: fan_out, fan_out/no-wait",
    )
    parser.add_argument(
        "--list", action="store_true", help="name what there is and end"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer items and rounds: a first look"
    )
    parser.add_argument(
        "--targets", action="store_true", help="only what a target speaks of"
    )
    parser.add_argument(
        "--rounds", metavar="N", type=_positive, help="rounds per scenario"
    )
    parser.add_argument(
        "--backend",
        choices=("thread", "asyncio", "uvloop", "trio"),
        help="only this one",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all readings")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a target was missed"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be positive, not {number}")
    return number


def _list(benchmarks: Sequence[Benchmark]) -> None:
    for benchmark in benchmarks:
        for scenario in benchmark.scenarios:
            print(f"{benchmark.name}/{scenario.name}: {scenario.what}")


def _chosen(
    benchmarks: Sequence[Benchmark], names: Sequence[str]
) -> list[tuple[Benchmark, Scenario]]:
    """Return the scenarios that *names* name; without names, all but on request."""
    every = [(b, scenario) for b in benchmarks for scenario in b.scenarios]
    known = {b.name for b in benchmarks} | {f"{b.name}/{s.name}" for b, s in every}
    if unknown := [name for name in names if name not in known]:
        raise LookupError(
            f"no benchmark called {', '.join(unknown)}; --list names what there is"
        )
    return [
        (b, s)
        for b, s in every
        if {b.name, f"{b.name}/{s.name}"} & set(names)
        or (not names and not b.on_request)
    ]


def _verdicts(
    benchmarks: Sequence[Benchmark], outcomes: Sequence[Outcome]
) -> list[_judge.Verdict]:
    return [
        verdict
        for benchmark in benchmarks
        for verdict in _judge.judge(
            benchmark, [o for o in outcomes if o.benchmark == benchmark.name]
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
