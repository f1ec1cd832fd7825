"""A thread that stays after its call was cancelled is reported, and how."""

import logging
import threading
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Any

import anyio
import anyio.from_thread
import pytest

from safeconc import current_context, to_thread
from safeconc._stuck import FRAMES
from safeconc._to_thread import _Call
from tests.together import hold_the_clock, in_thread

pytestmark = pytest.mark.virtual_clock


class Watcher(logging.Handler):
    """Notes what is logged and when, and lets the thread go after some reports."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.instants: list[float] = []
        self.texts: list[str] = []
        self.let_go = threading.Event()
        self._patience = patience

    def emit(self, record: logging.LogRecord) -> None:
        """Note it, unless the thread is already on its way."""
        if len(self.texts) < self._patience:
            self.instants.append(anyio.current_time())
            self.texts.append(record.getMessage())
        if len(self.texts) == self._patience:
            self.let_go.set()


@pytest.fixture
def watch() -> Iterator[Callable[[int], Watcher]]:
    """Make watchers of the library's logger."""
    logger = logging.getLogger("safeconc")
    watchers: list[Watcher] = []

    def make(patience: int) -> Watcher:
        watcher = Watcher(patience)
        watchers.append(watcher)
        logger.addHandler(watcher)
        return watcher

    yield make
    for watcher in watchers:
        logger.removeHandler(watcher)


async def cancelled_at_once(fn: Callable[..., object], *args: Any) -> float:
    """Cancel a call when *fn* calls its first argument; return the instant.

    No time passes before *fn* has gone on.
    """
    instants: list[float] = []
    went_on = threading.Event()

    def cancel() -> None:
        instants.append(anyio.current_time())
        scope.cancel()

    def cancel_from_thread() -> None:
        anyio.from_thread.run_sync(cancel)
        went_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold_the_clock, went_on.is_set)
        with anyio.CancelScope() as scope:
            await to_thread(fn, cancel_from_thread, *args)
    return instants[0]


def stubborn(cancel: Callable[[], object], let_go: threading.Event) -> None:
    """Stay until it is let go."""
    cancel()
    let_go.wait()


async def test_thread_that_stays_is_reported_every_five_seconds(
    watch: Callable[[int], Watcher],
) -> None:
    """On the clock of the loop, from the cancellation on."""
    watcher = watch(3)

    start = await cancelled_at_once(stubborn, watcher.let_go)

    assert [at - start for at in watcher.instants] == [5, 10, 15]


@pytest.mark.usefixtures("any_gil")
async def test_report_says_what_where_and_what_to_do(
    watch: Callable[[int], Watcher],
) -> None:
    """Who reads it at night need not look anything up."""
    watcher = watch(1)
    names: list[str] = []

    def careless(cancel: Callable[[], object]) -> None:
        names.append(threading.current_thread().name)
        stubborn(cancel, watcher.let_go)

    await cancelled_at_once(careless)
    first, *stack = watcher.texts[0].splitlines()

    assert "careless was cancelled 5 s ago and still runs in thread" in first
    assert repr(names[0]) in first
    assert "safeconc.check()" in first
    assert "current_context().sleep()" in first
    assert "in careless" in stack[0]
    assert "in stubborn" in "\n".join(stack)
    assert "_to_thread.py" not in "\n".join(stack)


async def test_report_of_a_built_in_function_has_no_stack(
    watch: Callable[[int], Watcher],
) -> None:
    """There is no Python code to show."""
    watcher = watch(1)
    before, stay = threading.Lock(), threading.Lock()
    before.acquire()
    stay.acquire()

    async def release() -> None:
        await anyio.sleep(90)
        stay.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        tasks.start_soon(hold_the_clock, lambda: not before.locked())
        with anyio.move_on_after(60):
            steps: list[Callable[[], object]] = [before.release, stay.acquire]
            await to_thread(list, map(methodcaller("__call__"), steps))

    assert watcher.texts[0].endswith("most recent call last:\n  not in Python code")


@pytest.mark.usefixtures("any_gil")
async def test_report_is_bounded(watch: Callable[[int], Watcher]) -> None:
    """Of a deep recursion it shows the innermost calls."""
    watcher = watch(1)

    def dive(cancel: Callable[[], object], depth: int) -> None:
        if depth:
            dive_on(cancel, depth - 1)  # by turns, or they would be shown as one
        else:
            stubborn(cancel, watcher.let_go)

    def dive_on(cancel: Callable[[], object], depth: int) -> None:
        dive(cancel, depth)

    await cancelled_at_once(dive, 100)

    assert watcher.texts[0].count('  File "') == FRAMES
    assert "in stubborn" in watcher.texts[0]


async def test_thread_that_heeds_is_not_reported(
    watch: Callable[[int], Watcher],
) -> None:
    """The log is for those that stay."""
    watcher = watch(1)

    def heed(cancel: Callable[[], object]) -> None:
        context = current_context()
        assert context is not None
        cancel()
        context.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold_the_clock, watcher.let_go.is_set)
        await cancelled_at_once(heed)
        watcher.let_go.set()

    assert watcher.texts == []


async def test_thread_that_nobody_cancelled_is_not_reported(
    watch: Callable[[int], Watcher],
) -> None:
    """An hour of work is none of the log's business."""
    watcher = watch(1)

    async def release() -> None:
        await anyio.sleep(3600)
        watcher.let_go.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        await to_thread(watcher.let_go.wait)

    assert watcher.texts == []


async def test_silenced_logger_costs_no_stack(
    watch: Callable[[int], Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack is taken only for a report that somebody gets."""
    watcher = watch(1)

    def take(call: object) -> None:
        watcher.texts.append("taken")

    monkeypatch.setattr(_Call, "_stack", take)

    async def release() -> None:
        await anyio.sleep(60)
        watcher.let_go.set()

    logging.getLogger("safeconc").setLevel(logging.ERROR)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            await cancelled_at_once(stubborn, watcher.let_go)
    finally:
        logging.getLogger("safeconc").setLevel(logging.NOTSET)

    assert watcher.texts == []


async def test_broken_log_does_not_end_the_wait() -> None:
    """An error in a filter is no reason to leave the thread behind."""
    logger = logging.getLogger("safeconc")
    let_go = threading.Event()
    ended: list[str] = []

    def broken(record: logging.LogRecord) -> bool:
        let_go.set()
        raise LookupError

    def run(cancel: Callable[[], object]) -> None:
        stubborn(cancel, let_go)
        ended.append("thread")

    logger.addFilter(broken)
    try:
        await cancelled_at_once(run)
    finally:
        logger.removeFilter(broken)

    assert ended == ["thread"]


@pytest.mark.usefixtures("any_gil")
def test_thread_that_went_on_is_not_mistaken() -> None:
    """Workers are reused: the stack of a later call says nothing of an earlier one."""
    stacks: list[object] = []
    first = _Call(int, ())
    second = _Call(lambda: stacks.append(first._stack()), ())

    def run() -> None:
        first.run()
        stacks.append(first._stack())
        second.run()

    in_thread(run)

    assert stacks == [None, None]
    assert first._stack() is None
