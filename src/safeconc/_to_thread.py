"""A thread call that is not left behind."""

import math
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from contextlib import suppress
from traceback import StackSummary
from types import TracebackType
from typing import Any, Generic, TypeVar, TypeVarTuple, final

import anyio
from anyio.to_thread import current_default_thread_limiter, run_sync
from typing_extensions import override

from safeconc._callables import check_blocking, check_returned, name_of
from safeconc._context import Context, ambient, deliver, spend
from safeconc._loop import Bell, Loop, running_loop
from safeconc._stuck import PATIENCE, is_reported, report, stack_of
from safeconc._waiter import rearm

R = TypeVar("R")
Args = TypeVarTuple("Args")


async def to_thread(
    fn: Callable[[*Args], R],
    *args: *Args,
    limiter: anyio.CapacityLimiter | None = None,
) -> R:
    """Call ``fn(*args)`` in a worker thread and return what it returns.

    This is :func:`anyio.to_thread.run_sync`, with one difference: it can be
    cancelled, and the thread is not left behind. Nothing can stop a thread, so
    *fn* has to look. It runs in a :class:`Context` that ends when the call is
    cancelled::

        def digest(paths: list[str]) -> str:
            total = hashlib.sha256()
            for path in paths:
                safeconc.check()            # raises once the call is cancelled
                total.update(pathlib.Path(path).read_bytes())
            return total.hexdigest()

        async with Context(timeout=30):
            print(await to_thread(digest, paths))

    Cancelled before the thread has begun, *fn* never runs. Cancelled later, the
    call waits for the thread, whatever else happens; one that stays is reported
    to the logger ``safeconc`` every five seconds, with its stack. What *fn* does
    in the end decides how a cancelled call ends::

        fn raises the error of its context    cancelled
        fn returns all the same               the value; cancelled at the next await
        fn raises another error               that error; likewise

    *fn* runs in a copy of the caller's contextvars; what it sets, no one else sees.

    :param limiter: holds one token until the thread has ended; anyio's default one
        for threads if None. A call made from within *fn* takes another token, so
        nested calls with one limiter can wait for each other for ever.
    """
    check_blocking(fn, _ADVICE)
    if limiter is None:
        limiter = current_default_thread_limiter()
    elif not isinstance(limiter, anyio.CapacityLimiter):
        raise TypeError(f"limiter must be an anyio.CapacityLimiter, not {limiter!r}")
    outer = ambient.get()
    if outer is not None and outer.done:
        deliver(outer)  # the next await raises it
    call: _Call[R] = _Call(fn, args)
    try:
        limiter.acquire_on_behalf_of_nowait(call)
    except anyio.WouldBlock:
        await limiter.acquire_on_behalf_of(call)
    try:
        try:
            await run_sync(call.run, abandon_on_cancel=True, limiter=_UNLIMITED)
        except BaseException as exc:
            if call.stop() or isinstance(exc, GeneratorExit):
                raise
            call.interrupt(exc)
            await call.outlast()
    finally:
        limiter.release_on_behalf_of(call)
    if call.error is not None or call.interruption is not None:
        await call.conclude()
    return call.value


@final
class _Unlimited(anyio.CapacityLimiter):
    """Lets each thread pass: the caller holds the token that counts.

    anyio's own handling gives the token of an abandoned thread back at once on
    asyncio, and to take a token it makes a turn of the loop.
    """

    __slots__ = ()

    def __new__(cls) -> "_Unlimited":
        return object.__new__(cls)

    @override
    async def __aenter__(self) -> None: ...

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...

    @override
    async def acquire_on_behalf_of(self, borrower: object) -> None: ...

    @override
    def release_on_behalf_of(self, borrower: object) -> None: ...


_UNLIMITED = _Unlimited()

_ADVICE = "needs no thread: just await it"
"""What to do with a coroutine instead."""


@final
class _Call(Generic[R]):
    """What the thread of a call and the task that awaits it know of each other.

    They meet twice, each time at a lock that the first one takes and nobody
    releases. At ``_begun`` it is decided whether the function runs. At ``_over``
    the thread leaves the outcome or the task leaves word where to wake it, and
    whoever comes second finds that.
    """

    __slots__ = (
        "_args",
        "_begun",
        "_bell",
        "_context",
        "_ended",
        "_fn",
        "_left",
        "_loop",
        "_native",
        "_over",
        "_thread",
        "error",
        "interruption",
        "value",
    )

    value: R
    """What the function returned."""

    error: BaseException | None
    """What it raised."""

    interruption: BaseException | None
    """What would have ended the await, had it not had to wait for the thread."""

    _bell: Bell
    _loop: Loop
    _thread: int

    def __init__(self, fn: Callable[..., R], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args
        self._context = Context(name=getattr(fn, "__qualname__", None))
        self._begun = allocate_lock()
        self._over = allocate_lock()
        self._left = self._ended = False
        self._native: BaseException | None = None
        self.error = None
        self.interruption = None

    def run(self) -> None:
        """Run the function, unless it was stopped before; in the thread."""
        self._thread = get_ident()
        if not self._begun.acquire(blocking=False):
            return
        try:
            with self._context:
                self.value = self._fn(*self._args)
                check_returned(self.value, _ADVICE)
        except BaseException as exc:  # noqa: BLE001 - raised by conclude()
            self.error = exc
        self._left = True
        if not self._over.acquire(blocking=False):
            self._loop.hop(self._end)

    # The rest runs in the task

    def stop(self) -> bool:
        """Keep the function from running, True; or tell it that it should end."""
        if self._begun.acquire(blocking=False):
            return True
        self._context.cancel()
        return False

    def interrupt(self, exc: BaseException) -> None:
        """Take what is to go on once the thread has ended."""
        if self.interruption is None or not _is_cancellation(exc):
            self.interruption = exc
        if anyio.current_effective_deadline() != -math.inf:
            self._native = exc  # a cancelled scope would send its own again

    async def outlast(self) -> None:
        """Wait for the thread, through further interruptions."""
        self._loop = running_loop()
        if not self._over.acquire(blocking=False):
            return
        since = self._loop.clock()
        report_at = since + PATIENCE
        with anyio.CancelScope(shield=True):
            while not self._ended:
                try:
                    await self._wait_until(report_at)
                except GeneratorExit:
                    raise
                except BaseException as exc:  # noqa: BLE001 - raised by conclude()
                    self.interrupt(exc)
                    continue
                if not self._ended:
                    with suppress(Exception):  # a broken handler must not end the wait
                        self._report(since)
                    report_at = self._loop.clock() + PATIENCE

    async def conclude(self) -> None:
        """Raise the function's error, or the interruption, or see that it goes on."""
        error, interruption, native = self.error, self.interruption, self._native
        self.error = self.interruption = self._native = None  # they lead back here
        stopped = error if error is not None and self._is_stop(error) else None
        try:
            if interruption is None:
                if stopped is not None:
                    # The function saw the end of a context before its loop did.
                    await spend(running_loop())
            elif not _is_cancellation(interruption):
                interruption.__context__ = error
                raise interruption
            elif stopped is not None:
                stopped.__traceback__ = None  # which leads to the context that has it
                raise interruption
            elif native is not None:
                # Shielded, since a scope that is cancelled, too, would hide it.
                with anyio.CancelScope(shield=True):  # noqa: ASYNC100 - as said
                    rearm(native)
            if error is not None:
                raise self._presentable(error)
        finally:
            del error, interruption, native, stopped

    async def _wait_until(self, report_at: float) -> None:
        self._bell = bell = self._loop.bell()
        timer = self._loop.call_at(report_at, bell.ring)
        try:
            await bell
        finally:
            await timer.aclose()

    def _end(self) -> None:
        self._ended = True
        self._bell.ring()

    def _is_stop(self, error: BaseException) -> bool:
        """Tell whether *error* says that the function saw the end of its context."""
        # The former is from anyio.from_thread.
        return _is_cancellation(error) or self._context._explains(error)

    def _presentable(self, error: BaseException) -> BaseException:
        """Replace an error that would mean something else in a coroutine."""
        name = name_of(self._fn)
        if isinstance(error, StopIteration):
            stand_in: Exception = RuntimeError(
                f"{name} raised StopIteration, which cannot leave a coroutine; catch "
                "it in the function, or give next() a default"
            )
        elif _is_cancellation(error):
            stand_in = anyio.TaskCancelled(
                f"{name} raised a cancellation, and nobody has cancelled the call"
            )
        else:
            return error
        stand_in.__cause__ = error
        return stand_in

    def _report(self, since: float) -> None:
        stack = self._stack() if is_reported() else None
        if stack is not None:
            seconds = self._loop.clock() - since
            report(name_of(self._fn), "to_thread", seconds, self._thread, stack)

    def _stack(self) -> StackSummary | None:
        """Return where the function is; None if the thread has left it."""
        stack = stack_of(self._thread, _RUN)
        # If it had been left before, the stack may be that of a later call.
        return None if self._left else stack


_RUN = _Call[Any].run.__code__


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class())
