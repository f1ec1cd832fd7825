"""A deadline and a cause that travel with the call."""

import time
from _thread import TIMEOUT_MAX, allocate_lock
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from functools import partial
from math import inf, isnan
from sys import get_asyncgen_hooks
from threading import Thread
from types import TracebackType
from typing import NoReturn, Self, final

import anyio
from anyio.lowlevel import checkpoint as full_checkpoint

from safeconc._loop import BUDGET, Loop, Timer, here, in_task, running_loop
from safeconc._parker import Parker
from safeconc._policy._endings import CANCELLED, EXPIRED, LEFT, Clock, Node
from safeconc._policy._passes import Passes
from safeconc._registration import Registration


class ContextCancelled(Exception):  # noqa: N818 - a signal, named as Go names it
    """A :class:`Context` was cancelled; ``__cause__`` is the cause that was given."""


class DeadlineExceeded(TimeoutError):  # noqa: N818 - Go's name, too
    """The deadline of a :class:`Context` has passed."""


@final
@dataclass(frozen=True, slots=True)
class ContextStatistics:
    """A snapshot of a context, safe to keep and to compare."""

    children: int
    """Live children that have children, waiters or registrations themselves; a
    child that nobody waits on is not known to its parents."""

    waiters: int
    """Blocks, threads and tasks that the end of this context will wake."""

    registrations: int
    """Functions given to :meth:`Context.after` and neither run nor stopped."""


@final
class _TaskBlock:
    """An open ``async with`` block: the scope that the end of the context cancels."""

    __slots__ = ("left", "loop", "on_delivery", "scope", "timer", "token")

    token: Token["Context | None"]

    def __init__(self, loop: Loop, deadline: float) -> None:
        self.loop = loop
        self.left = False
        # The class itself would initialise what it makes twice.
        self.scope = anyio.move_on_at(deadline)
        self.timer: Timer | None = None
        self.on_delivery: Callable[[], object] | None = None

    def wake(self) -> None:
        """Bring the end to the scope, from wherever it happened.

        It is tempting to touch the scope at once when we seem to be on its
        loop's thread. A signal handler seems so too, and asyncio then sleeps on
        until its next timer; from another thread anyio's scope would be
        poisoned.
        """
        self.loop.hop(self.deliver)

    def deliver(self) -> None:
        """Cancel the scope, unless the block has been left in the meantime."""
        if not self.left:
            self.scope.cancel()
            if self.on_delivery is not None:
                self.on_delivery()

    def arm(self, context: "Context") -> None:
        """Have the loop notice the deadline; to be called on the loop."""
        if self.timer is None and not self.left:
            when = context._deadline_on(self.loop.clock)
            self.timer = self.loop.call_at(when, partial(self._fire, context))

    def _fire(self, context: "Context") -> None:
        # The loop's word counts: its timers come up to a tick too early, and its
        # clock need not be the one that the context was made under.
        if not context.done:
            context._finish((EXPIRED, None))


@final
class _Helper:
    """The thread that notices a deadline for who registered functions."""

    def __init__(self, context: "Context") -> None:
        self._thread = Thread(target=context.wait, name=f"{context.name}: after")
        self._decided = allocate_lock()
        self._decided.acquire()

    def start(self) -> None:
        try:
            self._thread.start()
        finally:
            self._decided.release()

    def join(self) -> None:
        """Wait for its end; it may not even have been started yet."""
        with self._decided:
            pass
        with suppress(RuntimeError):  # it could not be started
            self._thread.join()


@final
class _Left:
    """What remains of a block in a thread: that there was one, and no contextvars."""


_LEFT = _Left()


@final
class Context(Node):
    """A deadline and a cause for everything that is done inside its block.

    In a task it is entered with ``async with``, which binds the block: whatever
    it awaits ends when the context does. In a thread it is entered with
    ``with`` and is cooperative, since nothing can interrupt a thread::

        async with Context(timeout=30):
            await serve()

        with Context(timeout=30) as ctx:
            while not ctx.done:
                step()
                ctx.sleep(0.1)

    Inside the block it is the ambient context, :func:`current_context`: new
    contexts become its children, and tasks and threads started there inherit
    it. Leaving the block cancels it, and with it the children.

    :param parents: contexts whose end ends this one; the ambient context if none
        is named. With several, the first one to end decides.
    :param timeout: seconds from now.
    :param deadline: a reading of the running clock: the event loop's, or
        :func:`time.monotonic` in a plain thread. The earliest of *timeout*,
        *deadline* and the parents' deadlines wins.
    :param name: shown in errors and dumps.

    A bound block that was cut short raises :attr:`err`, with the cause as its
    ``__cause__``. A body that ran to its end raises nothing, also when the
    context had ended before. A cancellation from outside passes through.

    There is no ``with_value``: a context variable does that, is typed, and flows
    through the same tasks and threads.

    A context owns no timer and no task. One that nobody waits on is unknown to
    its parents, so making many and forgetting them leaks nothing.
    """

    __slots__ = ("_block", "_name")

    def __init__(
        self,
        *parents: "Context",
        timeout: float | None = None,
        deadline: float | None = None,
        name: str | None = None,
    ) -> None:
        self._name = name
        self._block: Token[Context | None] | _TaskBlock | _Left | None = None
        self._bound = None
        self._end = None
        self._state = {}
        self._clock = None
        self._deadline = inf
        self._others = ()
        if not parents:
            outer = ambient.get()
            if outer is not None:
                parents = (outer,)
        if parents:
            self._parent = parents[0]
            if len(parents) > 1:
                self._others = parents[1:]
            for parent in parents:
                if not isinstance(parent, Context):
                    raise TypeError(f"a parent must be a Context, not {parent!r}")
                if parent._parent is not None and "linked" not in parent._state:
                    parent._link()
                if parent._deadline != inf:
                    inherited = parent._deadline_on(self._own_clock())
                    self._deadline = min(self._deadline, inherited)
        else:
            self._parent = None
        if timeout is not None or deadline is not None:
            self._limit_by(timeout, deadline)
        if self._others:
            self._link()  # else "the first one to end" would be a guess

    @classmethod
    def root(
        cls,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        name: str | None = None,
    ) -> Self:
        """Make a context that has no parent, whatever the ambient one is.

        For work that must go on when the caller's context ends: a flush, an audit
        record. It still needs its own way to end. In a task, the scopes around the
        block cancel it all the same; shield it from them with
        ``anyio.CancelScope(shield=True)``.
        """
        previous = ambient.get()
        if previous is None:
            return cls(timeout=timeout, deadline=deadline, name=name)
        ambient.set(None)
        try:
            return cls(timeout=timeout, deadline=deadline, name=name)
        finally:
            ambient.set(previous)

    # What it is

    @property
    def name(self) -> str:
        """The name given, or ``"Context"``."""
        return self._name or "Context"

    @property
    def err(self) -> ContextCancelled | DeadlineExceeded | None:
        """The error that a block cut short by this context raises; None before."""
        if not self.done:
            return None
        why, cause = self._ending
        text = f"{self.name} {why}"
        error: ContextCancelled | DeadlineExceeded
        if why is EXPIRED:
            error = DeadlineExceeded(text)
        else:
            error = ContextCancelled(text if cause is None else f"{text}: {cause!r}")
        error.__cause__ = cause
        return self._state.setdefault("err", error)  # type: ignore[no-any-return]

    @property
    def cause(self) -> BaseException | None:
        """What was given to :meth:`cancel`, here or at the parent that ended it."""
        return self._ending[1] if self.done else None

    @property
    def deadline(self) -> float:
        """When it ends by itself, on the clock it was made under; else infinity."""
        return self._deadline

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, never below zero; infinity without one."""
        if self._clock is None or self._deadline == inf:
            return inf
        return max(0.0, self._deadline - self._clock())

    def check(self) -> None:
        """Raise :attr:`err` if the context has ended."""
        if self.done:
            self._raise()

    def statistics(self) -> ContextStatistics:
        """Count what hangs on this context."""
        state = self._state
        return ContextStatistics(
            children=sum(
                child is not None and child._is_busy()
                for child in [known() for known in list(state.get("children", ()))]
            ),
            waiters=len(state.get("wakers", ())) + (self._bound is not None),
            registrations=len(state.get("calls", ())),
        )

    def __repr__(self) -> str:
        if self.done:
            return f"<{self.name} {self._ending[0]}>"
        limit = "" if self._deadline == inf else f", {self.remaining:.3g} s left"
        return f"<{self.name} live{limit}>"

    # Ending it

    def cancel(self, cause: BaseException | None = None) -> bool:
        """End the context and all its children; True if this call did it.

        To be called from anywhere: any thread, task, signal handler, callback or
        ``__del__``. It does not block, and a context that is over stays as it
        is. The state is published at once and the bound blocks are woken through
        their loops, so a task may still pass one checkpoint of somebody else's
        in that turn; the awaits of this library look at the state and do not.

        Functions registered with :meth:`after` run in the calling thread.
        """
        if cause is not None and not isinstance(cause, BaseException):
            raise TypeError(f"cause must be an exception, not {cause!r}")
        return not self.done and self._finish((CANCELLED, cause))

    def after(self, fn: Callable[[], object]) -> Registration:
        """Call *fn* once when the context ends; at once if it has ended.

        The latest registration runs first, in the thread that ended the context,
        with the contextvars of this call. An error in *fn* goes to
        ``sys.unraisablehook`` and keeps no other function from running.

        A deadline alone wakes nobody. While the block is open the event loop's
        timer notices it, or in a thread a helper that the first registration
        starts and the end of the block joins; outside a block *fn* runs when
        somebody looks at the context.
        """
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {fn!r}")
        registration = Registration(self, fn)
        self._state.setdefault("calls", {})[registration] = None
        self._hold()
        try:
            if self.done:
                self._run_calls()
            else:
                self._watch()
        except BaseException:
            registration.stop()
            raise
        return registration

    # Waiting for it

    def wait(self, timeout: float | None = None) -> bool:
        """Block the calling thread until the context ends; True if it has.

        :param timeout: give up after so many seconds and return False.

        Threads wait in real time, also for a deadline on a virtual clock.
        """
        give_up = time.monotonic() + (
            inf if timeout is None else check_seconds("timeout", timeout)
        )
        if in_task():
            raise RuntimeError(
                "wait() and sleep() block the thread and with it the event loop; "
                "in a task use 'await ctx.wait_cancelled()' or 'await anyio.sleep()'"
            )
        Parker().park(_never, (self,), give_up)
        return self.done

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for *seconds*, or until the context ends.

        In the second case it raises :attr:`err`.
        """
        if self.wait(seconds):
            self._raise()

    async def wait_cancelled(self) -> None:
        """Wait until the context ends."""
        loop = running_loop()
        await spend(loop)
        if self.done:
            return
        bell = loop.bell()
        self._add_waker(bell, partial(loop.hop, bell.ring))
        try:
            with anyio.CancelScope(deadline=self._deadline_on(loop.clock)) as scope:
                await bell
        finally:
            self._drop_waker(bell)
        if scope.cancelled_caught and not self.done:
            # By the deadline, which on its own clock is not there yet.
            self._finish((EXPIRED, None))

    # Its block

    def __enter__(self) -> Self:
        # The hooks alone settle it in a plain thread; see here().
        if get_asyncgen_hooks()[0] is not None and in_task():
            raise RuntimeError(
                "'with Context()' inside a task would not bind it: its awaits would "
                "not end with the context; write 'async with'"
            )
        if self._block is not None:
            self._refuse_reuse()
        self._block = ambient.set(self)
        if self._state:
            self._watch()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        token, self._block = self._block, _LEFT
        _restore(token)  # type: ignore[arg-type]
        # As _leave() does: the call would be a twentieth of the block's price.
        if not self.done:
            self._publish((LEFT, None))
        if len(self._state) > 1:
            self._tell(self._ending)
            helper = self._state.get("helper")
            if helper is not None:
                helper.join()

    async def __aenter__(self) -> Self:
        loop = running_loop()
        await spend(loop)
        if self._block is not None:
            self._refuse_reuse()
        self._block = block = _TaskBlock(loop, self._deadline_on(loop.clock))
        # In this order: asyncio keeps the contextvars of a timer, and with them the
        # ambient context, long after the timer was cancelled.
        block.scope.__enter__()
        block.token = ambient.set(self)
        self._bound = block
        if self._parent is not None:
            self._hold()
        if self._state:
            self._watch()
        # A deadline that has passed the scope has seen by itself.
        if self._end is not None or (self._parent is not None and self.done):
            block.scope.cancel()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        block = self._block
        assert isinstance(block, _TaskBlock)
        if (
            self._release(block, exc_type, exc, traceback)
            if block.timer is None  # none comes any more: spare a coroutine
            else await self._unbind(exc_type, exc, traceback)
        ):
            self._raise()

    # Below: how it works

    async def _unbind(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Leave the ``async with`` block; True if it was cut short by this context.

        For the blocks that build on this one and report in their own way.
        """
        block = self._block
        assert isinstance(block, _TaskBlock)
        try:
            return self._release(block, exc_type, exc, traceback)
        finally:
            if block.timer is not None:
                await block.timer.aclose()

    def _release(
        self,
        block: _TaskBlock,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Leave the block, but for its timer; True if it was cut short."""
        block.left = True
        self._bound = None
        _restore(block.token)
        del block.token  # it leads to all contextvars of the task
        try:
            block.scope.__exit__(exc_type, exc, traceback)
            cut_short = block.scope.cancelled_caught
            if cut_short and not self.done:
                # By the deadline, which on its own clock is not there yet.
                self._finish((EXPIRED, None))
        finally:
            self._leave()
            if self._parent is not None:
                self._hold()
        return cut_short

    def _on_delivery(self, fn: Callable[[], object] | None) -> None:
        """Have *fn* called, too, when the end of the context reaches the open block."""
        assert isinstance(self._block, _TaskBlock)
        self._block.on_delivery = fn

    def _refuse_reuse(self) -> NoReturn:
        raise RuntimeError(
            f"{self.name} has been entered before; a Context has one block, "
            "make a new one"
        )

    def _watch(self) -> None:
        """See to it that somebody notices the deadline, if the block is open."""
        block = self._block
        if block is None or self._deadline == inf or not self._state.get("calls"):
            return
        if isinstance(block, _TaskBlock):
            block.loop.hop(partial(block.arm, self))
            return
        helper = _Helper(self)
        if self._state.setdefault("helper", helper) is helper:
            try:
                helper.start()
            except BaseException:
                del self._state["helper"]
                raise

    def _raise(self) -> NoReturn:
        error = self.err
        assert error is not None
        try:
            # Without its old traceback, which would grow with every raise.
            raise error.with_traceback(None)
        finally:
            del error

    def _explains(self, error: BaseException) -> bool:
        """Tell whether *error* is how its end shows in a thread.

        A context below ends with this one and says the same.
        """
        if not self.done or self._ending[0] is LEFT:
            return False
        return type(error) is type(self.err)

    def _own_clock(self) -> Clock:
        if self._clock is None:
            loop = here()
            self._clock = time.monotonic if loop is None else loop.clock
        return self._clock

    def _limit_by(self, timeout: float | None, deadline: float | None) -> None:
        clock = self._clock or self._own_clock()
        if timeout is not None:
            expires = clock() + check_seconds("timeout", timeout)
            self._deadline = min(self._deadline, expires)
        if deadline is not None and _number("deadline", deadline) < self._deadline:
            self._deadline = deadline
        for parent in self._parents:
            # Have the parent note when it ends: if we look at it only later, we
            # must be able to tell whether our deadline had passed before.
            parent._state.setdefault("timed", clock)


ambient: ContextVar[Context | None] = ContextVar("safeconc.context", default=None)


def _never() -> bool:
    return False


def _restore(token: Token[Context | None]) -> None:
    """Make ambient again what was so before the block."""
    try:
        ambient.reset(token)
    except ValueError:  # a fixture may leave in another contextvars context
        old = token.old_value
        ambient.set(None if old is Token.MISSING else old)


def current_context() -> Context | None:
    """Return the innermost context whose block the caller is in, or None.

    Tasks and threads inherit it, as they do every contextvar: what a task starts
    with :func:`anyio.to_thread.run_sync` sees the context of that task.
    """
    return ambient.get()


def check() -> None:
    """Raise the ambient context's ``err`` if it has ended; else do nothing.

    Cheap enough for the inner loop of a thread.
    """
    context = ambient.get()
    if context is not None and context.done:
        context.check()


def spend(loop: Loop) -> Awaitable[None]:
    """Take part in cancellation and in fairness: our own awaits await this first.

    It sees a context that has ended even before its loop has been told. Most
    calls do not yield: the budget of the loop says when one must.
    """
    context = ambient.get()
    if context is not None and context.done:
        deliver(context)
    loop.left -= 1
    if loop.left > 0:
        return loop.look()
    loop.left = BUDGET
    return full_checkpoint()


async def look(loop: Loop, passes: Passes) -> Passes:
    """Do the same for calls of which there are so many that *passes* spares most.

    Returns the passes to go on with.
    """
    loop.left -= passes.revoke()
    await spend(loop)
    passes.renew()
    if not passes.careful and passes is not loop.passes:
        passes = loop.passes
        loop.left -= passes.revoke()
        passes.renew()
    return passes


def deliver(context: Context) -> None:
    """Cancel now what the loop will be told to cancel: we are in a task of it."""
    path: list[Node] = [context]
    known: set[Node] = set(path)
    for each in path:
        block = each._block if isinstance(each, Context) else None
        if (
            each._end is not None
            and isinstance(block, _TaskBlock)
            and block.loop.is_here()
        ):
            block.deliver()
        for parent in each._parents:
            if parent._end is not None and parent not in known:
                known.add(parent)
                path.append(parent)


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (float, int)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} is out of range: {value}") from None
    if isnan(seconds):
        raise ValueError(f"{name} must be a number of seconds, not NaN")
    return seconds


def check_seconds(name: str, value: float) -> float:
    # What nearly all are, at a third the price.
    if (type(value) is float or type(value) is int) and 0 <= value <= TIMEOUT_MAX:
        return value
    if _number(name, value) < 0:
        raise ValueError(f"{name} must not be negative: {value}")
    return value
