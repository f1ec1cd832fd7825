"""The children of this process, as the kernel knows them."""

import os
from collections.abc import Iterator
from pathlib import Path

TASKS = Path("/proc/self/task")
"""Where Linux tells of each thread which processes it has started."""

_ZOMBIE = "Z"


def children() -> list[int] | None:
    """Return the numbers of all child processes; None where the kernel does not tell.

    To ask :mod:`multiprocessing` would reap those of them that have ended.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there is none: told at a hundredth of the price
        return []
    except (AttributeError, OSError):  # a system that cannot be asked so
        pass
    try:
        return [*_children()]
    except OSError:  # not Linux, or a kernel that was built without it
        return None


def _children() -> Iterator[int]:
    for thread in TASKS.iterdir():
        try:
            text = (thread / "children").read_text("ascii")
        except (FileNotFoundError, ProcessLookupError):
            if thread.exists():
                raise
            continue  # the thread has ended meanwhile
        yield from map(int, text.split())


def command_of(pid: int) -> str:
    """Return the command line of a process; empty for one that has ended."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended, and nobody has waited for it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return True
    # The name stands in brackets, and may have brackets in it.
    return text.rpartition(")")[2].split()[0] == _ZOMBIE
