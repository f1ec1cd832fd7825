"""How a thread waits."""

import time
from _thread import TIMEOUT_MAX, allocate_lock
from collections.abc import Callable, Sequence
from math import inf
from typing import final

from safeconc._policy._endings import EXPIRED, Node


@final
class Parker:
    """One wait of one thread, which any number of others may end.

    A bare lock, for who unparks may be a signal handler above this very thread:
    ``threading.Event`` has a lock inside, in which both would stand.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def unpark(self) -> None:
        """Have the thread look, now or when it begins to wait."""
        try:
            self._lock.release()
        except RuntimeError:  # it was told already, and has not looked yet
            pass

    def park(
        self,
        is_over: Callable[[], bool],
        contexts: Sequence[Node],
        give_up: float = inf,
    ) -> None:
        """Block the calling thread until *is_over*, or one of *contexts* has ended.

        Who makes it be over calls :meth:`unpark` afterwards. A deadline is waited for
        in real time, whatever clock the context was made under.

        :param give_up: when to return in any case, by :func:`time.monotonic`.
        """
        now = time.monotonic
        expiries: dict[Node, float] = {}
        try:
            for context in contexts:
                expiries[context] = context._deadline_on(now)
                context._add_waker(self, self.unpark)
            until = min(give_up, *expiries.values()) if expiries else give_up
            while not is_over() and not _have_ended(contexts):
                if until == inf:
                    self._lock.acquire()
                elif (left := until - now()) > 0:
                    self._lock.acquire(timeout=min(left, TIMEOUT_MAX))
                elif not _expire(expiries, now()):
                    return
        finally:
            for context in expiries:
                context._drop_waker(self)


def _have_ended(contexts: Sequence[Node]) -> bool:
    # Who was woken asks this before all else: any() would cost several times that.
    for context in contexts:  # noqa: SIM110
        if context.done:
            return True
    return False


def _expire(expiries: dict[Node, float], now: float) -> bool:
    """End the contexts whose time has come; True if there are any."""
    expired = [context for context, expiry in expiries.items() if expiry <= now]
    for context in expired:
        context._finish((EXPIRED, None))
    return bool(expired)
