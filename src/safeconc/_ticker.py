"""Ticks with no task behind them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, Self, TypeVarTuple, final

import anyio

from safeconc._context import ambient, spend
from safeconc._loop import Loop, running_loop
from safeconc._policy._ticks import First, Missed, Tick, Ticks
from safeconc._siblings import call, check_function

Args = TypeVarTuple("Args")


@final
class Ticker:
    """Iterate once per *period*, for as long as somebody iterates.

    No task and no timer stands behind it, so there is nothing to stop and nothing
    to leak: leaving the loop is the whole shutdown::

        async for tick in Ticker(5.0):
            await check_health()

    Tick ``n`` is due at ``t0 + n * period``, where ``t0`` is the clock when the
    first tick is asked for, or a period later with ``first="later"``. However late
    single ticks come, the schedule does not drift. A tick never comes early. Every
    one is given or counted: ``tick.index + 1`` is the number of ticks given so far,
    plus the sum of what they said they ``missed``.

    A body that takes longer than the period misses ticks; *missed* says what
    becomes of them. Here each body is short, except for that of tick 1::

        due       0----1----2----3----4----5--
        body           ############
        "skip"    0    1           3  4    5
        "burst"   0    1           23 4    5
        "delay"   0    1           2    3    4

    ``"skip"`` gives the latest one, at once, and goes on by the schedule: 3 says
    that it missed one. ``"burst"`` gives all of them, as fast as the body takes
    them. ``"delay"`` misses none and moves the schedule: after a tick for which the
    body came too late, the next one is a whole period away.

    A cancelled wait has taken no tick: the next one asked for is the same.

    :param first: the first tick is due at once, or a period later.
    :param jitter: up to so many seconds, at random, are added to the instant of each
        tick, lest many processes tick in step; at most *period*. They do not add up.
        The numbers are those of :func:`random.random`.
    """

    __slots__ = ("_alarm", "_loop", "_taken", "_ticks")

    _alarm: "_TimerAlarm | _ScopeAlarm"

    def __init__(
        self,
        period: float,
        *,
        first: First = "now",
        missed: Missed = "skip",
        jitter: float = 0.0,
    ) -> None:
        self._ticks = Ticks(period, first=first, missed=missed, jitter=jitter)
        self._loop: Loop | None = None
        self._taken = False

    def reset(self, period: float | None = None) -> None:
        """Have the next tick come one period from now, and go on from there.

        A task that waits for a tick waits for the new instant, be it earlier or
        later. No tick is missed by it: those that were overdue move along. Before
        the first tick was asked for, there is no schedule to move yet.

        To be called on the event loop of the ticker.

        :param period: the period from now on; None keeps it as it is.
        """
        loop = self._loop
        if loop is None:
            self._ticks.reset(period, 0.0)
            return
        if not loop.is_here():
            raise _elsewhere()
        self._ticks.reset(period, loop.clock())
        self._alarm.ring()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tick:
        loop = self._loop or self._settle()
        if not loop.is_here():
            raise _elsewhere()
        if self._taken:
            raise RuntimeError(
                "another task is waiting for the next tick of this Ticker; "
                "give each task a Ticker of its own"
            )
        self._taken = True
        try:
            clock, ticks = loop.clock, self._ticks
            now = clock()
            ticks.ask(now)
            unchecked = True
            # A wait may be over before the tick is due: the schedule was moved, or
            # the loop's timers are coarse. After the last look nothing is awaited.
            while unchecked or now < ticks.due:
                if now < ticks.due:
                    await self._alarm.wait(ticks.due)
                    unchecked = _has_ended()
                else:
                    # A body that is slower than the period would keep the loop to
                    # itself for a whole budget.
                    loop.left = 0
                    await spend(loop)
                    unchecked = False
                now = clock()
            return ticks.take(now)
        finally:
            self._taken = False

    def _settle(self) -> Loop:
        """Stay with the running loop, and learn how to wait there."""
        self._loop = loop = running_loop()
        if issubclass(anyio.get_cancelled_exc_class(), asyncio.CancelledError):
            self._alarm = _TimerAlarm(asyncio.get_running_loop())
        else:
            self._alarm = _ScopeAlarm(loop)
        return loop


def _elsewhere() -> RuntimeError:
    return RuntimeError(
        "this Ticker counts by the clock of another event loop; make a new one "
        "here, or call this there: anyio.from_thread.run_sync(ticker.reset)"
    )


def _has_ended() -> bool:
    """Tell whether the ambient context has ended; its loop may not know yet."""
    context = ambient.get()
    return context is not None and context.done


@final
class _TimerAlarm:
    """A wait for an instant that can be ended early: a future and a timer of asyncio.

    A cancel scope with a deadline does it, too, and costs more than all the rest of
    a tick.
    """

    __slots__ = ("_early", "_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future = loop.create_future()
        # uvloop counts in milliseconds and rounds to the nearest. With half a one
        # more it never rings early, and the wait need not begin again.
        kind = type(loop).__module__.partition(".")[0]
        self._early = 0.0005 if kind == "uvloop" else 0.0

    async def wait(self, instant: float) -> None:
        """Wait until *instant*, or until it rings."""
        self._future = future = self._loop.create_future()
        timer = self._loop.call_at(instant + self._early, self.ring)
        try:
            await future
        finally:
            timer.cancel()

    def ring(self) -> None:
        """End the wait, if there is one."""
        if not self._future.done():
            self._future.set_result(None)


@final
class _ScopeAlarm:
    """The same on trio, where a scope with a deadline is what sleeping is made of."""

    __slots__ = ("_bell", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._bell = loop.bell()

    async def wait(self, instant: float) -> None:
        """Wait until the clock reads *instant*, or until somebody rings."""
        self._bell = self._loop.bell()
        with anyio.CancelScope(deadline=instant):
            await self._bell

    def ring(self) -> None:
        """Have who waits look again; who comes later waits anew."""
        self._bell.ring()


async def every(
    period: float,
    fn: Callable[[*Args], Awaitable[object]],
    *args: *Args,
    first: First = "now",
    missed: Missed = "skip",
    jitter: float = 0.0,
) -> NoReturn:
    """Await ``fn(*args)`` at each tick, until cancelled or until it fails.

    This is::

        async for tick in Ticker(period):
            await fn(*args)

    with bad arguments refused before the first wait. One call is over before the
    next begins; if it takes longer than the period, *missed* applies. In a group
    it is a service that ends with the block::

        await group.go_background(every, 5.0, check_health)

    An error of *fn* ends it, and is raised. To go on after one, catch it in *fn*.

    The parameters are those of :class:`Ticker`.
    """
    ticker = Ticker(period, first=first, missed=missed, jitter=jitter)
    check_function(fn)
    while True:
        await anext(ticker)
        await call(fn, *args)
