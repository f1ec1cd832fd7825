"""A check that finds nothing: what every test pays, leak or no leak.

The block starts ten tasks and waits for them. What is compared is the time on the
clock: whoever sleeps in every test pays with that.
"""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    redirect_stdout,
)
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks._model import (
    ASYNCIO,
    LOOPS,
    THREAD,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    Block = Callable[[], AbstractAsyncContextManager[object]]

CHECK = "safeconc.leaks.check"
BY_HAND = "all_tasks() before and after"
HOME_ASSISTANT = "as Home Assistant's verify_cleanup"
PYLEAK = "pyleak.no_task_leaks"
PYLEAK_BOTH = "pyleak.no_task_leaks and no_thread_leaks"
PLUGIN = "pytest --leaks=error"
PYLEAK_PLUGIN = "pyleak's mark no_leaks"

CHECKS = 20
"""How many times a contender checks."""

LIVE = 10
"""Tasks that live in each block."""

TURNS = 3
"""How many times a suite runs with a check, and without."""


async def measure(make: Block, run: Run) -> None:
    """Check a block many times over, with many tasks alive all the while.

    The figure is what the check adds: the block is timed from inside, too.
    """
    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(run.n):
            tasks.start_soon(over.wait)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        with run.watch:
            for _ in range(CHECKS):
                run.watch.latencies.append(await cost(make))
        over.set()


async def cost(make: Block) -> float:
    """Return how long a check takes, without the block in it."""
    start = time.perf_counter()
    async with make():
        begun = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(LIVE):
                tasks.start_soon(anyio.lowlevel.checkpoint)
        ended = time.perf_counter()
    return (begun - start) + (time.perf_counter() - ended)


def ours() -> AbstractAsyncContextManager[object]:
    """Check with ours."""
    from safeconc.leaks import check

    return check()


@asynccontextmanager
async def by_hand() -> AsyncGenerator[None]:
    """Look at the tasks, and at nothing else."""
    before = asyncio.all_tasks()
    yield
    if asyncio.all_tasks() - before:
        raise AssertionError


@asynccontextmanager
async def home_assistant() -> AsyncGenerator[None]:
    """Look at tasks, timers and threads, as that project's fixture does."""
    loop: Any = asyncio.get_running_loop()
    tasks, threads = asyncio.all_tasks(), frozenset(threading.enumerate())
    yield
    if asyncio.all_tasks() - tasks or frozenset(threading.enumerate()) - threads:
        raise AssertionError
    for handle in loop._scheduled:
        if not handle.cancelled():
            raise AssertionError


@asynccontextmanager
async def pyleak(*checks: str) -> AsyncGenerator[None]:
    """Check with pyleak."""
    module: Any = import_module("pyleak")
    if len(checks) == 1:
        async with getattr(module, checks[0])(action="raise"):
            yield
        return
    async with getattr(module, checks[0])(action="raise"):
        with getattr(module, checks[1])(action="raise"):
            yield


def suite(run: Run, marks: str, options: Sequence[str] = ()) -> None:
    """Run a suite of tests with a check around each, and without, by turns.

    The figure is the difference per test, between the fastest run of either kind.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = partial(spent, Path(folder), SUITE.format(mark="", n=run.n))
        checked = partial(
            spent, Path(folder), SUITE.format(mark=marks, n=run.n), options
        )
        checked()  # imports what it needs
        with run.watch:
            pairs = [(plain(), checked()) for _ in range(TURNS)]
        without, with_check = map(min, zip(*pairs, strict=True))
        run.watch.latencies.append((with_check - without) / run.n)


def spent(folder: Path, source: str, options: Sequence[str] = ()) -> float:
    """Run a suite; return how long it took, in seconds."""
    pytest: Any = import_module("pytest")
    test = folder / "test_clean.py"
    test.write_text(source)
    gc.collect()
    start = time.perf_counter()
    where = (str(folder), f"--rootdir={folder}")
    with redirect_stdout(io.StringIO()) as out:
        failed = pytest.main(["-qq", "-Wignore", *where, *PLUGINS, *options])
    if failed:
        raise RuntimeError(out.getvalue())
    seconds = time.perf_counter() - start
    del sys.modules[test.stem]
    return seconds


PLUGINS = [f"-pno:{each}" for each in ("cacheprovider", "randomly", "asyncio", "trio")]

SUITE = """
import anyio, anyio.lowlevel, pytest

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

{mark}
@pytest.mark.anyio
@pytest.mark.parametrize("number", range({n}))
async def test_clean(number):
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(anyio.lowlevel.checkpoint)
"""

SUITES = (
    Contender(
        PLUGIN,
        partial(suite, marks="", options=("--leaks=error",)),
        ("safeconc", "pytest"),
        THREAD,
    ),
    Contender(
        PYLEAK_PLUGIN,
        partial(suite, marks='@pytest.mark.no_leaks("tasks")'),
        ("pyleak", "pytest"),
        THREAD,
        share=0.02,
    ),
)

FIELD = (
    Contender(CHECK, partial(measure, ours), ("safeconc",), LOOPS),
    Contender(BY_HAND, partial(measure, by_hand), (), ASYNCIO),
    Contender(HOME_ASSISTANT, partial(measure, home_assistant), (), ASYNCIO),
    Contender(
        PYLEAK, partial(measure, partial(pyleak, "no_task_leaks")), ("pyleak",), ASYNCIO
    ),
    Contender(
        PYLEAK_BOTH,
        partial(measure, partial(pyleak, "no_task_leaks", "no_thread_leaks")),
        ("pyleak",),
        ASYNCIO,
    ),
)


def before(n: int, name: str) -> Scenario:
    """Check where *n* tasks live that are none of the block's business."""
    return Scenario(
        name,
        f"check a block of {LIVE} tasks, with {n:,} others alive",
        FIELD,
        BY_HAND,
        n=n,
        quick_n=n,
        metric=Metric.WALL,
        backends=("asyncio", "uvloop", "trio"),
    )


BENCHMARK = Benchmark(
    "leak_check_clean",
    scenarios=(
        before(0, "alone"),
        before(10_000, "among-10000"),
        Scenario(
            "suite",
            f"check each test of a suite, {LIVE} tasks in each",
            SUITES,
            PYLEAK_PLUGIN,
            n=500,
            quick_n=100,
            metric=Metric.WALL,
            backends=("thread",),
        ),
    ),
    targets=(
        # Absolute, in microseconds: what a test suite can bear, times its tests.
        Target("alone", CHECK, at_most=200, metric=Metric.WALL),
        Target("alone", CHECK, at_most=200, metric=Metric.WALL, backend="trio"),
        Target("among-10000", CHECK, at_most=10_000, metric=Metric.WALL),
        Target("alone", CHECK, (PYLEAK,), at_most=0.1, metric=Metric.WALL),
        Target("suite", PLUGIN, at_most=200, metric=Metric.WALL, backend="thread"),
    ),
)
