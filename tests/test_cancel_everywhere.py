"""Each scenario, cancelled at each of its suspensions, leaves nothing behind."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint

from safeconc import (
    Channel,
    ChannelClosed,
    Context,
    DepthPool,
    ErrGroup,
    FanOut,
    Job,
    Ticker,
    check,
    consume,
    crawl,
    every,
    fan_out,
    to_thread,
)
from safeconc._policy._ticks import Missed
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

AGES = 3600.0
"""Seconds until a deadline that nobody is to reach, on a busy machine neither."""


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
    async with Context(timeout=AGES) as outer:
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


# Ticker and every


@scenario(missed=("skip", "burst", "delay"))
async def ticks_that_are_asked_for_again(stage: Stage, *, missed: Missed) -> None:
    """Ticks, none of which a wait takes that is cancelled as its timer rings."""
    ticker = Ticker(UNIT, missed=missed)
    counted = 0
    for units in (0, 0, 3, 0):
        tick = await stage.attempt(ticker.__anext__)
        counted += 1 + tick.missed

        assert tick.index + 1 == counted
        await anyio.sleep(units * UNIT)


@scenario()
async def ticks_whose_schedule_is_moved(stage: Stage) -> None:
    """One task waits while another one resets."""
    ticker = Ticker(3 * UNIT, first="later")
    counted = 0

    async def move() -> None:
        for period in (9 * UNIT, UNIT):
            await checkpoint()
            ticker.reset(period)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        group.go_nowait(move)
        for _ in range(2):
            tick = await stage.attempt(ticker.__anext__)
            counted += 1 + tick.missed

            assert tick.index + 1 == counted


@scenario()
async def calls_at_each_tick(stage: Stage) -> None:
    """Stop a service that is waiting, or in the middle of a call."""
    items = iter(range(100))

    async def call() -> None:
        await nap(stage, next(items))

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        await stage.attempt(group.go_background, every, 2 * UNIT, call)
        await anyio.sleep(5 * UNIT)


# DepthPool and crawl


async def branch(stage: Stage, job: Job[int]) -> int:
    """Be a node of a binary tree, each a number of its own."""
    with stage.job(job.item):
        for child in (2 * job.item + 1, 2 * job.item + 2):
            job.submit(child)
            await checkpoint()
    return job.item


async def lazy_branch(stage: Stage, job: Job[int]) -> int:
    """Be a node whose children are made one by one, each with a double."""

    def children() -> Iterator[int]:
        with stage.job(f"children of {job.item}"):
            for child in (2 * job.item + 1, 2 * job.item + 2):
                yield child
                yield child

    with stage.job(job.item):
        job.submit_from(children())
        await anyio.sleep(UNIT)
    return job.item


def same(item: int) -> int:
    """Be the key of items that are their own."""
    return item


BRANCHES = (branch, lazy_branch)
Branch = Callable[[Stage, Job[int]], Awaitable[int]]


@scenario(fn=BRANCHES)
async def crawled(stage: Stage, *, fn: Branch) -> None:
    """Visit all nodes, and be told so only then."""
    visits = await crawl(partial(fn, stage), [0], max_depth=2, limit=2, key=same)

    assert sorted(visit.item for visit in visits) == list(range(7))


@scenario()
async def crawled_until_a_failure(stage: Stage) -> None:
    """Fail at some depth, while another branch is at work."""

    async def page(job: Job[int]) -> None:
        await branch(stage, job)
        if job.item == 4:
            raise Planned

    await crawl(page, [0], max_depth=3, limit=3)


@scenario(fn=BRANCHES, buffer=(0, None))
async def visited(stage: Stage, *, fn: Branch, buffer: int | None) -> None:
    """Visits one by one; with the last one in hand a further root is submitted."""
    seen: list[int] = []
    async with Context() as owner:
        stage.owns(owner)
        async with DepthPool(
            partial(fn, stage), max_depth=1, limit=2, key=same, buffer=buffer
        ) as pool:
            stage.owns(pool).submit(0)
            visits = aiter(pool)
            with suppress(StopAsyncIteration):
                while True:
                    visit = await stage.attempt(visits.__anext__)
                    seen.append(visit.item)
                    if len(seen) == 3:
                        pool.submit(3)

    assert sorted(seen) == [0, 1, 2, 3, 7, 8]


@scenario(fn=BRANCHES)
async def visited_by_several(stage: Stage, *, fn: Branch) -> None:
    """Consumers who wait for each other, as each of them may submit."""
    seen: list[int] = []

    async def consume(pool: DepthPool[int, int]) -> None:
        async for visit in pool:
            seen.append(visit.item)
            await checkpoint()
            if visit.item == 2:
                pool.submit(3)

    async with DepthPool(partial(fn, stage), max_depth=1, limit=2, key=same) as pool:
        stage.owns(pool).submit(0)
        async with ErrGroup(limit=None) as group:
            stage.owns(group)
            for _ in range(3):
                group.go_nowait(consume, pool)

    if stage.whole:
        assert sorted(seen) == [0, 1, 2, 3, 7, 8]


@scenario(fn=BRANCHES)
async def visited_and_left_early(stage: Stage, *, fn: Branch) -> None:
    """Leave a tree without a bound when there is enough."""
    async with DepthPool(
        partial(fn, stage), max_depth=None, limit=3, key=same, buffer=1
    ) as pool:
        stage.owns(pool).submit(0)
        async for _ in pool:
            break


@scenario(fn=BRANCHES)
async def visited_by_one_who_fails(stage: Stage, *, fn: Branch) -> None:
    """Fail with a visit in hand, others being ready and on their way."""
    async with DepthPool(
        partial(fn, stage), max_depth=None, limit=2, key=same, order="breadth"
    ) as pool:
        stage.owns(pool).submit(0)
        async for visit in pool:
            await checkpoint()
            if visit.item == 1:
                raise Planned


# to_thread


@scenario()
async def calls_in_threads(stage: Stage) -> None:
    """Have calls that pay no heed stand in line for one token."""
    limiter = anyio.CapacityLimiter(1)
    stage.afterwards(lambda: equal(limiter.borrowed_tokens, 0))

    def run(item: int) -> int:
        with stage.job(item):
            return item

    async def call(item: int) -> int:
        return await to_thread(run, item, limiter=limiter)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        group.go_nowait(call, 0)
        for item in range(1, 4):
            assert await stage.attempt(call, item) == item

    if stage.whole:
        assert sorted(stage.ended) == [0, 1, 2, 3]


@scenario()
async def calls_in_threads_that_look(stage: Stage) -> None:
    """Have calls end when they are told to, with an error of their own or without."""
    limiter = anyio.CapacityLimiter(2)
    stage.afterwards(lambda: equal(limiter.borrowed_tokens, 0))

    def run(item: int) -> None:
        with stage.job(item):
            anyio.from_thread.run(checkpoint)
            check()
            if item == 2:
                raise Planned

    async def call(item: int) -> None:
        await to_thread(run, item, limiter=limiter)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        for item in range(3):
            await group.go(call, item)


# Channel and consume


def empty(channel: Channel[int], received: list[int], sent: list[int]) -> None:
    """Assert that each item that was sent is received, or still there, and once."""
    left = list[int]()
    with suppress(anyio.WouldBlock, ChannelClosed):
        while True:
            left.append(channel.receive_nowait())
    statistics = channel.statistics()

    assert sorted(received + left) == sorted(sent)
    assert statistics.waiting_senders == statistics.waiting_receivers == 0


@scenario(capacity=(0, 1, 3))
async def channel_with_one_at_each_end(stage: Stage, *, capacity: int) -> None:
    """Items in order, where only the sending or the receiving of one is cancelled."""
    channel = stage.owns(Channel[int](capacity))
    received: list[int] = []
    sent: list[int] = []
    stage.afterwards(partial(empty, channel, received, sent))

    async def receive() -> None:
        async for item in channel:
            received.append(item)
            await checkpoint()

    async with ErrGroup(limit=None) as group:
        stage.owns(group).go_nowait(receive)
        async with channel:
            for item in range(5):
                await stage.attempt(channel.send, item)
                sent.append(item)

    if stage.whole:
        assert received == sent == [0, 1, 2, 3, 4]


@scenario(capacity=(0, 2))
async def channel_with_several_at_each_end(stage: Stage, *, capacity: int) -> None:
    """Lines at either end, and calls that are made again when they are cancelled."""
    channel = stage.owns(Channel[int](capacity))
    received: list[int] = []
    sent: list[int] = []
    stage.afterwards(partial(empty, channel, received, sent))

    async def send(first: int) -> None:
        for item in (first, first + 1):
            await channel.send(item)
            sent.append(item)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        for first in (0, 10, 20):
            group.go_nowait(send, first)
        while len(received) < 6:
            received.append(await stage.attempt(channel.receive))

    if stage.whole:
        assert sorted(received) == [0, 1, 10, 11, 20, 21]


@scenario(error=(None, OSError()))
async def channel_closed_on_those_who_wait(
    stage: Stage, *, error: OSError | None
) -> None:
    """Those who wait are told, and nobody else."""
    channel = stage.owns(Channel[int](0))
    stage.afterwards(partial(empty, channel, [], []))

    async def receive(item: int) -> None:
        with stage.job(item), suppress(ChannelClosed):
            await channel.receive()
            pytest.fail("received what nobody sent")

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        for item in range(2):
            await stage.attempt(group.go, receive, item)
        await checkpoint()
        channel.close(error)
        with pytest.raises(ChannelClosed):
            await stage.attempt(channel.send, 1)

    if stage.whole:
        assert sorted(stage.ended) == [0, 1]


@scenario(drain=(None, AGES))
async def consumers_that_share_a_channel(stage: Stage, *, drain: float | None) -> None:
    """Handle each item once; drained, none is left unless it was sent too late."""
    channel = stage.owns(Channel[int](2))
    received: list[int] = []
    sent: list[int] = []
    stage.afterwards(partial(empty, channel, received, sent))

    async def handle(item: int) -> None:
        received.append(item)
        await steps(stage, item)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        for _ in range(2):
            group.go_nowait(partial(consume, channel, handle, drain=drain))
        async with channel:
            for item in range(5):
                await stage.attempt(channel.send, item)
                sent.append(item)

    if stage.whole:
        assert sorted(received) == [0, 1, 2, 3, 4]


@scenario()
async def consumer_that_is_stopped(stage: Stage) -> None:
    """Stop a service that handles what is buffered before it ends."""
    channel = stage.owns(Channel[int](5))
    received: list[int] = []
    sent: list[int] = []
    stage.afterwards(partial(empty, channel, received, sent))

    async def handle(item: int) -> None:
        received.append(item)
        await nap(stage, item)

    async with ErrGroup(limit=None) as group:
        stage.owns(group)
        await group.go_background(partial(consume, channel, handle, drain=AGES))
        await anyio.sleep(UNIT)  # stopped before it begins, it handles nothing
        for item in range(3):
            await stage.attempt(channel.send, item)
            sent.append(item)

    if stage.whole:
        assert received == [0, 1, 2]


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
