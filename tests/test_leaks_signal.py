"""A dump on a signal: of all tasks and threads, also while a loop does nothing."""

import asyncio
import io
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from safeconc._frames import can_walk
from safeconc.leaks import SignalDump, on_signal, snapshot
from safeconc.leaks._signal import _after_fork

SIGNAL = signal.SIGUSR1


class Page(io.StringIO):
    """A file that tells when something was written to it, and all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = threading.Semaphore(0)

    @override
    def flush(self) -> None:
        super().flush()
        self.flushed.release()


@pytest.fixture(autouse=True)
def _survive() -> Iterator[None]:
    """Have a signal that comes too late end nobody."""
    before = signal.signal(SIGNAL, signal.SIG_IGN)
    yield
    signal.signal(SIGNAL, before)


def test_a_blocked_loop_is_seen_from_outside() -> None:
    """With its tasks and the line at which it is blocked."""
    page = Page()

    async def idle() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.create_task(idle())
        await asyncio.sleep(0)
        os.kill(os.getpid(), SIGNAL)
        page.flushed.acquire()  # a blocking call, on the loop
        task.cancel()

    with on_signal(SIGNAL, file=page):
        asyncio.run(main())

    text = page.getvalue()
    # Without the GIL a loop that does not answer is only counted.
    assert ("idle" if can_walk() else "its 2 tasks") in text
    assert "page.flushed.acquire()" in text
    assert "MainThread" in text


def test_each_signal_writes_a_dump(tmp_path: Path) -> None:
    """At the end of the file."""
    file = tmp_path / "dump.txt"
    written = threading.Semaphore(0)

    with on_signal(SIGNAL, file=file) as dump:
        write = dump._write

        def tell() -> None:
            write()
            written.release()

        dump._write = tell  # type: ignore[method-assign]
        for count in (1, 2):
            os.kill(os.getpid(), SIGNAL)
            written.acquire()
            assert file.read_text().count("Alive: ") == count


def test_signals_that_follow_each_other_share_a_dump(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody who is impatient is told once, as soon as there are no more."""
    monkeypatch.setattr("safeconc.leaks._signal.QUIET", 3600)
    page = Page()
    with on_signal(SIGNAL, file=page) as dump:
        assert dump._ends is not None
        for _ in range(2):
            signal.raise_signal(SIGNAL)
            while select.select(dump._ends[:1], [], [], 0)[0]:  # until it is heard
                time.sleep(0)

    assert page.getvalue().count("Alive: ") == 1


def test_it_goes_to_standard_error_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one of the moment of the signal."""
    page = Page()
    with on_signal(SIGNAL):
        monkeypatch.setattr(sys, "stderr", page)
        os.kill(os.getpid(), SIGNAL)
        page.flushed.acquire()

    assert "Alive: " in page.getvalue()


def test_closing_gives_the_signal_back() -> None:
    """And ends the thread that stood by; a second time it does nothing."""
    before = set(threading.enumerate())  # some of other tests may be ending
    dump = on_signal(SIGNAL)
    assert len(set(threading.enumerate()) - before) == 1
    names = [entry.name for entry in snapshot().entries]
    assert not [name for name in names if name.startswith("safeconc-signal")]

    dump.close()
    dump.close()

    assert set(threading.enumerate()) <= before
    os.kill(os.getpid(), SIGNAL)  # which is ignored again
    with on_signal(SIGNAL):
        pass


def test_one_signal_has_one_dump() -> None:
    """A second one would take the first one's place and never give it back."""
    with on_signal(SIGNAL):
        with pytest.raises(RuntimeError, match="close that one first"):
            on_signal(SIGNAL)


def test_a_signal_that_cannot_be_caught_leaves_nothing() -> None:
    """The thread that was to stand by is gone."""
    before = set(threading.enumerate())

    with pytest.raises((OSError, RuntimeError, ValueError)):
        on_signal(signal.SIGKILL)

    assert set(threading.enumerate()) <= before


def test_where_there_are_no_signals_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr("faulthandler.register")

    with pytest.raises(RuntimeError, match="no signals"):
        on_signal(SIGNAL)


def test_a_dump_that_fails_is_logged(tmp_path: Path) -> None:
    """The next one may work."""
    logged = threading.Semaphore(0)

    class Tell(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            logged.release()

    handler = Tell()
    logging.getLogger("safeconc").addHandler(handler)
    try:
        with on_signal(SIGNAL, file=tmp_path / "missing" / "dump.txt"):
            for _ in range(2):
                os.kill(os.getpid(), SIGNAL)
                logged.acquire()
    finally:
        logging.getLogger("safeconc").removeHandler(handler)


def test_a_thread_that_cannot_be_started_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is raised, and the signal stays as it was."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr("threading.Thread.start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            on_signal(SIGNAL)

    on_signal(SIGNAL).close()


def test_without_its_thread_it_goes_on_in_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a process that was forked: threads are not, and pipes are shared."""

    def stand_by(_: SignalDump) -> None: ...

    monkeypatch.setattr(SignalDump, "_stand_by", stand_by)
    page = Page()
    before = signal.getsignal(SIGNAL)
    dump = on_signal(SIGNAL, file=page)

    _after_fork()
    _after_fork()
    dump._thread.join()
    signal.raise_signal(SIGNAL)
    page.flushed.acquire()
    dump.close()

    assert page.getvalue().count("Alive: ") == 1
    assert signal.getsignal(SIGNAL) == before


FORK = """
import os, signal, sys, time
from safeconc import leaks

before = signal.getsignal(signal.SIGUSR1)
dump = leaks.on_signal(signal.SIGUSR1, file=sys.argv[1])
here, there = os.pipe()
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGUSR1)
    dump.close()
    assert signal.getsignal(signal.SIGUSR1) == before
    os._exit(0)
_, status = os.waitpid(pid, 0)
text = open(sys.argv[1]).read()
assert text.count("Alive: ") == 1, text
dump.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_process_writes_its_own_dump(tmp_path: Path) -> None:
    """And does not wake up its parent for it."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "dump.txt")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
