"""Models of threads that meet, run in one order of their steps after the other.

Everything that a race finds by chance, this looks for: a scheduler decides before each
line, or each instruction, of safeconc which of the threads takes it. These are not
among the tests that run by default, since the scheduler needs CPython 3.12::

    pip install interleave-test
    pytest -o python_files='*.py' tests/interleaved
"""

import _thread
import os
import sys
import threading
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import interleave_test
import pytest

import safeconc

# Typed, but for what it calls.
_tool: Any = interleave_test

SCHEDULES = int(os.environ.get("SAFECONC_TEST_SCHEDULES", "100"))
"""How many orders of single instructions are tried, out of very many."""

SEARCHES: dict[str, dict[str, Any]] = {
    # All orders with one switch where no thread had to wait.
    "lines": {"granularity": "line", "strategy": "dfs", "max_preemptions": 1},
    "instructions": {"granularity": "opcode", "strategy": "pct", "seed": 1},
}

_here = threading.local()


class _Here:
    """What stands for a thread, and can be referred to weakly like one."""


def _thread_here() -> _Here:
    """Return what stands for the calling thread: the scheduler's are bare ones."""
    thread: _Here = vars(_here).setdefault("thread", _Here())
    return thread


_modelled: list[tuple[object, object]] = [
    (_thread.allocate_lock, _tool.Lock),
    (threading.Lock, _tool.Lock),
    (threading.Thread, _tool.Thread),
    (threading.current_thread, _thread_here),
]


@pytest.fixture(autouse=True)
def modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have safeconc take the locks and threads that the scheduler knows of."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "safeconc":
            continue
        for attribute, found in list(vars(module).items()):
            for real, model in _modelled:
                if found is real:
                    monkeypatch.setattr(module, attribute, model)


def explore(model: Callable[[], None], search: str, share: float = 1.0) -> None:
    """Run *model* in the orders of one of :data:`SEARCHES`.

    :param share: of the orders that are tried, where these are not all.
    """
    options = SEARCHES[search]
    exhausts = options["strategy"] == "dfs"
    result = _tool.explore(
        model,
        iterations=sys.maxsize if exhausts else ceil(SCHEDULES * share),
        include=[str(Path(safeconc.__file__).parent)],
        **options,
    )
    assert result.exhausted is exhausts


def explored(model: Callable[[], None]) -> Callable[[str], None]:
    """Make a test of *model*, which has threads meet and asserts what holds then."""

    def test(search: str) -> None:
        explore(model, search)

    test.__doc__ = model.__doc__
    test.__module__ = model.__module__
    return pytest.mark.parametrize("search", SEARCHES)(test)


def together(*fns: Callable[[], object]) -> None:
    """Call each in a thread; all of them are over then."""
    tasks = [_tool.spawn(fn) for fn in fns]
    for task in tasks:
        task.join()


def make_lock() -> Any:
    """Make a lock that the scheduler knows of."""
    return _tool.Lock()
