"""What a census does where a loop, an interpreter or a system tells it less."""

import asyncio
import functools
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

from safeconc import leaks
from safeconc.leaks import _origins, _private, _processes, _stacks
from safeconc.leaks._census import Census
from safeconc.leaks._lost import Lost
from safeconc.leaks._search import end
from safeconc.leaks._stacks import Stacks
from safeconc.leaks._tasks import Tasks
from tests.conftest import UVLOOP
from tests.entries import alive, entry

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)


def names() -> set[str]:
    """Name all that is seen."""
    return {each.name for each in leaks.snapshot().entries}


def tells_nothing(_: object) -> None:
    """Stand in for who could tell of a loop."""


async def nothing() -> None:
    """Do nothing."""


# Tasks


@on_asyncio
@pytest.mark.skipif(UVLOOP, reason="anyio names the loop of its runner only")
async def test_tasks_are_found_without_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loops that run are asked instead."""
    monkeypatch.setattr(_private, "_REGISTRY", None)
    task = asyncio.create_task(anyio.sleep_forever(), name="asked for")
    await anyio.lowlevel.checkpoint()
    seen = names()
    task.cancel()

    assert "asked for" in seen


@on_trio
async def test_trio_that_does_not_tell_is_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A census without its tasks says so."""
    monkeypatch.setattr(_private, "trio_tasks", tells_nothing)

    assert "The tasks of a trio program could not be found." in leaks.snapshot().notes


@on_asyncio
@pytest.mark.parametrize("what", ["timers", "async_generators"])
async def test_loop_that_does_not_tell_is_noted(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As uvloop does not."""
    monkeypatch.setattr(_private, what, tells_nothing)
    notes = "".join(leaks.snapshot().notes)

    assert f"does not tell which {what.replace('_', ' ')} are" in notes


def test_unknown_loop_tells_nothing() -> None:
    """Rather nothing than an error."""
    assert _private.timers(object()) is None
    assert _private.async_generators(object()) is None


@on_asyncio
async def test_failed_task_that_is_kept_is_told() -> None:
    """Nobody has asked how it ended, though somebody still could."""

    async def fail() -> None:
        raise LookupError

    task = asyncio.create_task(fail(), name="kept")
    await asyncio.wait([task])
    tasks = Tasks(Stacks(), {}, {})
    assert list(tasks.asyncio([ref(task)])) == []
    [lost] = tasks.lost

    assert (lost.kind, lost.name) == ("error", "kept")
    assert isinstance(task.exception(), LookupError)
    assert _private.lost_error(task) is None


@on_asyncio
async def test_crowd_of_a_known_place_is_not_worked_out_again() -> None:
    """What one look has found serves the next slice."""
    first, second = (asyncio.create_task(anyio.sleep_forever()) for _ in range(2))
    await anyio.wait_all_tasks_blocked()
    tasks = Tasks(Stacks(), {}, {})
    [one] = tasks.asyncio([ref(first)])
    [other] = tasks.asyncio([ref(second)])
    first.cancel()
    second.cancel()

    assert one.sample is other.sample


@on_asyncio
async def test_running_task_that_has_gone_on_is_told_by_its_coroutine() -> None:
    """Its thread is not where it was."""
    task = asyncio.current_task()
    assert task is not None
    [crowd] = Tasks(Stacks(), {}, {}).asyncio([ref(task)])

    assert crowd.sample.state == "running"


# Stacks


def test_wrapper_of_nothing_known_ends_the_walk() -> None:
    """Also what the interpreter wraps in something new."""
    assert _stacks._wrapper([1, 2]) == (None, None)


def unrolled_run(runner: object) -> Any:
    """Be called like trio's loop."""
    assert runner is not None
    return _private.trio_run_of(sys._getframe())


def test_namesakes_are_not_taken_for_the_real_thing() -> None:
    """A function of that name elsewhere is another one."""
    assert unrolled_run(object()) is None
    assert _private.executor_of(threading.Thread(target=lambda: None)) is None


# Executors


def test_process_pool_is_found_by_the_thread_that_manages_it() -> None:
    """Its processes are children; the pool is what one forgets."""
    over = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="stands in") as executor:

        class Manager(threading.Thread):
            __module__ = "concurrent.futures.process"

            def __init__(self, reference: Callable[[], Executor | None]) -> None:
                super().__init__(target=over.wait)
                self.executor_reference = reference

        thread = Manager(ref(executor))
        thread.start()
        kinds = {e.kind for e in leaks.snapshot().entries if e.name == "stands in"}
        gone = Manager(lambda: None)
        over.set()
        thread.join()

    assert kinds == {"executor"}
    assert _private.executor_of(thread) is None
    assert _private.executor_of(gone) is None


def test_what_changes_all_the_time_is_given_up() -> None:
    """As asyncio does after a thousand tries."""

    class Changing:
        def __iter__(self) -> Iterator[object]:
            raise RuntimeError

    assert _private.copied(Changing()) == []


# Origins


class Monitoring:
    """An interpreter's monitoring, with so many tools in use."""

    events = SimpleNamespace(PY_START=1, PY_RETURN=4)

    def __init__(self, in_use: set[int]) -> None:
        self.in_use = in_use

    def get_tool(self, tool: int) -> str | None:
        """Tell who uses a number."""
        return "somebody" if tool in self.in_use else None

    def use_tool_id(self, tool: int, _: str) -> None:
        """Take a number."""
        self.in_use.add(tool)

    def free_tool_id(self, tool: int) -> None:
        """Give it back."""
        self.in_use.remove(tool)

    def register_callback(self, *_: object) -> None:
        """Take it."""

    def set_local_events(self, *_: object) -> None:
        """Likewise."""


@pytest.mark.parametrize(
    "in_use, while_noting",
    [(set[int](), {3}), ({3}, {3, 4}), ({3, 4}, {3, 4})],
)
def test_threads_are_noted_if_a_tool_is_free(
    monkeypatch: pytest.MonkeyPatch, in_use: set[int], while_noting: set[int]
) -> None:
    """Nobody's tool is taken from them, and ours is given back."""
    before = set(in_use)
    monitoring = Monitoring(set(in_use))
    monkeypatch.setattr(sys, "monitoring", monitoring, raising=False)

    with leaks.install():
        assert monitoring.in_use == while_noting
    assert monitoring.in_use == before


def test_interpreter_without_monitoring_notes_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Python 3.12, and on PyPy; tasks are noted all the same."""
    monkeypatch.delattr(sys, "monitoring", raising=False)

    with leaks.install(frames=3):
        assert sys.get_coroutine_origin_tracking_depth() == 3


def test_note_of_a_thread_has_who_started_it() -> None:
    """Told by the frame of ``Thread.start``, in which ``self`` is the thread."""
    threads = _origins._Threads()
    threads.frames = 2
    thread = threading.Thread()

    def start(self: object) -> None:
        threads.starts(sys._getframe().f_code, 0)
        assert self is not None

    start("no thread")
    assert threads.of(thread) == ((), None)
    start(thread)
    made, owner = threads.of(thread)

    assert made[0].code is sys._getframe().f_code
    assert len(made) == 2
    assert owner is None


def test_contextvars_are_found_among_what_a_task_refers_to() -> None:
    """Where a task does not tell them; who has none has empty ones."""
    variables = copy_context()

    if variables in gc.get_referents([variables]):
        assert _origins._contextvars([variables]) is variables
    assert len(_origins._contextvars([])) == 0


# Processes


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no short way to find out that there are no children."""
    monkeypatch.delattr("os.waitid", raising=False)


@pytest.mark.usefixtures("unasked")
def test_kernel_without_lists_of_children_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A thread is there, and its list is not."""
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(_processes, "TASKS", tmp_path)

    assert _processes.children() is None


@pytest.mark.usefixtures("unasked")
def test_thread_that_has_ended_meanwhile_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The others are asked."""
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "children").write_text("71 72 ", "ascii")
    both = SimpleNamespace(iterdir=lambda: [tmp_path / "1", tmp_path / "2"])
    monkeypatch.setattr(_processes, "TASKS", both)

    assert _processes.children() == [71, 72]


def test_child_of_before_is_nobodys_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its number."""
    pids = [71]
    monkeypatch.setattr("safeconc.leaks._census.children", lambda: pids)

    with leaks.check(grace=0):
        pass
    with pytest.raises(leaks.LeakError) as caught, leaks.check(grace=0):
        pids.append(72)

    assert [each.ident for each in caught.value.snapshot.entries] == [72]


# Checks


@on_asyncio
@pytest.mark.skipif(UVLOOP, reason="uvloop does not tell its timers")
async def test_timer_of_before_is_nobodys_leak() -> None:
    """Also one whose function comes in partials."""
    loop = asyncio.get_running_loop()
    handle = loop.call_later(1000, functools.partial(print, "late"))

    async with leaks.check(grace=0):
        pass
    handle.cancel()


def test_error_tells_who_refused() -> None:
    """After all that was left."""
    stays = entry(anyio.sleep, name="stays")
    text = str(leaks.LeakError(alive(stays, entry(anyio.sleep)), [stays]))

    assert text.startswith("Leaked: 2 tasks, in 1 place.")
    assert "\n\nCancelled, and going on all the same: 1 task, in 1 place." in text


def test_nothing_left_is_no_error() -> None:
    """With a grace that is given, and with what is known left out."""
    leaks.verify_none(ignore=[leaks.ignore_current()], grace=0)
    leaks.verify_none(ignore=[leaks.ignore_current()])


async def test_task_may_insist_without_waiting() -> None:
    """It looks once."""
    leaks.verify_none(ignore=[leaks.ignore_current()])
    await anyio.lowlevel.checkpoint()


def test_only_what_can_be_cancelled_is() -> None:
    """A thread is left alone; the task of a loop that was closed is no error."""
    loop = asyncio.new_event_loop()
    coroutine = nothing()
    task = loop.create_task(coroutine)
    loop.close()
    thread = threading.Thread()
    marks: list[Callable[[], Any]] = [ref(task), ref(thread)]

    ended = end(entry()._replace(ref=mark) for mark in marks)

    assert ended == {marks[0]}
    with pytest.raises(asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError)
    del task
    gc.collect()  # on PyPy, later tests would see it


@on_asyncio
async def test_handler_that_came_later_stays() -> None:
    """Ours passes things on, and keeps out of them."""
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    lost = Lost(loop)
    lost.open()
    ours = loop.get_exception_handler()
    assert ours is not None

    def later(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        ours(loop, context)

    try:
        loop.set_exception_handler(later)
        loop.call_exception_handler({"message": "of no task"})
        lost.close()
        assert loop.get_exception_handler() is later
        loop.call_exception_handler({"message": "after that"})
    finally:
        loop.set_exception_handler(before)

    assert [each["message"] for each in told] == ["of no task", "after that"]
    assert lost.entries == []


@on_asyncio
async def test_loop_without_a_handler_logs_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The default handler is the one that was there."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(None)
    lost = Lost(loop)
    lost.open()
    try:
        loop.call_exception_handler({"message": "an example"})
    finally:
        lost.close()
        assert loop.get_exception_handler() is None
        loop.set_exception_handler(before)

    assert "an example" in caplog.text


def test_run_of_trio_that_is_not_found_is_noted() -> None:
    """Its end is looked at from inside, so it should be there."""
    census = Census()

    assert not [*census.of_trio()]
    assert census.notes[-1] == "The tasks of a trio program could not be found."
