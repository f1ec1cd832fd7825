"""Each scenario, cancelled at each of its suspensions, leaves nothing behind."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, ErrGroup, FanOut, fan_out
from tests.harness import (
    ATTACKS,
    NATIVE_ATTACKS,
    SCENARIOS,
    UNIT,
    Attack,
    Planned,
    Stage,
    cancel_everywhere,
    on_asyncio,
    scenario,
)

REUSE = (False, True)


def equal(seen: object, expected: object) -> None:
    """Assert it, where only an expression can stand."""
    assert seen == expected


async def steps(stage: Stage, item: int, count: int = 1) -> int:
    """Be a job that waits for nothing in particular."""
    with stage.job(item):
        for _ in range(count):
            await checkpoint()
    return item


async def nap(stage: Stage, item: int, units: int = 1) -> int:
    """Be a job that waits for a timer."""
    with stage.job(item):
        await anyio.sleep(units * UNIT)
    return item


async def tidy(stage: Stage, item: int) -> None:
    """Be a job that never ends by itself, and takes its time when it is stopped."""
    with stage.job(item):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()


async def fail(stage: Stage, item: int) -> None:
    """Be a job that fails."""
    with stage.job(item):
        await checkpoint()
        raise Planned


# Context


@scenario()
async def context_with_a_deadline(stage: Stage) -> None:
    """Call a function once, whatever ends the context."""
    rang: list[int] = []
    async with Context(timeout=5 * UNIT) as outer:
        stage.owns(outer).after(partial(rang.append, 1))
        stage.afterwards(partial(equal, rang, [1]))
        async with Context() as inner:
            await anyio.sleep(UNIT)
        assert inner.done
        await anyio.sleep(UNIT)


@scenario()
async def context_that_ends_waits(stage: Stage) -> None:
    """Two waits for the same end, one of which may be called again."""
    context = stage.owns(Context())
    stage.afterwards(lambda: equal(context.statistics().waiters, 0))

    async def end() -> None:
        await anyio.sleep(UNIT)
        context.cancel()

    async with ErrGroup(limit=None) as group:
        group.go_nowait(context.wait_cancelled)
        group.go_nowait(end)
        await stage.attempt(context.wait_cancelled)


# ErrGroup


@scenario(reuse=REUSE)
async def group_with_a_limit(stage: Stage, *, reuse: bool) -> None:
    """Children that wait in line for their slots, and the block for them."""
    async with ErrGroup(limit=2, reuse=reuse) as group:
        stage.owns(group)
        for item in range(5):
            await stage.attempt(group.go, steps, stage, item, item % 3)

    if stage.whole:
        assert sorted(stage.ended) == [0, 1, 2, 3, 4]


@scenario(reuse=REUSE)
async def group_that_sleeps(stage: Stage, *, reuse: bool) -> None:
    """Slots that come free when timers ring."""
    async with ErrGroup(limit=2, reuse=reuse) as group:
        stage.owns(group)
        for item in range(4):
            await stage.attempt(group.go, nap, stage, item)

    if stage.whole:
        assert sorted(stage.ended) == [0, 1, 2, 3]


@scenario(reuse=REUSE)
async def group_whose_children_are_awaited(stage: Stage, *, reuse: bool) -> None:
    """Results that are waited for, each by two."""
    results: list[int] = []
    async with ErrGroup(limit=None, reuse=reuse) as group:
        stage.owns(group)
        for item in range(3):
            task = group.go_nowait(steps, stage, item, item)
            group.go_nowait(task._wait)
            results.append(await stage.attempt(task._wait))

    if stage.whole:
        assert results == [0, 1, 2]


@scenario(reuse=REUSE)
async def group_with_services(stage: Stage, *, reuse: bool) -> None:
    """Services that are stopped when the children have ended."""
    async with ErrGroup(limit=1, reuse=reuse) as group:
        stage.owns(group)
        await stage.attempt(group.go_background, tidy, stage, 0)
        await stage.attempt(group.go, steps, stage, 1)
        await stage.attempt(group.go_background, steps, stage, 2)

    if stage.whole:
        assert sorted(stage.ended) == [0, 1, 2]


@scenario(reuse=REUSE)
async def group_whose_children_start_children(stage: Stage, *, reuse: bool) -> None:
    """Members that wait in line for slots of their own group."""

    async def accept(group: ErrGroup, first: int) -> None:
        with stage.job(first):
            for item in (first + 1, first + 2):
                await group.go(steps, stage, item)

    async with ErrGroup(limit=3, reuse=reuse) as group:
        stage.owns(group)
        await stage.attempt(group.go, accept, group, 10)
        await stage.attempt(group.go, accept, group, 20)

    if stage.whole:
        assert sorted(stage.ended) == [10, 11, 12, 20, 21, 22]


@scenario(reuse=REUSE)
async def group_in_a_group(stage: Stage, *, reuse: bool) -> None:
    """Have a child with a block of its own, from which one joins the outer line."""

    async def nest(outer: ErrGroup) -> None:
        with stage.job("nest"):
            async with ErrGroup(limit=1, reuse=reuse) as inner:
                stage.owns(inner)
                await inner.go(steps, stage, 1)
                await outer.go(steps, stage, 2)
                await inner.go(steps, stage, 3)

    async with ErrGroup(limit=2, reuse=reuse) as outer:
        stage.owns(outer)
        await stage.attempt(outer.go, nest, outer)
        await stage.attempt(outer.go, steps, stage, 4)

    if stage.whole:
        assert len(stage.ended) == 5


@scenario(reuse=REUSE)
async def group_with_a_failure(stage: Stage, *, reuse: bool) -> None:
    """Fail while siblings, who tidy up, a line, and a service are there."""
    async with ErrGroup(limit=2, reuse=reuse) as group:
        stage.owns(group)
        await stage.attempt(group.go_background, tidy, stage, 0)
        await stage.attempt(group.go, tidy, stage, 1)
        await stage.attempt(group.go, fail, stage, 2)
        await stage.attempt(group.go, steps, stage, 3)


@scenario(reuse=REUSE)
async def group_whose_body_fails(stage: Stage, *, reuse: bool) -> None:
    """Fail in the body, while children and a service are at work."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        stage.owns(group)
        await stage.attempt(group.go_background, tidy, stage, 0)
        await stage.attempt(group.go, tidy, stage, 1)
        await stage.attempt(group.go, steps, stage, 2)
        await checkpoint()
        raise Planned


@scenario(reuse=REUSE)
async def group_whose_children_are_cancelled(stage: Stage, *, reuse: bool) -> None:
    """Children that are stopped one by one, and others after them."""
    async with ErrGroup(limit=2, reuse=reuse) as group:
        stage.owns(group)
        for item in range(2):
            task = await stage.attempt(group.go, tidy, stage, item)
            await checkpoint()
            task.cancel()
            await stage.attempt(group.go, steps, stage, item + 2)

    if stage.whole:  # the others may not even have begun
        assert set(stage.ended) >= {2, 3}


@scenario(reuse=REUSE)
async def group_that_is_idle_in_between(stage: Stage, *, reuse: bool) -> None:
    """Workers that park and are called again."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        stage.owns(group)
        for item in range(3):
            await stage.attempt(group.go, steps, stage, item)
            await anyio.sleep(UNIT)

    if stage.whole:
        assert sorted(stage.ended) == [0, 1, 2]


# fan_out and FanOut


def plain_items(stage: Stage, count: int) -> Iterator[int]:
    """Give items, and note that the end was reached."""
    with stage.job("source"):
        yield from range(count)


async def async_items(stage: Stage, count: int) -> AsyncIterator[int]:
    """Give items by one task only, which a scope across the yields demands."""
    with stage.job("source"), anyio.CancelScope():
        try:
            for item in range(count):
                await checkpoint()
                yield item
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()


SOURCES = (plain_items, async_items)
Items = Callable[[Stage, int], Iterator[int] | AsyncIterator[int]]


@scenario(source=SOURCES)
async def collected(stage: Stage, *, source: Items) -> None:
    """All results at once."""
    results = await fan_out(partial(steps, stage), source(stage, 5), limit=2)

    assert results == [0, 1, 2, 3, 4]


@scenario(source=SOURCES)
async def collected_at_a_rate(stage: Stage, *, source: Items) -> None:
    """Items that wait for their time."""
    results = await fan_out(
        partial(steps, stage), source(stage, 3), limit=2, rate=1 / UNIT
    )

    assert results == [0, 1, 2]


@scenario(source=SOURCES)
async def collected_until_a_failure(stage: Stage, *, source: Items) -> None:
    """Fail in one call, while another one is at work."""

    async def call(item: int) -> None:
        await (fail if item == 2 else nap)(stage, item)

    await fan_out(call, source(stage, 5), limit=2)


@scenario(source=SOURCES)
async def collected_within_a_shared_limit(stage: Stage, *, source: Items) -> None:
    """Tokens that two share."""
    limiter = anyio.CapacityLimiter(2)
    stage.afterwards(lambda: equal(limiter.borrowed_tokens, 0))

    async def run(first: int) -> None:
        async def call(item: int) -> int:
            return await steps(stage, first + item)

        items = (item for item in range(3)) if first else source(stage, 3)
        await fan_out(call, items, limit=limiter)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        group.go_nowait(run, 0)
        group.go_nowait(run, 10)

    if stage.whole:
        assert len(stage.ended) == 7


@scenario(source=SOURCES, ordered=(True, False), buffer=(0, None))
async def streamed(
    stage: Stage, *, source: Items, ordered: bool, buffer: int | None
) -> None:
    """Results one by one, where only the taking of one is cancelled."""
    results: list[int] = []
    async with FanOut(
        partial(steps, stage), source(stage, 5), limit=2, ordered=ordered, buffer=buffer
    ) as stream:
        stage.owns(stream)
        with suppress(StopAsyncIteration):
            while True:
                results.append(await stage.attempt(stream.__anext__))

    assert (results if ordered else sorted(results)) == [0, 1, 2, 3, 4]


@scenario(source=SOURCES)
async def streamed_to_a_slow_consumer(stage: Stage, *, source: Items) -> None:
    """Results that pile up as far as they may, behind calls that sleep."""
    results: list[int] = []
    async with FanOut(
        partial(nap, stage), source(stage, 4), limit=2, buffer=1
    ) as stream:
        stage.owns(stream)
        async for result in stream:
            results.append(result)
            await anyio.sleep(UNIT)

    assert results == [0, 1, 2, 3]


@scenario(source=SOURCES)
async def streamed_and_left_early(stage: Stage, *, source: Items) -> None:
    """Leave when there is enough."""
    async with FanOut(partial(steps, stage), source(stage, 9), limit=3) as stream:
        stage.owns(stream)
        async for _ in stream:
            break


@scenario(source=SOURCES)
async def streamed_within_a_shared_limit(stage: Stage, *, source: Items) -> None:
    """Tokens held by calls, at a rate, for a consumer who fails."""
    limiter = anyio.CapacityLimiter(2)
    stage.afterwards(lambda: equal(limiter.borrowed_tokens, 0))
    async with FanOut(
        partial(steps, stage), source(stage, 9), limit=limiter, rate=1 / UNIT
    ) as stream:
        stage.owns(stream)
        async for result in stream:
            if result == 2:
                raise Planned


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_cancelled_anywhere(name: str, attack: Attack) -> None:
    """No task is left, no item is lost or done twice, and every slot is back."""
    await cancel_everywhere(SCENARIOS[name], attack)


@on_asyncio
@pytest.mark.parametrize("attack", NATIVE_ATTACKS, ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_natively_cancelled_anywhere(name: str, attack: Attack) -> None:
    """The cancellation arrives exactly once, too."""
    await cancel_everywhere(SCENARIOS[name], attack)
