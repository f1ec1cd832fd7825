"""The event loop as the primitives see it: its clock, its tasks, the ways in."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from safeconc._loop import Loop, here, in_task, running_loop
from tests.conftest import VirtualClockEventLoop
from tests.harness import on_asyncio
from tests.together import in_thread

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def _running_loop() -> Loop:
    return running_loop()


# Which loop


def test_plain_thread_has_no_loop() -> None:
    """Nothing runs there that a blocking call could stop."""
    assert here() is None
    assert not in_task()
    with pytest.raises(RuntimeError, match=r"needs a running event loop"):
        running_loop()


def test_hooks_alone_make_no_loop() -> None:
    """Somebody else may watch over async generators, too."""
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=lambda _: None)
    try:
        loop = here()
    finally:
        sys.set_asyncgen_hooks(*before)

    assert loop is None


@backends
def test_loop_is_gone_when_it_has_run(backend: str) -> None:
    """A thread remembers its loop, and sees that it no longer runs."""
    anyio.run(_running_loop, backend=backend)

    assert here() is None


async def test_task_has_one_loop() -> None:
    """Asked again, also in another task, it is the same object."""
    seen: list[object] = []

    async def other() -> None:
        seen.append(running_loop())

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)

    assert seen == [running_loop()]
    assert in_task()


@backends
def test_next_run_has_another_loop(backend: str) -> None:
    """What was counted for one loop is not the business of the next."""
    first = anyio.run(_running_loop, backend=backend)
    second = anyio.run(_running_loop, backend=backend)

    assert first is not second


async def test_thread_of_a_loop_is_no_loop_of_its_own() -> None:
    """A thread that a task starts is a plain one."""
    seen: list[object] = []

    in_thread(lambda: seen.append(here()))

    assert seen == [None]


async def test_current_task_is_told_by_identity() -> None:
    """One task is always the same, and another one is another."""
    seen: list[object] = []

    async def other() -> None:
        seen.append(running_loop().current_task())

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)

    current = running_loop().current_task()
    assert current is running_loop().current_task()
    assert seen[0] is not current


@on_asyncio
async def test_callback_is_no_task() -> None:
    """It runs in the loop, yet has nothing that could be awaited."""
    seen: list[object] = []

    asyncio.get_running_loop().call_soon(lambda: seen.extend([here(), in_task()]))
    await asyncio.sleep(0)

    assert seen == [running_loop(), False]


@on_asyncio
async def test_asyncio_needs_no_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where trio was never imported, no task can be one of its."""
    loop = running_loop()
    monkeypatch.delitem(sys.modules, "trio.lowlevel")

    assert here() is loop


def test_import_needs_no_trio() -> None:
    """It is an extra."""
    program = "import sys, safeconc; sys.exit('trio' in sys.modules)"

    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603


def test_guest_and_host_are_two_loops_in_one_thread() -> None:
    """In trio's guest mode each task gets the loop that runs it."""
    seen: dict[str, tuple[str, bool]] = {}
    clocks: dict[str, float] = {}

    def note(who: str) -> None:
        loop = running_loop()
        seen[who] = (type(loop.current_task()).__module__.partition(".")[0], in_task())
        clocks[who] = loop.clock()

    async def guest() -> None:
        note("guest")
        await trio.lowlevel.checkpoint()
        note("guest again")

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        note("host")
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        await done
        note("host again")

    asyncio.run(host())

    module = asyncio.Task.__module__.partition(".")[0]
    assert seen["guest"] == seen["guest again"] == ("trio", True)
    assert seen["host"] == seen["host again"] == (module, True)
    assert clocks["guest"] <= clocks["guest again"]


# Its clock


@pytest.mark.virtual_clock
async def test_clock_is_exact_when_it_is_virtual() -> None:
    """It is the clock of the backend, also when a thread asks."""
    clock = running_loop().clock
    seen: list[float] = []
    await anyio.sleep(5)

    in_thread(lambda: seen.append(clock()))

    assert seen == [clock()] == [anyio.current_time()] == [5]


class _Plain(asyncio.SelectorEventLoop):
    """A subclass that leaves the time alone."""


class _FasterLoop(asyncio.SelectorEventLoop):
    """A loop that caches its time, as uvloop does; it says that it is uvloop's."""

    __module__ = "uvloop"

    def time(self) -> float:
        return -1.0


def _loop_on(factory: Callable[[], asyncio.AbstractEventLoop]) -> Loop:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_running_loop())


@pytest.mark.parametrize(
    "factory",
    [asyncio.SelectorEventLoop, _Plain, _FasterLoop],
    ids=lambda f: f.__name__,
)
def test_clock_of_real_time_is_the_monotonic_one(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """It can be read from any thread while the loop sleeps, at half the price."""
    assert _loop_on(factory).clock is time.monotonic


def test_clock_of_a_subclass_is_its_own() -> None:
    """Whoever overrides the time has a reason."""
    assert _loop_on(VirtualClockEventLoop).clock() == 0


def test_clock_that_was_put_on_the_loop_is_taken() -> None:
    """Some libraries for tests replace the time of the loop object itself."""

    def factory() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.time = lambda: 42.0  # type: ignore[method-assign]
        return loop

    assert _loop_on(factory).clock() == 42


# The ways in


async def test_hop_calls_in_the_thread_of_the_loop() -> None:
    """Soon, whichever thread asks, and not at once."""
    loop = running_loop()
    seen: list[int] = []

    def ask() -> None:
        loop.hop(lambda: seen.append(threading.get_ident()))

    in_thread(ask)
    ask()
    before = list(seen)
    while len(seen) < 2:
        await checkpoint()

    assert before == []
    assert seen == [threading.get_ident()] * 2


async def test_hop_wakes_a_sleeping_loop() -> None:
    """It has no timer to wait for."""
    loop = running_loop()
    event = anyio.Event()
    thread = threading.Thread(target=loop.hop, args=(event.set,))
    thread.start()

    await event.wait()

    thread.join()


@backends
def test_hop_into_a_loop_that_is_over_is_no_error(backend: str) -> None:
    """Nobody is left to tell."""
    seen: list[str] = []

    anyio.run(_running_loop, backend=backend).hop(lambda: seen.append("called"))

    assert seen == []


@on_asyncio
async def test_hop_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a closed loop is expected to refuse."""

    def refuse(fn: object) -> None:
        raise RuntimeError("out of order")

    loop = running_loop()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", refuse)

    with pytest.raises(RuntimeError, match="out of order"):
        loop.hop(lambda: None)


@pytest.mark.virtual_clock
async def test_timer_calls_at_its_time() -> None:
    """Exactly, and once."""
    loop = running_loop()
    seen: list[float] = []
    timer = loop.call_at(5, lambda: seen.append(loop.clock()))

    await anyio.sleep(4)
    before = list(seen)
    await anyio.sleep(4)
    await timer.aclose()

    assert (before, seen) == ([], [5])


@pytest.mark.virtual_clock
async def test_closed_timer_does_not_call() -> None:
    """Once closed, twice closed, it is over."""
    seen: list[str] = []
    timer = running_loop().call_at(5, lambda: seen.append("called"))

    await anyio.sleep(4)
    await timer.aclose()
    await timer.aclose()
    await anyio.sleep(4)

    assert seen == []


async def test_timer_is_closed_in_a_cancelled_scope() -> None:
    """Cleaning up is no checkpoint that could be cancelled."""
    with anyio.CancelScope() as scope:
        timer = running_loop().call_at(1e9, lambda: None)
        scope.cancel()
        await timer.aclose()

    assert not scope.cancelled_caught


# Bells


@pytest.mark.parametrize("times", [1, 2])
async def test_bell_that_was_rung_before_is_heard(times: int) -> None:
    """The wait is over at once, however often it was rung."""
    bell = running_loop().bell()
    for _ in range(times):
        bell.ring()

    await bell


async def test_bell_ends_the_wait() -> None:
    """The one task that waits goes on."""
    bell = running_loop().bell()
    seen: list[str] = []

    async def wait() -> None:
        await bell
        seen.append("heard")

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        seen.append("ringing")
        bell.ring()

    assert seen == ["ringing", "heard"]


async def test_bell_may_be_rung_for_a_wait_that_was_cancelled() -> None:
    """Nobody hears it, which is no error."""
    bell = running_loop().bell()

    async def wait() -> Any:
        return await bell

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
    bell.ring()
