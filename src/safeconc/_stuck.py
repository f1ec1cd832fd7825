"""Threads that stay although they were told to end: where they are, and who hears."""

import logging
import sys
from threading import enumerate as live_threads
from traceback import StackSummary
from types import CodeType, FrameType

from safeconc._frames import DEEPEST, can_walk, written

PATIENCE = 5.0
"""Seconds until a thread that stays is reported, and between the reports."""

FRAMES = 20
"""Calls that a report shows at most, the innermost ones."""

_log = logging.getLogger("safeconc")


def stack_of(thread: int, code: CodeType) -> StackSummary | None:
    """Return what was called by a function in a thread; None if it is not there.

    :param code: of the function.
    """
    if not can_walk():
        return _written_stack_of(thread, code)
    frame = sys._current_frames().get(thread)
    calls: list[tuple[FrameType, int]] = []
    while frame is not None:
        if frame.f_code is code:
            return StackSummary.extract(reversed(calls[:FRAMES]))
        calls.append((frame, frame.f_lineno))
        frame = frame.f_back
    return None


def _written_stack_of(thread: int, code: CodeType) -> StackSummary | None:
    """Return the same without looking at a frame."""
    calls: list[tuple[str, int, str, None]] = []
    for file, function, line in written().get(thread, ()):
        if (file, function) == (code.co_filename, code.co_name):
            return StackSummary.from_list(list(reversed(calls[:FRAMES])))
        calls.append((file, line, function, None))
    if len(calls) < DEEPEST:
        return None
    # What stands further out was not written, so it may well be there.
    return StackSummary.from_list(list(reversed(calls[:FRAMES])))


def shown(stack: StackSummary) -> str:
    """Format *stack* for people."""
    return "".join(stack.format()) or "  not in Python code"


def is_reported() -> bool:
    """Tell whether anybody listens, for to look at a thread has its price."""
    return _log.isEnabledFor(logging.WARNING)


def report(
    what: str, waits: str, seconds: float, thread: int, stack: StackSummary
) -> None:
    """Tell whoever is on call what is being waited for, and what to do.

    :param what: runs in the thread.
    :param waits: for it.
    :param seconds: since it was cancelled.
    """
    _log.warning(
        "%s was cancelled %.0f s ago and still runs in thread %r (%d). "
        "%s waits for it, and so does every block around; nothing can "
        "stop a thread. Have the function call safeconc.check() in its loops, "
        "sleep with safeconc.current_context().sleep(), and give a timeout to "
        "whatever blocks. It is here, most recent call last:\n%s",
        what,
        seconds,
        next((each.name for each in live_threads() if each.ident == thread), "?"),
        thread,
        waits,
        shown(stack),
    )
