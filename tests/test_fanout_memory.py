"""What is over is gone: results, items and closures are not kept alive."""

import functools
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import FanOut, fan_out


class _Thing:
    """Something that can be referred to weakly."""


async def _make(item: Any) -> _Thing:
    await checkpoint()
    return _Thing()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Leave only reference counts, so that a cycle shows."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _is_gone(ref: Callable[[], object]) -> bool:
    """Tell whether the object is dead, with the collector's help."""
    for _ in range(3):  # PyPy needs more than one
        gc.collect()
    return ref() is None


async def test_fan_out_keeps_no_result() -> None:
    """When the caller drops the list, its results are gone."""
    results = await fan_out(_make, range(5), limit=2)
    ref = weakref.ref(results[0])
    del results

    assert _is_gone(ref)


async def test_fan_out_keeps_no_item() -> None:
    """The iterable and its items are not kept by a fan-out that is over."""

    async def fn(item: _Thing) -> None:
        await checkpoint()

    items = [_Thing(), _Thing()]
    ref = weakref.ref(items[0])
    await fan_out(fn, items, limit=1)
    del items

    assert _is_gone(ref)


async def test_fan_out_keeps_no_function() -> None:
    """Nor its function, with what is bound to it."""

    async def fn(thing: _Thing, item: int) -> None:
        await checkpoint()

    bound = functools.partial(fn, _Thing())
    ref = weakref.ref(bound.args[0])
    await fan_out(bound, [1], limit=1)
    del bound

    assert _is_gone(ref)


async def test_a_stream_keeps_nothing_of_what_was_consumed() -> None:
    """A result is gone when the consumer drops it, though the block goes on."""
    async with FanOut(_make, range(20), limit=1, buffer=0) as results:
        ref = weakref.ref(await anext(results))
        for _ in range(3):
            await anext(results)
        await anyio.wait_all_tasks_blocked()

        assert _is_gone(ref)


async def test_a_stream_that_is_over_keeps_no_result() -> None:
    """Also if the object itself is kept, and results were left behind."""
    made: list[weakref.ref[_Thing]] = []

    async def fn(item: int) -> _Thing:
        thing = _Thing()
        made.append(weakref.ref(thing))
        return thing

    async with FanOut(fn, range(10), limit=3) as results:
        await anyio.wait_all_tasks_blocked()

    gc.collect()
    assert results.statistics().started == len(made)
    assert [ref() for ref in made] == [None] * len(made)


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="others do not count references"
)
async def test_results_go_without_the_collector(no_collector: None) -> None:
    """A program that fans out in a loop does not wait for the collector."""
    results = await fan_out(_make, range(5), limit=2)
    ref = weakref.ref(results[0])
    del results

    assert ref() is None


@pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="PyPy promises of no object that it is collected by now",
)
async def test_an_error_keeps_no_result() -> None:
    """Once the error is dropped, so is what its traceback held."""
    made: list[weakref.ref[_Thing]] = []

    async def fn(item: int) -> _Thing:
        thing = _Thing()
        made.append(weakref.ref(thing))
        if item == 3:
            raise ValueError
        return thing

    with pytest.raises(ValueError):
        await fan_out(fn, range(10), limit=1)
    await checkpoint()  # the loop forgets a task one turn after its end

    assert all(_is_gone(ref) for ref in made)
