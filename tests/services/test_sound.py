"""A service that does not leak stays as it is, for however long it is used."""

import os
import statistics
import time

import pytest

from tests.services.processes import Tools, eventually

SOAK = float(os.environ.get("SAFECONC_TEST_SOAK", "30"))
"""Seconds of load. Ten minutes are for releases."""

pytestmark = [pytest.mark.services, pytest.mark.timeout(SOAK + 180)]


def test_nothing_is_left_of_a_load(tools: Tools) -> None:
    """Counts return to where they were exactly, and memory does not grow."""
    server = tools.serve("counted:app", INTERVAL="0.5")

    def alive() -> dict[str, int]:
        kinds: dict[str, int] = server.get("/alive").json()
        return kinds

    server.look("/")  # anyio keeps a thread that it has used once
    before = eventually(lambda: alive() == alive() and alive(), what="quiet")
    load = tools.load(server, seconds=SOAK, connections=8)
    begun = time.monotonic()
    samples: list[tuple[float, int]] = []
    while load.popen.poll() is None:
        samples.append((time.monotonic() - begun, server.rss()))
        time.sleep(0.25)  # one sample: memory of another process has no event
    growth, noise = trend([each for each in samples if each[0] > SOAK / 3])
    print(f"RSS {samples[-1][1]:,} B, {growth:+,.0f} B +- {noise:,.0f} B")
    print(load.finish(0))

    assert "Socket errors" not in load.text()
    eventually(lambda: alive() == before, what=f"{before} again", but=alive)
    assert "growth: " not in server.text()
    assert growth < 3 * noise + 2**20


def trend(samples: list[tuple[float, int]]) -> tuple[float, float]:
    """Fit a line; return how far it rises over the samples, and the error of that.

    Memory comes and goes in pages, so neighbours are alike. The error is therefore
    taken from the residuals of blocks, of which there are ten.
    """
    size = len(samples) // 10
    blocks = [
        tuple(map(statistics.fmean, zip(*samples[at : at + size], strict=True)))
        for at in range(0, size * 10, size)
    ]
    times, levels = zip(*blocks, strict=True)
    slope, base = statistics.linear_regression(times, levels)
    residuals = [
        level - base - slope * at for at, level in zip(times, levels, strict=True)
    ]
    spread = sum((at - statistics.fmean(times)) ** 2 for at in times)
    error = (sum(each**2 for each in residuals) / (len(times) - 2) / spread) ** 0.5
    span = samples[-1][0] - samples[0][0]
    return slope * span, error * span
