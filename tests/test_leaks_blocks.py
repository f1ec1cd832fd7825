"""Whoever works in a block of ours knows who asked for it; and no open one is lost."""

import asyncio
import gc
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any

import anyio
import pytest

from safeconc import ErrGroup, FanOut, crawl, fan_out, leaks, threads
from safeconc._block import OPEN
from safeconc._site import caller_of, line_of
from safeconc.leaks._blocks import Blocks
from safeconc.leaks._model import Entry
from safeconc.leaks._stacks import Stacks

HERE = __file__


async def waits(*_: object) -> None:
    """Wait until cancelled."""
    await anyio.sleep_forever()


def line_with(text: str, function: Callable[..., object]) -> int:
    """Return the first line of *function* in which *text* stands."""
    lines, first = inspect.getsourcelines(function)
    return first + next(at for at, line in enumerate(lines) if text in line)


def made(entry: Entry) -> tuple[str, int]:
    """Return the file and the line where an entry was made."""
    frame = entry.created[0]
    return frame.code.co_filename, frame.line


def those_in(function: Callable[..., object]) -> list[Entry]:
    """Return the tasks and threads that are in *function*."""
    code = getattr(function, "__code__", None)
    return [
        entry
        for entry in leaks.snapshot().entries
        if any(frame.code is code for frame in entry.stack)
    ]


# Children


async def child(group: ErrGroup) -> None:
    """Start one."""
    await group.go(waits)


async def nowait(group: ErrGroup) -> None:
    """Start one at once."""
    group.go_nowait(waits)


async def service(group: ErrGroup) -> None:
    """Start a service."""
    await group.go_background(waits)


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("start", [child, nowait, service])
async def test_child_knows_who_started_it(
    start: Callable[[ErrGroup], Awaitable[None]],
    reuse: bool,
) -> None:
    """Nothing need be installed for that."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        await start(group)
        await anyio.wait_all_tasks_blocked()
        [found] = those_in(waits)
        group.cancel()

    assert made(found) == (HERE, line_with("(waits)", start))


async def test_worker_knows_who_asked_for_what_it_does_now() -> None:
    """It was made for an earlier child, as the interpreter has noted."""
    with leaks.install(frames=32):
        async with ErrGroup(limit=2, reuse=True) as group:
            start = group.go_nowait
            for task in [start(anyio.lowlevel.checkpoint) for _ in range(2)]:
                await task
            await child(group)
            await anyio.wait_all_tasks_blocked()
            [found] = those_in(waits)
            group.cancel()

    assert [frame.line for frame in found.created] == [line_with("(waits)", child)]


async def test_who_called_there_is_shown_if_it_was_noted() -> None:
    """The line of a helper that starts children says little."""
    with leaks.install(frames=32):
        async with ErrGroup(limit=None) as group:
            await child(group)
            await anyio.wait_all_tasks_blocked()
            [found] = those_in(waits)
            group.cancel()

    assert made(found) == (HERE, line_with("(waits)", child))
    test = test_who_called_there_is_shown_if_it_was_noted
    assert found.created[1].line == line_with("await child(group)", test)


async def fan() -> None:
    """Fan out."""
    await fan_out(waits, range(3), limit=2)


async def fan_lazily() -> None:
    """Fan out, and take what comes."""
    async with FanOut(waits, range(3), limit=2) as results:
        async for _ in results:
            break


async def walk() -> None:
    """Crawl."""
    await crawl(waits, [1, 2], limit=2, max_depth=None)


@pytest.mark.parametrize(
    "run, text", [(fan, "fan_out("), (fan_lazily, "FanOut("), (walk, "crawl(")]
)
async def test_worker_of_a_block_knows_the_block(
    run: Callable[[], Awaitable[None]], text: str
) -> None:
    """It was made by us, on behalf of that line."""
    async with ErrGroup(limit=None) as group:
        await group.go(run)
        await anyio.wait_all_tasks_blocked()
        found = those_in(waits)
        group.cancel()

    assert [made(entry) for entry in found] == [(HERE, line_with(text, run))] * 2


@pytest.mark.usefixtures("any_gil")
def test_thread_of_a_group_knows_who_started_its_child() -> None:
    """A thread is used again; what counts is what it does now."""
    over, here = threading.Event(), threading.Event()

    def blocks() -> None:
        here.set()
        over.wait()

    with threads.ErrGroup(limit=None, name="group of threads") as group:
        pair = threading.Barrier(2)
        for task in [group.go(pair.wait), group.go(pair.wait)]:
            task.wait()
        group.go(blocks)
        here.wait()
        found = [
            entry
            for entry in leaks.snapshot().entries
            if "group of threads" in entry.name and entry.created
        ]
        over.set()

    test = test_thread_of_a_group_knows_who_started_its_child
    assert [made(entry) for entry in found] == [(HERE, line_with("go(blocks)", test))]


@pytest.mark.usefixtures("any_gil")
def test_thread_of_a_fan_out_knows_the_call() -> None:
    """That line has asked for all of them."""
    found: list[Entry] = []

    def look(_: int) -> None:
        entries = leaks.snapshot().entries
        found.extend(entry for entry in entries if "looking" in entry.name)

    threads.fan_out(look, [1], limit=1, name="looking")

    test = test_thread_of_a_fan_out_knows_the_call
    line = line_with("threads.fan_out(", test)
    assert {made(entry) for entry in found} == {(HERE, line)}


# Blocks


def left_open() -> list[Entry]:
    """Return the open blocks that a census tells of."""
    entries = leaks.snapshot().entries
    return [entry for entry in entries if entry.kind == "primitive"]


async def open_by_hand(group: Any) -> None:
    """Enter a block, and never leave it."""
    await group.__aenter__()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_block_of_a_task_that_has_ended_is_told() -> None:
    """Nobody can leave it any more; trio ends no such task."""
    group = ErrGroup(limit=None, name="by hand")
    await asyncio.create_task(open_by_hand(group))
    [found] = left_open()
    OPEN.discard(found.ref)  # anyio keeps what is in it for ever

    assert (found.kind, found.name, found.state) == ("primitive", "by hand", "open")
    assert made(found) == (HERE, line_with("__aenter__", open_by_hand))
    assert "1 open block: 'by hand'" in leaks.report(leaks.Snapshot([found]))


def test_block_of_a_thread_that_has_ended_is_told_while_it_is_kept() -> None:
    """The same without a loop."""
    group = threads.ErrGroup(limit=None, name="of a thread")
    thread = threading.Thread(target=group.__enter__)
    thread.start()
    thread.join()
    [found] = left_open()
    assert found.name == "of a thread"

    del group, thread
    gc.collect()
    gc.collect()  # PyPy takes two
    assert left_open() == []


async def test_block_of_one_who_still_runs_is_not_told() -> None:
    """That one will leave it, and is told of if not."""
    async with ErrGroup(limit=None) as group:
        await group.go(fan)
        await anyio.wait_all_tasks_blocked()
        found = left_open()
        group.cancel()

    assert found == []


async def test_check_tells_of_a_block_that_its_body_has_left_open() -> None:
    """The task goes on, but what it has opened in there it should have left."""
    group = ErrGroup(limit=None, name="forgotten")
    with pytest.raises(leaks.LeakError, match="1 open block") as caught:
        async with leaks.check(grace=0):
            await group.__aenter__()
    await group.__aexit__(None, None, None)

    assert [entry.name for entry in caught.value.snapshot.entries] == ["forgotten"]


async def test_check_inside_a_block_is_content_with_it() -> None:
    """It was open before."""
    async with ErrGroup(limit=None), leaks.check(grace=0):
        pass


async def test_find_tells_of_the_blocks_of_its_caller() -> None:
    """It is asked at the end, when all should have been left."""
    others = [leaks.ignore_current()]  # what other tests have left

    async with ErrGroup(limit=None, name="around"):
        found = leaks.find(ignore=others).entries

    assert [(each.kind, each.name) for each in found] == [("primitive", "around")]


async def test_worker_at_rest_is_no_leak() -> None:
    """It is there for the next job, and ends with its block."""
    others = [leaks.ignore_current()]

    async with ErrGroup(limit=None, reuse=True, name="resting") as group:
        await (await group.go(anyio.lowlevel.checkpoint))
        async with leaks.check(grace=0):
            await (await group.go(anyio.lowlevel.checkpoint))
            assert group.statistics().started == 2
        await anyio.wait_all_tasks_blocked()
        found = leaks.find(ignore=others).entries

    assert [(each.kind, each.name) for each in found] == [("primitive", "resting")]


def test_thread_at_rest_is_no_leak() -> None:
    """The same for those of a group that is used by many."""
    with threads.ErrGroup(limit=None) as group, leaks.check():
        group.go(int).wait()


@pytest.mark.parametrize("failing", [False, True])
async def test_block_that_was_left_is_not_open(failing: bool) -> None:
    """However it was left."""
    before = OPEN.copy()
    try:
        async with ErrGroup(limit=None) as group:
            assert len(OPEN - before) == 1
            await group.go(anyio.lowlevel.checkpoint)
            if failing:
                raise LookupError
    except LookupError:
        assert failing

    assert OPEN - before == set()


def test_block_that_a_fork_has_brought_along_is_not_told() -> None:
    """Those who would leave it are in the other process."""
    group = threads.ErrGroup(limit=None)
    before = OPEN.copy()
    group.__enter__()
    [mark] = OPEN - before
    block = mark()
    assert block is not None
    here, block._process = block._process, -1
    blocks = Blocks(Stacks())
    found = blocks.marks()
    block._process = here
    group.__exit__(None, None, None)

    assert mark not in found


def test_block_that_ends_during_a_look_has_no_members() -> None:
    """It forgets them at its end, which may be in another thread."""
    before = OPEN.copy()
    with threads.ErrGroup(limit=None):
        [mark] = OPEN - before
        block = mark()
        assert block is not None
        members = block.members
        del block.members
        blocks = Blocks(Stacks())
        blocks.look()
        block.members = members

    assert blocks.made == {}


# Sites


def test_call_above_all_others_is_the_one_that_asks() -> None:
    """A loop that is no Python code calls without a frame of its own."""
    code, _ = caller_of(sys.getrecursionlimit() + 1000)

    assert code is test_call_above_all_others_is_the_one_that_asks.__code__


def test_site_that_its_function_does_not_know_has_no_line() -> None:
    """Nothing is made up."""
    code: CodeType = made.__code__

    assert line_of((code, -2)) == 0
