"""Every vice of the package is found, with its creator; every cure is clean."""

import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from safeconc import leaks
from safeconc._demo import _scenarios
from safeconc._demo._scenarios import CALL, SCENARIOS
from safeconc.leaks._groups import grouped
from tests.test_antipatterns import BLOCKING
from tests.together import backends

FOUND = {
    "forgotten_cancellation": ({"task": 1}, "spawn(_forward, updates, send)"),
    "abandoned_senders": ({"task": 28}, "spawn(send, url)"),
    "unstopped_ticker": ({"task": 1}, "spawn(_tick, check, period)"),
    "silent_producer": ({"task": 1}, "spawn(read)"),
    "unbounded_recursion": ({"task": 9}, "spawn(leaky, read, link, max_depth - 1)"),
    "orphaned_siblings": ({"task": 2}, "query"),
    # It is of a pool: where it is, instead.
    "abandoned_thread": ({"thread": 1}, "write(row)"),
    "unjoined_thread": ({"thread": 1}, "Thread(target=_copy"),
    "unstopped_timer": ({"thread": 1}, "timer.start()"),
    "executor_per_call": ({"executor": 1}, "pool.map(fetch, urls)"),
    "eager_map": ({"thread": 1, "executor": 1}, "pool.map(parse, rows)"),
}
"""What is left, how many of it, and the line of the vice that made it."""

FRAMES = 16
"""Enough to lead out of anyio and trio."""


@pytest.fixture(autouse=True)
def small_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have three links on a page, and two levels below the first."""
    monkeypatch.setattr(_scenarios, "LINKS", 3)
    monkeypatch.setattr(_scenarios, "DEPTH", 2)


async def check(name: str, variant: str, grace: float = 4 * CALL) -> leaks.Snapshot:
    """Call a vice or its cure in a check; return what is left."""
    module: Any = importlib.import_module(f"safeconc.antipatterns.{name}")
    try:
        with leaks.install(FRAMES):
            async with leaks.check(grace=grace):
                await SCENARIOS[name].caller(getattr(module, variant))
    except leaks.LeakError as exc:
        return exc.snapshot
    finally:
        SCENARIOS[name].let_go()
    return leaks.Snapshot(())


def judge(name: str, entries: Sequence[leaks.Entry]) -> None:
    """Expect of what a vice has left to be what is known of it."""
    counts, line = FOUND[name]
    kinds = Counter(entry.kind for entry in entries)
    if name == "unstopped_timer":
        kinds["thread"] = 1  # while the next timer runs, the last one may be ending
    assert kinds == counts
    if name in BLOCKING and not hasattr(sys, "monitoring"):
        return  # nobody tells where a thread was started
    places = [group.created_at or group.waits_at for group in grouped(entries)]
    assert any(
        place is not None
        and place.function.startswith(f"safeconc.antipatterns.{name}.")
        and line in place.source
        for place in places
    )


in_tasks = pytest.mark.parametrize(
    "name", [name for name in SCENARIOS if name not in BLOCKING]
)
in_threads = pytest.mark.parametrize("name", BLOCKING)
IN_REAL_TIME = (*BLOCKING, "abandoned_thread")


@in_tasks
async def test_vice_is_found(name: str) -> None:
    """A check tells what it leaves behind, how many of it, and who made it."""
    judge(name, (await check(name, "leaky")).entries)


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - set(IN_REAL_TIME)))
async def test_cure_is_clean(name: str) -> None:
    """A check around the same load finds nothing."""
    assert (await check(name, "safe")).entries == ()


@backends
@in_threads
def test_vice_that_blocks_is_found(
    name: str, backend: str, options: dict[str, Any]
) -> None:
    """In real time, as threads have no other."""
    left = anyio.run(check, name, "leaky", backend=backend, backend_options=options)

    judge(name, left.entries)


@backends
@pytest.mark.parametrize("name", IN_REAL_TIME)
def test_cure_with_threads_is_clean(
    name: str, backend: str, options: dict[str, Any]
) -> None:
    """In real time: a thread that was lent may still be on its way to rest."""
    left = anyio.run(check, name, "safe", 30, backend=backend, backend_options=options)

    assert left.entries == ()
