"""Find the benchmarks: every public module beside this one has a ``BENCHMARK``."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from benchmarks._model import Benchmark


def names() -> list[str]:
    """Return the names of all benchmarks."""
    here = str(Path(__file__).parent)
    return sorted(
        module.name
        for module in pkgutil.iter_modules([here])
        if not module.name.startswith("_")
    )


def load(name: str) -> Benchmark:
    """Import the benchmark called *name*."""
    benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    if not isinstance(benchmark, Benchmark):
        raise TypeError(f"benchmarks.{name}.BENCHMARK is not a Benchmark")
    return benchmark
