"""From thread to thread: what it costs to hand over an item, and to wait for one.

A contender is a pair of functions, to send and to receive. The same threads use it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from functools import partial
from threading import Thread
from typing import TypeAlias

from benchmarks._model import (
    THREAD,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)
from benchmarks.channel import shares

Pipe: TypeAlias = tuple[Callable[[int], object], Callable[[], int]]
Make: TypeAlias = Callable[[int], Pipe]

OURS = "safeconc.threads.Channel"
BOUND = "safeconc.threads.Channel, in a Context"
LOOP = "safeconc.threads.Channel (for)"
QUEUE = "queue.Queue"
SIMPLE = "floor: queue.SimpleQueue, unbounded"
SAFECONC = ("safeconc",)


def safeconc_channel(capacity: int) -> Pipe:
    """Use a ``Channel``."""
    from safeconc.threads import Channel

    channel = Channel[int](capacity)
    return channel.send, channel.receive


def standard_queue(capacity: int) -> Pipe:
    """Use the queue of the standard library."""
    made = queue.Queue[int](capacity)
    return made.put, made.get


def simple_queue(_: int) -> Pipe:
    """Use the one that is written in C and has no bound: nobody waits for room."""
    made = queue.SimpleQueue[int]()
    return made.put, made.get


def aiologic_queue(capacity: int) -> Pipe:
    """Use aiologic's queue, from its side for threads."""
    import aiologic

    made = aiologic.Queue[int](capacity)
    return made.green_put, made.green_get


def culsans_queue(capacity: int) -> Pipe:
    """Use culsans' queue, from its side for threads."""
    import culsans

    made = culsans.Queue[int](capacity)
    return made.sync_put, made.sync_get


def together(jobs: Iterable[Callable[[], object]]) -> None:
    """Run each of *jobs* in a thread of its own."""
    threads = [Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def produce(send: Callable[[int], object], items: range) -> None:
    """Send *items*."""
    for item in items:
        send(item)


def take(receive: Callable[[], int], n: int, last: set[int]) -> None:
    """Receive *n* items, and keep the last one."""
    item = -1
    for _ in range(n):
        item = receive()
    last.add(item)


def check(last: set[int], dealt: Iterable[range]) -> None:
    """Refuse to measure what has lost the end."""
    if last.isdisjoint(items[-1] for items in dealt):
        raise RuntimeError("wrong items")


def hand_over(make: Make, capacity: int, pairs: int, run: Run) -> None:
    """Hand items from so many producers to as many consumers."""
    send, receive = make(capacity)
    dealt = shares(run.n, pairs)
    last: set[int] = set()
    takers = [partial(take, receive, len(items), last) for items in dealt]
    givers = [partial(produce, send, items) for items in dealt]
    with run.watch:
        together([*takers, *givers])
    check(last, dealt)


def bound(capacity: int, pairs: int, run: Run) -> None:
    """Do the same in threads that a deadline would end."""
    from safeconc import Context
    from safeconc.threads import Channel

    channel = Channel[int](capacity)
    dealt = shares(run.n, pairs)
    last: set[int] = set()

    def within(context: Context, job: Callable[[], object]) -> None:
        with Context(context):
            job()

    with run.watch, Context(timeout=1000) as context:
        takers = [partial(take, channel.receive, len(items), last) for items in dealt]
        givers = [partial(produce, channel.send, items) for items in dealt]
        together(partial(within, context, job) for job in (*takers, *givers))
    check(last, dealt)


def loop(capacity: int, pairs: int, run: Run) -> None:
    """Use a ``Channel`` as its page in the docs does."""
    from safeconc.threads import Channel, ErrGroup

    dealt = shares(run.n, pairs)
    last: set[int] = set()

    def drain(channel: Channel[int]) -> None:
        item = -1
        for each in channel:
            item = each
        last.add(item)

    with run.watch:
        channel = Channel[int](capacity)
        with ErrGroup(limit=None) as consumers:
            for _ in dealt:
                consumers.go(drain, channel)
            with channel, ErrGroup(limit=None) as producers:
                for items in dealt:
                    producers.go(produce, channel.send, items)
    check(last, dealt)


def field(capacity: int, pairs: int = 1, *, peers: bool = True) -> list[Contender]:
    """Return the contenders; without *peers*, only who has a rendezvous."""

    def add(name: str, make: Make, *needs: str) -> Contender:
        body = partial(hand_over, make, capacity, pairs)
        return Contender(name, body, needs, THREAD)

    found = [
        add(OURS, safeconc_channel, "safeconc"),
        Contender(BOUND, partial(bound, capacity, pairs), SAFECONC, THREAD),
        Contender(LOOP, partial(loop, capacity, pairs), SAFECONC, THREAD),
    ]
    if peers:
        found += [
            add(QUEUE, standard_queue),
            add("aiologic.Queue", aiologic_queue, "aiologic"),
            add("culsans.Queue", culsans_queue, "culsans"),
            add(SIMPLE, simple_queue),
        ]
    return found


def scenario(
    name: str, what: str, contenders: list[Contender], n: int, baseline: str = QUEUE
) -> Scenario:
    """Make a scenario of threads."""
    return Scenario(
        name,
        what,
        tuple(contenders),
        baseline,
        n=n,
        quick_n=n // 10,
        metric=Metric.CPU,
        backends=("thread",),
    )


BENCHMARK = Benchmark(
    "threads_channel",
    scenarios=(
        scenario(
            "buffer-100",
            "one producer, one consumer, up to 100 items ahead",
            field(100),
            100_000,
        ),
        scenario(
            "buffer-1",
            "one producer, one consumer, one item ahead",
            field(1),
            20_000,
        ),
        scenario(
            "rendezvous",
            "one producer, one consumer, from hand to hand",
            field(0, peers=False),
            20_000,
            OURS,
        ),
        scenario(
            "four-by-four",
            "four producers, four consumers, up to 100 items ahead",
            field(100, 4),
            100_000,
        ),
    ),
    targets=(
        Target("buffer-100", OURS, (QUEUE,), at_most=1.0, backend="thread"),
        Target("buffer-1", OURS, (QUEUE,), at_most=1.0, backend="thread"),
    ),
)
