"""How a block of threads waits for those that stay, and through every Ctrl-C."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from safeconc import Context, check, current_context
from safeconc._parker import Parker
from safeconc.threads import ErrGroup, StuckThreadsError, Task
from safeconc.threads import _siblings as siblings
from tests.together import at_a_bad_moment, handled, send, when_awaited


def sleep_forever() -> None:
    """Wait for the end."""
    context = current_context()
    assert context is not None
    context.wait()
    context.check()


def stubborn(begun: threading.Event, let_go: threading.Event) -> None:
    """Ignore the end of the block."""
    begun.set()
    let_go.wait()


class Watcher(logging.Handler):
    """Notes what is logged, and lets the threads go after some reports."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.let_go = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Let the threads go at the third."""
        self.texts.append(record.getMessage())
        if len(self.texts) == 3:
            self.let_go.set()


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    """Watch the library's logger, where patience is short."""
    monkeypatch.setattr(siblings, "PATIENCE", 0.001)
    watcher = Watcher()
    logging.getLogger("safeconc").addHandler(watcher)
    yield watcher
    logging.getLogger("safeconc").removeHandler(watcher)


# Threads that stay


def test_thread_that_stays_is_waited_for_and_reported(watcher: Watcher) -> None:
    """Again and again, by name and stack."""
    begun = threading.Event()

    with ErrGroup(limit=None, name="crawl") as group:
        task = group.go(stubborn, begun, watcher.let_go)
        group.go_background(sleep_forever)
        begun.wait()
        group.cancel()

    first, *stack = watcher.texts[0].splitlines()
    assert "stubborn was cancelled 0 s ago and still runs in thread" in first
    assert "'crawl: worker-1'" in first
    assert "ErrGroup 'crawl' waits for it" in first
    assert "safeconc.check()" in first
    assert "in stubborn" in stack[0]
    assert "_worker.py" not in "\n".join(stack)
    assert task.done
    assert len(watcher.texts) >= 3


def test_service_that_stays_is_reported(watcher: Watcher) -> None:
    """The block has not ended by a cancellation, but the service was to."""
    begun = threading.Event()

    with ErrGroup(limit=None) as group:
        service = group.go_background(stubborn, begun, watcher.let_go)
        begun.wait()

    assert "stubborn was cancelled" in watcher.texts[0]
    assert service.done


def test_service_is_stopped_when_the_last_child_has_ended() -> None:
    """By the owner, who waits meanwhile."""
    owner = threading.get_ident()

    with ErrGroup(limit=None) as group:
        service = group.go_background(sleep_forever)
        child = group.go(until_it_waits, owner)

    assert child.result() is None
    assert repr(service).endswith(" cancelled>")


def test_child_that_takes_its_time_is_not_reported(watcher: Watcher) -> None:
    """While the block is not to end, an hour of work is none of the log's business."""
    over = Context.root(timeout=0.01)

    with ErrGroup(limit=None) as group:
        group.go(over.wait, name="fetch")

    # The idle thread may be told of, for that one was to go home.
    assert not [text for text in watcher.texts if text.startswith("fetch")]


def test_silenced_logger_costs_no_stack(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are looked at only for a report that somebody gets."""
    over = Context.root(timeout=0.01)
    monkeypatch.delattr(siblings.Siblings, "_report")
    monkeypatch.setattr(logging.getLogger("safeconc"), "level", logging.ERROR)
    monkeypatch.setattr(siblings, "is_reported", lambda: False)

    with ErrGroup(limit=None) as group:
        group.go(over.wait)
        group.cancel()

    assert watcher.texts == []


def test_broken_log_does_not_end_the_wait(watcher: Watcher) -> None:
    """An error in a filter is no reason to leave a thread behind."""

    def broken(record: logging.LogRecord) -> bool:
        watcher.let_go.set()
        raise LookupError

    logging.getLogger("safeconc").addFilter(broken)
    try:
        with ErrGroup(limit=None) as group:
            task = group.go(watcher.let_go.wait)
            group.cancel()
    finally:
        logging.getLogger("safeconc").removeFilter(broken)

    assert task.done


@pytest.mark.parametrize("grace", [0, 0.001])
def test_grace_ends_the_wait(grace: float) -> None:
    """The error lists who still runs, where, and says that they do."""
    let_go, begun = threading.Event(), threading.Event()

    group = ErrGroup(limit=None, grace=grace, name="crawl")
    with pytest.raises(StuckThreadsError) as caught, group:
        group.go(stubborn, begun, let_go)
        group.go_background(sleep_forever)
        begun.wait()
        group.cancel()

    stuck = [each for each in caught.value.threads if "stubborn" in each.what]
    thread = next(t for t in threading.enumerate() if t.ident == stuck[0].ident)
    assert stuck[0].name == thread.name == "crawl: worker-1"
    assert "let_go.wait()" in stuck[0].stack
    assert "they run on, with no owner" in str(caught.value)
    assert "let_go.wait()" in str(caught.value)
    assert caught.value.__cause__ is None
    let_go.set()
    thread.join()
    while group._siblings.workers:  # the service may not have had its time, either
        check()


def test_stuck_thread_does_not_hide_the_root_cause() -> None:
    """It is the cause of the error."""
    tasks: list[Task[Any]] = []
    let_go, begun = threading.Event(), threading.Event()
    error = ValueError("no")

    with pytest.raises(StuckThreadsError) as caught, ErrGroup(limit=None, grace=0) as g:
        tasks.append(g.go(stubborn, begun, let_go))
        begun.wait()
        raise error

    assert caught.value.__cause__ is error
    let_go.set()
    while not tasks[0].done:
        check()


def test_stuck_thread_does_not_hide_an_order() -> None:
    """The order is raised, with a note."""
    tasks: list[Task[Any]] = []
    let_go, begun = threading.Event(), threading.Event()

    with pytest.raises(KeyboardInterrupt) as caught, ErrGroup(limit=None, grace=0) as g:
        tasks.append(g.go(stubborn, begun, let_go))
        begun.wait()
        raise KeyboardInterrupt

    assert "after 0 s of grace 1 thread still ran" in caught.value.__notes__[0]
    let_go.set()
    while not tasks[0].done:
        check()


def test_grace_that_suffices_is_not_seen() -> None:
    """Who looks in time is joined as ever."""
    with ErrGroup(limit=None, grace=3600) as group:
        task = group.go(sleep_forever)
        group.cancel()

    assert task.done
    assert group._siblings.workers == {}


# Ctrl-C


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Give what sends the main thread a Ctrl-C, from another thread, until it is heard.

    The interpreter may note a signal just before it begins to wait for a lock, and
    hears of it only at the next one.
    """
    sent, heard = [0], [0]
    main = threading.main_thread().ident
    assert main is not None

    def hear(frame: FrameType | None) -> None:
        if heard[0] < sent[0] and not at_a_bad_moment(frame):
            heard[0] += 1
            raise KeyboardInterrupt

    def insist() -> None:
        sent[0] += 1
        while heard[0] < sent[0]:
            send(main, signal.SIGINT)

    with handled(signal.SIGINT, hear):
        yield insist


def until_it_waits(thread: int) -> None:
    """Return once a thread is where it waits for others."""
    while sys._current_frames()[thread].f_code is not Parker.park.__code__:
        time.sleep(0)


def test_interrupt_in_the_body_ends_the_block(interrupt: Callable[[], None]) -> None:
    """As any other error does."""
    group = ErrGroup(limit=None)
    thread = when_awaited(group.context, interrupt)
    with pytest.raises(KeyboardInterrupt), group:
        sleep_forever()
    thread.join()

    assert isinstance(group.errors[0], KeyboardInterrupt)


def test_interrupt_in_go_ends_the_block(interrupt: Callable[[], None]) -> None:
    """The call leaves the line, the members see the end and are waited for."""
    tasks: list[Task[Any]] = []

    def act() -> None:
        while not group.statistics().waiting:
            pass
        interrupt()

    group = ErrGroup(limit=1)
    thread = threading.Thread(target=act)
    with pytest.raises(KeyboardInterrupt), group:
        tasks.append(group.go(sleep_forever))
        thread.start()
        group.go(pytest.fail)
    thread.join()

    assert tasks[0].done
    assert group.statistics().started == 1


def test_interrupts_in_the_join_leave_nothing_behind(
    interrupt: Callable[[], None],
) -> None:
    """The first one ends the block, and one that comes later changes nothing."""
    tasks: list[Task[Any]] = []
    heard: list[str] = []
    main = threading.get_ident()

    def stubborn() -> None:
        group.context.after(lambda: heard.append("end"))
        until_it_waits(main)
        interrupt()
        context = current_context()
        assert context is not None
        context.wait()
        while not heard:  # else what the end calls would hear the next one
            time.sleep(0)
        until_it_waits(main)
        interrupt()
        heard.append("over")

    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        tasks.append(group.go(stubborn))

    assert heard == ["end", "over"]
    assert tasks[0].done
    assert group._siblings.workers == {}
    assert isinstance(group.errors[0], KeyboardInterrupt)


def test_interrupt_of_the_end_itself_leaves_nobody_at_rest() -> None:
    """What it was to tell its threads, it tells them again."""
    group = ErrGroup(limit=None)
    shut = group._siblings.on_over
    calls: list[str] = []

    def interrupted() -> None:
        calls.append("over")
        if len(calls) == 1:
            raise KeyboardInterrupt
        shut()

    with pytest.raises(KeyboardInterrupt), group:
        group.go(abs, -1)
        while not group._crew._idle:
            check()
        group._siblings.on_over = interrupted

    assert len(calls) == 2
    assert group._siblings.workers == {}


def test_child_that_is_given_up_last_ends_the_block() -> None:
    """There may be no thread left whose end would wake the owner."""
    group = ErrGroup(limit=1)
    owner = threading.get_ident()

    def give_up() -> None:
        until_it_waits(owner)
        with group._siblings.lock:
            group._undo_start()

    thread = threading.Thread(target=give_up)
    with group:
        assert group._slots.take()
        thread.start()
    thread.join()

    assert group.statistics().running == 0


def test_error_of_a_signal_handler_ends_the_block_too() -> None:
    """Whatever comes out of the wait, the members are waited for."""
    tasks: list[Task[Any]] = []
    main = threading.get_ident()

    heard: list[int] = []

    def refuse(frame: FrameType | None) -> None:
        if not heard and not at_a_bad_moment(frame):
            heard.append(1)
            raise TimeoutError("alarm")

    def insist() -> None:
        until_it_waits(main)
        while not heard:
            send(main, signal.SIGUSR1)

    group = ErrGroup(limit=None)
    with handled(signal.SIGUSR1, refuse):
        thread = when_awaited(group.context, insist)
        with pytest.raises(TimeoutError, match="alarm"), group:
            tasks.append(group.go(sleep_forever))
        thread.join()

    assert tasks[0].done


def test_cancel_from_a_signal_handler_while_the_lock_is_held() -> None:
    """The handler stands above whatever the main thread holds."""
    with ErrGroup(limit=None) as group:
        task = group.go(sleep_forever)
        with (
            handled(signal.SIGUSR1, lambda _: group.cancel()),
            group._siblings.lock,
        ):
            signal.raise_signal(signal.SIGUSR1)
        check()

    assert task.done
    assert group.errors == ()
