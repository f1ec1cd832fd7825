"""A dump of a service in trouble: what it takes to say what 100,000 tasks are doing.

The tasks stand at a thousand places and have names that nobody should have. Who is
measured looks at all of them and says what it has to say, as the debug page, a signal
and a scrape do. Ours is refused if it is longer than a megabyte.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._model import ASYNCIO, Benchmark, Contender, Run, Scenario, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    Waiting = Callable[[], Any]

PLACES = 1_000

LONGEST = 1_000_000
"""Bytes that none of ours may exceed."""

REPORT = "safeconc.leaks: grouped"
DETAILED = "safeconc.leaks: grouped, with whole stacks"
PAGE = "safeconc.leaks: the debug page"
JSON = "safeconc.leaks: as_json"
PPROF = "safeconc.leaks: as_pprof"
STACKS = "Task.print_stack() of each"


def place(number: int) -> Waiting:
    """Make a function that waits at a line of its own."""
    names: dict[str, Any] = {"sleep": asyncio.sleep}
    source = "\n" * number + f"async def wait_{number}():\n    await sleep(3600)"
    exec(source, names)  # noqa: S102 - a thousand functions are no code to read
    made: Waiting = names[f"wait_{number}"]
    return made


PLACE = [place(number) for number in range(PLACES)]


async def measure(dump: Callable[[], bytes], run: Run, *, limit: int | None) -> None:
    """Dump many tasks at many places."""
    tasks = [
        asyncio.create_task(
            PLACE[index % PLACES](), name=f"<b>{index}\n" + "x" * (index % 200)
        )
        for index in range(run.n)
    ]
    await asyncio.sleep(0)
    with run.watch:
        length = len(dump())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if limit is not None and length > limit:
        raise RuntimeError(f"the dump is {length:,} bytes long")


def report(**options: Any) -> bytes:
    """Say it in text."""
    from safeconc import leaks

    return leaks.report(leaks.snapshot(), **options).encode()


def page() -> bytes:
    """Say it in HTML."""
    from safeconc import leaks
    from safeconc.leaks._looks import Look
    from safeconc.leaks._page import page as as_page

    look = Look(leaks.snapshot(), 0.0, None)
    return as_page(look.rows(), look.ago, ()).encode()


def as_json() -> bytes:
    """Say it to a program."""
    from safeconc import leaks

    return leaks.as_json(leaks.snapshot()).encode()


def as_pprof() -> bytes:
    """Say it to pprof."""
    from safeconc import leaks

    return leaks.as_pprof(leaks.snapshot())


def stacks() -> bytes:
    """Have each task print its stack."""
    from io import StringIO

    text = StringIO()
    for task in asyncio.all_tasks():
        task.print_stack(file=text)
    return text.getvalue().encode()


FIELD = (
    *(
        Contender(name, partial(measure, dump, limit=LONGEST), ("safeconc",), ASYNCIO)
        for name, dump in (
            (REPORT, report),
            (DETAILED, partial(report, level=2)),
            (PAGE, page),
            (JSON, as_json),
            (PPROF, as_pprof),
        )
    ),
    Contender(STACKS, partial(measure, stacks, limit=None), (), ASYNCIO, share=0.01),
)


def sized(n: int) -> Scenario:
    """Dump *n* tasks."""
    return Scenario(
        f"{n}-tasks",
        f"dump {n:,} tasks at a thousand places",
        FIELD,
        REPORT,
        n=n,
        quick_n=n,
        backends=("asyncio",),
    )


BENCHMARK = Benchmark(
    "leak_dump",
    scenarios=tuple(map(sized, (10_000, 100_000))),
    # Absolute: 20 us for each of 100,000 are two seconds for all, the census included.
    targets=tuple(
        Target("100000-tasks", each, at_most=20)
        for each in (REPORT, DETAILED, PAGE, JSON, PPROF)
    ),
)
