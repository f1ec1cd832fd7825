"""A call in a thread, cancelled: it waits for the thread, and nothing gets lost."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from signal import SIGINT
from sysconfig import get_config_var
from typing import Any
from unittest.mock import Mock
from weakref import ref

import anyio
import anyio.from_thread
import pytest
import trio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from safeconc import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    ErrGroup,
    check,
    current_context,
    to_thread,
)
from safeconc._loop import running_loop
from safeconc._to_thread import _Call
from tests.harness import on_asyncio
from tests.together import hold_the_clock, in_thread

Cancel = Callable[[], object]


def wait_for_the_end() -> None:
    """Block the thread until the call has been cancelled."""
    context = current_context()
    assert context is not None
    context.wait()


def on_loop(fn: Cancel) -> None:
    """Call *fn* on the loop of the calling worker thread."""
    anyio.from_thread.run_sync(fn)


class Attempt:
    """A call of ``to_thread`` in a task, and the ways to cancel it."""

    def __init__(self, by: str) -> None:
        self.by = by
        self.seen: list[object] = []
        self._scope = anyio.CancelScope()
        self._context = Context()
        self._task: asyncio.Task[Any] | None = None

    def cancel(self) -> None:
        """Cancel it, from the loop."""
        if self.by == "scope":
            self._scope.cancel()
        elif self.by == "context":
            self._context.cancel()
        else:
            assert self._task is not None
            self._task.cancel()

    async def run(self, fn: Callable[[], object]) -> list[object]:
        """Note how the call ends, and whether the next await is cancelled."""
        if self.by == "task":
            self._task = asyncio.current_task()
        cancelled = anyio.get_cancelled_exc_class()
        try:
            with self._scope:
                async with self._context:
                    try:
                        self.seen.append(await to_thread(fn))
                    except cancelled:
                        self.seen.append("cancelled")
                        raise
                    except Exception as exc:
                        self.seen.append(type(exc))
                    try:
                        await checkpoint()
                    except cancelled:
                        self.seen.append("cancelled afterwards")
                        raise
        except ContextCancelled:
            assert self.by == "context"
        except asyncio.CancelledError:
            assert self._task is not None
            assert self._task.cancelling()
            while self._task.uncancel():
                pass
        await checkpoint()
        return self.seen


by_any = pytest.mark.parametrize("by", ["scope", "context"])

# Before the thread has begun


async def test_cancelled_call_never_begins() -> None:
    """It is a checkpoint, also where it need not wait."""
    limiter = anyio.CapacityLimiter(1)

    with anyio.CancelScope() as scope:
        scope.cancel()
        await to_thread(pytest.fail, "ran", limiter=limiter)

    assert scope.cancelled_caught
    assert limiter.borrowed_tokens == 0


async def test_call_cancelled_in_the_line_for_a_token_never_begins() -> None:
    """The token goes to who is next."""
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("somebody")

    async def call() -> None:
        with scope:
            await to_thread(pytest.fail, "ran", limiter=limiter)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        assert limiter.statistics().tasks_waiting == 1
        scope.cancel()
    limiter.release_on_behalf_of("somebody")

    assert scope.cancelled_caught
    assert limiter.borrowed_tokens == 0


async def test_end_of_a_context_is_seen_before_the_loop_is_told() -> None:
    """Like all our awaits, the call looks at the state."""
    with pytest.raises(ContextCancelled):
        async with Context() as context:
            context.cancel()
            await to_thread(pytest.fail, "ran")


async def test_thread_that_comes_too_late_runs_nothing() -> None:
    """The task was first at the lock, so the function is not called any more."""
    ran: list[int] = []
    call = _Call(ran.append, (7,))

    assert call.stop()
    in_thread(call.run)
    assert ran == []


async def test_task_that_comes_too_late_can_only_ask() -> None:
    """The thread was first at the lock: the function runs, and sees the end."""

    def run() -> None:
        assert not call.stop()
        with pytest.raises(ContextCancelled):
            check()

    call = _Call(run, ())
    in_thread(call.run)

    assert call.error is None


# While it runs


@by_any
async def test_function_sees_the_cancellation(by: str) -> None:
    """What it raises then, the error of its context, is no error."""
    attempt = Attempt(by)

    def run() -> None:
        on_loop(attempt.cancel)
        wait_for_the_end()
        attempt.seen.append("ended")
        check()

    assert await attempt.run(run) == ["ended", "cancelled"]


@by_any
async def test_value_outranks_a_cancellation(by: str) -> None:
    """A function that returns has taken effect; the next await is cancelled."""
    attempt = Attempt(by)

    def run() -> int:
        on_loop(attempt.cancel)
        wait_for_the_end()
        return 7

    assert await attempt.run(run) == [7, "cancelled afterwards"]


@by_any
async def test_error_outranks_a_cancellation(by: str) -> None:
    """It is raised, and the next await is cancelled."""
    attempt = Attempt(by)

    def run() -> None:
        on_loop(attempt.cancel)
        wait_for_the_end()
        raise LookupError

    assert await attempt.run(run) == [LookupError, "cancelled afterwards"]


@on_asyncio
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "end, seen",
    [
        (check, ["cancelled"]),
        (partial(int, "7"), [7, "cancelled afterwards"]),
        (partial(int, "x"), [ValueError, "cancelled afterwards"]),
    ],
    ids=["sees", "returns", "fails"],
)
async def test_native_cancellations_do_the_same(
    end: Callable[[], object], seen: list[object], times: int
) -> None:
    """Also when they come again and again: the wait goes on, and one arrives."""
    attempt = Attempt("task")

    def run() -> object:
        for _ in range(times):
            on_loop(attempt.cancel)
        wait_for_the_end()
        return end()

    assert await attempt.run(run) == seen


@on_asyncio
@pytest.mark.parametrize("first", ["scope", "task"])
async def test_native_cancellation_gets_past_a_cancelled_scope(first: str) -> None:
    """A scope that is left at once does not take along what was not meant for it."""
    scope = anyio.CancelScope()
    task = asyncio.current_task()
    assert task is not None
    attacks: list[Cancel] = [scope.cancel, task.cancel]
    if first == "task":
        attacks.reverse()

    def run() -> int:
        for attack in attacks:
            on_loop(attack)
            on_loop(int)  # a turn of the loop, in which it arrives
        wait_for_the_end()
        return 7

    values: list[int] = []
    with scope:
        values.append(await to_thread(run))
    with pytest.raises(asyncio.CancelledError):
        await checkpoint()

    assert values == [7]
    assert task.uncancel() == 0
    await checkpoint()


async def test_function_that_pays_no_heed_is_waited_for() -> None:
    """Nothing is abandoned: the call ends after the thread, its token held."""
    limiter = anyio.CapacityLimiter(1)
    release = threading.Event()
    seen: list[object] = []

    def run() -> None:
        on_loop(scope.cancel)
        release.wait()
        seen.append("thread ended")

    async def look() -> None:
        while not scope.cancel_called:
            await checkpoint()
        for _ in range(5):
            await checkpoint()
        seen.append(limiter.borrowed_tokens)
        release.set()

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        with scope:
            await to_thread(run, limiter=limiter)
    seen.append(limiter.borrowed_tokens)

    assert seen == [1, "thread ended", 0]


async def test_leaving_a_group_waits_for_the_threads_of_its_children() -> None:
    """A failed sibling cancels the call, and the block ends after the thread."""
    ended: list[str] = []
    begun = anyio.Event()

    def run() -> None:
        on_loop(begun.set)
        wait_for_the_end()
        ended.append("thread")

    async def fail() -> None:
        await begun.wait()
        raise LookupError

    with pytest.raises(LookupError):
        async with ErrGroup(limit=None) as group:
            await group.go(to_thread, run)
            await group.go(fail)

    assert ended == ["thread"]


# Who saw it first


async def test_end_that_the_function_saw_first_is_that_of_the_block() -> None:
    """The loop has not been told yet; the block raises what it would have raised."""
    outer = Context()
    loop = type(running_loop())

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "hop", Mock())
            outer.cancel(LookupError())
        check()

    with pytest.raises(ContextCancelled) as caught:
        async with outer:
            await to_thread(run)

    assert caught.value is outer.err


async def test_context_that_the_function_itself_has_ended_is_an_error() -> None:
    """Nobody has cancelled the call, so it has failed."""

    def run() -> None:
        context = current_context()
        assert context is not None
        context.cancel(LookupError())
        check()

    with pytest.raises(ContextCancelled, match="run was cancelled: LookupError"):
        await to_thread(run)


async def test_end_that_an_inner_context_tells_of_is_the_same() -> None:
    """A context that the function made ends with its own, and speaks for it."""
    attempt = Attempt("scope")

    def run() -> None:
        with Context(timeout=3600) as inner:
            on_loop(attempt.cancel)
            inner.sleep(3600)

    assert await attempt.run(run) == ["cancelled"]


async def test_deadline_of_an_inner_context_is_an_error() -> None:
    """It is the function's own affair, also while the call is being cancelled."""
    attempt = Attempt("scope")

    def run() -> None:
        with Context(timeout=0) as inner:
            on_loop(attempt.cancel)
            inner.check()

    assert await attempt.run(run) == [DeadlineExceeded, "cancelled afterwards"]


async def test_stale_error_of_another_context_is_an_error() -> None:
    """Only the end of the call's own context counts."""
    other = Context.root()
    other.cancel()

    with pytest.raises(ContextCancelled) as caught:
        await to_thread(other.check)

    assert caught.value is other.err


@pytest.mark.virtual_clock
async def test_deadline_reaches_a_sleep_in_the_thread() -> None:
    """The block raises the error of its deadline, and the thread is over."""
    begun = threading.Event()
    ended: list[str] = []

    def run() -> None:
        begun.set()
        context = current_context()
        assert context is not None
        try:
            context.sleep(3600)
        finally:
            ended.append("thread")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold_the_clock, begun.is_set)
        with pytest.raises(DeadlineExceeded):
            async with Context(timeout=60):
                await to_thread(run)

    assert ended == ["thread"]


async def test_anyios_own_check_counts_as_well() -> None:
    """Code that was written for anyio's threads sees the cancellation, too."""
    attempt = Attempt("scope")

    def run() -> None:
        on_loop(attempt.cancel)
        wait_for_the_end()
        anyio.from_thread.check_cancelled()

    assert await attempt.run(run) == ["cancelled"]


# In the turn in which the thread ends


def raise_stale_error() -> None:
    """Raise what says nothing of the call."""
    other = Context.root()
    other.cancel()
    other.check()


@on_asyncio
@pytest.mark.parametrize("cancel_first", [False, True])
@pytest.mark.parametrize(
    "end, outcome",
    [(partial(int, "7"), 7), (raise_stale_error, ContextCancelled)],
    ids=["returns", "fails"],
)
async def test_cancellation_in_the_turn_of_the_outcome_loses_nothing(
    end: Callable[[], object],
    outcome: object,
    cancel_first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outcome is there, so it counts, and the cancellation comes later."""
    loop = asyncio.get_running_loop()
    attempt = Attempt("task")
    tell = loop.call_soon_threadsafe

    def tell_and_cancel(fn: Callable[..., object], *args: Any) -> object:
        monkeypatch.undo()
        both: list[Cancel] = [partial(fn, *args), attempt.cancel]
        return tell(lambda: [act() for act in (both[::-1] if cancel_first else both)])

    def run() -> object:
        monkeypatch.setattr(loop, "call_soon_threadsafe", tell_and_cancel)
        return end()

    assert await attempt.run(run) == [outcome, "cancelled afterwards"]


async def test_thread_that_ended_before_the_wait_is_not_waited_for() -> None:
    """It leaves the outcome where it would have found whom to tell."""
    call = _Call(int, ("7",))
    in_thread(call.run)

    assert not call.stop()
    await call.outlast()
    assert call.value == 7


async def test_wait_is_over_when_the_loop_hears_of_the_end() -> None:
    """A bell that rings for another reason ends nothing."""
    loop = running_loop()
    release = threading.Event()

    def run() -> None:
        release.wait()

    call = _Call(run, ())
    thread = threading.Thread(target=call.run)
    thread.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.outlast)
        await cancel_shielded_checkpoint()
        loop.hop(release.set)

    thread.join()


# Other ends


@pytest.mark.parametrize("cancelled", [False, True])
def test_keyboard_interrupt_waits_for_the_thread_and_is_raised_bare(
    cancelled: bool,
) -> None:
    """On trio it strikes the await itself, also one that has been cancelled."""
    seen: list[str] = []

    async def main() -> None:
        def run() -> int:
            if cancelled:
                on_loop(scope.cancel)
            else:
                signal.raise_signal(SIGINT)
            wait_for_the_end()
            on_loop(int)  # by now the task waits for the thread
            signal.raise_signal(SIGINT)
            on_loop(int)
            seen.append("thread ended")
            return 7

        with anyio.CancelScope() as scope:
            await to_thread(run)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)

    assert seen == ["thread ended"]


class Large:
    """Something that a function has in a local variable."""


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or bool(get_config_var("Py_GIL_DISABLED")),
    reason="elsewhere what is unreachable goes when its thread or a collector comes",
)
@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_the_function_had_is_free_at_once(cancelled: bool) -> None:
    """No cycle of errors, contexts and frames waits for the collector."""
    alive: list[ref[Large]] = []

    def run() -> None:
        local = Large()
        alive.append(ref(local))
        if cancelled:
            on_loop(scope.cancel)
            wait_for_the_end()
            check()
        raise LookupError

    gc.disable()
    try:
        with suppress(LookupError), anyio.CancelScope() as scope:
            await to_thread(run)

        assert alive[0]() is None
    finally:
        gc.enable()


@on_asyncio
@pytest.mark.parametrize("cancelled", [False, True])
async def test_closed_coroutine_lets_go(cancelled: bool) -> None:
    """Nobody can wait any more; the function is told at least."""
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        wait_for_the_end()
        if cancelled:
            release.wait()
        ended.set()

    release = threading.Event()
    call = to_thread(run)
    while call.send(None) is None:
        pass  # until it waits for the thread
    begun.wait()
    if cancelled:
        call.throw(asyncio.CancelledError())
    call.close()
    release.set()

    assert ended.wait(60)
