"""A worker that waits for data and does not know that its caller is gone.

Symptom: one task more for every client that was ever connected, all of them
waiting for the next update. Memory follows the number of connections since the last
deployment, whatever the load is.

Cause: the worker was started beside the handler, not inside of it. When the client
hangs up, or the handler is cancelled, that ends the handler's own ``await``. Nobody
tells the worker, and the update at which it could have noticed never comes.

Cure: start the worker in a block that the handler waits in, with
:meth:`~safeconc.ErrGroup.go_background`. Whichever way the block is left, by return,
error or cancellation, the worker is over.

Linters: none sees it. Ruff's RUF006 and flake8-async's ASYNC300 want the task to be
held by somebody, which it is; that somebody also ends it, they cannot check.
"""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar

from safeconc import ErrGroup
from safeconc.antipatterns._spawn import spawn

T = TypeVar("T")


async def leaky(
    updates: AsyncIterable[T],
    send: Callable[[T], Awaitable[object]],
    closed: Callable[[], Awaitable[object]],
) -> None:
    """Forward *updates* to a client until its connection is *closed*."""
    spawn(_forward, updates, send)
    await closed()


async def safe(
    updates: AsyncIterable[T],
    send: Callable[[T], Awaitable[object]],
    closed: Callable[[], Awaitable[object]],
) -> None:
    """Serve a client in the same way, and take the forwarder along."""
    async with ErrGroup(limit=None) as group:
        await group.go_background(_forward, updates, send)
        await closed()


async def _forward(
    updates: AsyncIterable[T], send: Callable[[T], Awaitable[object]]
) -> None:
    async for update in updates:
        await send(update)
