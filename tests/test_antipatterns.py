"""The vices leak, the cures do not.

The tasks that a vice leaves behind end with the event loop of its test, the only
owner that they have; its threads are let go.
"""

import gc
import importlib
import inspect
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from safeconc._demo import _scenarios
from safeconc._demo._scenarios import CALL, LENT, SCENARIOS
from tests.together import backends

LEFT = {
    "forgotten_cancellation": 1,
    "abandoned_senders": 28,  # of 30: one has failed, one page is in the queue
    "unstopped_ticker": 1,
    "silent_producer": 1,
    "unbounded_recursion": 9,  # the pages of the last level
    "orphaned_siblings": 2,
}

BLOCKING = {
    "unjoined_thread": 1,
    "unstopped_timer": 1,
    "executor_per_call": 4,
    "eager_map": 1,
}

names = pytest.mark.parametrize("name", SCENARIOS)
variants = pytest.mark.parametrize("variant", ["leaky", "safe"])


@pytest.fixture(autouse=True)
def small_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have three links on a page, and two levels below the first."""
    monkeypatch.setattr(_scenarios, "LINKS", 3)
    monkeypatch.setattr(_scenarios, "DEPTH", 2)


def half(name: str, variant: str) -> Any:
    """Return the vice or the cure of a pair."""
    return getattr(importlib.import_module(f"safeconc.antipatterns.{name}"), variant)


@pytest.mark.parametrize("name", LEFT)
async def test_vice_leaves_tasks_when_its_caller_has_returned(name: str) -> None:
    """Each vice leaks the tasks that its docstring tells of."""
    scenario = SCENARIOS[name]
    before = scenario.census()

    await scenario.caller(half(name, "leaky"))
    await anyio.sleep(2 * CALL)
    gc.collect()

    assert scenario.census() - before == LEFT[name]


async def test_vice_leaves_a_thread_when_its_caller_has_returned() -> None:
    """The thread writes its next row for nobody, and goes on when it is let."""
    scenario = SCENARIOS["abandoned_thread"]

    await scenario.caller(half("abandoned_thread", "leaky"))
    while (left := scenario.census()) == 0:  # it is between two rows
        await anyio.lowlevel.checkpoint()
    scenario.let_go()
    while scenario.census() > 0:
        await anyio.lowlevel.checkpoint()

    assert left == 1


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in BLOCKING])
async def test_cure_leaves_nothing(name: str) -> None:
    """After the cure, under the same load, the caller is alone again."""
    scenario = SCENARIOS[name]
    before = scenario.census()

    await scenario.caller(half(name, "safe"))
    await anyio.sleep(2 * CALL)
    gc.collect()

    assert scenario.census() == before


class Left:
    """Counts what a scenario has left, whatever other tests leave and end meanwhile."""

    def __init__(self, name: str) -> None:
        self._scenario = SCENARIOS[name]
        readers = name == "eager_map"  # who is in there is counted, not its threads
        self._others = [] if readers else threading.enumerate()

    def __call__(self) -> int:
        """Count it; the wrong number may be told while something comes or goes."""
        names = [each.name for each in self._others if each.is_alive()]
        lent = [name for name in names if name.startswith(LENT)]
        return self._scenario.census() - (len(names) - len(lent))


@backends
@pytest.mark.parametrize("name", BLOCKING)
def test_vice_leaves_threads_when_its_caller_has_returned(
    name: str, backend: str, options: dict[str, Any]
) -> None:
    """Whether the caller has an event loop somewhere makes no difference."""
    caller, left = SCENARIOS[name].caller, Left(name)

    try:
        anyio.run(caller, half(name, "leaky"), backend=backend, backend_options=options)
        while left() != BLOCKING[name]:
            time.sleep(0)
    finally:
        SCENARIOS[name].let_go()
    while left():
        time.sleep(0)


@backends
@pytest.mark.parametrize("name", BLOCKING)
def test_cure_leaves_no_thread(
    name: str, backend: str, options: dict[str, Any]
) -> None:
    """They have been joined when the caller returns."""
    caller, left = SCENARIOS[name].caller, Left(name)

    anyio.run(caller, half(name, "safe"), backend=backend, backend_options=options)

    assert left() <= 0


@names
def test_cure_is_called_like_its_vice(name: str) -> None:
    """Whoever has the vice can put the cure in its place."""
    leaky, safe = half(name, "leaky"), half(name, "safe")

    assert inspect.iscoroutinefunction(leaky) is inspect.iscoroutinefunction(safe)
    assert inspect.signature(leaky) == inspect.signature(safe)


@names
def test_page_about_a_vice_is_complete(name: str) -> None:
    """A module tells how its vice shows, why, what to do, and which linter sees it."""
    page = inspect.getdoc(importlib.import_module(f"safeconc.antipatterns.{name}"))

    assert page is not None
    assert [part.partition(":")[0] for part in page.split("\n\n")[1:]] == [
        "Symptom",
        "Cause",
        "Cure",
        "Linters",
    ]


@variants
@pytest.mark.parametrize(
    "name", ["abandoned_senders", "silent_producer", "orphaned_siblings"]
)
async def test_first_error_is_raised_itself(name: str, variant: str) -> None:
    """What distinguishes vice from cure is not the error that the caller gets."""
    raised: list[BaseException] = []

    async def note(*args: Any) -> None:
        try:
            await half(name, variant)(*args)
        except BaseException as exc:
            raised.append(exc)
            raise

    await SCENARIOS[name].caller(note)

    assert [type(exc) for exc in raised] == [OSError]


# While all is well, a vice and its cure do the same


@variants
async def test_updates_are_forwarded_until_the_client_is_gone(variant: str) -> None:
    """A client gets the updates that there are."""
    received: list[int] = []
    closed = anyio.Event()

    async def updates() -> AsyncIterator[int]:
        yield 1
        yield 2
        closed.set()

    async def send(update: int) -> None:
        received.append(update)

    await half("forgotten_cancellation", variant)(updates(), send, closed.wait)

    assert received == [1, 2]


@variants
async def test_all_pages_are_returned(variant: str) -> None:
    """A batch gives a page for each address."""

    async def double(number: float) -> float:
        await anyio.sleep(number)
        return 2 * number

    pages = await half("abandoned_senders", variant)(double, [0, 0.01, 0.02])

    assert sorted(pages) == [0, 0.02, 0.04]


@variants
async def test_client_is_checked_while_it_is_there(variant: str) -> None:
    """The first check comes at once, the next each a period later."""
    checked = 0
    enough = anyio.Event()

    async def check() -> None:
        nonlocal checked
        await anyio.lowlevel.checkpoint()
        checked += 1
        if checked == 3:
            enough.set()

    await half("unstopped_ticker", variant)(check, enough.wait, 0.001)

    assert checked == 3


@variants
async def test_all_rows_are_stored(variant: str) -> None:
    """An upload is over when its rows are stored, and they are in order."""
    stored: list[int] = []

    async def rows() -> AsyncIterator[int]:
        for row in range(30):
            yield row

    async def store(row: int) -> None:
        await anyio.lowlevel.checkpoint()
        stored.append(row)

    await half("silent_producer", variant)(rows(), store)

    assert stored == list(range(30))


@variants
async def test_all_pages_are_read(variant: str) -> None:
    """A crawl comes to what is linked, and no deeper than asked."""
    seen: list[str] = []

    async def read(page: str) -> list[str]:
        await anyio.lowlevel.checkpoint()
        seen.append(page)
        return [page + "a", page + "b"]

    await half("unbounded_recursion", variant)(read, "", 2)
    await anyio.sleep(CALL)

    assert sorted(seen) == ["", "a", "aa", "ab", "b", "ba", "bb"]


@variants
async def test_all_answers_are_returned_in_order(variant: str) -> None:
    """The answers stand as the queries stood, not as they came."""
    run_all = half("orphaned_siblings", variant)

    async def slow() -> str:
        await anyio.sleep(CALL)
        return "slow"

    async def fast() -> str:
        await anyio.lowlevel.checkpoint()
        return "fast"

    assert await run_all(slow, fast) == ["slow", "fast"]
    assert await run_all() == []


@variants
async def test_all_rows_are_written(variant: str) -> None:
    """An export has all rows if its client stays."""
    written: list[int] = []

    await half("abandoned_thread", variant)(range(5), written.append)

    assert written == [0, 1, 2, 3, 4]


# Where there is more to tell


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    "variant, expected", [("leaky", [0, 13, 26, 39]), ("safe", [0, 10, 20, 30])]
)
async def test_only_the_cure_keeps_its_times(
    variant: str, expected: list[float]
) -> None:
    """The time of the checks adds up where each sleeps a period after the last."""
    times: list[float] = []
    enough = anyio.Event()

    async def check() -> None:
        times.append(anyio.current_time())
        if len(times) == len(expected):
            enough.set()
        await anyio.sleep(3)

    await half("unstopped_ticker", variant)(check, enough.wait, 10)

    assert times == expected


@variants
async def test_export_that_fails_tells_its_client(variant: str) -> None:
    """What a thread raises comes out of either."""

    def fail(row: int) -> None:
        raise OSError

    with pytest.raises(OSError):
        await half("abandoned_thread", variant)([1], fail)
