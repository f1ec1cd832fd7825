"""Every async test runs on asyncio and on trio, in virtual time.

The clock starts at 0 and jumps to the next timer instead of waiting for it, so a
test may sleep an hour and assert the exact instant at which it woke up. Threads do
not see the jumps: a test that waits for a thread has no timer pending meanwhile.
"""

import asyncio
import gc
import os
import selectors
import sys
from importlib import import_module
from typing import Any

import pytest

from safeconc._frames import can_walk
from safeconc.leaks import _private
from tests.inner import run as run  # noqa: PLC0414 - a fixture

UVLOOP = os.environ.get("SAFECONC_TEST_LOOP") == "uvloop"
"""Run on uvloop, in real time: its clock cannot be replaced."""


SWITCH = os.environ.get("SAFECONC_TEST_SWITCH")
"""Seconds after which the interpreter gives another thread its turn; for races."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, move the clock there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready; if nothing is, let the time of *timeout* pass."""
        if timeout is None:  # nothing is scheduled: only I/O can wake the loop
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualClockEventLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when there is nothing else to do."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.now


@pytest.fixture(params=[False, True], ids=["as-is", "without-gil"])
def any_gil(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what looks into other threads believe that there is no GIL, once."""
    if request.param:
        if sys.implementation.name != "cpython":
            pytest.skip("only CPython can be built without the GIL")
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)


@pytest.fixture
def sees_loops(any_gil: None) -> None:
    """Leave out where nobody can tell of loops in other threads."""
    if not can_walk() and _private.asyncio_marks() is None:
        pytest.skip("from 3.14 on no registry has the tasks of all loops")


def _backends() -> list[Any]:
    if UVLOOP:
        return [pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")]
    return [pytest.param("asyncio"), pytest.param("trio")]


@pytest.fixture(params=_backends())
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Name the backend, and give it the virtual clock."""
    if request.param == "trio":
        from trio.testing import MockClock

        return "trio", {"clock": MockClock(autojump_threshold=0)}
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualClockEventLoop}
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


def pytest_configure() -> None:
    """Have threads take turns as often as is wanted."""
    if SWITCH is not None:
        sys.setswitchinterval(float(SWITCH))


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out, under uvloop, the tests that assert instants of the virtual clock."""
    if not UVLOOP:
        return
    kept = [item for item in items if item.get_closest_marker("virtual_clock") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _take(example: None) -> None:
    """Be a test that cannot fail."""


def pytest_collection_finish() -> None:
    """Have the collector look only at what tests make; many call it, some often.

    What is imported now, a hundred thousand objects, is there until the end anyway.
    """
    if not hasattr(gc, "freeze"):  # PyPy
        return
    # Hypothesis looks at the referrers of what it is to seed, and frozen ones are not
    # seen: have it make its own generator of random numbers now.
    hypothesis = import_module("hypothesis")
    once = hypothesis.settings(max_examples=1, database=None)
    once(hypothesis.given(hypothesis.strategies.none())(_take))()
    gc.collect()
    gc.freeze()
