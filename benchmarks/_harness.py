"""Start the workers and collect what they read.

Time is taken in one process per scenario and backend, where all contenders take
turns, so that whatever disturbs the machine disturbs them alike. Memory is taken in
a process per contender, so that none finds memory that another has left.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._model import Outcome, Reading
from benchmarks._worker import HUNG, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._model import Backend, Benchmark, Contender, Scenario

ROOT = Path(__file__).parents[1]


def installed(module: str) -> bool:
    """Say whether *module* can be imported here."""
    return importlib.util.find_spec(module) is not None


def measure(
    benchmark: Benchmark,
    scenario: Scenario,
    *,
    rounds: int,
    quick: bool,
    targets: bool,
    only: Backend | None = None,
) -> Iterator[Outcome]:
    """Measure *scenario* on each of its backends, or on that *only*.

    A measurement that is quick, or for the *targets* alone, leaves out the backends
    that no target asks for; that for the targets, the contenders, too.
    """
    for backend in scenario.backends:
        asked = benchmark.asked(scenario, backend)
        if ((quick or targets) and not asked) or only not in {None, backend}:
            continue
        outcome = Outcome(benchmark.name, scenario, backend)
        ready = [
            contender
            for contender in _ready(outcome)
            if not targets or contender.name in {*asked, scenario.baseline}
        ]
        n = scenario.size(quick=quick)
        if scenario.timed:
            _collect(outcome, _job(outcome, ready, n, rounds, weigh=False))
        if scenario.weighed and backend == scenario.backends[0]:
            for contender in ready:
                if not quick or contender.name in asked:
                    _collect(outcome, _job(outcome, [contender], n, 1, weigh=True))
        yield outcome


def _ready(outcome: Outcome) -> list[Contender]:
    """Return the contenders that can run, and note why the others cannot."""
    ready: list[Contender] = []
    for contender in outcome.scenario.on(outcome.backend):
        needs = (*_modules_of(outcome.backend), *contender.needs)
        if absent := [module for module in needs if not installed(module)]:
            outcome.missing[contender.name] = f"not installed: {', '.join(absent)}"
        else:
            ready.append(contender)
    return ready


def _modules_of(backend: Backend) -> tuple[str, ...]:
    return (backend,) if backend in {"uvloop", "trio"} else ()


def _job(
    outcome: Outcome, ready: list[Contender], n: int, rounds: int, *, weigh: bool
) -> Job:
    return Job(
        benchmark=outcome.benchmark,
        scenario=outcome.scenario.name,
        backend=outcome.backend,
        contenders=tuple(contender.name for contender in ready),
        n=n,
        rounds=rounds,
        weigh=weigh,
    )


def _collect(outcome: Outcome, job: Job) -> None:
    """Let a worker do *job* and file its readings under *outcome*.

    A contender that hangs takes its worker with it: the others begin anew.
    """
    if not job.contenders:
        return
    readings, end = _work(job)
    hung = {reading.contender for reading in readings if reading.error == HUNG}
    if hung:
        outcome.missing |= dict.fromkeys(hung, HUNG)
        others = tuple(name for name in job.contenders if name not in hung)
        _collect(outcome, replace(job, contenders=others))
        return
    for reading in readings:
        if reading.error is None:
            outcome.readings.append(reading)
        else:
            outcome.missing[reading.contender] = reading.error
    for silent in set(job.contenders) - {reading.contender for reading in readings}:
        outcome.missing[silent] = end


def _work(job: Job) -> tuple[list[Reading], str]:
    """Run a worker; return its readings and how it ended."""
    command = [sys.executable, "-m", "benchmarks._worker", json.dumps(asdict(job))]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=False
    )
    readings = [Reading(**json.loads(line)) for line in done.stdout.splitlines()]
    return readings, f"the worker ended with exit code {done.returncode}"
