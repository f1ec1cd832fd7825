"""Ticks for a thread, with no other thread behind them."""

import time
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Self, TypeVarTuple, final

from safeconc._callables import check_blocking, check_returned
from safeconc._context import ambient
from safeconc._parker import Parker
from safeconc._policy._ticks import First, Missed, Tick, Ticks
from safeconc.threads._waiter import ADVICE, refuse_task

Args = TypeVarTuple("Args")


@final
class Ticker:
    """Iterate once per *period*, until the ambient context ends.

    No thread stands behind it. Who iterates waits for the next tick, and the loop is
    over when the context is, without an error::

        with Context() as ctx:  # cancelled from elsewhere
            for tick in Ticker(5.0):
                check_health()

    Its ticks, and all parameters, are those of :class:`safeconc.Ticker`, on the
    clock of :func:`time.monotonic`. An end that comes with a tick goes before it.
    """

    __slots__ = ("_lock", "_moves", "_parker", "_taken", "_ticks")

    def __init__(
        self,
        period: float,
        *,
        first: First = "now",
        missed: Missed = "skip",
        jitter: float = 0.0,
    ) -> None:
        self._ticks = Ticks(period, first=first, missed=missed, jitter=jitter)
        self._lock = Lock()  # guards the schedule
        self._taken = Lock()  # held by who iterates
        self._parker = Parker()
        self._moves = 0

    def reset(self, period: float | None = None) -> None:
        """Have the next tick come one period from now, and go on from there.

        To be called from any thread, also while another one waits for the tick.

        :param period: the period from now on; None keeps it as it is.
        """
        with self._lock:
            self._ticks.reset(period, time.monotonic())
            self._moves += 1
        self._parker.unpark()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Tick:
        refuse_task()
        if not self._taken.acquire(blocking=False):
            raise RuntimeError(
                "another thread is waiting for the next tick of this Ticker; "
                "give each thread a Ticker of its own"
            )
        try:
            return self._next()
        finally:
            self._taken.release()

    def _next(self) -> Tick:
        context = ambient.get()
        contexts = () if context is None else (context,)
        ticks = self._ticks
        with self._lock:
            ticks.ask(time.monotonic())
        while context is None or not context.done:
            with self._lock:
                moves, due = self._moves, ticks.due
                now = time.monotonic()
                if now >= due:
                    return ticks.take(now)
            self._parker.park(partial(self._has_moved, moves), contexts, due)
        raise StopIteration

    def _has_moved(self, moves: int) -> bool:
        return self._moves != moves


def every(
    period: float,
    fn: Callable[[*Args], object],
    *args: *Args,
    first: First = "now",
    missed: Missed = "skip",
    jitter: float = 0.0,
) -> None:
    """Call ``fn(*args)`` at each tick, until the ambient context ends or it fails.

    This is::

        for tick in Ticker(period):
            fn(*args)

    and as a service of a group, which ends it::

        group.go_background(every, 5.0, check_health)

    The rest is as in :func:`safeconc.every`.
    """
    ticker = Ticker(period, first=first, missed=missed, jitter=jitter)
    check_blocking(fn, ADVICE)
    for _ in ticker:
        check_returned(fn(*args), ADVICE)
