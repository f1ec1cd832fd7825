"""Who makes tasks, as the loops of asyncio tell it."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import ref

import anyio
import pytest

from safeconc import leaks
from safeconc.leaks import Entry
from safeconc.leaks._spawned import CREATE, RUN, Spawned, spawned

needs_events = pytest.mark.skipif(
    not hasattr(sys, "monitoring"),
    reason="needs sys.monitoring, of CPython 3.12 and later",
)

Spawn = Callable[[Coroutine[Any, Any, None]], object]

depth = sys.get_coroutine_origin_tracking_depth


async def idle() -> None:
    """Wait for ever."""
    await anyio.sleep_forever()


def entry_of(name: str) -> Entry:
    """Return what a snapshot has of the one task that runs such a function."""
    (entry,) = (
        entry
        for entry in leaks.snapshot().entries
        if entry.kind == "task"
        and name in {frame.code.co_qualname for frame in entry.stack}
    )
    return entry


def maker(spawn: Spawn) -> tuple[str, int]:
    """Return the function and the line that made a task, by one noted call."""

    async def main() -> tuple[str, int]:
        future: Any = spawn(idle())
        await asyncio.sleep(0)
        (made,) = entry_of("idle").created
        future.cancel()
        await asyncio.gather(future, return_exceptions=True)
        return made.code.co_name, made.line

    with leaks.install(frames=1):
        return asyncio.run(main())


@needs_events
@pytest.mark.parametrize(
    "fn", [asyncio.create_task, asyncio.ensure_future, asyncio.gather, asyncio.shield]
)
def test_the_one_call_that_is_noted_is_the_callers(fn: Callable[..., object]) -> None:
    """However asyncio was asked for a task, that line is what one looks for."""

    def spawn(coro: Coroutine[Any, Any, None]) -> object:
        return fn(coro)

    assert maker(spawn) == ("spawn", spawn.__code__.co_firstlineno + 1)


@needs_events
def test_a_task_group_is_not_what_is_noted() -> None:
    """It is who called it."""

    async def main() -> str:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(idle())
            await asyncio.sleep(0)
            (made,) = entry_of("idle").created
            task.cancel()
        return made.code.co_name

    with leaks.install(frames=1):
        assert asyncio.run(main()) == "main"


@needs_events
def test_coroutines_are_free_while_a_loop_of_asyncio_runs() -> None:
    """The interpreter keeps nothing of them from the first task on, until the end."""

    async def main() -> tuple[object, int]:
        await asyncio.create_task(asyncio.sleep(0))
        coroutine: Any = idle()
        coroutine.close()
        return coroutine.cr_origin, depth()

    with leaks.install(frames=2):
        assert asyncio.run(main(), debug=False) == (None, 0)
        assert depth() == 2


@needs_events
def test_what_runs_after_asyncio_in_the_thread_is_noted() -> None:
    """Trio tells nothing, so there the interpreter keeps who made a coroutine."""
    created: list[str] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(idle)
            await anyio.wait_all_tasks_blocked()
            created.extend(frame.code.co_name for frame in entry_of("idle").created)
            tasks.cancel_scope.cancel()

    async def before() -> None:
        await asyncio.create_task(asyncio.sleep(0))

    with leaks.install(frames=16):
        asyncio.run(before())
        anyio.run(main, backend="trio")

    assert "main" in created


@needs_events
@pytest.mark.parametrize("why", ["factory", "debug"])
def test_the_interpreter_does_not_rest_where_it_is_needed(why: str) -> None:
    """With a task factory not all tasks come by; debug mode is somebody else's."""

    def make(
        loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        if why == "factory":
            loop.set_task_factory(make)
        await asyncio.create_task(asyncio.sleep(0))
        return depth()

    with leaks.install(frames=3):
        assert asyncio.run(main(), debug=why == "debug") > 0
        assert depth() == 3


@needs_events
def test_what_somebody_else_has_the_interpreter_keep_stays() -> None:
    """Their depth comes back with the end of ours, and there is no rest meanwhile."""

    async def main() -> int:
        await asyncio.create_task(asyncio.sleep(0))
        return depth()

    before = depth()
    sys.set_coroutine_origin_tracking_depth(7)
    try:
        with leaks.install(frames=2):
            assert asyncio.run(main(), debug=False) == 2
        assert depth() == 7
    finally:
        sys.set_coroutine_origin_tracking_depth(before)


@needs_events
def test_who_leaves_an_inner_block_goes_on_noting() -> None:
    """Also if that was opened and left while the interpreter rests."""

    async def main() -> int:
        await asyncio.create_task(asyncio.sleep(0))
        with leaks.install(frames=1):
            await asyncio.create_task(asyncio.sleep(0))
        task = asyncio.create_task(idle())
        await asyncio.sleep(0)
        frames = len(entry_of("idle").created)
        task.cancel()
        return frames

    before = depth()
    with leaks.install(frames=3):
        assert asyncio.run(main()) == 3
        assert depth() == 3
    assert depth() == before


@needs_events
def test_nothing_is_kept_of_a_task_that_is_gone() -> None:
    """Thousands come and go in a minute."""

    async def main() -> int:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(10)]
        await asyncio.wait(tasks)
        return len(spawned._made)

    gc.collect()
    before = len(spawned._made)
    with leaks.install():
        assert asyncio.run(main()) >= before + 10
        gc.collect()
        assert len(spawned._made) == before


def told(notes: Spawned, self: object) -> None:
    """Tell that ``create_task`` returns; in place of a task it is the loop."""
    notes.returns(CREATE, 0, self)


class Loop:
    """A loop as a note of it sees it."""

    def __init__(self, notes: Spawned, factory: object) -> None:
        self.notes = notes
        self.factory = factory

    def is_running(self) -> bool:
        """Say that it runs."""
        return True

    def get_task_factory(self) -> object:
        """Say who makes its tasks."""
        return self.factory

    def create_task(self) -> None:
        """Tell that it has made one."""
        told(self.notes, self)


@pytest.mark.parametrize("factory, meanwhile", [(None, 0), (asyncio.Task, 2)])
def test_what_is_done_when_a_loop_tells(
    monkeypatch: pytest.MonkeyPatch, factory: object, meanwhile: int
) -> None:
    """Note who called, rest, and go on when it has stopped."""
    monkeypatch.setattr("safeconc.leaks._spawned._SPAWNERS", {id(told.__code__)})
    notes = Spawned()
    notes.frames = 1
    loop = Loop(notes, factory)
    before = depth()
    sys.set_coroutine_origin_tracking_depth(0)
    notes.track(2)
    try:
        loop.create_task()
        while_it_runs = depth()
        notes.returns(RUN, 0, None)
        afterwards = depth()
        notes.returns(RUN, 0, None)
    finally:
        sys.set_coroutine_origin_tracking_depth(before)

    made = notes.of(ref(loop))
    assert made is not None
    assert [frame.code.co_name for frame in made] == ["create_task"]
    assert (while_it_runs, afterwards) == (meanwhile, 2)


def test_places_are_shared_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like tasks have one stack, and code that is made over and over fills nothing."""
    monkeypatch.setattr("safeconc.leaks._spawned.PLACES", 2)
    notes = Spawned()
    notes.frames = 1000  # more than there are
    tasks = {idle, entry_of, maker}
    for task in tasks:
        told(notes, task)
    assert len(notes._places) == 1
    told(notes, told)
    assert len(notes._places) == 2
    told(notes, Spawned)
    assert len(notes._places) == 1


def test_a_factory_may_return_what_it_likes() -> None:
    """Also what cannot be referred to weakly: then it is not noted."""
    notes = Spawned()
    notes.frames = 1

    told(notes, object())

    assert not notes._made
