"""The vices leak, the cures do not.

What a vice leaves behind ends with the event loop of its test, the only owner that
it has.
"""

import gc
import importlib
import inspect
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from safeconc._demo._scenarios import CALL, SCENARIOS
from safeconc.antipatterns import (
    abandoned_senders,
    forgotten_cancellation,
    orphaned_siblings,
)

LEFT = {
    "forgotten_cancellation": 1,
    "abandoned_senders": 28,  # of 30: one has failed, one page is in the queue
    "orphaned_siblings": 2,
}

names = pytest.mark.parametrize("name", SCENARIOS)


def vice(name: str, variant: str) -> Any:
    """Return one half of a pair."""
    return getattr(importlib.import_module(f"safeconc.antipatterns.{name}"), variant)


async def left_by(name: str, variant: str) -> int:
    """Return how many tasks are alive when a caller and all that can end are gone."""
    before = len(anyio.get_running_tasks())
    await SCENARIOS[name].caller(vice(name, variant))
    await anyio.sleep(2 * CALL)
    gc.collect()
    return len(anyio.get_running_tasks()) - before


@names
async def test_vice_leaves_tasks_when_its_caller_has_returned(name: str) -> None:
    """Each vice leaks the tasks that its docstring tells of."""
    assert await left_by(name, "leaky") == LEFT[name]


@names
async def test_cure_leaves_nothing(name: str) -> None:
    """After the cure, under the same load, the caller is alone again."""
    assert await left_by(name, "safe") == 0


@names
def test_cure_is_called_like_its_vice(name: str) -> None:
    """Whoever has the vice can put the cure in its place."""
    leaky, safe = vice(name, "leaky"), vice(name, "safe")

    assert inspect.iscoroutinefunction(leaky)
    assert inspect.iscoroutinefunction(safe)
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


@pytest.mark.parametrize(
    "serve", [forgotten_cancellation.leaky, forgotten_cancellation.safe]
)
async def test_updates_are_forwarded_until_the_client_is_gone(serve: Any) -> None:
    """Vice and cure of the forgotten cancellation do the same while all is well."""
    received: list[int] = []
    closed = anyio.Event()

    async def updates() -> AsyncIterator[int]:
        yield 1
        yield 2
        closed.set()

    async def send(update: int) -> None:
        received.append(update)

    await serve(updates(), send, closed.wait)

    assert received == [1, 2]


async def double(number: float) -> float:
    """Be a page whose address tells how slow it is."""
    await anyio.sleep(number)
    return 2 * number


@pytest.mark.parametrize("fetch_all", [abandoned_senders.leaky, abandoned_senders.safe])
async def test_all_pages_are_returned(fetch_all: Any) -> None:
    """Vice and cure of the abandoned senders do the same while all is well."""
    assert sorted(await fetch_all(double, [0, 0.01, 0.02])) == [0, 0.02, 0.04]


@pytest.mark.parametrize("run_all", [orphaned_siblings.leaky, orphaned_siblings.safe])
async def test_all_answers_are_returned_in_order(run_all: Any) -> None:
    """Vice and cure of the orphaned siblings do the same while all is well."""

    async def slow() -> str:
        await anyio.sleep(CALL)
        return "slow"

    async def fast() -> str:
        await anyio.lowlevel.checkpoint()
        return "fast"

    assert await run_all(slow, fast) == ["slow", "fast"]
    assert await run_all() == []


@pytest.mark.parametrize("variant", ["leaky", "safe"])
@pytest.mark.parametrize("name", ["abandoned_senders", "orphaned_siblings"])
async def test_first_error_is_raised_itself(name: str, variant: str) -> None:
    """What distinguishes vice from cure is not the error that the caller gets."""
    raised: list[BaseException] = []

    async def note(*args: Any) -> None:
        try:
            await vice(name, variant)(*args)
        except BaseException as exc:
            raised.append(exc)
            raise

    await SCENARIOS[name].caller(note)

    assert [type(exc) for exc in raised] == [OSError]
