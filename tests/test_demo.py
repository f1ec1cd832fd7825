"""What ``safeconc demo`` measures, prints and answers."""

import io
import json
import os
import runpy
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import anyio
import anyio.abc
import pytest

from safeconc.__main__ import main
from safeconc._demo import _command, _runner, _scenarios
from safeconc._demo._chart import ASCII, BLOCKS, ink_for
from safeconc._demo._model import Pair, Reading
from safeconc._demo._scenarios import PAGE, SCENARIOS
from safeconc._demo._screen import WIDEST, Screen
from safeconc._demo._worker import measure


def reading(*samples: int, memory: int | None = 12_345) -> Reading:
    """Make a reading whose last sample was taken when all calls had returned."""
    return Reading(
        calls=20,
        period=0.01,
        samples=list(samples),
        returned=len(samples) - 1,
        left=samples[-1],
        memory_left=memory,
        memory_peak=memory,
    )


LEAK = reading(*range(1, 41), 40, 40, memory=1_234_567)
CLEAN = reading(1, 0, 1, 0)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """Have the workers find these: first what the vices leave, then the cures."""
    readings = [LEAK, CLEAN]

    def run_pairs(names: Any, backend: str, working: Any, show: Any) -> list[Pair]:
        pairs = [Pair(name, *readings) for name in names]
        for pair in pairs:
            with working(pair.name):
                show(pair)
        return pairs

    monkeypatch.setattr(_command, "run_pairs", run_pairs)
    return readings


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the terminal of whoever runs the tests says from rich."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


# The chart


def test_chart_grows_with_the_count() -> None:
    """Each level has its character, from nothing to the top."""
    assert BLOCKS.draw(range(9), 9, 8) == "·▁▂▃▄▅▆▇█"


def test_chart_shows_a_peak_however_short() -> None:
    """A sample is not averaged away by those that share its character."""
    assert ASCII.draw([0, 0, 0, 8, 0, 0], 2, 8) == ".@"


def test_chart_shows_one_task_beside_thousands() -> None:
    """Only nothing looks like nothing."""
    assert ASCII.draw([0, 1], 2, 1000) == ".:"


def test_chart_of_few_samples_fills_its_width() -> None:
    """Where there are more characters than samples, samples are repeated."""
    assert ASCII.draw([0, 8], 6, 8) == "...@@@"


def test_chart_of_nothing_is_flat() -> None:
    """A scale from 0 to 0 is one, too."""
    assert ASCII.draw([0, 0], 2, 0) == ".."


@pytest.mark.parametrize(
    "encoding, ink", [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII)]
)
def test_chart_uses_characters_that_the_output_has(encoding: str, ink: object) -> None:
    """Blocks are drawn only where they can be encoded."""
    assert ink_for(encoding) is ink


# The measurement


async def test_worker_sees_a_leak_grow_and_stay() -> None:
    """Every call of a vice adds to what is left in the end."""
    found = await measure("forgotten_cancellation", "leaky", 5)

    assert found.left == found.peak == 5
    assert found.samples == sorted(found.samples)
    assert found.samples[0] == 0
    assert set(found.samples[found.returned :]) == {5}


async def test_worker_sees_a_cure_come_and_go() -> None:
    """The tasks of a cure are seen while they run, and gone after that."""
    found = await measure("forgotten_cancellation", "safe", 5)

    assert found.peak == 1
    assert found.left == 0
    assert set(found.samples[found.returned :]) == {0}


@pytest.mark.virtual_clock
async def test_worker_waits_until_a_leak_has_unfolded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What begins when the caller has returned is counted when it is all there."""
    monkeypatch.setattr(_scenarios, "DEPTH", 3)

    async def read_slowly() -> None:
        await anyio.sleep(0.07)

    monkeypatch.setattr(anyio.lowlevel, "checkpoint", read_slowly)

    found = await measure("unbounded_recursion", "leaky", 1)

    assert found.samples[found.returned] < 100
    assert found.left == 1000


async def test_worker_weighs_what_is_left() -> None:
    """The memory that a leak holds is found, by interpreters that can tell."""
    pytest.importorskip("tracemalloc")

    found = await measure("abandoned_senders", "leaky", 2)

    assert found.memory_left is not None
    assert found.memory_peak is not None
    assert found.left * PAGE < found.memory_left <= found.memory_peak


async def test_worker_does_without_tracemalloc(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that cannot trace memory still counts tasks."""
    monkeypatch.setitem(sys.modules, "tracemalloc", None)

    found = await measure("orphaned_siblings", "leaky", 2)

    assert found.memory_left is found.memory_peak is None
    assert found.left == 4


def test_worker_prints_its_reading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started as a module, a worker does what its command line says."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(_scenarios, "CALL", 0.0)
    monkeypatch.setattr(
        sys, "argv", ["worker", "orphaned_siblings", "leaky", "asyncio", "1"]
    )
    monkeypatch.delitem(sys.modules, "safeconc._demo._worker")

    runpy.run_module("safeconc._demo._worker", run_name="__main__")

    assert Reading(**json.loads(capsys.readouterr().out)).left == 2
    assert codes == [0]


# The processes


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_demo_measures_in_fresh_processes(
    backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vices leak and their cures do not, and JSON tells so."""
    names = ["orphaned_siblings", "abandoned_thread"]
    for name in names:
        monkeypatch.setitem(SCENARIOS, name, replace(SCENARIOS[name], calls=1))

    code = main(["demo", *names, "--json", "--backend", backend])

    told = json.loads(capsys.readouterr().out)
    siblings, thread = told["pairs"]
    assert code == 0
    assert (told["backend"], told["passed"]) == (backend, True)
    assert [pair["name"] for pair in told["pairs"]] == names
    assert (siblings["leaky"]["left"], siblings["safe"]["left"]) == (2, 0)
    assert (thread["leaky"]["left"], thread["safe"]["left"]) == (1, 0)
    assert (siblings["kind"], thread["kind"]) == ("tasks", "threads")


def test_worker_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hang ends the demo with a message that says which half hung."""
    monkeypatch.setattr(_runner, "PATIENCE", 0.0)

    assert main(["demo", "orphaned_siblings", "--json"]) == 1
    assert "orphaned_siblings.leaky on asyncio gave no answer" in (
        capsys.readouterr().err
    )


def test_worker_that_fails_is_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a worker says when it fails is not kept from the reader."""

    async def run(command: list[str], **options: Any) -> Any:
        return subprocess.CompletedProcess(command, 3, b"", b"OSError: no more\n")

    monkeypatch.setattr(anyio, "run_process", run)

    assert main(["demo", "orphaned_siblings", "--json"]) == 1
    assert capsys.readouterr().err == (
        "safeconc: orphaned_siblings.leaky on asyncio ended with exit code 3:\n"
        "OSError: no more\n"
    )


def test_interrupt_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C kills the workers, and the exit code tells of it."""
    started: list[anyio.abc.Process] = []

    async def run(command: list[str], **options: Any) -> None:
        async with await anyio.open_process(command) as process:
            started.append(process)
            if len(started) == 2:
                signal.raise_signal(signal.SIGINT)
            await process.wait()

    monkeypatch.setattr(anyio, "run_process", run)

    assert main(["demo", "--json"]) == 130
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2
    assert capsys.readouterr().err == "safeconc: interrupted\n"


# The report


def test_report_fits_into_80_columns(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets lines of at most 80 characters: nothing cut, no control codes."""
    assert main(["demo"]) == 0

    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "…" not in out
    assert "\x1b" not in out
    assert err == ""


def test_report_shows_a_pair(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """Charts of one scale, tasks at most and at last, memory, and a verdict."""
    main(["demo", "forgotten_cancellation"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[-8:-4] == [
        "forgotten_cancellation: a worker that does not know that its caller is gone",
        "         live tasks                     │after       peak  left  memory",
        "  leaky  ▁▁▁▁▂▂▂▂▃▃▃▃▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇████│██████████    40    40  1.2 MB",
        "  safe   ▁▁▁▁▁▁▁▁▁▁▁··········▁▁▁▁▁▁▁▁▁▁│··········     1     0   12 kB",
    ]
    assert lines[-4].startswith("  20 clients hung up, and 40 forwarders")
    assert lines[-1].startswith("1 of 1 vices leaked, 0 of 1 cures did.")


def test_report_has_room_for_a_hundred_thousand(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """The largest of the leaks is not cut, either."""
    found[0] = reading(0, 100_000, memory=401_200_000)
    main(["demo", "unbounded_recursion"])

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("100,000  100,000  401.2 MB") for line in lines)
    assert "(memory: 401.2 MB)" in "".join(lines)


def test_report_tells_threads_from_tasks(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where threads are counted, the chart says so."""
    main(["demo", "abandoned_thread"])

    assert "live threads  " in capsys.readouterr().out


def test_report_has_a_widest_width(
    found: list[Reading],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a wide screen the charts grow, but not beyond what an eye follows."""
    monkeypatch.setenv("COLUMNS", "300")
    main(["demo"])

    longest = max(map(len, capsys.readouterr().out.splitlines()))
    assert 80 < longest <= WIDEST


def test_report_needs_no_more_than_ascii(
    found: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output without block characters gets charts of plain ones."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)

    assert main(["demo"]) == 0


def test_report_says_where_memory_is_unknown(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing measurement is not a zero."""
    found[:] = [reading(1, 1, memory=None), reading(1, 0, memory=None)]
    main(["demo", "orphaned_siblings"])

    assert capsys.readouterr().out.count("unknown") == 2


def test_spinner_turns_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress goes to standard error, and to nobody who reads a file."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stderr in (terminal, file):
        monkeypatch.setattr(sys, "stderr", stderr)
        with Screen().working("orphaned_siblings: the vice"):
            pass

    assert "orphaned_siblings: the vice" in terminal.getvalue()
    assert file.getvalue() == ""


# The verdict


@pytest.mark.parametrize("name", SCENARIOS)
def test_verdict_counts(name: str) -> None:
    """The sentence tells how many calls there were, and what they left."""
    calls = SCENARIOS[name].calls
    verdict = Pair(name, replace(LEAK, calls=calls), CLEAN).verdict

    assert verdict.startswith("One " if calls == 1 else f"{calls} ")
    assert " 40 " in verdict


def test_vice_that_does_not_leak_fails_the_demo(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair that shows nothing says so, and the exit code is 1."""
    found[0] = CLEAN

    assert main(["demo", "orphaned_siblings"]) == 1
    assert "the pair shows nothing" in capsys.readouterr().out


def test_cure_that_leaks_fails_the_demo(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """A cure that leaves tasks is our bug, and the demo says that."""
    found[1] = LEAK

    assert main(["demo", "orphaned_siblings"]) == 1
    assert "a bug in safeconc" in capsys.readouterr().out


# The command line


def test_all_vices_are_shown_by_default(
    found: list[Reading], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name the demo is of everything there is."""
    main(["demo", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert [pair["name"] for pair in told["pairs"]] == list(SCENARIOS)


def test_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no vice gets the list of those that are."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "forgotten"])

    assert caught.value.code == 2
    assert f"there is no vice 'forgotten'; choose from {', '.join(SCENARIOS)}" in (
        capsys.readouterr().err
    )


def test_missing_rich_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without rich the demo says what to install."""
    monkeypatch.setitem(sys.modules, "rich", None)

    assert main(["demo"]) == 2
    assert "pip install 'safeconc[demo]'" in capsys.readouterr().err


def test_json_needs_no_rich(
    found: list[Reading],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A program that reads the demo needs nothing that draws."""
    monkeypatch.setitem(sys.modules, "rich", None)

    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["safeconc"] == version("safeconc")


def test_missing_trio_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backend that is not there is an extra to install."""
    monkeypatch.setitem(sys.modules, "trio", None)

    assert main(["demo", "--backend", "trio"]) == 2
    assert "pip install 'safeconc[trio]'" in capsys.readouterr().err


def test_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m safeconc`` is ``safeconc``."""
    monkeypatch.setattr(sys, "argv", ["safeconc", "--version"])
    monkeypatch.delitem(sys.modules, "safeconc.__main__")

    with pytest.raises(SystemExit) as caught:
        runpy.run_module("safeconc", run_name="__main__")

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"safeconc {version('safeconc')}\n"
