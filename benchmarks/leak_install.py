"""Tasks that remember who made them: what it costs to spawn.

A task is made, awaits once, and is awaited. It is made at the bottom of some calls,
as in a program: whoever walks all of them pays for each.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from benchmarks._model import (
    ASYNCIO,
    Benchmark,
    Contender,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    Recorder = Callable[[], AbstractContextManager[object]]

BATCH = 100
"""Tasks that are alive at the same time."""

BARE = "nothing"
ONE = "safeconc.leaks.install(frames=1)"
FOUR = "safeconc.leaks.install()"
EIGHT = "safeconc.leaks.install(frames=8)"
DEPTH_1 = "coroutine origin tracking, depth 1"
FACTORY = "a task factory that keeps 1 raw frame"
FACTORY_8 = "a task factory that keeps 8 raw frames"
AIOMONITOR = "a task factory as aiomonitor's"
DEBUG = "asyncio's debug mode"


async def measure(recorder: Recorder, depth: int, run: Run) -> None:
    """Make tasks at the bottom of so many calls, while they are noted."""
    with recorder(), run.watch:
        for _ in range(0, run.n, BATCH):
            tasks = at_depth(depth)
            for task in tasks:
                await task


def at_depth(depth: int) -> list[asyncio.Task[None]]:
    """Go down, and spawn there."""
    if depth:
        return at_depth(depth - 1)
    return [asyncio.create_task(anyio.lowlevel.checkpoint()) for _ in range(BATCH)]


def ours(frames: int | None = None) -> AbstractContextManager[object]:
    """Have ours note who makes a task."""
    from safeconc.leaks import install

    return install() if frames is None else install(frames=frames)


@contextmanager
def tracking() -> Generator[None]:
    """Have the interpreter note where a coroutine is made."""
    sys.set_coroutine_origin_tracking_depth(1)
    try:
        yield
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


@contextmanager
def factory(note: Callable[[], object]) -> Generator[None]:
    """Have a task factory note it."""
    noted: dict[asyncio.Task[Any], object] = {}

    def make(
        loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        noted[task] = note()
        return task

    loop = asyncio.get_running_loop()
    loop.set_task_factory(make)  # pyright: ignore[reportArgumentType] - as asyncio documents it
    try:
        yield
    finally:
        loop.set_task_factory(None)


def raw(frames: int) -> list[object]:
    """Walk up some frames."""
    frame = sys._getframe(4)
    kept: list[object] = []
    for _ in range(frames):
        kept.append((frame.f_code, frame.f_lasti))
        if frame.f_back is None:
            break
        frame = frame.f_back
    return kept


@contextmanager
def debug() -> Generator[None]:
    """Have asyncio itself note it."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        yield
    finally:
        loop.set_debug(False)


def field(depth: int) -> tuple[Contender, ...]:
    """Return everybody who notes who made a task."""
    recorders: list[tuple[str, Recorder, float]] = [
        (BARE, nullcontext, 1),
        (ONE, partial(ours, 1), 1),
        (FOUR, ours, 1),
        (EIGHT, partial(ours, 8), 1),
        (DEPTH_1, tracking, 1),
        (FACTORY, partial(factory, partial(raw, 1)), 1),
        (FACTORY_8, partial(factory, partial(raw, 8)), 1),
        (AIOMONITOR, partial(factory, traceback.extract_stack), 0.05),
        (DEBUG, debug, 0.05),
    ]
    return tuple(
        Contender(
            name,
            partial(measure, recorder, depth),
            ("safeconc",) if name in {ONE, FOUR, EIGHT} else (),
            ASYNCIO,
            share,
        )
        for name, recorder, share in recorders
    )


def at(depth: int) -> Scenario:
    """Spawn beneath *depth* calls."""
    return Scenario(
        f"depth-{depth}",
        f"make a task beneath {depth} calls, and await it",
        field(depth),
        BARE,
        n=20_000,
        quick_n=10_000,
        backends=("asyncio", "uvloop"),
    )


BENCHMARK = Benchmark(
    "leak_install",
    scenarios=(at(5), at(40)),
    targets=(
        Target("depth-5", ONE, (BARE,), at_most=1.15),
        Target("depth-5", EIGHT, (BARE,), at_most=1.6),
        Target("depth-40", ONE, (BARE,), at_most=1.15),
        Target("depth-40", EIGHT, (BARE,), at_most=1.6),
    ),
)
