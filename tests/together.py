"""Threads that are made to meet, and what else tests of a Context need of the world."""

import asyncio
import functools
import gc
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec, TypeAlias

import anyio
import anyio.lowlevel
import pytest

from safeconc import Context, ContextStatistics
from tests.conftest import UVLOOP, VirtualClockEventLoop

P = ParamSpec("P")

Signals: TypeAlias = Generator[None, None, None]

NOTHING = ContextStatistics(children=0, waiters=0, registrations=0)

RACES = int(os.environ.get("SAFECONC_TEST_RACES", "100"))
"""How often a race is run: enough to see it lost, in a fraction of a second."""

on_trio = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
backends = pytest.mark.parametrize(
    "backend, options",
    [
        pytest.param("asyncio", {"use_uvloop": UVLOOP}, id="asyncio"),
        pytest.param("trio", {}, id="trio"),
    ],
)
"""For tests that are not async themselves: they run loops, in threads or in turn."""


def ending(context: Context) -> tuple[type[BaseException] | None, object]:
    """Look at how a context ended: the kind of its error, and the cause."""
    error = context.err
    return (None if error is None else type(error)), context.cause


def ends_by(
    order: type[BaseException],
    main: Callable[[], Awaitable[object]],
    backend: tuple[str, dict[str, Any]],
) -> None:
    """Expect *order* out of a whole run of *main*.

    asyncio complains of a task that it ended once the task is collected. On CPython
    3.11 a complaint in the middle of a parse fails the parse, so it is to come here,
    not in another test.
    """
    name, options = backend
    with pytest.raises(order):
        anyio.run(main, backend=name, backend_options=options)
    gc.collect()


def in_thread(fn: Callable[[], object]) -> None:
    """Call *fn* in a thread while this one, with its event loop, stands still."""
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


async def call(fn: Callable[[], object]) -> None:
    """Call *fn*, in a task that is made for it."""
    fn()


def collect(*awaited: Callable[[], object]) -> None:
    """Have what is unreachable go.

    PyPy needs more than one round: what holds a finalizer holds all that it refers to
    for one more. So there are further rounds while one of those *awaited* is there.
    """
    rounds = 0
    while rounds < 3 or (rounds < 20 and any(each() is not None for each in awaited)):
        gc.collect()
        rounds += 1


def standing_still(timeout: float) -> Context:
    """Make a context on the clock of a loop that no longer runs.

    So its deadline has not passed when a thread looks at it; it comes only to
    one that waits, since threads wait in real time.
    """

    async def make() -> Context:
        return Context.root(timeout=timeout)

    with asyncio.Runner(loop_factory=VirtualClockEventLoop) as runner:
        return runner.run(make())


async def hold_the_clock(until: Callable[[], bool]) -> None:
    """Be a task that is always ready, so that virtual time stands still."""
    while not until():
        await anyio.lowlevel.checkpoint()


def repeated(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test so often that a race in it would be lost at some time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(RACES):
            test(*args, **kwargs)

    return run


def run_together(*fns: Callable[[], object]) -> None:
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


def at_a_bad_moment(frame: FrameType | None) -> bool:
    """Tell whether a handler had better wait for the next signal, by where this came.

    Coverage holds a lock while it notes a line: an error out of there would leave it
    locked for ever, and what the handler calls of ours would wait for it. An error in
    what is called at the end of an object is told to nobody.
    """
    while frame is not None:
        if frame.f_globals.get("__name__") in ("coverage.collector", "_weakrefset"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def handled(number: int, handle: Callable[[FrameType | None], object]) -> Signals:
    """Have a signal handled so, also one of which the interpreter hears late.

    PyPy may be long about it where other threads run, and whatever handles the signal
    next must not get it. So the last one is our own, and the others are heard before.
    """
    calls, over = [0], [False]

    def handler(_: int, frame: FrameType | None) -> None:
        calls[0] += 1
        if not over[0]:
            handle(frame)

    before = signal.signal(number, handler)
    try:
        yield
    finally:
        over[0], calls[0] = True, 0
        signal.raise_signal(number)
        while not calls[0]:
            time.sleep(0)
        signal.signal(number, before)


def send(thread: int, number: int) -> None:
    """Send a signal to one thread, and leave it the time to handle it.

    To it alone: in another thread it could be late. Without the GIL, signals that are
    sent without a pause would each interrupt the handler of the one before.
    """
    signal.pthread_kill(thread, number)
    time.sleep(0.001)


@contextmanager
def interrupted(condition: Callable[[], object]) -> Signals:
    """Expect the main thread to be interrupted by a Ctrl-C once *condition* holds.

    It is pressed until it is heard: what arrives just before a lock blocks is heard
    only when the next signal ends the blocking. The first one counts.
    """
    main = threading.main_thread().ident
    assert main is not None
    heard = threading.Event()

    def handle(frame: FrameType | None) -> None:
        if not heard.is_set() and not at_a_bad_moment(frame):
            heard.set()
            raise KeyboardInterrupt

    def press() -> None:
        while not condition():
            time.sleep(0)
        while not heard.is_set():
            send(main, signal.SIGINT)

    thread = threading.Thread(target=press)
    with handled(signal.SIGINT, handle):
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                yield
        finally:
            thread.join()


def when_awaited(ctx: Context, act: Callable[[], object]) -> threading.Thread:
    """Start a thread that acts when somebody waits for the end of *ctx*."""

    def run() -> None:
        while not ctx.statistics().waiters:
            time.sleep(0)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@contextmanager
def on_signal(handle: Callable[[], object]) -> Signals:
    """Have a signal of the user's handled in Python, as one would to shut down."""

    def handler(frame: FrameType | None) -> None:
        if not at_a_bad_moment(frame):
            handle()

    with handled(signal.SIGUSR1, handler):
        yield


def signal_when_awaited(ctx: Context) -> threading.Thread:
    """Have the signal come until it is seen.

    One that comes just before a thread falls asleep in the interpreter does not wake
    it; the next one does.
    """
    main = threading.main_thread().ident
    assert main is not None

    def insist() -> None:
        while not ctx.done:
            send(main, signal.SIGUSR1)

    return when_awaited(ctx, insist)
