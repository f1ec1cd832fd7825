"""``safeconc run``: somebody's program, unchanged, and what it left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safeconc.__main__ import main
from safeconc.leaks import _overseer
from safeconc.leaks._command import LEAKED
from safeconc.leaks._overseer import Overseer

TELLS_ENDS = hasattr(sys, "monitoring")
"""Whether the interpreter tells when a loop is closed."""

needs_ends = pytest.mark.skipif(
    not TELLS_ENDS, reason="needs sys.monitoring, of CPython 3.12 and later"
)

LEAKY = """
import asyncio

async def worker(queue):
    await queue.get()

async def main():
    queue = asyncio.Queue()
    main.tasks = [asyncio.create_task(worker(queue)) for _ in range(5)]
    await asyncio.sleep(0)
    print("served")

asyncio.run(main())
"""

BY_HAND = """
import asyncio

async def main():
    task = asyncio.ensure_future(asyncio.sleep(3600))
    await asyncio.sleep(0)
    return task

loop = asyncio.new_event_loop()
task = loop.run_until_complete(main())
task._log_destroy_pending = False
loop.close()
"""

CLEAN = """
import asyncio
asyncio.run(asyncio.sleep(0))
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give back what a program changes, and stand in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    depth = sys.get_coroutine_origin_tracking_depth()
    yield
    sys.set_coroutine_origin_tracking_depth(depth)


def run(text: str, *arguments: str, program: str = "prog.py") -> int:
    """Run a program by the command line, in this process."""
    Path(program).write_text(text)
    return main(["run", *arguments, program])


def process(*call: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run python in a process of its own."""
    return subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, *call], capture_output=True, text=True, check=False, **options
    )


@needs_ends
def test_what_a_main_coroutine_leaves_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Although asyncio.run cancels it without a word."""
    assert run(LEAKY) == 0

    out, err = capsys.readouterr()
    assert out == "served\n"
    assert "Left behind: 5 tasks, in 1 place." in err
    assert "prog.py:5 __main__.worker" in err
    assert "made at    prog.py:9 __main__.main" in err


@needs_ends
def test_what_a_closed_loop_leaves_is_reported() -> None:
    """Also of a program that makes its loop by hand.

    In a process of its own: the task might stay for longer than this test.
    """
    Path("prog.py").write_text(BY_HAND)
    done = process("-m", "safeconc", "run", "--fail-on-leak", "prog.py")

    assert done.returncode == LEAKED
    assert "Left behind: 1 task" in done.stderr


def test_a_clean_program_is_reported_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And does not fail."""
    assert run(CLEAN, "--fail-on-leak") == 0

    assert "Left behind: nothing." in capsys.readouterr().err


def test_threads_that_go_on_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """As seen when the last line has run."""
    over = threading.Event()
    before = set(threading.enumerate())
    sys.modules["over"] = over  # type: ignore[assignment] # where the program finds it
    try:
        code = run(
            "import over, threading\n"
            "threading.Thread(target=over.wait, name='worker').start()",
            "--fail-on-leak",
        )
    finally:
        over.set()
        del sys.modules["over"]
        for thread in set(threading.enumerate()) - before:
            thread.join()

    assert code == LEAKED
    assert "1 thread: 'worker'" in capsys.readouterr().err


def test_arguments_are_the_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that look like ours; of a file, and of a module."""
    Path("prog.py").write_text("import sys; print(sys.argv[1:])")

    assert main(["run", "prog.py", "--report", "-m", "--", "--help"]) == 0
    assert main(["run", "-m", "prog", "-h"]) == 0

    out = capsys.readouterr().out
    assert out == "['--report', '-m', '--', '--help']\n['-h']\n"


def test_reports_go_where_one_wants_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also if the program goes elsewhere."""
    where = ["--report", "report.txt", "--pprof", "profile.pb.gz"]

    assert run("import os; os.chdir('/')", *where) == 0

    assert capsys.readouterr().err == ""
    assert (tmp_path / "report.txt").read_text().startswith("Left behind: nothing.\n")
    assert (tmp_path / "profile.pb.gz").read_bytes()[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--report", "missing/report.txt", "prog.py"], "cannot write"),
        ([], "which program?"),
        (["-m"], "which program?"),
    ],
)
def test_a_bad_command_line_is_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything runs."""
    with pytest.raises(SystemExit) as caught:
        main(["run", *arguments])

    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_a_program_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """It ends as python does."""
    assert main(["run", "gone.py"]) == 2

    assert "can't open file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, code",
    [
        ("import sys; sys.exit()", None),
        ("import sys; sys.exit(5)", 5),
        ("raise SystemExit('bye')", "bye"),
    ],
)
def test_an_exit_is_passed_on(text: str, code: object) -> None:
    """As it is: the interpreter knows what it means."""
    with pytest.raises(SystemExit) as caught:
        run(text)

    assert caught.value.code == code


def test_a_crash_is_told_as_python_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    """With a traceback that begins in the program; its code wins over ours."""
    assert run("1 / 0", "--fail-on-leak") == 1

    err = capsys.readouterr().err
    assert err.startswith(
        f'Traceback (most recent call last):\n  File "{Path("prog.py").absolute()}"'
    )
    assert "ZeroDivisionError" in err


def test_an_interrupt_is_told_and_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Once; the interpreter then ends as it does for one."""
    with pytest.raises(KeyboardInterrupt) as caught:
        run("raise KeyboardInterrupt")

    sys.excepthook(KeyboardInterrupt, caught.value, None)
    assert capsys.readouterr().err.count("\nKeyboardInterrupt") == 1


def test_a_program_that_closes_stderr_gets_no_report() -> None:
    """Which is no error of the program's."""
    Path("prog.py").write_text("import sys; sys.stderr.close(); sys.__stderr__ = None")

    done = process("-m", "safeconc", "run", "prog.py")

    assert (done.returncode, done.stdout) == (0, "")


def test_a_report_that_cannot_be_written_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's code stays."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)

    code = run("import os; os.unlink('to'); os.mkdir('to')", "--report", "to")

    assert code == 0
    assert "safeconc: no report: " in capsys.readouterr().err


def test_without_a_tool_number_loops_are_not_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the report says so."""
    monkeypatch.setattr(_overseer, "_TOOLS", ())

    assert run(LEAKY) == 0

    assert "was not seen" in capsys.readouterr().err


def test_without_monitoring_neither(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Python 3.12."""
    monkeypatch.delattr(sys, "monitoring", raising=False)

    assert run(LEAKY) == 0

    assert "was not seen" in capsys.readouterr().err


def test_a_process_that_was_forked_reports_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent does."""
    monkeypatch.setattr(os, "getpid", os.getpid)

    assert run("import os; os.getpid = lambda: 0", "--fail-on-leak") == 0

    assert capsys.readouterr().err == ""


def test_where_there_is_no_stderr_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a program without a console."""
    monkeypatch.setattr(sys, "__stderr__", None)

    assert run("import os; os.unlink('to'); os.mkdir('to')", "--report", "to") == 0


@needs_ends
def test_a_look_that_fails_does_not_reach_the_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is about the program, not a part of it."""

    def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr("safeconc.leaks._overseer.Overseer._look", fail)

    assert run(LEAKY) == 0

    assert "Left behind" in capsys.readouterr().err


def test_the_overseer_looks_at_the_loop_that_is_closed() -> None:
    """And at no other; what it cannot look at it leaves alone."""

    def close(self: object) -> None:
        overseer._closing(close.__code__, 0)

    async def leave() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(3600), name="left"))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    overseer = Overseer()
    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(leave())
        other.run(leave())
        close(one)
        assert [entry.name for entry in overseer._seen.values()] == ["left"]
        close(one.get_loop())
        close(None)
        assert len(overseer._seen) == 1
        close(other.get_loop())
        assert len(overseer._seen) == 2
    close(one)  # has no loop any more


@needs_ends
def test_the_overseer_takes_a_number_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And gives it back; those of debuggers and profilers it leaves alone."""
    monitoring = vars(sys)["monitoring"]
    free = 5
    monkeypatch.setattr(_overseer, "_TOOLS", (4, free))
    monitoring.use_tool_id(4, "somebody else")
    try:
        overseer = Overseer()
        overseer.begin()
        while_it_looks = monitoring.get_tool(free)
        overseer.end()
    finally:
        monitoring.free_tool_id(4)

    assert while_it_looks == "safeconc run"
    assert monitoring.get_tool(free) is None


# In a process of its own

FORKS = """
import os, sys
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
sys.exit(7)
"""

SPAWNS = """
import multiprocessing, sys

def work(queue):
    queue.put(sys.modules["__main__"].__name__)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    queue.close()
    queue.join_thread()
    print(process.exitcode)
"""


@pytest.mark.parametrize(
    "text, code, reports",
    [
        pytest.param("import os; os._exit(4)", 4, 0, id="os._exit"),
        pytest.param(FORKS, 7, 1, id="fork"),
        pytest.param(SPAWNS, 0, 1, id="spawn"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
            -signal.SIGTERM,
            0,
            id="SIGTERM",
        ),
        pytest.param("print(input())", 0, 1, id="stdin"),
        pytest.param("1 +", 1, 1, id="syntax"),
    ],
)
def test_a_process_ends_as_it_would_without_us(
    text: str, code: int, reports: int
) -> None:
    """With the same output and the same status, and one report if there can be one."""
    Path("prog.py").write_text(text)

    alone = process("prog.py", input="typed\n")
    watched = process("-m", "safeconc", "run", "prog.py", input="typed\n")

    assert watched.returncode == alone.returncode == code
    assert watched.stdout == alone.stdout
    assert watched.stderr.count("Left behind: ") == reports
    assert watched.stderr.startswith(alone.stderr)
