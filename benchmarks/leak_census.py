"""A look at all tasks: what it costs to say where each waits, and how many wait there.

The tasks stand at five places, each three calls deep, as those of a service do. Who
is measured answers for each place how many are there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._model import (
    ASYNCIO,
    LOOPS,
    TRIO,
    Benchmark,
    Contender,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Hashable, Iterable

    Waiting = Callable[
        [Callable[[], Awaitable[object]]], Coroutine[object, object, None]
    ]

    Census = Callable[[], Iterable[int]]
    """Looks at all tasks; returns how many there are at each place."""

PLACES = 5

CENSUS = "safeconc.leaks.snapshot, grouped"
BY_HAND = "await chains by hand, grouped"
ALL_TASKS = "asyncio.all_tasks(), where nobody waits"
GET_STACK = "task.get_stack(), grouped: the outermost call"
REPR = "repr() of all, grouped"
PYLEAK = "pyleak's LeakedTask of all, not grouped"
TRIO_FRAMES = "trio's iter_await_frames, grouped"


async def measure(census: Census, run: Run) -> None:
    """Have many tasks wait, and look at them."""
    await (on_trio if run.backend == "trio" else on_asyncio)(census, run)


async def on_asyncio(census: Census, run: Run) -> None:
    """Do it with tasks of asyncio."""
    over = asyncio.Event()
    tasks = [
        asyncio.create_task(PATHS[index % PLACES](over.wait)) for index in range(run.n)
    ]
    await asyncio.sleep(0)
    look(census, run)
    over.set()
    await asyncio.wait(tasks)


async def on_trio(census: Census, run: Run) -> None:
    """Do it with tasks of trio."""
    import trio

    async with trio.open_nursery() as nursery:
        for index in range(run.n):
            nursery.start_soon(PATHS[index % PLACES], trio.sleep_forever)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        look(census, run)
        nursery.cancel_scope.cancel()


def look(census: Census, run: Run) -> None:
    """Count, and see that all were counted."""
    with run.watch:
        counts = sorted(census())
    if sum(counts) < run.n or counts[-1] < run.n // PLACES:
        raise RuntimeError("some tasks were not counted, or not with their likes")


def path() -> Waiting:
    """Make a way of waiting that is no other's."""
    source = """
async def outer(wait):
    await middle(wait)
async def middle(wait):
    for _ in range(1):
        await inner(wait)
async def inner(wait):
    await wait()
"""
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 - five times the same text is no code to read
    made: Waiting = names["outer"]
    return made


PATHS = [path() for _ in range(PLACES)]


# Ours


def ours() -> Iterable[int]:
    """Take a census, and count by place and by creator."""
    from safeconc.leaks import snapshot
    from safeconc.leaks._groups import grouped

    return [group.count for group in grouped(snapshot().entries)]


# By hand


def by_hand() -> Iterable[int]:
    """Walk the awaits of each task, and say how many stand at the same place."""
    counts: dict[Hashable, int] = {}
    for task in asyncio.all_tasks():
        place: list[int] = []
        awaited: Any = task.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            place.append(id(frame.f_code))
            place.append(frame.f_lasti)
            awaited = awaited.cr_await
        key = tuple(place)
        counts[key] = counts.get(key, 0) + 1
    return counts.values()


def no_places() -> Iterable[int]:
    """Count the tasks."""
    return [len(asyncio.all_tasks())]


def outermost() -> Iterable[int]:
    """Ask asyncio, which knows the outermost call."""
    return Counter(
        tuple((frame.f_code, frame.f_lineno) for frame in task.get_stack())
        for task in asyncio.all_tasks()
    ).values()


def texts() -> Iterable[int]:
    """Compare what tasks say of themselves, without their names and addresses."""
    return Counter(
        repr(task).partition("coro=")[2].partition(" wait_for=")[0]
        for task in asyncio.all_tasks()
    ).values()


# Peers


def pyleak() -> Iterable[int]:
    """Have pyleak describe each task."""
    from importlib import import_module

    describe: Any = import_module("pyleak.tasks").LeakedTask.from_task
    return [len([describe(task) for task in asyncio.all_tasks()])]


def trio_frames() -> Iterable[int]:
    """Ask trio for the frames of each task of its tree."""
    return Counter(
        tuple((frame.f_code, line) for frame, line in task.iter_await_frames())
        for task in _trio_tasks()
    ).values()


def _trio_tasks() -> Iterator[Any]:
    import trio

    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            yield task
            for nursery in task.child_nurseries:
                waiting += nursery.child_tasks


FIELD = (
    Contender(CENSUS, partial(measure, ours), ("safeconc",), LOOPS),
    Contender(BY_HAND, partial(measure, by_hand), (), ASYNCIO),
    Contender(ALL_TASKS, partial(measure, no_places), (), ASYNCIO),
    Contender(GET_STACK, partial(measure, outermost), (), ASYNCIO),
    Contender(REPR, partial(measure, texts), (), ASYNCIO, share=0.1),
    Contender(PYLEAK, partial(measure, pyleak), ("pyleak",), ASYNCIO, share=0.1),
    Contender(TRIO_FRAMES, partial(measure, trio_frames), (), TRIO, share=0.1),
)


def sized(n: int) -> Scenario:
    """Look at *n* tasks."""
    return Scenario(
        f"{n}-tasks",
        f"say where {n:,} tasks wait",
        FIELD,
        BY_HAND,
        n=n,
        quick_n=min(n, 10_000),
        backends=("asyncio", "uvloop", "trio") if n == 10_000 else ("asyncio",),
    )


BENCHMARK = Benchmark(
    "leak_census",
    scenarios=tuple(map(sized, (1_000, 10_000, 100_000))),
    targets=(
        # In µs per task; what that is worth depends on the machine, hence also the
        # ratio to the plain form, which took 2.2 µs where 2.5 was asked for.
        Target("10000-tasks", CENSUS, at_most=2.5),
        Target("100000-tasks", CENSUS, at_most=2.5),
        Target("10000-tasks", CENSUS, (BY_HAND,), at_most=1.15),
        Target("100000-tasks", CENSUS, (BY_HAND,), at_most=1.15),
    ),
)
