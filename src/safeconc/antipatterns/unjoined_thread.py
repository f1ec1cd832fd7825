"""A thread that is started, and that nobody joins.

Symptom: every client that ever looked at a live view has a thread that still copies
rows for it. The service has thousands of them, each with a stack of its own, and when
it is shut down they are killed in the middle of a row, or it never exits.

Cause: ``Thread(...).start()`` makes a thread that belongs to nobody. ``daemon=True``
says only that the interpreter need not wait for it; nothing tells the thread that its
client is gone.

Cure: :meth:`ErrGroup.go_background <safeconc.threads.ErrGroup.go_background>` of
:mod:`safeconc.threads`, in the client's own block. When the block is left the thread
sees it at its next :func:`~safeconc.check`, and is joined.

Linters: none sees it.
"""

from collections.abc import Callable, Iterable
from threading import Thread
from typing import TypeVar

from safeconc import check
from safeconc.threads import ErrGroup

T = TypeVar("T")


def leaky(
    rows: Iterable[T], write: Callable[[T], object], closed: Callable[[], object]
) -> None:
    """Copy *rows* to a client until its connection is *closed*."""
    Thread(target=_copy, args=(rows, write), daemon=True).start()
    closed()


def safe(
    rows: Iterable[T], write: Callable[[T], object], closed: Callable[[], object]
) -> None:
    """Copy *rows* in the same way, and stop when the client is gone."""
    with ErrGroup(limit=None) as group:
        group.go_background(_copy, rows, write)
        closed()


def _copy(rows: Iterable[T], write: Callable[[T], object]) -> None:
    for row in rows:
        check()  # it can tell only those whose block has an end
        write(row)
