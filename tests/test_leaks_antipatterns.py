"""Every vice of the package is found, with its creator; every cure is clean."""

import importlib
from collections import Counter
from typing import Any

import anyio
import pytest

from safeconc import leaks
from safeconc._demo import _scenarios
from safeconc._demo._scenarios import CALL, SCENARIOS
from safeconc.leaks._groups import grouped
from tests.together import backends

FOUND = {
    "forgotten_cancellation": ("task", 1, "spawn(_forward, updates, send)"),
    "abandoned_senders": ("task", 28, "spawn(send, url)"),
    "unstopped_ticker": ("task", 1, "spawn(_tick, check, period)"),
    "silent_producer": ("task", 1, "spawn(read)"),
    "unbounded_recursion": ("task", 9, "spawn(leaky, read, link, max_depth - 1)"),
    "orphaned_siblings": ("task", 2, "query"),
    "abandoned_thread": ("thread", 1, "write(row)"),  # of a pool: where it is, instead
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


@pytest.mark.parametrize("name", SCENARIOS)
async def test_vice_is_found(name: str) -> None:
    """A check tells what it leaves behind, how many of it, and who made it."""
    kind, count, line = FOUND[name]

    found = await check(name, "leaky")

    assert Counter(entry.kind for entry in found.entries) == {kind: count}
    [group] = grouped(found.entries)
    place = group.created_at or group.waits_at
    assert place is not None
    assert place.function.startswith(f"safeconc.antipatterns.{name}.")
    assert line in place.source


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {"abandoned_thread"}))
async def test_cure_is_clean(name: str) -> None:
    """A check around the same load finds nothing."""
    assert (await check(name, "safe")).entries == ()


@backends
def test_cure_of_a_thread_is_clean(backend: str, options: dict[str, Any]) -> None:
    """In real time: the thread that was lent may still be on its way to rest."""
    left = anyio.run(
        check, "abandoned_thread", "safe", 30, backend=backend, backend_options=options
    )

    assert left.entries == ()
