"""One measurement, in a process of its own: a vice or its cure, under load.

Nothing else has run in the process, so that what is left at the end, tasks and
memory, was left by the calls. Prints a :class:`~safeconc._demo._model.Reading` as JSON.
"""

import gc
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self, final

import anyio

from safeconc import ErrGroup
from safeconc._demo._model import Reading
from safeconc._demo._scenarios import CALL, SCENARIOS

PACE = 1.25 * CALL
"""Seconds from one call to the next."""

PERIOD = 0.01
"""Seconds between two samples."""

AFTERWARDS = 0.1
"""Seconds that what is left may use to end by itself."""


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line names: vice, variant, backend, calls."""
    name, variant, backend, callers = arguments
    reading = anyio.run(measure, name, variant, int(callers), backend=backend)
    json.dump(asdict(reading), sys.stdout)


async def measure(name: str, variant: str, callers: int) -> Reading:
    """Make as many calls of the vice or the cure, and watch the tasks."""
    module = importlib.import_module(f"safeconc.antipatterns.{name}")
    caller = SCENARIOS[name].caller
    # Once unmeasured: what is imported and cached on first use is no leak.
    await caller(module.safe)
    with _Memory() as memory:
        samples: list[int] = []
        returned = 0
        before = _census()
        async with ErrGroup(limit=None) as group:
            # One more than before: the census itself.
            await group.go_background(_watch, samples, before + 1)
            start = anyio.current_time()
            for number in range(1, callers + 1):
                await caller(getattr(module, variant))
                await anyio.sleep_until(start + number * PACE)
            returned = len(samples)
            await anyio.sleep(AFTERWARDS)
        gc.collect()
        left, peak = memory.read()
    return Reading(
        callers=callers,
        period=PERIOD,
        samples=samples,
        returned=returned,
        left=_census() - before,
        memory_left=left,
        memory_peak=peak,
    )


@final
class _Memory:
    """Trace what Python allocates in the block, where it can be traced."""

    def __init__(self) -> None:
        try:
            self._tracer: Any = importlib.import_module("tracemalloc")
        except ImportError:  # PyPy has none
            self._tracer = None

    def __enter__(self) -> Self:
        if self._tracer is not None:
            self._tracer.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._tracer is not None:
            self._tracer.stop()

    def read(self) -> tuple[int, int] | tuple[None, None]:
        """Return the bytes not freed by now, and the most there were at once."""
        if self._tracer is None:
            return None, None
        left, peak = self._tracer.get_traced_memory()
        return left, peak


async def _watch(samples: list[int], own: int) -> None:
    while True:
        await anyio.sleep(PERIOD)
        samples.append(_census() - own)


def _census() -> int:
    return len(anyio.get_running_tasks())


if __name__ == "__main__":
    main(sys.argv[1:])
