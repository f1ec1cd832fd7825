"""Where a task waits: whole chains, whatever they are made of."""

import sys
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest

from safeconc import ErrGroup, fan_out
from safeconc.leaks._model import Stack
from safeconc.leaks._stacks import DEEPEST, Stacks, trace


async def leaf() -> None:
    """Wait for ever, at the end of every chain."""
    await anyio.sleep_forever()


async def numbers() -> AsyncIterator[int]:
    """Wait before the first item."""
    await leaf()
    yield 1


@types.coroutine
def by_generator() -> Generator[Any, Any, None]:
    """Be an old kind of coroutine."""
    yield from leaf().__await__()


class Waits:
    """An object that can be awaited."""

    def __await__(self) -> Generator[Any, Any, None]:
        return leaf().__await__()


async def by_call() -> None:
    """Await a coroutine."""
    await leaf()


async def by_loop() -> None:
    """Iterate."""
    async for _ in numbers():
        pass


async def by_anext() -> None:
    """Ask for one item."""
    await anext(numbers(), None)


async def by_object() -> None:
    """Await an object."""
    await Waits()


async def by_old_coroutine() -> None:
    """Await a generator."""
    await by_generator()


async def by_fan_out() -> None:
    """Await a call that a worker makes."""

    async def fetch(_: int) -> None:
        await leaf()

    await fan_out(fetch, [1], limit=1)


def functions(stack: Stack) -> list[str]:
    """Name the functions of a stack, without those of the event loops."""
    known = {name for name, value in globals().items() if callable(value)}
    names = [frame.code.co_qualname for frame in reversed(stack)]
    return [name for name in names if name in known]


async def stacks_beside(fn: Callable[[], Coroutine[Any, Any, None]]) -> list[list[str]]:
    """Run *fn* until it waits; name the calls of each of the tasks it then has."""
    found: list[list[str]] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fn)
        await anyio.wait_all_tasks_blocked()
        found += [
            functions(Stacks().of(task.coro))
            for task in anyio.get_running_tasks()
            if task.id != anyio.get_current_task().id
        ]
        tasks.cancel_scope.cancel()
    return found


@pytest.mark.parametrize(
    "fn, chain",
    [
        (leaf, []),
        (by_call, ["by_call"]),
        (by_loop, ["by_loop", "numbers"]),
        (by_anext, ["by_anext", "numbers"]),
        (by_object, ["by_object"]),
        (by_old_coroutine, ["by_old_coroutine", "by_generator"]),
    ],
)
async def test_stack_leads_to_the_innermost_await(
    fn: Callable[[], Coroutine[Any, Any, None]], chain: list[str]
) -> None:
    """Through coroutines, generators of all kinds, and objects with an await."""
    assert [*chain, "leaf"] in await stacks_beside(fn)


async def test_stack_leads_through_a_worker() -> None:
    """What a crew runs is seen at its innermost line, too."""
    stacks = await stacks_beside(by_fan_out)

    assert ["leaf"] in stacks
    assert ["by_fan_out", "fan_out"] in stacks


async def test_driver_is_left_out() -> None:
    """The machinery that steps a job is not the reader's business."""
    async with ErrGroup(limit=1, reuse=True) as group:
        await group.go(leaf)
        await anyio.wait_all_tasks_blocked()
        stacks = [Stacks().of(task.coro) for task in anyio.get_running_tasks()]
        group.cancel()

    names = {frame.code.co_qualname for stack in stacks for frame in stack}
    assert "leaf" in names
    assert "JobDriver.drive" not in names


async def test_like_chains_share_a_stack() -> None:
    """Of a thousand tasks at one place there is one stack."""
    stacks = Stacks()
    found: list[Stack] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(by_call)
        tasks.start_soon(by_call)
        tasks.start_soon(by_object)
        await anyio.wait_all_tasks_blocked()
        found += [stacks.of(task.coro) for task in anyio.get_running_tasks()]
        tasks.cancel_scope.cancel()

    mine = [each for each in found if "leaf" in functions(each)]
    assert len(mine) == 3
    assert len({id(stack) for stack in mine}) == 2


async def _recurse(depth: int) -> None:
    if depth:
        await _recurse(depth - 1)
    await leaf()


async def test_deep_stack_keeps_its_innermost_calls() -> None:
    """Recursion without end does not fill the report."""
    stacks: list[Stack] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_recurse, 2 * DEEPEST)
        await anyio.wait_all_tasks_blocked()
        stacks += [Stacks().of(task.coro) for task in anyio.get_running_tasks()]
        tasks.cancel_scope.cancel()

    longest = max(stacks, key=len)
    assert len(longest) == DEEPEST
    assert "leaf" in {frame.code.co_qualname for frame in longest[:10]}


def test_nothing_has_no_stack() -> None:
    """What is not awaited by Python code ends the walk."""
    assert Stacks().of(None) == ()
    assert Stacks().of(object()) == ()


def test_finished_coroutine_has_no_stack() -> None:
    """Its frame is gone."""
    coroutine = leaf()
    coroutine.close()

    assert Stacks().of(coroutine) == ()


def test_stack_of_a_thread_is_that_of_its_frames() -> None:
    """Innermost first, as with tasks."""
    stack = Stacks().of_thread(sys._getframe())

    assert stack[0].code is sys._getframe().f_code
    assert stack[0].line < sys._getframe().f_lineno


def test_origin_names_the_line_that_made_it() -> None:
    """Given what the interpreter keeps of a coroutine."""
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(2)
    try:
        coroutine: Any = leaf()
        line = sys._getframe().f_lineno - 1
    finally:
        sys.set_coroutine_origin_tracking_depth(before)
    stacks = Stacks()
    origin = stacks.of_origin(coroutine.cr_origin)
    coroutine.close()

    here = sys._getframe().f_code
    assert len(origin) == 2
    assert origin[0].line == line
    assert origin[0].code.co_filename == here.co_filename
    assert origin[0].code.co_qualname == origin[0].code.co_name == here.co_name
    assert stacks.of_origin(coroutine.cr_origin) is origin
    assert stacks.of_origin(None) == ()


async def test_module_may_be_imported_by_a_task() -> None:
    """To learn the types of what the interpreter hides leaves nothing on the loop."""
    from safeconc.leaks import _stacks

    hooks = sys.get_asyncgen_hooks()
    types_now = _stacks._wrappers()

    assert types_now <= set(_stacks._STEPS)
    assert sys.get_asyncgen_hooks() == hooks


def test_place_of_what_has_just_ended_is_that_of_who_awaited_it() -> None:
    """In another thread a coroutine may end while it is looked at."""

    async def end() -> None: ...

    ended = end()
    ended.close()

    assert trace(ended, (1, 2)) == (1, 2)
