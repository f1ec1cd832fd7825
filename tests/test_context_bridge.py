"""One Context in many loops and threads: whoever ends it ends it for all of them."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product
from typing import Any, TypeVar, final

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from safeconc import (
    Channel,
    Context,
    ContextCancelled,
    DeadlineExceeded,
    ErrGroup,
    current_context,
    to_thread,
)
from safeconc.threads._waiter import Waiter
from tests.conftest import UVLOOP, VirtualClockEventLoop
from tests.together import (
    NOTHING,
    RACES,
    backends,
    collect,
    ending,
    hold_the_clock,
    on_signal,
    repeated,
    run_together,
    signal_when_awaited,
    standing_still,
)

T = TypeVar("T")

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio", "backend_options": {"use_uvloop": UVLOOP}},
    "trio": {"backend": "trio"},
}
"""Loops in real time, as arguments of :func:`anyio.run`."""


def in_loop(loop: str, call: Callable[[T], Awaitable[object]]) -> Callable[[T], object]:
    """Have *call* run in a loop of its own."""
    return lambda argument: anyio.run(call, argument, **LOOPS[loop])


# Who waits


async def in_a_block(shared: Context) -> None:
    """Be bound, and wait for anything at all."""
    async with Context(shared):
        await anyio.sleep_forever()


async def at_a_channel(shared: Context) -> None:
    """Wait in a primitive."""
    async with Context(shared):
        await Channel[int](0).receive()


async def as_a_child(shared: Context) -> None:
    """Wait in the child of a group."""
    async with Context(shared), ErrGroup(limit=None) as group:
        await group.go(anyio.sleep_forever)


async def for_a_thread(shared: Context) -> None:
    """Wait for a thread, which waits itself."""
    async with Context(shared):
        await to_thread(lambda: ambient().sleep(1000))


async def in_no_block(shared: Context) -> None:
    """Wait for the end itself."""
    await shared.wait_cancelled()
    shared.check()


def in_wait(shared: Context) -> None:
    """Block a thread."""
    assert shared.wait()
    shared.check()


def in_sleep(shared: Context) -> None:
    """Block a thread, for a time."""
    shared.sleep(1000)


def in_a_line(shared: Context) -> None:
    """Block a thread in a primitive."""
    with Context(shared):
        Waiter().wait(threading.Lock(), lambda _: None)


TASKS = (in_a_block, at_a_channel, as_a_child, for_a_thread, in_no_block)
THREADS = (in_wait, in_sleep, in_a_line)


def ambient() -> Context:
    """Return the context that the caller is in."""
    context = current_context()
    assert context is not None
    return context


Ending = tuple[type[BaseException], BaseException | None]


@final
class Party:
    """Waits for the end of *shared* in every way there is, each in its own thread."""

    def __init__(self, shared: Context) -> None:
        self._shared = shared
        self._waits: dict[str, Callable[[Context], object]] = {
            f"{wait.__name__} of {loop}": in_loop(loop, wait)
            for loop, wait in product(LOOPS, TASKS)
        } | {wait.__name__: wait for wait in THREADS}
        self._threads = [
            threading.Thread(target=self._wait, args=[name]) for name in self._waits
        ]
        self.ended: dict[str, Ending] = {}

    def all_by(self, error: type[BaseException], cause: object) -> dict[str, Any]:
        """Return how they end if they end so."""
        return dict.fromkeys(self._waits, (error, cause))

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        while not (self._shared.done or self._all_wait()):
            time.sleep(0)

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _all_wait(self) -> bool:
        found = self._shared.statistics()
        return found.children + found.waiters == len(self._waits)

    def _wait(self, name: str) -> None:
        try:
            self._waits[name](self._shared)
        except (ContextCancelled, DeadlineExceeded) as exc:
            self.ended[name] = type(exc), exc.__cause__


# Who ends it


async def call_in_a_task(act: Callable[[], object]) -> None:
    """Act between two steps of a loop."""
    await anyio.lowlevel.checkpoint()
    act()


async def call_in_a_thread(act: Callable[[], object]) -> None:
    """Act in a thread that a task waits for."""
    await to_thread(act)


async def call_by_a_timer(act: Callable[[], object]) -> None:
    """Act outside of any task."""
    acted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(0, act)
    loop.call_later(0, acted.set)
    await acted.wait()


def call_at_an_end(act: Callable[[], object]) -> None:
    """Act because another context has ended."""
    other = Context.root()
    other.after(act)
    other.cancel()


def call_in_a_finalizer(act: Callable[[], object]) -> None:
    """Act because an object is gone."""

    class Owner:
        def __del__(self) -> None:
            act()

    Owner()
    collect()


ACTORS: dict[str, Callable[[Callable[[], object]], object]] = {
    "a thread": lambda act: act(),
    "a finalizer": call_in_a_finalizer,
    "another context": call_at_an_end,
    "a timer of asyncio": in_loop("asyncio", call_by_a_timer),
    "a task of asyncio": in_loop("asyncio", call_in_a_task),
    "a task of trio": in_loop("trio", call_in_a_task),
    "a thread under asyncio": in_loop("asyncio", call_in_a_thread),
    "a thread under trio": in_loop("trio", call_in_a_thread),
}


@pytest.mark.parametrize("who", ACTORS)
@pytest.mark.parametrize("is_parent", [False, True], ids=["itself", "a parent"])
def test_cancel_ends_all_who_wait_anywhere(who: str, *, is_parent: bool) -> None:
    """Loops and threads alike, with the cause; it does not matter who cancels."""
    root = Context.root()
    shared = Context(root)
    party = Party(shared)
    cause = ValueError()
    won: list[bool] = []

    with party:
        ended = root if is_parent else shared
        ACTORS[who](lambda: won.append(ended.cancel(cause)))

    assert won == [True]
    assert party.ended == party.all_by(ContextCancelled, cause)
    assert shared.statistics() == NOTHING


def test_deadline_ends_all_who_wait_anywhere() -> None:
    """It has come for nobody before it has for the one who made the context."""
    shared = Context.root(timeout=0.05)
    party = Party(shared)

    with party:
        pass

    assert party.ended == party.all_by(DeadlineExceeded, None)
    assert ending(shared) == (DeadlineExceeded, None)
    assert shared.statistics() == NOTHING


# Signals


@pytest.mark.parametrize(
    "wait_in_main",
    [
        pytest.param(in_wait, id="thread"),
        pytest.param(in_loop("asyncio", in_no_block), id="asyncio"),
        pytest.param(in_loop("trio", in_no_block), id="trio"),
    ],
)
def test_signal_handler_ends_all_who_wait_anywhere(
    wait_in_main: Callable[[Context], object],
) -> None:
    """It interrupts the main thread, wherever that is, and blocks nowhere."""
    shared = Context.root()
    party = Party(shared)
    cause = ValueError()

    with on_signal(lambda: shared.cancel(cause)), party:
        thread = signal_when_awaited(shared)
        with pytest.raises(ContextCancelled):
            wait_in_main(shared)
        thread.join()

    assert party.ended == party.all_by(ContextCancelled, cause)


# From both sides at once


@backends
def test_task_and_thread_that_cancel_at_once_agree(
    backend: str, options: dict[str, Any]
) -> None:
    """One of them wins, and both are told its cause."""
    contexts = [Context.root() for _ in range(RACES)]
    causes = {"task": ValueError(), "thread": KeyError()}
    together = threading.Barrier(2)
    won: dict[Context, list[str]] = {ctx: [] for ctx in contexts}
    told: dict[Context, list[BaseException | None]] = {ctx: [] for ctx in contexts}

    def cancel(ctx: Context, side: str) -> None:
        together.wait()
        if ctx.cancel(causes[side]):
            won[ctx].append(side)

    async def main() -> None:
        for ctx in contexts:
            with pytest.raises(ContextCancelled) as caught:
                async with Context(ctx):
                    cancel(ctx, "task")
                    await anyio.sleep_forever()
            told[ctx].append(caught.value.__cause__)

    def in_thread() -> None:
        for ctx in contexts:
            with Context(ctx) as child, pytest.raises(ContextCancelled) as caught:
                cancel(ctx, "thread")
                child.check()
            told[ctx].append(caught.value.__cause__)

    run_together(
        lambda: anyio.run(main, backend=backend, backend_options=options), in_thread
    )

    assert told == {ctx: [causes[side] for side in won[ctx]] * 2 for ctx in contexts}


def test_loops_that_cancel_each_other_both_end() -> None:
    """Neither stands in the way of the other's wake-up."""
    pairs = [(Context.root(), Context.root()) for _ in range(RACES)]
    together = threading.Barrier(2)
    ended: list[Context] = []

    async def main(side: int) -> None:
        for pair in pairs:
            own, other = pair[side], pair[1 - side]
            with pytest.raises(ContextCancelled):
                async with own:
                    together.wait()
                    other.cancel()
                    await anyio.sleep_forever()
            ended.append(own)

    run_together(
        *(
            partial(anyio.run, main, side, **options)
            for side, options in enumerate(LOOPS.values())
        )
    )

    assert set(ended) == {ctx for pair in pairs for ctx in pair}


@backends
@repeated
def test_loop_that_closes_as_a_context_is_cancelled_is_no_error(
    backend: str, options: dict[str, Any]
) -> None:
    """Whoever waited there is gone, or going."""
    ctx = Context.root()
    together = threading.Barrier(2)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.wait_cancelled)
            await anyio.lowlevel.checkpoint()
            async with Context(ctx):
                together.wait()
            tasks.cancel_scope.cancel()

    def cancel() -> None:
        together.wait()
        assert ctx.cancel()

    run_together(
        lambda: anyio.run(main, backend=backend, backend_options=options), cancel
    )

    assert ctx.statistics() == NOTHING


# Down through threads and loops


def test_cancel_reaches_through_loops_and_threads_of_threads() -> None:
    """A task's thread may run a loop whose task waits for a thread, and so on."""
    outer = Context.root()
    ended: list[BaseException | None] = []

    async def task(depth: int) -> None:
        try:
            async with outer if depth == 0 else Context():
                await to_thread(thread, depth + 1)
        except ContextCancelled as exc:
            ended.append(exc.__cause__)
            raise

    def thread(depth: int) -> None:
        if depth == 4:
            held.set()
            ambient().sleep(1000)
        anyio.run(task, depth, **list(LOOPS.values())[depth % 2])

    held = threading.Event()
    cause = ValueError()

    def cancel() -> None:
        held.wait()
        outer.cancel(cause)

    def run() -> None:
        with pytest.raises(ContextCancelled):
            anyio.run(task, 0, **LOOPS["asyncio"])

    run_together(run, cancel)

    assert ended == [cause] * 4


# Deadlines


def on_virtual_clocks(
    main: Callable[[Context], Awaitable[None]], timeout: float
) -> list[float]:
    """Run *main* in a loop of asyncio and in one of trio; return when it was over.

    It is given a context whose own clock stands still. Those of the loops begin at 0.
    """
    over: list[float] = []

    async def run() -> None:
        await main(shared)
        over.append(anyio.current_time())

    shared = standing_still(timeout)
    anyio.run(run, backend_options={"loop_factory": VirtualClockEventLoop})
    shared = standing_still(timeout)
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(run, backend="trio", backend_options={"clock": clock})
    return over


@pytest.mark.parametrize("own, expected", [(None, 5), (3, 3), (7, 5)])
def test_deadline_comes_at_one_instant_on_all_clocks(
    own: float | None, expected: float
) -> None:
    """What remains is carried from clock to clock, and the earliest one wins."""

    async def main(shared: Context) -> None:
        with pytest.raises(DeadlineExceeded):
            async with Context(shared, timeout=own):
                await anyio.sleep_forever()
        assert not shared.done  # on a clock that stands still it never ends

    assert on_virtual_clocks(main, 5) == [expected, expected]


def test_deadline_comes_for_who_awaits_it_on_another_clock() -> None:
    """There is no other word for it than that of the clock that has come so far."""

    async def main(shared: Context) -> None:
        await shared.wait_cancelled()
        assert ending(shared) == (DeadlineExceeded, None)

    assert on_virtual_clocks(main, 5) == [5, 5]


def test_deadline_that_a_thread_notices_has_come_for_the_loops() -> None:
    """Also where time stands still."""

    async def main(shared: Context) -> None:
        thread = threading.Thread(target=shared.wait)
        block = Context(shared)
        left = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold_the_clock, lambda: left and not thread.is_alive())
            thread.start()
            with pytest.raises(DeadlineExceeded):
                async with block:
                    await anyio.sleep_forever()
            left = True

    assert on_virtual_clocks(main, 0.001) == [0, 0]
