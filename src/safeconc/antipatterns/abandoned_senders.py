"""A task for every item, and results that nobody reads any more.

Symptom: after each failed batch most of its tasks are still there, waiting in
``put`` with a result in hand. A larger batch leaves more of them, and has as many
calls under way at once as it has items.

Cause: two mistakes that need each other. The loop starts a task per item without a
bound, so all of them race for one queue; and whoever reads the queue stops at the
first error, while the rest count on being read. The queue is full and stays full.

Cure: :func:`~safeconc.fan_out`. At most *limit* calls are under way, a result is
handed over rather than queued, and the first error cancels and joins the others.

Linters: none sees it, neither the spawn in a loop without a limit nor the queue
whose readers may leave.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from safeconc import fan_out
from safeconc.antipatterns._queue import Queue
from safeconc.antipatterns._spawn import spawn

T = TypeVar("T")
R = TypeVar("R")


async def leaky(fetch: Callable[[T], Awaitable[R]], urls: Sequence[T]) -> list[R]:
    """Fetch all *urls* at once; return the pages as they come in."""
    queue = Queue[R | Exception](maxsize=1)

    async def send(url: T) -> None:
        try:
            await queue.put(await fetch(url))
        except Exception as exc:  # noqa: BLE001 - the reader raises it
            await queue.put(exc)

    for url in urls:
        spawn(send, url)
    pages: list[R] = []
    for _ in urls:
        page = await queue.get()
        if isinstance(page, Exception):
            raise page  # and who reads the rest?
        pages.append(page)
    return pages


async def safe(fetch: Callable[[T], Awaitable[R]], urls: Sequence[T]) -> list[R]:
    """Fetch all *urls*, ten at a time; return the pages in order."""
    return await fan_out(fetch, urls, limit=10)
