"""Profiles, read by the tool that they are made for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from safeconc import leaks
from safeconc.leaks import Diff, Snapshot
from tests.entries import alive, entry

pytestmark = pytest.mark.services

WORKER = entry(
    "/app/feeds.py:refresh",
    "/app/feeds.py:Feed.run",
    name="Task-1",
    made_by=["/app/main.py:start"],
    owner="tests/test_feeds.py::test_it",
)
HOSTILE = entry('/app/a.py:<"ü\n\x1b\ud800>', name="x\n" * 1_000, kind="thread")


def pprof(path: Path, what: Snapshot | Diff, *options: str) -> list[list[str]]:
    """Have the tool print a profile; return the words of each line."""
    go = shutil.which("go")
    if go is None:
        pytest.fail("go is not installed; .ci/run does that")
    path.write_bytes(leaks.as_pprof(what))
    done = subprocess.run(
        [go, "tool", "pprof", *options, path],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split() for line in done.stdout.splitlines()]


def test_top_has_the_line_that_makes_most(tmp_path: Path) -> None:
    """Counted with all that it has made."""
    snapshot = alive(*[WORKER] * 7, HOSTILE)
    lines = pprof(tmp_path / "it.pb.gz", snapshot, "-top", "-cum")

    assert ["Type:", "alive"] in lines
    assert ["0", "0%", "87.50%", "7", "87.50%", "main.start"] in lines


def test_traces_have_stacks_and_labels(tmp_path: Path) -> None:
    """Innermost call first, and who made it last."""
    lines = pprof(tmp_path / "it.pb.gz", alive(WORKER, HOSTILE), "-traces")
    first = lines.index(["1", "feeds.refresh"])

    assert lines[first + 1 : first + 3] == [["feeds.Feed.run"], ["main.start"]]
    assert ["name:", "Task-#"] in lines
    assert ["owner:", "tests/test_feeds.py::test_it"] in lines


def test_changes_may_be_below_zero(tmp_path: Path) -> None:
    """As in a profile that pprof has subtracted itself."""
    diff = leaks.diff(alive(WORKER, WORKER, WORKER), alive(WORKER))
    lines = pprof(tmp_path / "it.pb.gz", diff, "-top", "-flat")

    assert ["-2", "100%", "100%", "-2", "100%", "feeds.refresh"] in lines
