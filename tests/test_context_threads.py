"""What a Context does for threads, signal handlers, and loops in several threads."""

import asyncio
import functools
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, ContextCancelled, DeadlineExceeded, Registration
from tests.conftest import UVLOOP, VirtualClockEventLoop

ROUNDS = 200
"""How often a race is run: enough to see it lost, in a fraction of a second."""

backends = pytest.mark.parametrize(
    "backend, options",
    [
        pytest.param("asyncio", {"use_uvloop": UVLOOP}, id="asyncio"),
        pytest.param("trio", {}, id="trio"),
    ],
)


def _standing_still(timeout: float) -> Context:
    """Make a context on the clock of a loop that no longer runs.

    So its deadline has not passed when a thread looks at it; it comes only to
    one that waits, since threads wait in real time.
    """

    async def make() -> Context:
        return Context.root(timeout=timeout)

    with asyncio.Runner(loop_factory=VirtualClockEventLoop) as runner:
        return runner.run(make())


def _run_together(*fns: Callable[[], object]) -> None:
    """Call each in a thread, all at once; raise what one of them raised."""
    barrier = threading.Barrier(len(fns))
    errors: list[BaseException] = []

    def run(fn: Callable[[], object]) -> None:
        barrier.wait()
        try:
            fn()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(fn,)) for fn in fns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def _when_awaited(ctx: Context, act: Callable[[], object]) -> threading.Thread:
    """Start a thread that acts when somebody waits for the end of *ctx*."""

    def run() -> None:
        while not ctx.statistics().waiters:
            time.sleep(0)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


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
    thread = _when_awaited(ctx, ctx.cancel)

    assert ctx.wait(timeout)
    thread.join()
    assert ctx.statistics().waiters == 0


def test_wait_ends_with_a_parent() -> None:
    """Also with one that is far up."""
    root = Context()
    leaf = Context(Context(root))
    thread = _when_awaited(leaf, root.cancel)

    assert leaf.wait()
    thread.join()


@pytest.mark.parametrize("timeout", [None, 1000])
def test_wait_ends_at_the_deadline_in_real_time(timeout: float | None) -> None:
    """Also if the clock of the context is virtual, so would never get there."""
    ctx = _standing_still(0.001)

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
    thread = _when_awaited(ctx, ctx.cancel)

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

    thread = _when_awaited(child, look)
    child.wait()
    thread.join()

    assert seen == [1]


# Memory


def _collect() -> None:
    for _ in range(3):
        gc.collect()


def test_forgotten_child_is_collected() -> None:
    """Nobody needs to cancel it, or to leave it."""
    parent = Context()

    def forget() -> list[weakref.ref[Context]]:
        children = [Context(parent, timeout=1e9) for _ in range(1000)]
        for child in children:
            Context(child).after(lambda: None).stop()
        return [weakref.ref(child) for child in children]

    forgotten = forget()
    _collect()

    assert {ref() for ref in forgotten} == {None}
    assert parent.statistics().children == 0


def test_child_is_held_while_it_has_a_function() -> None:
    """It may be forgotten by all who know it; the function runs at the end."""
    parent = Context()
    seen: list[str] = []

    def forget() -> weakref.ref[Context]:
        child = Context(Context(parent))
        child.after(lambda: seen.append("ran"))
        return weakref.ref(child)

    forgotten = forget()
    _collect()
    held = forgotten() is not None
    parent.cancel()
    _collect()

    assert held
    assert seen == ["ran"]
    assert forgotten() is None


def test_child_is_not_held_by_a_function_that_was_stopped() -> None:
    """Who stops the last one lets it go."""
    parent = Context()

    def forget() -> weakref.ref[Context]:
        child = Context(Context(parent))
        child.after(lambda: None).stop()
        return weakref.ref(child)

    forgotten = forget()
    _collect()

    assert forgotten() is None


def test_left_child_is_collected() -> None:
    """What is over is not kept by a parent that goes on."""
    with Context() as parent:
        with Context() as child:
            child.after(lambda: None)
        ref = weakref.ref(child)
        del child
        _collect()

        assert ref() is None
        assert parent.statistics().children == 0


# Functions at the end, for threads


def test_function_runs_in_the_thread_that_ended_it() -> None:
    """The caller of cancel() runs it."""
    ctx = Context()
    seen: list[int] = []
    ctx.after(lambda: seen.append(threading.get_ident()))

    thread = threading.Thread(target=ctx.cancel)
    thread.start()
    ident = thread.ident
    thread.join()

    assert seen == [ident]


def test_join_waits_for_the_function() -> None:
    """When it returns the function has, too, in whatever thread that was."""
    ctx = Context()
    seen: list[str] = []
    begun = threading.Event()

    def fn() -> None:
        begun.set()
        time.sleep(0.002)
        seen.append("ran")

    registration = ctx.after(fn)
    thread = threading.Thread(target=ctx.cancel)
    thread.start()
    begun.wait()
    registration.join()

    assert seen == ["ran"]
    thread.join()


def test_join_is_released_by_stop() -> None:
    """There is no longer anything to wait for."""
    registration = Context().after(lambda: None)
    thread = threading.Thread(target=registration.join)
    thread.start()

    registration.stop()

    thread.join()


@pytest.mark.parametrize("when", ["before", "inside"])
def test_deadline_in_a_block_runs_the_function(when: str) -> None:
    """A helper thread notices it while the block's thread is busy."""
    ctx = _standing_still(0.001)
    ran = threading.Event()
    seen: list[str] = []

    def fn() -> None:
        seen.append(threading.current_thread().name)
        ran.set()

    if when == "before":
        ctx.after(fn)
    with ctx:
        if when == "inside":
            ctx.after(fn)
        ran.wait()

    assert seen == ["Context: after"]
    assert type(ctx.err) is DeadlineExceeded


def _helpers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.endswith(": after")]


def test_helper_is_started_once_and_joined() -> None:
    """One thread serves all functions, and is over when the block has been left."""
    with Context(timeout=1e9) as ctx:
        without = len(_helpers())
        for _ in range(3):
            ctx.after(lambda: None)
        with_three = _helpers()

    assert (without, len(with_three)) == (0, 1)
    assert not with_three[0].is_alive()


def test_no_helper_without_a_deadline() -> None:
    """Who cancels runs the functions; there is nothing to watch."""
    with Context() as ctx:
        ctx.after(lambda: None)

        assert _helpers() == []


def test_no_helper_outside_of_the_block() -> None:
    """It would have no owner."""
    ctx = Context(timeout=1e9)
    ctx.after(lambda: None)
    outside = _helpers()
    with ctx:
        pass
    Context(ctx).after(lambda: None)

    assert outside == []
    assert _helpers() == []


def test_after_fails_if_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The function is withdrawn then, and the block can be left."""
    seen: list[str] = []

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Context(timeout=1e9) as ctx:
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", start)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                ctx.after(lambda: seen.append("refused"))
        ctx.after(lambda: seen.append("accepted"))

    assert seen == ["accepted"]


def test_block_may_be_left_while_another_thread_registers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The helper that is about to be started then is no reason to fail."""
    starting = threading.Event()
    left = threading.Event()
    original = threading.Thread.start
    seen: list[str] = []

    def start(self: threading.Thread) -> None:
        starting.set()
        left.wait(0.05)
        original(self)

    ctx = Context(timeout=1e9)
    thread = threading.Thread(target=lambda: ctx.after(lambda: seen.append("ran")))
    with ctx:
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", start)
            original(thread)
            starting.wait()
    left.set()
    thread.join()
    for helper in _helpers():
        helper.join()

    assert seen == ["ran"]


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


@contextmanager
def _handler(handle: Callable[[], object]) -> Generator[None, None, None]:
    """Have a signal of the user's handled in Python, as one would to shut down."""

    def handler(signum: int, frame: object) -> None:
        handle()

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def _send() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def test_signal_handler_wakes_the_thread_it_interrupts() -> None:
    """The main thread waits, and its own handler cancels."""
    ctx = Context()

    with _handler(ctx.cancel):
        thread = _when_awaited(ctx, _send)
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
        with _handler(lambda: ctx.cancel(cause)):
            async with ctx:
                thread = _when_awaited(ctx, _send)
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
        with _handler(ctx.cancel):
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

    def handle() -> None:
        nonlocal registered
        number = registered
        registered += 1
        current.after(lambda: ran.append(number))
        current.cancel()

    def handler(signum: int, frame: object) -> None:
        handle()

    previous = signal.signal(signal.SIGPROF, handler)
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
        signal.signal(signal.SIGPROF, previous)

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
    _collect()

    assert ctx.done
    assert seen == ["ran"]


def test_closed_loop_is_no_error() -> None:
    """A block that its loop left open can be cancelled: nobody is left to tell."""
    ctx = Context()
    with asyncio.Runner(loop_factory=VirtualClockEventLoop) as runner:
        runner.run(ctx.__aenter__())

    assert ctx.cancel()
    assert ctx.done


# Races


def repeated(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test so often that a race in it would be lost at some time."""

    @functools.wraps(test)
    def run() -> None:
        for _ in range(ROUNDS):
            test()

    return run


@repeated
def test_one_of_many_concurrent_cancels_wins() -> None:
    """Exactly one is told so, and its cause is the cause."""
    ctx = Context()
    won: list[BaseException] = []

    def cancel() -> None:
        cause = ValueError()
        if ctx.cancel(cause):
            won.append(cause)

    _run_together(*[cancel] * 4)

    assert won == [ctx.cause]


@repeated
def test_one_of_two_concurrent_parents_decides() -> None:
    """Whoever was faster, the child tells one story."""
    one, other = Context(), Context()
    child = Context(one, other)

    _run_together(lambda: one.cancel(ValueError()), lambda: other.cancel(KeyError()))

    assert child.cause in {one.cause, other.cause}
    assert child.err is not None
    assert child.err.__cause__ is child.cause


@repeated
def test_error_is_one_object_for_all_threads() -> None:
    """Threads that look at the same time see the same error."""
    ctx = Context()
    ctx.cancel()
    seen: list[object] = []

    _run_together(*[lambda: seen.append(ctx.err)] * 2)

    assert seen[0] is seen[1]


@repeated
def test_function_registered_as_the_context_ends_runs_once() -> None:
    """It is seen by the one or by the other, never by both or by none."""
    parent = Context()
    child = Context(parent)
    ran: list[int] = []

    def register() -> None:
        for number in range(5):
            child.after(functools.partial(ran.append, number))

    _run_together(parent.cancel, register)

    assert sorted(ran) == list(range(5))


@repeated
def test_function_stopped_as_the_context_ends_runs_or_was_stopped() -> None:
    """stop() tells which of the two it was."""
    ctx = Context()
    ran: list[int] = []
    stopped: list[bool] = []
    registration = ctx.after(lambda: ran.append(1))

    _run_together(ctx.cancel, lambda: stopped.append(registration.stop()))

    assert stopped == [not ran]


@repeated
def test_wait_that_begins_as_the_context_ends_returns() -> None:
    """No wake-up is lost on the way down from a parent."""
    root = Context()
    leaf = Context(Context(root))

    _run_together(root.cancel, leaf.wait)

    assert leaf.statistics().waiters == 0


@repeated
def test_child_made_as_its_parent_ends_has_ended() -> None:
    """There is no moment in which a child escapes."""
    root = Context()
    seen: list[Context] = []

    def derive() -> None:
        seen.extend(Context(Context(root), timeout=1e9) for _ in range(3))

    _run_together(root.cancel, derive)

    assert [child.done for child in seen] == [True] * 3


def test_child_whose_functions_come_and_go_is_held_by_nobody() -> None:
    """When the last one has gone the parent has let go of the child."""
    parent = Context()

    def come_and_go(child: Context) -> None:
        for _ in range(ROUNDS):
            child.after(lambda: None).stop()

    def race() -> weakref.ref[Context]:
        child = Context(Context(parent))
        _run_together(*[functools.partial(come_and_go, child)] * 3)
        return weakref.ref(child)

    forgotten = race()
    _collect()

    assert forgotten() is None


def test_statistics_may_be_read_while_children_come_and_go() -> None:
    """They are a snapshot, taken without a lock."""
    parent = Context()
    seen: set[bool] = set()

    def come_and_go() -> None:
        for _ in range(ROUNDS):
            Context(parent).after(lambda: None).stop()

    def read() -> None:
        for _ in range(ROUNDS):
            seen.add(parent.statistics().children >= 0)

    _run_together(come_and_go, read, come_and_go)

    assert seen == {True}


# Loops in several threads


@pytest.mark.parametrize("who", ["a parent", "a sibling's thread", "the main thread"])
def test_one_cancel_ends_blocks_in_many_loops(who: str) -> None:
    """Each loop hears of it in its own thread."""
    root = Context()
    parent = Context(root)
    cause = ValueError()
    open_blocks = threading.Barrier(4)
    caught: list[BaseException | None] = []

    async def main(index: int) -> None:
        async with Context(parent):
            open_blocks.wait()
            if who == "a sibling's thread" and index == 0:
                parent.cancel(cause)
            await anyio.sleep_forever()

    def thread(index: int) -> None:
        with pytest.raises(ContextCancelled) as info:
            anyio.run(main, index, backend=("asyncio", "trio")[index % 2])
        caught.append(info.value.__cause__)

    def canceller() -> None:
        open_blocks.wait()
        if who != "a sibling's thread":
            (root if who == "a parent" else parent).cancel(cause)

    _run_together(canceller, *(functools.partial(thread, index) for index in range(3)))

    assert caught == [cause] * 3


@backends
def test_cancel_as_blocks_are_entered_and_left(
    backend: str, options: dict[str, Any]
) -> None:
    """A block is cut short or not; it is never told when it has been left."""
    parent = Context()
    children = [Context(parent) for _ in range(ROUNDS)]
    wrong: list[BaseException] = []

    async def main() -> None:
        for child in children:
            try:
                async with child:
                    await checkpoint()
            except ContextCancelled as exc:
                if exc is not child.err:
                    wrong.append(exc)

    def cancel() -> None:
        for child in children:
            child.cancel()

    _run_together(
        lambda: anyio.run(main, backend=backend, backend_options=options), cancel
    )

    assert wrong == []
    assert parent.statistics().children == 0
