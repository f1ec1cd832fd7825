"""A task for every link, and for every link of those.

Symptom: the crawl of a small site goes well. That of a large one takes all memory
within seconds, opens as many connections as there are links, and cannot be stopped:
whoever asked for it is gone, and its tasks make further tasks. With ten links a page
and five levels there are a hundred thousand.

Cause: the recursion has a depth, but no width. Each page starts its links at once,
so all of a level runs at the same time, and each level has ten times the last. The
call that began it returns when the first page has been read.

Cure: :func:`~safeconc.crawl`. Links are jobs that wait, not tasks that run; the
newest is taken first, so that few of them wait; and the call returns when all have
been visited, or takes them along when it is cancelled.

Linters: none sees it, neither the spawn in a loop nor the recursion.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from safeconc import Job, crawl
from safeconc.antipatterns._spawn import spawn

T = TypeVar("T")


async def leaky(
    read: Callable[[T], Awaitable[Iterable[T]]], page: T, max_depth: int
) -> None:
    """Read *page* and what it links to, *max_depth* links far."""
    links = await read(page)
    if max_depth > 0:
        for link in links:
            spawn(leaky, read, link, max_depth - 1)


async def safe(
    read: Callable[[T], Awaitable[Iterable[T]]], page: T, max_depth: int
) -> None:
    """Do the same, ten pages at a time."""

    async def visit(job: Job[T]) -> None:
        job.submit_from(await read(job.item))

    await crawl(visit, [page], max_depth=max_depth, limit=10)
