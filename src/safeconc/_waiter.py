"""One wait that ends by being handed what it waits for."""

import asyncio
import math
from typing import Any, final

import anyio

from safeconc._loop import running_loop


@final
class Waiter:
    """A place in a line.

    Whoever gives a slot or an item gives it to the head of the line in the same
    step: :meth:`hand` makes it the waiter's own before the waiter runs. So a wait
    ends in one of two ways: it was handed something, and returns; or it was not,
    and raises. A cancellation that comes together with the hand-over loses.
    """

    __slots__ = ("_bell", "_handed", "_value")

    def __init__(self) -> None:
        self._bell = running_loop().bell()
        self._handed = False
        self._value: Any = None

    def hand(self, value: object = None) -> None:
        """Give the waiter what it waits for."""
        self._handed = True
        self._value = value
        self._bell.ring()

    async def wait(self) -> Any:
        """Return what was handed; on a cancellation before that, raise it.

        The caller takes a waiter that raised out of its line.
        """
        try:
            await self._bell
        except BaseException as exc:
            if not self._handed:
                raise
            rearm(exc)
        return self._value


def rearm(exc: BaseException) -> None:
    """Have a cancellation that something outranked arrive at the next checkpoint.

    A cancelled scope delivers it again by itself. asyncio's ``Task.cancel`` is
    told once, so it must be asked for again, without changing its count.
    """
    if (
        isinstance(exc, asyncio.CancelledError)
        and anyio.current_effective_deadline() != -math.inf
        and (task := asyncio.current_task()) is not None
        and task.cancelling()
    ):
        task.uncancel()
        task.cancel(*exc.args)
