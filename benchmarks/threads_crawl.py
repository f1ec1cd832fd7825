"""A tree whose nodes are found on the way, walked by threads.

Each node links to ten others, down to a depth of five, which makes 111,111. The floor
is what one would write by hand: threads over one locked stack that counts what is not
done, with no error handling, no contextvars, and no results. A contender returns how
many nodes it has visited, or what it has kept of each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from queue import LifoQueue, Queue
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks._model import (
    THREAD,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)
from benchmarks.crawl import DEPTH, LIMIT, LINKS, ROOT, START, Item
from benchmarks.threads_channel import together

if TYPE_CHECKING:
    from safeconc.threads import Job

Links: TypeAlias = Callable[[int], Sequence[int]]
Way: TypeAlias = Callable[[Links], int | Sized]

OURS = "safeconc.threads.crawl"
STREAM = "safeconc.threads.DepthPool"
LAZY = "safeconc.threads.DepthPool (submit_from)"
FLOOR = "floor: threads over a locked stack"
RECURSIVE = "ThreadPoolExecutor, each node submits"
SAFECONC = ("safeconc",)


def links_of(n: int, node: int) -> Sequence[int]:
    """Return what *node* links to, of nodes 0 to n - 1."""
    first = LINKS * node + 1
    return range(first, min(first + LINKS, n))


def slow_links_of(n: int, node: int) -> Sequence[int]:
    """Take a millisecond, as a fast service would."""
    time.sleep(0.001)
    return links_of(n, node)


# safeconc


def page_of(links: Links) -> Callable[[Job[int]], None]:
    """Make a function that submits the links, one by one."""

    def page(job: Job[int]) -> None:
        for link in links(job.item):
            job.submit(link)

    return page


def safeconc_crawl(links: Links) -> Sized:
    """Use the function, which returns a visit for every node."""
    from safeconc.threads import crawl

    return crawl(page_of(links), [ROOT], max_depth=DEPTH, limit=LIMIT)


def safeconc_stream(links: Links) -> int:
    """Use the class, and drop each visit as soon as it has been seen."""
    from safeconc.threads import DepthPool

    with DepthPool(page_of(links), max_depth=DEPTH, limit=LIMIT) as pool:
        pool.submit(ROOT)
        return sum(1 for _ in pool)


def safeconc_lazy(links: Links) -> int:
    """Do the same with lazy links."""
    from safeconc.threads import DepthPool

    def page(job: Job[int]) -> None:
        job.submit_from(links(job.item))

    with DepthPool(page, max_depth=DEPTH, limit=LIMIT) as pool:
        pool.submit(ROOT)
        return sum(1 for _ in pool)


# By hand


def locked_stack(links: Links) -> int:
    """Let threads share a stack: the least that is bounded and comes to its end."""
    todo = deque([START])
    left = 1
    visited = 0
    news = Condition()

    def work() -> None:
        nonlocal left, visited
        while True:
            with news:
                while not todo:
                    if not left:
                        return
                    news.wait()
                node, depth = todo.pop()
            found = links(node)
            with news:
                if depth < DEPTH:
                    todo.extend(zip(found, repeat(depth + 1)))
                    left += len(found)
                    news.notify(len(found))
                visited += 1
                left -= 1
                if not left:
                    news.notify_all()

    together([work] * LIMIT)
    return visited


def through_queue(make: Callable[[], Queue[Item | None]], links: Links) -> int:
    """Use the recipe of the standard library: a queue, threads, ``join()``."""
    todo = make()
    todo.put(START)
    visited: list[int] = []

    def work() -> None:
        count = 0
        while (item := todo.get()) is not None:
            node, depth = item
            count += 1
            found = links(node)
            if depth < DEPTH:
                for link in found:
                    todo.put((link, depth + 1))
            todo.task_done()
        visited.append(count)

    def end() -> None:
        todo.join()
        for _ in range(LIMIT):
            todo.put(None)

    together([end, *[work] * LIMIT])
    return sum(visited)


def recursive_submit(links: Links) -> int:
    """Have each call submit those it finds, and follow the futures from outside."""

    def visit(node: int, depth: int) -> Sequence[Future[Any]]:
        found = links(node)
        if depth == DEPTH:
            return ()
        return [pool.submit(visit, link, depth + 1) for link in found]

    visited = 0
    with ThreadPoolExecutor(LIMIT) as pool:
        todo = [pool.submit(visit, *START)]
        while todo:
            todo += todo.pop().result()
            visited += 1
    return visited


def thread_each(links: Links) -> Sized:
    """Start a thread for every link, which waits for those that it starts."""
    visited: list[int] = []

    def visit(node: int, depth: int) -> None:
        visited.append(node)
        found = links(node)
        if depth < DEPTH:
            threads = [Thread(target=visit, args=(link, depth + 1)) for link in found]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    visit(*START)
    return visited


# The fields


def measure(way: Way, links: Callable[[int, int], Sequence[int]], run: Run) -> None:
    """Measure a way to walk *run.n* nodes."""
    find = partial(links, run.n)
    with run.watch:
        visited = way(find)
    count = visited if isinstance(visited, int) else len(visited)
    if count != run.n:
        raise RuntimeError(f"met {count} nodes of {run.n}")


def field(
    links: Callable[[int, int], Sequence[int]], *, threads: float
) -> tuple[Contender, ...]:
    """Return all who walk; *threads* is the share of who starts one for each node."""

    def add(name: str, way: Way, *needs: str, share: float = 1.0) -> Contender:
        return Contender(name, partial(measure, way, links), needs, THREAD, share)

    return (
        add(OURS, safeconc_crawl, *SAFECONC),
        add(STREAM, safeconc_stream, *SAFECONC),
        add(LAZY, safeconc_lazy, *SAFECONC),
        add(FLOOR, locked_stack),
        add("threads behind a LifoQueue, join()", partial(through_queue, LifoQueue)),
        add("threads behind a queue.Queue, join()", partial(through_queue, Queue)),
        add(RECURSIVE, recursive_submit),
        add("a thread per node", thread_each, share=threads),
    )


BENCHMARK = Benchmark(
    "threads_crawl",
    scenarios=(
        Scenario(
            "no-wait",
            "nodes that answer at once, limit 10",
            field(links_of, threads=0.01),
            FLOOR,
            n=111_111,
            quick_n=11_111,
            backends=("thread",),
            weighed=True,
        ),
        Scenario(
            "sleep-1ms",
            "nodes that sleep for 1 ms, limit 10",
            field(slow_links_of, threads=0.1),
            FLOOR,
            n=11_111,
            quick_n=1_111,
            metric=Metric.WALL,
            backends=("thread",),
        ),
    ),
    targets=(
        Target("no-wait", OURS, (RECURSIVE,), at_most=1, backend="thread"),
        Target("no-wait", STREAM, at_most=1024, metric=Metric.PEAK, backend="thread"),
        Target(
            "sleep-1ms",
            OURS,
            (FLOOR,),
            at_most=1.05,
            metric=Metric.WALL,
            backend="thread",
        ),
    ),
)
