"""The running event loop, as far as we need to know it.

Three questions, answered once for asyncio (and uvloop) and once for trio: what
time is it there, how does another thread get a call into it, and which task is
running. The answers come from public functions of both; anyio's token for a
loop is opaque.
"""

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from threading import local
from typing import TYPE_CHECKING, Any, Protocol, final

from anyio.lowlevel import checkpoint_if_cancelled

from safeconc._policy._endings import Clock
from safeconc._policy._passes import Passes

if TYPE_CHECKING:
    from trio import CancelScope, Event
    from trio.lowlevel import Abort, Task, TrioToken

BUDGET = 128
"""Operations of ours that need not wait between two turns of the loop."""


class Timer(ABC):
    """A call that the loop will make, unless it is cancelled first."""

    @abstractmethod
    async def aclose(self) -> None:
        """Withdraw the call; what the loop ran for it is over afterwards."""


class Bell(Protocol):
    """Something that one task awaits and others ring, from tasks of the same loop.

    It is what an event is, at a fraction of the price on asyncio.
    """

    def ring(self) -> None:
        """End the wait, now or when it begins."""

    def __await__(self) -> Generator[Any, Any, Any]: ...


class Loop(ABC):
    """One running loop: its clock, its tasks, and the way in from outside."""

    clock: Clock
    """Seconds, callable from any thread."""

    left: int
    """What remains of the budget. One counter per loop, not per object, so that
    a loop over fresh objects gives way to others too."""

    passes: Passes
    """Those of all objects here that are used a great deal."""

    def __init__(self) -> None:
        # Not a default of the class: Python 3.12 and later are slow to read what
        # an instance and its class both have.
        self.left = BUDGET
        self.passes = Passes(careful=0)

    @abstractmethod
    def is_here(self) -> bool:
        """Tell whether this loop runs the calling code."""

    @abstractmethod
    def current_task(self) -> object:
        """Return the running task itself, to be compared by identity."""

    @abstractmethod
    def hop(self, fn: Callable[[], object]) -> None:
        """Have the loop call *fn* soon: from any thread, from a signal handler.

        A loop that is closed has nobody left to tell, which is no error.
        """

    look: Callable[[], Awaitable[None]]
    """Raise the cancellation if there is one; do not yield otherwise."""

    @abstractmethod
    def bell(self) -> Bell:
        """Make a bell for one wait."""

    @abstractmethod
    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        """Have the loop call *fn* when its clock reads *when*."""


@final
class _AsyncioTimer(Timer):
    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    async def aclose(self) -> None:
        self._handle.cancel()


@final
class _FutureBell:
    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def ring(self) -> None:
        # A cancelled wait has cancelled its future, and is no longer to be told.
        if not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._future.__await__()


@final
class _AsyncioLoop(Loop):
    def __init__(self, native: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._native = native
        self.look = checkpoint_if_cancelled
        # asyncio's own loops tell the monotonic clock, and asking it itself
        # costs half. uvloop reads the same clock once per turn, so that for
        # another thread it would stand still while the loop sleeps. What a
        # subclass tells (virtual time in a test) is asked of the subclass.
        plain = getattr(native.time, "__func__", None) is asyncio.BaseEventLoop.time
        plain = plain or type(native).__module__.partition(".")[0] == "uvloop"
        self.clock = time.monotonic if plain else native.time

    def is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._native and not _in_trio_task()
        except RuntimeError:
            return False

    def current_task(self) -> object:
        return asyncio.current_task(self._native)

    def hop(self, fn: Callable[[], object]) -> None:
        try:
            self._native.call_soon_threadsafe(fn)
        except RuntimeError:
            if not self._native.is_closed():
                raise

    def bell(self) -> Bell:
        return _FutureBell(self._native.create_future())

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        return _AsyncioTimer(self._native.call_at(when, fn))


@final
class _TrioTimer(Timer):
    """Trio has no timers: a system task sleeps, and is over at :meth:`aclose`."""

    def __init__(self, when: float, fn: Callable[[], object]) -> None:
        import trio

        self._scope: CancelScope = trio.CancelScope()
        self._over: Event = trio.Event()
        trio.lowlevel.spawn_system_task(self._fire, when, fn)

    async def _fire(self, when: float, fn: Callable[[], object]) -> None:
        import trio

        with self._scope:
            await trio.sleep_until(when)
            fn()
        self._over.set()

    async def aclose(self) -> None:
        import trio

        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._over.wait()


@final
class _TaskBell:
    """Reschedules the task that waits: an event would keep a list of tasks."""

    __slots__ = ("_loop", "_rung", "_task")

    def __init__(self, loop: "_TrioLoop") -> None:
        self._loop = loop
        self._rung = False
        self._task: Task | None = None

    def ring(self) -> None:
        self._rung = True
        if self._task is not None:
            self._loop.reschedule(self._task)
            self._task = None

    def _abort(self, _: object) -> "Abort":
        self._task = None
        return self._loop.aborted

    async def _wait(self) -> None:
        if self._rung:
            await self._loop.checkpoint()
            return
        self._task = self._loop.native_task()
        await self._loop.wait_rescheduled(self._abort)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._wait().__await__()


@final
class _TrioLoop(Loop):
    def __init__(self) -> None:
        import trio

        super().__init__()
        self.look = trio.lowlevel.checkpoint_if_cancelled
        self._token: TrioToken = trio.lowlevel.current_trio_token()
        self._current_task: Callable[[], object] = trio.lowlevel.current_task
        self._in_task: Callable[[], bool] = trio.lowlevel.in_trio_task
        self._current_token: Callable[[], object] = trio.lowlevel.current_trio_token
        self.native_task = trio.lowlevel.current_task
        self.checkpoint = trio.lowlevel.checkpoint
        self.reschedule = trio.lowlevel.reschedule
        self.wait_rescheduled = trio.lowlevel.wait_task_rescheduled
        self.aborted = trio.lowlevel.Abort.SUCCEEDED
        self._finished: type[Exception] = trio.RunFinishedError
        self.clock = trio.lowlevel.current_clock().current_time

    def is_here(self) -> bool:
        return self._in_task() and self._current_token() is self._token

    def current_task(self) -> object:
        return self._current_task()

    def hop(self, fn: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(fn)
        except self._finished:
            pass

    def bell(self) -> Bell:
        return _TaskBell(self)

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        return _TrioTimer(when, fn)


class _Here(local):
    loop: Loop | None = None


_here = _Here()


def here() -> Loop | None:
    """Return the loop that runs the calling code, or None in a plain thread."""
    loop = _here.loop
    if loop is not None and loop.is_here():
        return loop
    # The loops of asyncio, uvloop and trio install hooks for async generators while
    # they run. To ask for them is several times cheaper than to ask asyncio and
    # catch its error, and in a plain thread it settles the matter.
    if sys.get_asyncgen_hooks()[0] is None:
        return None
    _here.loop = _find()
    return _here.loop


def in_task() -> bool:
    """Tell whether the calling code runs in a task, so must not block."""
    loop = here()
    return loop is not None and loop.current_task() is not None


def running_loop() -> Loop:
    """Return the loop of the calling task, or say that there is none."""
    loop = here()
    if loop is None:
        raise RuntimeError(
            "this needs a running event loop (asyncio or trio) in the calling thread"
        )
    return loop


def _in_trio_task() -> bool:
    """Tell whether a trio task is calling, without importing trio to ask."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    return lowlevel is not None and bool(lowlevel.in_trio_task())


def _find() -> Loop | None:
    """Make the :class:`Loop` for the calling code."""
    # trio first: in guest mode a thread runs both.
    if _in_trio_task():
        return _TrioLoop()
    try:
        return _AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        return None
