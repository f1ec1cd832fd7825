"""Start a worker for each half of a pair, and wait for what it measured."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from safeconc._demo._model import Backend, DemoError, Pair, Reading, Variant

CALLERS = 20
"""Calls of each vice, and of each cure."""

PATIENCE = 20.0
"""Seconds after which a worker is taken to hang; it needs about one."""

Working = Callable[[str], AbstractContextManager[object]]
"""Show what is being done, for as long as the block lasts."""


def run_pair(name: str, backend: Backend, working: Working) -> Pair:
    """Run a vice, then its cure, each in a fresh process."""
    with working(f"{name}: the vice"):
        leaky = _run(name, "leaky", backend)
    with working(f"{name}: the cure"):
        safe = _run(name, "safe", backend)
    return Pair(name, leaky, safe)


def _run(name: str, variant: Variant, backend: Backend) -> Reading:
    arguments = [name, variant, backend, str(CALLERS)]
    try:
        # However this is left, by Ctrl-C too, the process is dead then.
        done = subprocess.run(  # noqa: S603 - it is ourselves
            [sys.executable, "-m", "safeconc._demo._worker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(
            f"{name}.{variant} on {backend} gave no answer within {PATIENCE:.0f} s, so "
            "its process was killed",
            code=1,
        ) from None
    if done.returncode != 0:
        raise DemoError(
            f"{name}.{variant} on {backend} ended with exit code {done.returncode}:\n"
            f"{done.stderr.strip()}",
            code=1,
        )
    return Reading(**json.loads(done.stdout))
