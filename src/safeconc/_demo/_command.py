"""``safeconc demo``: see each vice leak, and its cure not."""

import importlib.util
import json
import platform
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Protocol, final

from safeconc._demo._model import Backend, DemoError, Pair
from safeconc._demo._runner import run_pairs
from safeconc._demo._scenarios import SCENARIOS


class Report(Protocol):
    """What is told of a demo, and when."""

    def working(self, label: str) -> AbstractContextManager[object]: ...
    def begin(self, backend: Backend) -> None: ...
    def show(self, pair: Pair) -> None: ...
    def end(self, pairs: Sequence[Pair], seconds: float) -> None: ...


def add_to(subparsers: Any) -> None:
    """Add the command's parser to *subparsers*."""
    parser: ArgumentParser = subparsers.add_parser(
        "demo",
        help="run each vice and its cure, and show what they leave behind",
        description=(
            "Run each vice and its cure, in fresh processes, and show the live tasks "
            "or threads over time and what is left when the callers have returned."
        ),
        epilog=(
            "The exit code is 0 if every vice leaked and no cure did, else 1. "
            f"The vices: {', '.join(SCENARIOS)}."
        ),
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        type=_vice,
        help="a vice; all of them if none",
    )
    parser.add_argument(
        "--backend",
        choices=("asyncio", "trio"),
        default="asyncio",
        help="asyncio is the default",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (without rich)")
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Run the demo; return the exit code."""
    if options.backend == "trio" and not _installed("trio"):
        raise DemoError("--backend trio needs trio: pip install 'safeconc[trio]'", 2)
    report: Report
    if options.json:
        report = _Json()
    elif _installed("rich"):
        from safeconc._demo._screen import Screen

        report = Screen()
    else:
        raise DemoError(
            "the demo is drawn by rich: pip install 'safeconc[demo]', "
            "or ask for --json, which needs nothing",
            code=2,
        )
    backend: Backend = options.backend
    start = time.monotonic()
    report.begin(backend)
    names = options.names or SCENARIOS
    pairs = run_pairs(names, backend, report.working, report.show)
    report.end(pairs, time.monotonic() - start)
    return 0 if all(pair.passed for pair in pairs) else 1


@final
class _Json:
    """One object, printed at the end."""

    def __init__(self) -> None:
        self._backend: Backend = "asyncio"

    def working(self, label: str) -> AbstractContextManager[object]:
        del label
        return nullcontext()

    def begin(self, backend: Backend) -> None:
        self._backend = backend

    def show(self, pair: Pair) -> None:
        """Wait for the end."""

    def end(self, pairs: Sequence[Pair], seconds: float) -> None:
        found = {
            "safeconc": version("safeconc"),
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "backend": self._backend,
            "seconds": round(seconds, 3),
            "passed": all(pair.passed for pair in pairs),
            "pairs": [
                {
                    **asdict(pair),
                    "kind": SCENARIOS[pair.name].kind,
                    "passed": pair.passed,
                    "verdict": pair.verdict,
                }
                for pair in pairs
            ],
        }
        sys.stdout.write(f"{json.dumps(found)}\n")


def _vice(name: str) -> str:
    if name not in SCENARIOS:
        raise ArgumentTypeError(
            f"there is no vice {name!r}; choose from {', '.join(SCENARIOS)}"
        )
    return name


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
