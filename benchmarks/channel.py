"""From task to task: what it costs to hand over an item, and to wait for one.

A contender is a :class:`Pipe`: how to send and how to receive. The same tasks use it,
in the task group that comes with the backend, so only the pipe makes the difference.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from benchmarks._model import (
    ASYNCIO,
    LOOPS,
    TRIO,
    Backend,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

Job: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

OURS = "safeconc.Channel"
LOOP = "safeconc.Channel (async for)"
QUEUE = "asyncio.Queue"
ANYIO = "anyio memory stream"
TRIO_CHANNEL = "trio memory channel"
FLOOR = "floor: deque and future"
SAFECONC = ("safeconc",)


def nothing() -> None:
    """Have nothing to close."""


@dataclass(frozen=True)
class Pipe:
    """The two ends of what is compared."""

    send: Callable[[int], Awaitable[object]]
    receive: Callable[[], Awaitable[int]]
    close: Callable[[], object] = nothing
    """Ends it, after what is measured."""


Make: TypeAlias = Callable[[int], Pipe]


# The pipes


def safeconc_channel(capacity: int) -> Pipe:
    """Use a ``Channel``."""
    from safeconc import Channel

    channel = Channel[int](capacity)
    return Pipe(channel.send, channel.receive)


def asyncio_queue(capacity: int) -> Pipe:
    """Use the queue of the standard library, which takes 0 for unbounded."""
    queue = asyncio.Queue[int](capacity)
    return Pipe(queue.put, queue.get)


def anyio_stream(capacity: int) -> Pipe:
    """Use anyio's memory object stream."""
    send, receive = anyio.create_memory_object_stream[int](capacity)

    def close() -> None:
        send.close()
        receive.close()

    return Pipe(send.send, receive.receive, close)


def trio_channel(capacity: int) -> Pipe:
    """Use trio's memory channel."""
    import trio

    send, receive = trio.open_memory_channel[int](capacity)
    return Pipe(send.send, receive.receive)


def aiologic_queue(capacity: int) -> Pipe:
    """Use aiologic's queue, which threads could use at the same time."""
    import aiologic

    queue = aiologic.Queue[int](capacity)
    return Pipe(queue.async_put, queue.async_get)


def culsans_queue(capacity: int) -> Pipe:
    """Use the asynchronous side of culsans' queue, which has one for threads, too."""
    import culsans

    queue = culsans.Queue[int](capacity)
    return Pipe(queue.async_put, queue.async_get)


def janus_queue(capacity: int) -> Pipe:
    """Use the asynchronous side of janus' queue, which has one for threads, too."""
    import janus

    queue = janus.Queue[int](capacity)
    return Pipe(queue.async_q.put, queue.async_q.get, queue.close)


class Handmade:
    """A deque and a future for whoever waits: one producer, one consumer, no more.

    Neither a cancellation nor an end: the least that can hand over an item.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[int] = deque()
        self._sleeper: asyncio.Future[None] | None = None

    async def put(self, item: int) -> None:
        """Append *item* as soon as there is room."""
        while len(self._items) >= self._capacity:
            await self._sleep()
        self._items.append(item)
        self._wake()

    async def get(self) -> int:
        """Take an item as soon as there is one."""
        while not self._items:
            await self._sleep()
        item = self._items.popleft()
        self._wake()
        return item

    async def _sleep(self) -> None:
        self._sleeper = asyncio.get_running_loop().create_future()
        await self._sleeper

    def _wake(self) -> None:
        if self._sleeper is not None:
            self._sleeper.set_result(None)
            self._sleeper = None


def handmade(capacity: int) -> Pipe:
    """Use the floor."""
    queue = Handmade(capacity)
    return Pipe(queue.put, queue.get)


# Who sends and receives


async def together(jobs: Iterable[Job], backend: Backend) -> None:
    """Run each of *jobs* in a task of its own, in the group of the backend."""
    if backend == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)
    else:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())


async def produce(send: Callable[[int], Awaitable[object]], items: range) -> None:
    """Send *items*."""
    for item in items:
        await send(item)


class Till:
    """Keeps the last item that each consumer got.

    Of all that were received, the last must be the last of a producer.
    """

    def __init__(self) -> None:
        self._last: set[int] = set()

    async def take(self, receive: Callable[[], Awaitable[int]], n: int) -> None:
        """Receive *n* items."""
        item = -1
        for _ in range(n):
            item = await receive()
        self._last.add(item)

    async def drain(self, items: AsyncIterable[int]) -> None:
        """Receive until the end."""
        last = -1
        async for item in items:
            last = item
        self._last.add(last)

    def check(self, sent: Iterable[range]) -> None:
        """Refuse to measure what has lost the end."""
        if self._last.isdisjoint(items[-1] for items in sent):
            raise RuntimeError("wrong items")


def shares(n: int, parts: int) -> list[range]:
    """Deal *n* items to so many producers, and as many consumers."""
    return [range(part, n, parts) for part in range(parts)]


async def hand_over(make: Make, capacity: int, tasks: int, run: Run) -> None:
    """Hand items from so many producers to as many consumers."""
    pipe = make(capacity)
    dealt = shares(run.n, tasks)
    till = Till()
    takers = [partial(till.take, pipe.receive, len(items)) for items in dealt]
    givers = [partial(produce, pipe.send, items) for items in dealt]
    with run.watch:
        await together([*takers, *givers], run.backend)
    pipe.close()
    till.check(dealt)


def handing(
    name: str,
    make: Make,
    capacity: int,
    tasks: int,
    *,
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = LOOPS,
    share: float = 1.0,
) -> Contender:
    """Make a contender of a pipe."""
    body = partial(hand_over, make, capacity, tasks)
    return Contender(name, body, needs, backends, share)


def looping(capacity: int, tasks: int) -> Contender:
    """Make the contender that uses a ``Channel`` as its page in the docs does."""

    async def body(run: Run) -> None:
        from safeconc import Channel, ErrGroup

        dealt = shares(run.n, tasks)
        till = Till()
        with run.watch:
            channel = Channel[int](capacity)
            async with ErrGroup(limit=None) as consumers:
                for _ in dealt:
                    await consumers.go(till.drain, channel)
                async with channel, ErrGroup(limit=None) as producers:
                    for items in dealt:
                        await producers.go(produce, channel.send, items)
        till.check(dealt)

    return Contender(LOOP, body, SAFECONC)


def handing_on_trio(capacity: int, tasks: int, share: float) -> Contender:
    """Let trio's channel compete in asyncio's tables, on a loop of its own."""

    def body(run: Run) -> None:
        import trio

        there = replace(run, backend="trio")
        trio.run(hand_over, trio_channel, capacity, tasks, there)

    return Contender(TRIO_CHANNEL, body, ("trio",), ASYNCIO, share)


def field(
    capacity: int, tasks: int = 1, *, slow: float, peers: bool = True
) -> tuple[Contender, ...]:
    """Return the contenders; *slow* is the share of those that cost most.

    Without *peers*, only who has a rendezvous.
    """
    add = partial(handing, capacity=capacity, tasks=tasks)
    found = [
        add(OURS, safeconc_channel, needs=SAFECONC),
        looping(capacity, tasks),
        add(ANYIO, anyio_stream, share=slow),
        add(TRIO_CHANNEL, trio_channel, backends=TRIO, share=slow),
        handing_on_trio(capacity, tasks, slow),
    ]
    if peers:
        found += [
            add(QUEUE, asyncio_queue, backends=ASYNCIO),
            add("aiologic.Queue", aiologic_queue, needs=("aiologic",), share=slow),
            add("culsans.Queue", culsans_queue, needs=("culsans",), share=slow),
            add(
                "janus.Queue",
                janus_queue,
                needs=("janus",),
                backends=ASYNCIO,
                share=slow,
            ),
        ]
    if peers and tasks == 1:
        found.append(add(FLOOR, handmade, backends=ASYNCIO))
    return tuple(found)


# What it holds


def filling(
    name: str,
    make: Make,
    *,
    needs: tuple[str, ...] = (),
) -> Contender:
    """Make a contender that buffers items which nobody receives."""

    async def body(run: Run) -> None:
        with run.watch:
            pipe = make(run.n)
            for _ in range(run.n):
                await pipe.send(0)
        pipe.close()

    return Contender(name, body, needs)


def waiting(
    name: str,
    make: Make,
    *,
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = LOOPS,
) -> Contender:
    """Make a contender whose receivers all wait before the first item is sent."""

    async def body(run: Run) -> None:
        pipe = make(100)
        queue: list[None] = []

        async def receiver() -> None:
            queue.append(None)
            await pipe.receive()

        async def sender() -> None:
            while len(queue) < run.n:
                await anyio.lowlevel.checkpoint()
            for _ in range(3):  # what a receive may need to begin its wait
                await anyio.lowlevel.checkpoint()
            await produce(pipe.send, range(run.n))

        with run.watch:
            await together([*[receiver] * run.n, sender], run.backend)
        pipe.close()

    return Contender(name, body, needs, backends)


HELD = (
    filling(OURS, safeconc_channel, needs=SAFECONC),
    filling(QUEUE, asyncio_queue),
    filling(ANYIO, anyio_stream),
    filling("aiologic.Queue", aiologic_queue, needs=("aiologic",)),
    filling("culsans.Queue", culsans_queue, needs=("culsans",)),
    filling("janus.Queue", janus_queue, needs=("janus",)),
)
WAITING = (
    waiting(OURS, safeconc_channel, needs=SAFECONC),
    waiting(QUEUE, asyncio_queue, backends=ASYNCIO),
    waiting(ANYIO, anyio_stream),
    waiting(TRIO_CHANNEL, trio_channel, backends=TRIO),
    waiting("aiologic.Queue", aiologic_queue, needs=("aiologic",)),
    waiting("culsans.Queue", culsans_queue, needs=("culsans",)),
    waiting("janus.Queue", janus_queue, needs=("janus",), backends=ASYNCIO),
)

BENCHMARK = Benchmark(
    "channel",
    scenarios=(
        Scenario(
            "buffer-100",
            "one producer, one consumer, up to 100 items ahead",
            field(100, slow=0.2),
            ANYIO,
            n=200_000,
            quick_n=20_000,
        ),
        Scenario(
            "buffer-1",
            "one producer, one consumer, one item ahead",
            field(1, slow=0.5),
            ANYIO,
            n=50_000,
            quick_n=10_000,
        ),
        Scenario(
            "rendezvous",
            "one producer, one consumer, from hand to hand",
            field(0, slow=0.5, peers=False),
            ANYIO,
            n=50_000,
            quick_n=10_000,
        ),
        Scenario(
            "four-by-four",
            "four producers, four consumers, up to 100 items ahead",
            field(100, 4, slow=0.2),
            ANYIO,
            n=200_000,
            quick_n=20_000,
        ),
        Scenario(
            "buffered",
            "items that nobody receives",
            HELD,
            ANYIO,
            n=100_000,
            quick_n=100_000,
            metric=Metric.BYTES,
            backends=("asyncio",),
            timed=False,
            weighed=True,
        ),
        Scenario(
            "waiting",
            "tasks that all wait to receive, then an item for each",
            WAITING,
            ANYIO,
            n=10_000,
            quick_n=2_000,
            weighed=True,
        ),
    ),
    targets=(
        Target("buffer-100", OURS, (QUEUE,), at_most=1.0),
        Target("buffer-100", LOOP, (QUEUE,), at_most=1.0),
        Target("buffer-100", OURS, (ANYIO,), at_least=8),
        Target("buffer-100", OURS, (TRIO_CHANNEL,), at_least=8),
        Target("buffer-1", OURS, (ANYIO,), at_most=0.9),
        Target("rendezvous", OURS, (ANYIO,), at_most=0.9),
    ),
)
