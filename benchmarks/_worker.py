"""One fresh process in which contenders take turns.

Started by :mod:`benchmarks._harness` with a :class:`Job` as JSON; prints one
:class:`~benchmarks._model.Reading` per line as soon as it has it, so that a hang
or a crash costs only what was not measured yet.
"""

from __future__ import annotations

import asyncio
import dataclasses
import faulthandler
import inspect
import json
import os
import random
import sys
import threading
import traceback
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks import _catalog
from benchmarks._model import Backend, Contender, Reading, Run
from benchmarks._watch import Scales, Stopwatch, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

SEED = 20_261_123
"""Decides the order of the contenders in each round, the same on every machine."""

WARM_UP = 64
"""Items of the unmeasured first run: imports and specialisation happen there."""


PATIENCE = 120.0
"""Seconds after which a run is taken to hang."""

HUNG = f"did not end within {PATIENCE:.0f} s"


@dataclass(frozen=True)
class Job:
    """What one worker has to do."""

    benchmark: str
    scenario: str
    backend: Backend
    contenders: tuple[str, ...]
    n: int
    rounds: int
    weigh: bool
    """Whether to measure memory in place of time."""


def main() -> None:
    """Do the job that the command line holds."""
    for reading in readings(Job(**json.loads(sys.argv[1]))):
        tell(reading)


def tell(reading: Reading) -> None:
    """Hand *reading* to the harness."""
    print(json.dumps(dataclasses.asdict(reading)), flush=True)


def readings(job: Job) -> Iterator[Reading]:
    """Run the contenders in turns, in another order each round."""
    field = contenders(job)
    shuffle = random.Random(SEED).shuffle
    for turn in range(-1, job.rounds):  # the first turn only warms up
        shuffle(field)
        for contender in tuple(field):
            n = max(1, round(job.n * contender.share))
            try:
                reading = take(contender, job, turn, min(n, WARM_UP) if turn < 0 else n)
            except Exception as exc:  # noqa: BLE001 - one that fails must not stop the rest
                if not isinstance(exc, ImportError):
                    traceback.print_exc()
                field.remove(contender)
                error = f"{type(exc).__name__}: {exc}"
                yield Reading(contender.name, turn, items=n, error=error)
            else:
                if turn >= 0:
                    yield reading


def contenders(job: Job) -> list[Contender]:
    """Return the contenders that the job names."""
    scenario = next(
        scenario
        for scenario in _catalog.load(job.benchmark).scenarios
        if scenario.name == job.scenario
    )
    return [c for c in scenario.on(job.backend) if c.name in job.contenders]


def take(contender: Contender, job: Job, turn: int, n: int) -> Reading:
    """Run *contender* once, on a loop of its own."""
    watch: Watch = Scales() if job.weigh else Stopwatch()
    run = Run(n, job.backend, watch)
    body = contender.body
    hung = Reading(contender.name, turn, n, error=HUNG)
    guard = threading.Timer(PATIENCE, give_up, [hung])
    guard.start()
    try:
        if inspect.iscoroutinefunction(body):
            run_on(job.backend, body, run)
        else:
            body(run)
    finally:
        guard.cancel()
        guard.join()
    return watch.reading(contender.name, turn, n)


def give_up(hung: Reading) -> None:
    """Say who hangs, and where; then end the process, for nothing else would."""
    tell(hung)
    faulthandler.dump_traceback()
    os._exit(1)


def run_on(
    backend: Backend, body: Callable[[Run], Coroutine[object, object, None]], run: Run
) -> None:
    """Run the coroutine function *body* on a new loop of *backend*."""
    if backend == "trio":
        import trio

        trio.run(body, run)
    elif backend == "uvloop":
        uvloop: Any = import_module("uvloop")  # not among what is type-checked

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(body(run))
    else:
        asyncio.run(body(run))


if __name__ == "__main__":
    main()
