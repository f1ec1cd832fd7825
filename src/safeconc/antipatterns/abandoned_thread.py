"""A thread that works on for a caller who is long gone.

Symptom: exports that nobody waits for any more still write, hours after their clients
have timed out, and a retry starts the same export beside the one that still runs.
Threads pile up; or, where the pool is bounded, one day all of its threads belong to
nobody and every further call waits for a free one. At the end the process does not
exit: the interpreter waits for its threads.

Cause: a thread cannot be cancelled, so what is cancelled is the *waiting* for it. That
is what ``asyncio.to_thread`` does, and anyio's and trio's ``abandon_on_cancel=True``.
The function in the thread is told nothing.

Cure: :func:`~safeconc.to_thread`. The function finds a context in which it can look
whether it is still wanted, and the caller leaves when the thread has ended, not before.

Linters: none sees it. The option is a documented one, and asyncio has no other way.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import anyio.to_thread

from safeconc import check, to_thread

T = TypeVar("T")


async def leaky(rows: Iterable[T], write: Callable[[T], object]) -> None:
    """Write *rows* in a thread, as long as the caller waits for it."""

    def export() -> None:
        for row in rows:
            write(row)

    await anyio.to_thread.run_sync(export, abandon_on_cancel=True)


async def safe(rows: Iterable[T], write: Callable[[T], object]) -> None:
    """Write *rows* in a thread, and look before each one whether somebody waits."""

    def export() -> None:
        for row in rows:
            check()
            write(row)

    await to_thread(export)
