"""A block is checked: what is left of it is told, and nothing that is not."""

# What a block has begun is ended after it, and pyright expects the block to raise
# before it has begun anything.
# pyright: reportPossiblyUnboundVariable=false, reportGeneralTypeIssues=false

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from safeconc import leaks
from safeconc.antipatterns._spawn import spawn
from safeconc.leaks._pauses import pauses
from tests.conftest import UVLOOP

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
at_once = pytest.mark.virtual_clock


async def found(**options: Any) -> leaks.Snapshot:
    """Check a block that leaks a task which waits for ever."""
    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(**options):
            spawn(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
    return caught.value.snapshot


@at_once
async def test_task_that_stays_is_told_after_the_grace() -> None:
    """It is named, with what it does, when its time is up."""
    start = anyio.current_time()

    [entry] = (await found(grace=3)).entries

    assert anyio.current_time() - start == 3
    assert (entry.kind, entry.state) == ("task", "waiting")
    assert entry.ref() is not None
    assert entry.ident == id(entry.ref())


@at_once
async def test_clean_block_waits_for_nothing() -> None:
    """Not a moment, nor a turn of the loop."""
    start, turns, before, after = anyio.current_time(), 0, -1, -2

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await anyio.lowlevel.checkpoint()
        async with leaks.check():
            before = turns
        after = turns
        tasks.cancel_scope.cancel()

    assert after == before
    assert anyio.current_time() == start


@at_once
async def test_task_that_ends_within_the_grace_is_none() -> None:
    """And the check is over within a tenth of a second of its end."""
    start = anyio.current_time()

    async with leaks.check():
        spawn(anyio.sleep, 0.5)

    assert 0.5 <= anyio.current_time() - start <= 0.6


async def test_what_was_there_before_is_nobodys_leak() -> None:
    """A check is about what begins in it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        async with leaks.check(grace=0):
            pass
        tasks.cancel_scope.cancel()


async def test_error_of_the_body_is_raised_with_a_note() -> None:
    """It is not replaced, and what has leaked is told beside it."""
    error = ValueError("the body's")

    with pytest.raises(ValueError) as caught:
        async with leaks.check():
            spawn(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            raise error

    assert caught.value is error
    [note] = error.__notes__
    assert "1 task" in note


async def test_error_of_a_clean_body_gets_no_note() -> None:
    """There is nothing to tell."""
    error = ValueError("the body's")

    with pytest.raises(ValueError):
        async with leaks.check():
            raise error

    assert not hasattr(error, "__notes__")


@at_once
async def test_cancelled_block_is_left_without_a_look() -> None:
    """What it began is being cancelled as well."""
    with anyio.move_on_after(1) as scope:
        async with leaks.check():
            spawn(anyio.sleep_forever)
            await anyio.sleep(2)

    assert scope.cancelled_caught
    assert anyio.current_time() == scope.deadline


async def test_check_is_used_once() -> None:
    """A second block would know what the first one left."""
    check = leaks.check()
    async with check:
        pass

    with pytest.raises(RuntimeError, match="used before"):
        async with check:
            pass


async def test_plain_with_in_a_task_says_async_with() -> None:
    """It could not wait there."""
    with pytest.raises(RuntimeError, match="async with"):
        with leaks.check():
            pass


async def test_find_in_a_task_cannot_wait() -> None:
    """Nor can it, and it does look without waiting."""
    with pytest.raises(RuntimeError, match="cannot wait"):
        leaks.find(grace=1)

    spawn(anyio.sleep_forever)
    await anyio.lowlevel.checkpoint()

    assert "task" in leaks.find().kinds()
    with pytest.raises(leaks.LeakError):
        leaks.verify_none()


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_grace_is_a_time(grace: float) -> None:
    """Bad arguments fail before anything is looked at."""
    with pytest.raises(ValueError, match="grace"):
        leaks.check(grace=grace)


# What is counted


@on_asyncio
async def test_pending_timer_is_told() -> None:
    """A call that is still to come, by the name of what it calls."""
    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(grace=0):
            handle = asyncio.get_running_loop().call_later(1000, print)

    handle.cancel()
    [entry] = caught.value.snapshot.entries
    assert (entry.kind, entry.name) == ("timer", "print")


@on_asyncio
async def test_timers_of_waiting_tasks_are_not_counted_twice() -> None:
    """The task that sleeps is what leaks."""
    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(grace=0):
            spawn(asyncio.sleep, 1000)
            await anyio.lowlevel.checkpoint()

    assert caught.value.snapshot.kinds() == {"task": 1}


async def test_open_generator_is_told_unless_a_task_iterates() -> None:
    """One that is left, suspended, is open; one that is awaited is its task's."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    async def read(source: Any) -> None:
        async for _ in source:
            pass

    if UVLOOP:  # it keeps them to itself, and the census says so
        assert any("async generators" in note for note in leaks.snapshot().notes)
    else:
        left: Any = numbers()
        with pytest.raises(leaks.LeakError) as caught:
            async with leaks.check(grace=0):
                await anext(left)
        await left.aclose()
        assert caught.value.snapshot.kinds() == {"asyncgen": 1}

    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(grace=0):
            spawn(read, numbers())
            await anyio.wait_all_tasks_blocked()
    assert caught.value.snapshot.kinds() == {"task": 1}


@on_asyncio
async def test_task_that_failed_unseen_is_told_and_logged() -> None:
    """With its error; whoever had a handler there is told as well."""
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def fail() -> None:
        raise OSError

    try:
        with pytest.raises(leaks.LeakError) as caught:
            async with leaks.check(grace=0):
                task = asyncio.create_task(fail())
                await asyncio.wait([task])
                del task
                gc.collect()
    finally:
        loop.set_exception_handler(before)

    [entry] = caught.value.snapshot.entries
    assert (entry.kind, entry.state) == ("error", "failed with OSError")
    assert [type(context["exception"]) for context in told] == [OSError]


def test_thread_is_told_until_it_has_ended() -> None:
    """With where it is."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="stays")
    with pytest.raises(leaks.LeakError) as caught:
        with leaks.check(grace=0):
            thread.start()
    over.set()
    thread.join()

    [entry] = caught.value.snapshot.entries
    assert (entry.kind, entry.name, entry.state) == ("thread", "stays", "alive")
    assert any("wait" in frame.code.co_name for frame in entry.stack)

    with leaks.check():
        pass


def test_executor_that_was_not_shut_down_is_told() -> None:
    """The executor, and not its thread that has nothing to do."""
    with pytest.raises(leaks.LeakError) as caught:
        with leaks.check(grace=0):
            executor = ThreadPoolExecutor(1, "forgotten")
            executor.submit(int).result()
            while any(
                entry.name.startswith("forgotten_") for entry in leaks.find().entries
            ):  # it is about to wait for the next call
                pass
    executor.shutdown()

    [entry] = caught.value.snapshot.entries
    assert (entry.kind, entry.name) == ("executor", "forgotten")


# What can go wrong


@on_asyncio
async def test_cancel_ends_what_was_found_and_tells_who_refused() -> None:
    """One ends, one takes the cancellation and goes on; a timer is withdrawn."""
    let_go = asyncio.Event()

    async def refuse() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                pass

    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(grace=0.01, cancel=True):
            obedient = asyncio.create_task(asyncio.sleep(1000))
            stubborn = asyncio.create_task(refuse(), name="stubborn")
            handle = asyncio.get_running_loop().call_later(1000, print)
            await anyio.lowlevel.checkpoint()
    let_go.set()
    await stubborn

    assert caught.value.snapshot.kinds() == {"task": 2, "timer": 1}
    assert [entry.name for entry in caught.value.refused] == ["stubborn"]
    assert obedient.cancelled()
    assert handle.cancelled()


@on_asyncio
async def test_what_is_cancelled_has_a_moment_without_any_grace() -> None:
    """To end takes a turn of the loop, and is not to refuse."""
    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(grace=0, cancel=True):
            task = asyncio.create_task(asyncio.sleep(1000))
            await anyio.lowlevel.checkpoint()

    assert caught.value.snapshot.kinds() == {"task": 1}
    assert caught.value.refused == ()
    assert task.cancelled()


@on_asyncio
async def test_task_whose_repr_raises_is_told() -> None:
    """Nobody asks for it."""

    class Hostile(asyncio.Task[None]):
        def __repr__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(leaks.LeakError) as caught:
        async with leaks.check(grace=0):
            task = Hostile(asyncio.sleep(1000), name="hostile")
            await anyio.lowlevel.checkpoint()
    task.cancel()

    assert "hostile" in str(caught.value)


@on_asyncio
async def test_custom_and_eager_factories_are_as_good() -> None:
    """A census asks nobody who makes the tasks."""
    loop = asyncio.get_running_loop()
    eager = getattr(asyncio, "eager_task_factory", None)

    def make(loop: Any, coro: Any, **options: Any) -> Any:
        return asyncio.Task(coro, loop=loop, **options)

    for factory in filter(None, [make, eager]):
        loop.set_task_factory(factory)
        try:
            with leaks.install():
                [entry] = (await found(grace=0)).entries
        finally:
            loop.set_task_factory(None)
        assert any(frame.code.co_name == "spawn" for frame in entry.created)


def test_tasks_of_a_loop_in_another_thread_are_told() -> None:
    """Also those of a loop that closes, with its thread, before the next look."""
    waits, over = threading.Event(), threading.Event()

    async def other() -> None:
        task = asyncio.create_task(asyncio.sleep(1000), name="elsewhere")
        await asyncio.sleep(0)
        waits.set()
        await asyncio.to_thread(over.wait)
        task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(other(),))
    with leaks.check(grace=60):
        thread.start()
        waits.wait()
        names = [entry.name for entry in leaks.find().entries if entry.kind == "task"]
        over.set()

    assert "elsewhere" in names
    thread.join()


def test_threads_may_come_and_go_during_a_look() -> None:
    """A census takes what it meets."""
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    churning = threading.Thread(target=churn, name="churning")
    churning.start()
    names = [{entry.name for entry in leaks.snapshot().entries} for _ in range(20)]
    over.set()
    churning.join()

    assert all("churning" in each for each in names)


@pytest.mark.parametrize("grace", [0.0, 0.005, 1.0, 60.0])
def test_pauses_grow_and_add_up_to_the_grace(grace: float) -> None:
    """The first is none at all: most things end in the next turn of the loop."""
    first, *others = pauses(grace)

    assert first == 0
    assert sum(others) == pytest.approx(grace)
    assert max(others, default=0) <= 0.1
    assert others[:-1] == sorted(others[:-1])
