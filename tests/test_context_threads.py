"""Threads that wait for a Context, and signals that end it."""

import asyncio
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import anyio
import pytest

from safeconc import Context, ContextCancelled, DeadlineExceeded
from tests.conftest import VirtualClockEventLoop
from tests.together import (
    at_a_bad_moment,
    backends,
    collect,
    handled,
    on_signal,
    signal_when_awaited,
    standing_still,
    when_awaited,
)

# Waiting


@pytest.mark.parametrize("timeout", [None, 0, 1000])
def test_wait_returns_at_once_on_an_ended_context(timeout: float | None) -> None:
    """True says that it has ended."""
    ctx = Context()
    ctx.cancel()

    assert ctx.wait(timeout)


@pytest.mark.parametrize("timeout", [0, 0.001])
@pytest.mark.parametrize("limit", [None, 1000])
def test_wait_gives_up_after_its_timeout(timeout: float, limit: float | None) -> None:
    """False says that the context lives on, and nothing is left of the wait."""
    ctx = Context(timeout=limit)

    assert not ctx.wait(timeout)
    assert not ctx.done
    assert ctx.statistics().waiters == 0


@pytest.mark.parametrize("timeout", [None, 1000, 1e300])
def test_wait_ends_with_the_context(timeout: float | None) -> None:
    """A thread that waits is woken by another one that cancels."""
    ctx = Context()
    thread = when_awaited(ctx, ctx.cancel)

    assert ctx.wait(timeout)
    thread.join()
    assert ctx.statistics().waiters == 0


def test_wait_ends_with_a_parent() -> None:
    """Also with one that is far up."""
    root = Context()
    leaf = Context(Context(root))
    thread = when_awaited(leaf, root.cancel)

    assert leaf.wait()
    thread.join()


@pytest.mark.parametrize("timeout", [None, 1000])
def test_wait_ends_at_the_deadline_in_real_time(timeout: float | None) -> None:
    """Also if the clock of the context is virtual, so would never get there."""
    ctx = standing_still(0.001)

    assert ctx.wait(timeout)
    assert type(ctx.err) is DeadlineExceeded


def test_sleep_returns_if_the_context_lives_on() -> None:
    """It is time.sleep, then."""
    ctx = Context()

    before = time.monotonic()
    ctx.sleep(0.002)

    assert time.monotonic() - before >= 0.002


def test_sleep_raises_if_the_context_ends() -> None:
    """The error is that of the context."""
    ctx = Context()
    thread = when_awaited(ctx, ctx.cancel)

    with pytest.raises(ContextCancelled) as caught:
        ctx.sleep(1000)
    thread.join()
    assert caught.value is ctx.err


def test_waiting_child_is_held_by_its_parent() -> None:
    """What waits for the end must be reached by it."""
    parent = Context()
    child = Context(parent)
    seen: list[int] = []

    def look() -> None:
        seen.append(parent.statistics().children)
        parent.cancel()

    thread = when_awaited(child, look)
    child.wait()
    thread.join()

    assert seen == [1]


# In the middle of a call


class _InterruptedLoop(VirtualClockEventLoop):
    """A loop at whose clock one cannot look without something happening.

    What a signal handler or another thread may do between two steps of a call, this
    does at a known step.
    """

    interrupt: Callable[[], object] | None = None

    def time(self) -> float:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()
        return super().time()


def _interruptible() -> tuple[Context, _InterruptedLoop]:
    async def make() -> tuple[Context, _InterruptedLoop]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _InterruptedLoop)
        return Context.root(timeout=1e9), loop

    with asyncio.Runner(loop_factory=_InterruptedLoop) as runner:
        return runner.run(make())


def test_cancel_in_the_middle_of_a_cancel_wins() -> None:
    """The outer call has not decided yet, and says that it did not."""
    ctx, loop = _interruptible()
    inner, outer = ValueError(), KeyError()
    loop.interrupt = lambda: ctx.cancel(inner)

    assert not ctx.cancel(outer)
    assert ctx.cause is inner


def test_cancel_in_the_middle_of_a_wait_ends_it() -> None:
    """After it looked, and before it was known to wait."""
    ctx, loop = _interruptible()

    def in_the_next_but_one_look() -> None:
        loop.interrupt = ctx.cancel

    loop.interrupt = in_the_next_but_one_look

    assert ctx.wait()
    assert loop.interrupt is None
    assert ctx.statistics().waiters == 0


def test_cancel_in_the_middle_of_an_await_ends_it() -> None:
    """A task that is about to wait is told, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _InterruptedLoop)
        ctx = Context(timeout=1e9)
        loop.interrupt = ctx.cancel
        await ctx.wait_cancelled()
        ended.append(ctx.cause)

    ended: list[BaseException | None] = []
    with asyncio.Runner(loop_factory=_InterruptedLoop) as runner:
        runner.run(main())

    assert ended == [None]


def test_cancel_in_the_middle_of_a_registration_runs_the_function() -> None:
    """Once, by whoever sees it."""
    ctx, loop = _interruptible()
    seen: list[str] = []
    loop.interrupt = ctx.cancel

    ctx.after(lambda: seen.append("ran"))

    assert seen == ["ran"]


# Signals, finalizers, and other odd places


def test_signal_handler_wakes_the_thread_it_interrupts() -> None:
    """The main thread waits, and its own handler cancels."""
    ctx = Context()

    with on_signal(ctx.cancel):
        thread = signal_when_awaited(ctx)
        ended = ctx.wait()
        thread.join()

    assert ended


@backends
def test_signal_handler_wakes_a_sleeping_loop(
    backend: str, options: dict[str, Any]
) -> None:
    """A plain handler will do; the loop need not wait for its next timer."""

    async def main() -> None:
        ctx = Context()
        with on_signal(lambda: ctx.cancel(cause)):
            async with ctx:
                thread = signal_when_awaited(ctx)
                try:
                    await anyio.sleep(1000)
                finally:
                    thread.join()

    cause = ValueError()

    with pytest.raises(ContextCancelled) as caught:
        anyio.run(main, backend=backend, backend_options=options)
    assert caught.value.__cause__ is cause


@backends
def test_signal_handler_may_run_in_the_task_of_the_block(
    backend: str, options: dict[str, Any]
) -> None:
    """Between two of its statements, for example."""

    async def main() -> None:
        ctx = Context()
        with on_signal(ctx.cancel):
            async with ctx:
                signal.raise_signal(signal.SIGUSR1)
                await ctx.wait_cancelled()
                pytest.fail("passed")

    with pytest.raises(ContextCancelled):
        anyio.run(main, backend=backend, backend_options=options)


def test_signal_handler_may_interrupt_the_context_itself() -> None:
    """It cancels and registers at any moment, and nothing is lost or run twice."""
    ran: list[int] = []
    registered = 0
    current = Context()

    def handle(frame: FrameType | None) -> None:
        nonlocal registered
        if at_a_bad_moment(frame):
            return
        number = registered
        registered += 1
        current.after(lambda: ran.append(number))
        current.cancel()

    with handled(signal.SIGPROF, handle):
        signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005)
        try:
            while registered < 40:
                root = Context()
                for current in (root, Context(Context(root))):
                    registration = current.after(lambda: None)
                    current.wait(0)
                    registration.stop()
                root.cancel()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    assert sorted(ran) == list(range(registered))


def test_finalizer_may_cancel() -> None:
    """An object may hold a context and end it with itself."""
    ctx = Context()
    seen: list[str] = []
    ctx.after(lambda: seen.append("ran"))

    class Owner:
        def __del__(self) -> None:
            ctx.cancel()

    Owner()
    collect()

    assert ctx.done
    assert seen == ["ran"]


def test_closed_loop_is_no_error() -> None:
    """A block that its loop left open can be cancelled: nobody is left to tell."""
    ctx = Context()
    with asyncio.Runner(loop_factory=VirtualClockEventLoop) as runner:
        runner.run(ctx.__aenter__())

    assert ctx.cancel()
    assert ctx.done
