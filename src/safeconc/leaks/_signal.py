"""What every task and thread is doing, on a signal."""

import faulthandler
import logging
import os
import select
import signal
import sys
import threading
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, TypeAlias, cast, final

from safeconc.leaks._census import snapshot
from safeconc.leaks._own import own
from safeconc.leaks._report import report

QUIET = 0.05
"""Seconds without another word from the signal, after which it has been heard."""

Target: TypeAlias = "str | os.PathLike[str] | TextIO | None"

_log = logging.getLogger("safeconc")


@final
class SignalDump:
    """Writes a dump at each signal until it is closed: what ``on_signal`` returns.

    A handler in Python runs in the main thread, between two of its instructions. If
    that thread is in C code and does not come back, it never runs; and this is when
    one wants the dump. ``signal.set_wakeup_fd`` would tell another thread, but there
    is one for the whole process, and event loops use it. :mod:`faulthandler` has a
    handler in C for one signal alone, which writes to a file. Here that file is a
    pipe, and what it writes is only a knock: a thread waits at the other end, and
    looks at everything from there.

    The pipe does not block. A handler that waited for room in it would wait for a
    thread that may need what the interrupted one holds.

    Processes forked meanwhile have no such thread; there, it is a handler in Python.
    """

    def __init__(self, number: int, file: Target) -> None:
        self._number = number
        self._file = file
        self._before: Any = signal.getsignal(number)
        self._ends: tuple[int, int] | None = None
        self._thread = threading.Thread(
            target=self._stand_by, name=f"safeconc-signal-{number}", daemon=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the signal back the handler that it had; a second time, do nothing."""
        if _active.get(self._number) is not self:
            return
        del _active[self._number]
        if self._ends is None:
            signal.signal(self._number, self._before or signal.SIG_DFL)
            return
        faulthandler.unregister(self._number)
        here, there = self._ends
        os.close(there)
        self._thread.join()
        os.close(here)

    # Below: how it works

    def _open(self) -> None:
        own.add(self._thread)
        self._ends = here, there = os.pipe()
        os.set_blocking(there, False)
        try:
            self._thread.start()
            faulthandler.register(self._number, file=there, all_threads=False)
        except BaseException:
            os.close(there)
            if self._thread.ident is not None:
                self._thread.join()
            os.close(here)
            raise
        _active[self._number] = self

    def _stand_by(self) -> None:
        assert self._ends is not None
        here = self._ends[0]
        while os.read(here, 65536):
            while select.select([here], [], [], QUIET)[0] and os.read(here, 65536):
                pass
            self._write()

    def _write(self) -> None:
        try:
            text = f"{report(snapshot(), level=2, title='Alive', advice=False)}\n"
            file = sys.stderr if self._file is None else self._file
            if isinstance(file, (str, os.PathLike)):
                path = cast("str | os.PathLike[str]", file)
                with Path(path).open(
                    "a", encoding="utf-8", errors="backslashreplace"
                ) as opened:
                    opened.write(text)
            else:
                file.write(text)
                file.flush()
        except Exception:  # noqa: BLE001 - the next signal may fare better
            _log.exception("the dump on signal %d failed", self._number)

    def _move(self) -> None:
        """Go on in a forked process, without the thread."""
        assert self._ends is not None
        faulthandler.unregister(self._number)
        for end in self._ends:
            os.close(end)
        self._ends = None
        signal.signal(self._number, lambda _, __: self._write())


_active: dict[int, SignalDump] = {}


def on_signal(signum: int, *, file: Target = None) -> SignalDump:
    """Write what all tasks and threads are doing whenever a signal comes.

    For the day on which a service hangs and answers nobody::

        leaks.on_signal(signal.SIGUSR1, file="/var/log/app-tasks.txt")

        $ kill -USR1 PID

    It works while an event loop is blocked, be it in Python code or in a C function
    that lets other threads run; also when the main thread is. It holds until
    :meth:`SignalDump.close`, or until the end of a ``with`` block around it. One
    thread stands by meanwhile, which is in no census.

    A C function that keeps the interpreter to itself and never returns cannot be
    looked behind: the thread that would look needs the interpreter, so nothing is
    written. Then only a tool from outside can tell, such as py-spy.

    :param file: a path to append to, or a text file; standard error if None.

    Raises :exc:`RuntimeError` where there are no such signals (on Windows), and if
    this one has a dump already.
    """
    register = getattr(faulthandler, "register", None)
    if register is None:
        raise RuntimeError("this system has no signals that a process can be asked by")
    if signum in _active:
        raise RuntimeError(
            f"signal {signum} has a dump already; close that one first, or take "
            "another signal"
        )
    _watch_forks()
    dump = SignalDump(signum, file)
    dump._open()
    return dump


def _after_fork() -> None:
    for each in _active.values():
        if each._ends is not None:
            each._move()


@cache
def _watch_forks() -> None:
    """Have forked processes go on by themselves; once, as it cannot be undone."""
    os.register_at_fork(after_in_child=_after_fork)
