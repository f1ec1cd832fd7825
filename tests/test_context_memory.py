"""Whom a Context holds, whom it counts, and whom it forgets."""

import contextvars
import dataclasses
import math
import weakref

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, ContextCancelled, DeadlineExceeded
from tests.together import NOTHING, collect, in_thread

# What is counted


def test_statistics_count_functions() -> None:
    """Until they have run or were stopped."""
    ctx = Context()
    stopped = ctx.after(lambda: None)
    ctx.after(lambda: None)
    both = ctx.statistics().registrations
    stopped.stop()
    one = ctx.statistics().registrations
    ctx.cancel()

    assert (both, one, ctx.statistics().registrations) == (2, 1, 0)


def test_statistics_count_children_that_wait_for_something() -> None:
    """A child that nobody waits on is not known to its parent."""
    parent = Context()
    idle, waiting = Context(parent), Context(parent)
    waiting.after(lambda: None)

    assert not idle.done
    assert parent.statistics() == dataclasses.replace(NOTHING, children=1)


@pytest.mark.parametrize("how", ["ended", "stopped"])
def test_statistics_forget_children_that_wait_for_nothing_any_more(how: str) -> None:
    """Live children that have registrations are counted, and no other."""
    parent = Context()
    child = Context(parent)
    registration = child.after(lambda: None)
    if how == "ended":
        child.cancel()
    else:
        registration.stop()

    assert parent.statistics() == NOTHING


def test_statistics_are_a_snapshot() -> None:
    """They do not change, by themselves or by hand."""
    ctx = Context()
    snapshot = ctx.statistics()
    ctx.after(lambda: None)

    assert snapshot == NOTHING
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.children = 1  # type: ignore[misc]


# Who is held


def test_forgotten_child_is_collected() -> None:
    """Nobody needs to cancel it, or to leave it."""
    parent = Context()

    def forget() -> list[weakref.ref[Context]]:
        children = [Context(parent, timeout=1e9) for _ in range(1000)]
        for child in children:
            Context(child).after(lambda: None).stop()
        return [weakref.ref(child) for child in children]

    forgotten = forget()
    collect(*forgotten)

    assert {ref() for ref in forgotten} == {None}
    assert parent.statistics().children == 0


def test_child_is_held_while_it_has_a_function() -> None:
    """It may be forgotten by all who know it; the function runs at the end."""
    parent = Context()
    seen: list[str] = []

    def forget() -> weakref.ref[Context]:
        child = Context(Context(parent))
        child.after(lambda: seen.append("ran"))
        return weakref.ref(child)

    forgotten = forget()
    collect()
    held = forgotten() is not None
    parent.cancel()
    collect(forgotten)

    assert held
    assert seen == ["ran"]
    assert forgotten() is None


def test_child_is_not_held_by_a_function_that_was_stopped() -> None:
    """Who stops the last one lets it go."""
    parent = Context()

    def forget() -> weakref.ref[Context]:
        child = Context(Context(parent))
        child.after(lambda: None).stop()
        return weakref.ref(child)

    forgotten = forget()
    collect(forgotten)

    assert forgotten() is None


def test_left_child_is_collected() -> None:
    """What is over is not kept by a parent that goes on."""
    with Context() as parent:
        with Context() as child:
            child.after(lambda: None)
        ref = weakref.ref(child)
        del child
        collect(ref)

        assert ref() is None
        assert parent.statistics().children == 0


# Whose block is held


async def test_open_block_is_counted_and_held() -> None:
    """The parent must reach it, so it knows it."""
    parent = Context()

    async with Context(parent) as ctx:
        during = (parent.statistics().children, ctx.statistics().waiters)

    assert during == (1, 1)
    assert ctx.statistics().waiters == 0


async def test_left_block_is_not_held() -> None:
    """A long-lived parent keeps nothing of the blocks that were under it."""
    parent = Context()
    async with Context(parent) as ctx:
        pass
    forgotten = weakref.ref(ctx)
    del ctx
    await checkpoint()
    collect(forgotten)

    assert forgotten() is None
    assert parent.statistics().children == 0


async def test_left_block_is_not_held_by_its_timer() -> None:
    """A cancelled timer, which asyncio keeps for a while, leads nowhere."""
    async with Context(timeout=1000) as ctx:
        pass
    forgotten = weakref.ref(ctx)
    del ctx
    collect(forgotten)

    assert forgotten() is None


class _Value:
    """Something that a contextvar holds."""


_variable = contextvars.ContextVar[_Value]("value")


@pytest.mark.parametrize("kind", ["task", "thread"])
async def test_left_block_holds_no_contextvars(kind: str) -> None:
    """Who keeps a context for its error keeps nothing else of the request."""
    ctx = Context()
    forgotten: list[weakref.ref[_Value]] = []

    def begin() -> None:
        value = _Value()
        _variable.set(value)
        forgotten.append(weakref.ref(value))

    def thread() -> None:
        begin()
        with ctx:
            pass

    async def task() -> None:
        begin()
        async with ctx:
            pass

    if kind == "thread":
        in_thread(thread)
    else:
        async with anyio.create_task_group() as tg:
            tg.start_soon(task)
    await checkpoint()
    collect(*forgotten)

    assert ctx.done
    assert [ref() for ref in forgotten] == [None]


async def test_block_that_was_cut_short_is_not_held() -> None:
    """Neither by its parent nor by what it raised and was handled."""
    parent = Context()
    ctx = Context(parent)
    with pytest.raises(ContextCancelled):
        async with ctx:
            ctx.cancel()
            await anyio.sleep_forever()
    forgotten = weakref.ref(ctx)
    del ctx
    await checkpoint()
    collect(forgotten)

    assert forgotten() is None
    assert parent.statistics().children == 0


async def test_infinite_deadline_is_none() -> None:
    """A bound block without a deadline waits for ever."""
    async with Context(timeout=math.inf) as ctx:
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert not isinstance(ctx.err, DeadlineExceeded)
