"""The queue that cannot say that there is nothing more to come."""

from collections import deque
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Queue(Generic[T]):
    """What :class:`asyncio.Queue` is up to Python 3.12: it cannot be closed."""

    def __init__(self, maxsize: int) -> None:
        self._items: deque[T] = deque()
        self._free = anyio.Semaphore(maxsize)
        self._filled = anyio.Semaphore(0)

    async def put(self, item: T) -> None:
        """Add an item, as soon as there is room for it."""
        await self._free.acquire()
        self._items.append(item)
        self._filled.release()

    async def get(self) -> T:
        """Take the oldest item, as soon as there is one."""
        await self._filled.acquire()
        self._free.release()
        return self._items.popleft()
