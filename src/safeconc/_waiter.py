"""One wait that ends by being handed what it waits for."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, final

import anyio

from safeconc._loop import Loop, running_loop


@final
class Waiter:
    """A place in a line.

    Whoever gives a slot or an item gives it to the head of the line in the same
    step: :meth:`hand` makes it the waiter's own before the waiter runs. So a wait
    ends in one of two ways: it was handed something, and returns; or it was not,
    and raises. A cancellation that comes together with the hand-over loses.
    """

    __slots__ = ("_bell", "_handed", "_value")

    def __init__(self, loop: Loop | None = None) -> None:
        self._bell = (loop or running_loop()).bell()
        self._handed = False
        self._value: Any = None

    def hand(self, value: object = None) -> None:
        """Give the waiter what it waits for."""
        self._handed = True
        self._value = value
        self._bell.ring()

    async def wait(self, leave: Callable[["Waiter"], object] | None = None) -> Any:
        """Return what was handed; on a cancellation before that, raise it.

        :param leave: takes a waiter that is about to raise out of its line, unless
            the caller does that.
        """
        try:
            await self._bell
        except BaseException as exc:
            if not self._handed:
                if leave is not None:
                    leave(self)
                raise
            if isinstance(exc, (GeneratorExit, KeyboardInterrupt, SystemExit)):
                raise  # only a cancellation loses
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
        # Looking does not show it, only giving way does: the next checkpoint is to.
        running_loop().left = 0
