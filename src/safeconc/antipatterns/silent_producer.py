"""A reader that waits for an end which is never sent.

Symptom: one reader more, standing in ``get``, for every upload that broke off. The
sender has long reported its error; what the reader holds, a transaction, an open
file, a lock, stays held. If somebody waits for the reader to finish, they hang, too.

Cause: that there is nothing more to come is itself a message, and the way past the
error does not send it. A ``finally`` around it is not enough: where the queue is full
and the sender was cancelled, the ``put`` of the end is cancelled as well.

Cure: :class:`~safeconc.Channel`. Leaving its block closes it, whatever the way out,
and closing waits for nobody; after an error, reading raises that error, so that half
a stream is not taken for a whole one. :func:`~safeconc.consume` is the reader.

Linters: none sees it. That a sentinel follows on every path is beyond them.
"""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar

import anyio

from safeconc import Channel, ErrGroup, consume
from safeconc.antipatterns._queue import Queue
from safeconc.antipatterns._spawn import spawn

T = TypeVar("T")


async def leaky(
    rows: AsyncIterable[T], store: Callable[[T], Awaitable[object]]
) -> None:
    """Have a reader *store* the *rows*, while more of them come in."""
    queue = Queue[T | None](maxsize=10)
    stored = anyio.Event()

    async def read() -> None:
        while (row := await queue.get()) is not None:
            await store(row)
        stored.set()

    spawn(read)
    async for row in rows:
        await queue.put(row)
    await queue.put(None)  # and if there is no more, because that failed?
    await stored.wait()


async def safe(rows: AsyncIterable[T], store: Callable[[T], Awaitable[object]]) -> None:
    """Do the same through a channel, which is closed whatever happens."""
    channel = Channel[T](10)
    async with ErrGroup(limit=None) as group:
        await group.go(consume, channel, store)
        async with channel:
            async for row in rows:
                await channel.send(row)
