"""One measurement, in a process of its own: a vice or its cure, under load.

Nothing else has run in the process, so that what is left at the end, tasks and
memory, was left by the calls. Prints a :class:`~safeconc._demo._model.Reading` as JSON.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
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

CALM = 10
"""Samples that have to agree before what is alive counts as left."""


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line names: vice, variant, backend, calls."""
    name, variant, backend, calls = arguments
    anyio.run(_print, name, variant, int(calls), backend=backend)


async def _print(name: str, variant: str, calls: int) -> None:
    json.dump(asdict(await measure(name, variant, calls)), sys.stdout)
    sys.stdout.flush()
    # To end a hundred thousand tasks properly takes almost as long as to start them.
    os._exit(0)


async def measure(name: str, variant: str, calls: int) -> Reading:
    """Make as many calls of the vice or the cure, and watch what lives."""
    module = importlib.import_module(f"safeconc.antipatterns.{name}")
    scenario = SCENARIOS[name]
    # Once unmeasured: what is imported and cached on first use is no leak.
    await scenario.caller(module.safe)
    counts: list[int] = []
    async with ErrGroup(limit=None) as group:
        await group.go_background(_watch, scenario.census, counts)
        with _Memory() as memory:
            before = scenario.census()  # the watcher, too, if it counts tasks
            counts.append(before)
            start = anyio.current_time()
            for number in range(1, calls + 1):
                await scenario.caller(getattr(module, variant))
                await anyio.sleep_until(start + number * PACE)
            returned = len(counts)
            await _calm(counts)
            gc.collect()
            memory_left, memory_peak = memory.read()
            left = scenario.census() - before
    scenario.let_go()
    return Reading(
        calls=calls,
        period=PERIOD,
        samples=[count - before for count in counts],
        returned=returned,
        left=left,
        memory_left=memory_left,
        memory_peak=memory_peak,
    )


async def _watch(census: Callable[[], int], counts: list[int]) -> None:
    while True:
        await anyio.sleep(PERIOD)
        counts.append(census())


async def _calm(counts: list[int]) -> None:
    """Wait until nothing comes or goes any more; a vice may only have begun."""
    start = len(counts)
    # For that nothing happens there is no event.
    while len(counts) < start + CALM or len(set(counts[-CALM:])) > 1:  # noqa: ASYNC110
        await anyio.sleep(PERIOD)


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


if __name__ == "__main__":
    main(sys.argv[1:])
