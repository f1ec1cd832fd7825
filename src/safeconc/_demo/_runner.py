"""Start a worker for each half of each pair, and wait for what they measured."""

import json
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from functools import partial
from itertools import product

import anyio

from safeconc import Context, DeadlineExceeded, FanOut
from safeconc._demo._model import Backend, DemoError, Pair, Reading, Variant
from safeconc._demo._scenarios import SCENARIOS

PATIENCE = 120.0
"""Seconds after which a worker is taken to hang; it needs about one, or ten."""

AT_ONCE = 2
"""Workers at once: a vice beside its cure, or one that takes longer beside others."""

VARIANTS: tuple[Variant, Variant] = ("leaky", "safe")
"""The halves of a pair, in the order in which it has them."""

Working = Callable[[str], AbstractContextManager[object]]
"""Show what is being done, for as long as the block lasts."""


def run_pairs(
    names: Collection[str],
    backend: Backend,
    working: Working,
    show: Callable[[Pair], object],
) -> list[Pair]:
    """Run vices and cures, each in a fresh process; *show* the pairs one by one."""
    return anyio.run(_run_pairs, names, backend, working, show)


async def _run_pairs(
    names: Collection[str],
    backend: Backend,
    working: Working,
    show: Callable[[Pair], object],
) -> list[Pair]:
    pairs: list[Pair] = []
    halves = list(product(names, VARIANTS))
    # Room for all of them: a worker that takes long holds up no other.
    async with FanOut(
        partial(_run, backend), halves, limit=AT_ONCE, buffer=len(halves)
    ) as readings:
        for name in names:
            with working(name):
                pairs.append(Pair(name, await anext(readings), await anext(readings)))
            show(pairs[-1])
    return pairs


async def _run(backend: Backend, half: tuple[str, Variant]) -> Reading:
    name, variant = half
    arguments = [name, variant, backend, str(SCENARIOS[name].calls)]
    command = [sys.executable, "-m", "safeconc._demo._worker", *arguments]
    try:
        async with Context(timeout=PATIENCE):
            # However this is left, by Ctrl-C too, the process is dead then.
            done = await anyio.run_process(command, check=False)
    except DeadlineExceeded:
        raise DemoError(
            f"{name}.{variant} on {backend} gave no answer within {PATIENCE:.0f} s, so "
            "its process was killed",
            code=1,
        ) from None
    if done.returncode != 0:
        raise DemoError(
            f"{name}.{variant} on {backend} ended with exit code {done.returncode}:\n"
            f"{done.stderr.decode().strip()}",
            code=1,
        )
    return Reading(**json.loads(done.stdout))
