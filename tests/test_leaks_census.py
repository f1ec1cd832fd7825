"""A census sees all there is, and keeps together what is alike."""

# A task group may swallow a cancellation, and pyright expects it to.
# pyright: reportPossiblyUnboundVariable=false

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from safeconc import leaks
from safeconc.leaks import _private, _processes
from safeconc.leaks._census import Census
from safeconc.leaks._crowd import Crowd, Crowds
from safeconc.leaks._groups import grouped
from safeconc.leaks._model import Entry
from safeconc.leaks._origins import owner

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def waits() -> None:
    """Wait until cancelled."""
    await anyio.sleep_forever()


async def test_those_that_wait_at_one_place_are_one_group() -> None:
    """However many they are; and each has its name."""
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(waits, name=f"task {number}")
        await anyio.wait_all_tasks_blocked()
        entries = leaks.snapshot().entries
        found = [group for group in grouped(entries) if group.count == 50]
        one_by_one = {entry.name for entry in Census()}
        tasks.cancel_scope.cancel()

    [group] = found
    names = {f"task {number}" for number in range(50)}
    assert {entry.name for entry in group.entries} == names
    assert names <= one_by_one
    assert group.tally("state", 3) == {"waiting": 50}


async def test_states_tell_what_a_task_does() -> None:
    """It runs, waits, has not begun, or is to end."""
    states: dict[str, str] = {}

    async def stay() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                look()
                await anyio.lowlevel.checkpoint()

    def look() -> None:
        states.update((entry.name, entry.state) for entry in leaks.snapshot().entries)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits, name="waits")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(waits, name="new")
        look()
        tasks.cancel_scope.cancel()
    assert states["waits"] == "waiting"
    assert states["new"] == "not started"
    assert "running" in states.values()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stay, name="leaves")
        tasks.start_soon(stay, name="goes")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert "cancelling" in {states["leaves"], states["goes"]}


async def test_owner_is_inherited_by_tasks() -> None:
    """What is made for a test says so, on every version."""
    token = owner.set("test_of_mine")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits, name="owned")
            await anyio.wait_all_tasks_blocked()
            owners = {entry.name: entry.owner for entry in leaks.snapshot().entries}
            tasks.cancel_scope.cancel()
    finally:
        owner.reset(token)

    assert owners["owned"] == "test_of_mine"
    assert owner.get() is None


@on_asyncio
async def test_task_in_a_closed_loop_is_told() -> None:
    """It is pending for ever, and kept by somebody."""
    kept: list[Any] = []

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        kept.append(loop.create_task(waits(), name="stranded"))
        loop.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    states = {entry.name: entry.state for entry in leaks.snapshot().entries}
    kept[0].get_coro().close()
    kept[0]._log_destroy_pending = False
    kept.clear()
    gc.collect()  # on PyPy, later tests would see it

    assert _private.asyncio_marks() is None or (
        states["stranded"] == "left in a closed loop"
    )


def test_thread_remembers_who_started_it() -> None:
    """From Python 3.12 on."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="noted")
    with leaks.install(frames=2):
        thread.start()
    made = {entry.name: entry.created for entry in leaks.snapshot().entries}["noted"]
    over.set()
    thread.join()

    if sys.version_info >= (3, 12) and sys.implementation.name == "cpython":
        assert made[0].code.co_name == "test_thread_remembers_who_started_it"
        assert len(made) == 2


async def test_what_is_noted_leads_out_of_anyio() -> None:
    """The line that is told is the one that called the task group, on trio as well."""
    with leaks.install():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits, name="noted")
            await anyio.wait_all_tasks_blocked()
            noted = [each for each in leaks.snapshot().entries if each.name == "noted"]
            tasks.cancel_scope.cancel()

    [group] = grouped(noted)
    assert group.created_at is not None
    assert "start_soon(waits" in group.created_at.source


@pytest.mark.parametrize("is_imported", [True, False])
def test_more_is_noted_only_where_trio_may_run(
    monkeypatch: pytest.MonkeyPatch, is_imported: bool
) -> None:
    """Each call that is kept costs time, and out of asyncio fewer of them lead."""
    if not is_imported:
        monkeypatch.delitem(sys.modules, "trio")

    with leaks.install():
        assert sys.get_coroutine_origin_tracking_depth() == (6 if is_imported else 4)


@pytest.mark.parametrize("frames", [0, 65, -1])
def test_number_of_frames_is_checked(frames: int) -> None:
    """Bad numbers fail at the call."""
    with pytest.raises(ValueError, match="frames must be between"):
        leaks.install(frames)


@pytest.mark.parametrize("frames", [True, 1.0, "1"])
def test_frames_are_a_whole_number(frames: Any) -> None:
    """So do other things."""
    with pytest.raises(TypeError, match="whole number"):
        leaks.install(frames)


def test_child_process_is_told_until_it_was_waited_for() -> None:
    """It runs, then it has ended and nobody has waited, then it is gone."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def states() -> list[str]:
        return [e.state for e in leaks.snapshot().entries if e.ident == child.pid]

    running = states()
    assert child.stdin is not None
    child.stdin.close()
    while not _processes.is_zombie(child.pid):
        pass
    ended = states()
    child.wait()

    assert running == ["running"]
    assert ended == ["ended, and not waited for"]
    assert states() == []
    assert _processes.is_zombie(child.pid)
    assert _processes.command_of(child.pid) == ""


def test_system_that_does_not_tell_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What cannot be seen is said, not left out."""
    monkeypatch.setattr(_processes, "TASKS", tmp_path / "none")
    monkeypatch.delattr("os.waitid", raising=False)

    assert "child processes" in "".join(leaks.snapshot().notes)


def test_crowds_are_sequences() -> None:
    """Any index will do, and any slice."""

    class Thing:
        pass

    things = [Thing() for _ in range(5)]
    crowd = Crowd(Entry("task", "", "waiting"))
    for number, thing in enumerate(things):
        crowd.names.append(str(number))
        crowd.refs.append(weakref.ref(thing))
    both = Crowds((crowd, (Entry("thread", "5", "alive"),)))

    assert [entry.name for entry in both] == list("012345")
    assert (both[0].name, both[-1].name, both[-6].name) == ("0", "5", "0")
    assert [entry.name for entry in both[1:4]] == list("123")
    assert [entry.name for entry in both[::-2]] == list("531")
    assert [count for _, count in both.samples()] == [5, 1]
    with pytest.raises(IndexError):
        _ = both[6]
