"""Where other threads are: by their frames, or by what the interpreter writes of them.

Without the GIL a frame must not be looked at while another thread runs it, nor the
coroutine that it belongs to: CPython says so of free threading, and it does crash.
What may be asked there at any time is :mod:`faulthandler`, which halts all threads for
the moment (from 3.13.2 on) and writes down where they are.
"""

import faulthandler
import re
import sys
from tempfile import TemporaryFile
from threading import get_ident
from types import FrameType
from typing import NamedTuple, final

DEEPEST = 100
"""Calls of a thread that are written at most, the innermost ones."""

_THREAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+) ")
_CALL = re.compile(r'  File "(.*)", line (\d+) in (.*)')


@final
class Call(NamedTuple):
    """One call of a stack that was written down."""

    file: str
    function: str
    line: int


def can_walk() -> bool:
    """Tell whether what other threads run may be looked at."""
    has_gil = getattr(sys, "_is_gil_enabled", None)
    return has_gil is None or has_gil()


def walkable() -> dict[int, FrameType]:
    """Return the innermost frame of each thread whose frames may be walked."""
    return sys._current_frames() if can_walk() else {get_ident(): sys._getframe(1)}


def written() -> dict[int, list[Call]]:
    """Return the calls of each thread, innermost first; of at most 100 threads."""
    with TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        lines = file.read().decode("ascii").splitlines()
    threads: dict[int, list[Call]] = {}
    calls: list[Call] = []
    for line in lines:
        if (thread := _THREAD.match(line)) is not None:
            calls = threads[int(thread[1], 16)] = []
        elif (call := _CALL.fullmatch(line)) is not None:
            calls.append(Call(call[1], call[3], int(call[2])))
    return threads
