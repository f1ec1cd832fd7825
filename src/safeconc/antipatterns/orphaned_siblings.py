"""Calls that go on for nobody after one of them has failed.

Symptom: the page has long been answered with an error, and its other queries still
run: they hold connections and locks, and write to the log in the middle of later
requests. A retry starts all of them again.

Cause: :func:`asyncio.gather` raises the first error and leaves the other calls
running. They are cancelled only if ``gather`` itself is, and it is over.

Cure: :class:`~safeconc.ErrGroup`. The first error cancels the siblings, the block
waits until they are gone, and raises that error itself.

Linters: none sees it; no rule of ruff or flake8-async is about ``gather``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from safeconc import ErrGroup, Task
from safeconc.antipatterns._spawn import on_trio, spawn

R = TypeVar("R")


async def leaky(*queries: Callable[[], Awaitable[R]]) -> list[R]:
    """Run *queries* side by side; return their answers in order."""
    if on_trio():
        return await _gather_on_trio(queries)
    return await asyncio.gather(*(query() for query in queries))


async def safe(*queries: Callable[[], Awaitable[R]]) -> list[R]:
    """Run *queries* side by side, as siblings that fail together."""
    tasks: list[Task[R]] = []
    async with ErrGroup(limit=None) as group:
        tasks += [await group.go(query) for query in queries]
    return [task.result() for task in tasks]


async def _gather_on_trio(queries: Sequence[Callable[[], Awaitable[R]]]) -> list[R]:
    """Do what ``gather`` does; trio has no such thing, for the reason shown here."""
    answers: dict[int, R] = {}
    errors: list[Exception] = []
    ended = anyio.Semaphore(0)

    async def run(index: int, query: Callable[[], Awaitable[R]]) -> None:
        try:
            answers[index] = await query()
        except Exception as exc:  # noqa: BLE001 - whoever gathers raises it
            errors.append(exc)
        ended.release()

    for index, query in enumerate(queries):
        spawn(run, index, query)
    for _ in queries:
        await ended.acquire()
        if errors:
            raise errors[0]
    return [answers[index] for index in range(len(queries))]
