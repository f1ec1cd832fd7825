"""A tree whose nodes are found on the way: what a node costs, and how many wait.

Each node links to ten others, down to a depth of five, which makes 111,111, and ten
are visited at a time. A contender is a coroutine function that walks a :class:`Site`.
The crawlers by hand bound the depth, too, but keep no results and contain no error.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
from typing_extensions import override

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
from benchmarks._watch import Scales

if TYPE_CHECKING:
    from safeconc import Job

LINKS = 10
DEPTH = 5
LIMIT = 10
ROOT = 0

Item: TypeAlias = tuple[int, int]
START: Item = (ROOT, 0)

OURS = "safeconc.crawl"
STREAM = "safeconc.DepthPool"
LAZY = "safeconc.DepthPool (submit_from)"
FLOOR = "floor: K workers, newest first"
TASKS = "TaskGroup, a task per node"
SAFECONC = ("safeconc",)


# What is crawled


class Site:
    """Nodes 0 to n - 1, where node k links to 10k + 1 ... 10k + 10."""

    def __init__(self, n: int, *, count: bool) -> None:
        self._inner = (n - 1) // LINKS
        self._met = 0
        self._waiting = 0
        self.size = LINKS * self._inner + 1
        self.peak = 0
        """Nodes found and not yet visited, at the most; if they are counted."""
        self.links = self._count if count else self._find

    def check(self) -> None:
        """Refuse to measure what leaves nodes out, or visits them twice."""
        if self._met != self.size:
            raise RuntimeError(f"met {self._met} nodes of {self.size}")

    async def visit(self, node: int) -> Sequence[int]:
        """Return the links of *node* to a crawler written by hand."""
        return self.links(node)

    async def page(self, job: Job[int]) -> None:
        """Submit the links, one by one."""
        for link in self.links(job.item):
            job.submit(link)

    async def lazy_page(self, job: Job[int]) -> None:
        """Submit the links, to be taken when there is a worker for them."""
        job.submit_from(self.links(job.item))

    def _find(self, node: int) -> Sequence[int]:
        self._met += 1
        if node >= self._inner:
            return ()
        first = LINKS * node + 1
        return range(first, first + LINKS)

    def _count(self, node: int) -> Sequence[int]:
        """Find the links that wait from now on, while *node* no longer does."""
        links = self._find(node)
        self._waiting += len(links) - (node != ROOT)
        self.peak = max(self.peak, self._waiting)
        return links


class SlowSite(Site):
    """A site that lets the loop turn once before it answers."""

    def __init__(
        self, n: int, *, count: bool, pause: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(n, count=count)
        self._pause = pause

    @override
    async def visit(self, node: int) -> Sequence[int]:
        await self._pause()
        return self.links(node)

    @override
    async def page(self, job: Job[int]) -> None:
        await self._pause()
        for link in self.links(job.item):
            job.submit(link)

    @override
    async def lazy_page(self, job: Job[int]) -> None:
        await self._pause()
        job.submit_from(self.links(job.item))


class BroadSite(Site):
    """A site whose root links to all the rest."""

    def __init__(self, n: int, *, count: bool) -> None:
        super().__init__(n, count=count)
        self.size = n

    @override
    def _find(self, node: int) -> Sequence[int]:
        self._met += 1
        return range(1, self.size) if node == ROOT else ()


Build: TypeAlias = Callable[[int, Backend, bool], Site]
Way: TypeAlias = Callable[[Site], Awaitable[None]]


def quick_site(n: int, _backend: Backend, count: bool) -> Site:
    """Build a site that answers at once."""
    return Site(n, count=count)


def slow_site(n: int, backend: Backend, count: bool) -> Site:
    """Build a site that answers after one turn of the loop."""
    if backend == "trio":
        import trio

        return SlowSite(n, count=count, pause=trio.lowlevel.checkpoint)
    return SlowSite(n, count=count, pause=partial(asyncio.sleep, 0))


def broad_site(n: int, _backend: Backend, count: bool) -> Site:
    """Build a site of which nearly all is linked from one page."""
    return BroadSite(n, count=count)


# safeconc


async def safeconc_crawl(site: Site) -> None:
    """Use the function, which returns a visit for every node."""
    from safeconc import crawl

    await crawl(site.page, [ROOT], max_depth=DEPTH, limit=LIMIT)


async def safeconc_stream(site: Site) -> None:
    """Use the class, and drop each visit as soon as it has been seen."""
    from safeconc import DepthPool

    async with DepthPool(site.page, max_depth=DEPTH, limit=LIMIT) as pool:
        pool.submit(ROOT)
        async for _ in pool:
            pass


async def safeconc_stream_lazy(site: Site) -> None:
    """Do the same with lazy links, of which the pool knows how many wait."""
    from safeconc import DepthPool

    async with DepthPool(site.lazy_page, max_depth=DEPTH, limit=LIMIT) as pool:
        pool.submit(ROOT)
        async for _ in pool:
            pass
    site.peak = pool.statistics().peak_frontier


# Workers by hand: they share what is to do, a node and its depth each


async def bare_loop(site: Site) -> None:
    """Visit one node after the other: no concurrency at all."""
    todo = [START]
    while todo:
        node, depth = todo.pop()
        links = await site.visit(node)
        if depth < DEPTH:
            todo += [(link, depth + 1) for link in links]


class Stack:
    """A stack that knows how much of what was ever put on it is not done yet."""

    def __init__(self) -> None:
        self._todo: deque[Item] = deque()
        self._idle: deque[anyio.Event] = deque()
        self._left = 0
        self.over = anyio.Event()

    def put(self, item: Item) -> None:
        """Add an item, and wake one that waits for it."""
        self._todo.append(item)
        self._left += 1
        if self._idle:
            self._idle.popleft().set()

    async def get(self) -> Item:
        """Take the newest item as soon as there is one."""
        while not self._todo:
            news = anyio.Event()
            self._idle.append(news)
            await news.wait()
        return self._todo.pop()

    def done(self) -> None:
        """Say that an item needs no more work."""
        self._left -= 1
        if not self._left:
            self.over.set()


async def newest_first(site: Site) -> None:
    """Let the workers share a stack: the least that is bounded and comes to its end."""
    todo = Stack()
    todo.put(START)

    async def worker() -> None:
        while True:
            node, depth = await todo.get()
            try:
                links = await site.visit(node)
                if depth < DEPTH:
                    for link in links:
                        todo.put((link, depth + 1))
            finally:
                todo.done()

    async with anyio.create_task_group() as group:
        for _ in range(LIMIT):
            group.start_soon(worker)
        await todo.over.wait()
        group.cancel_scope.cancel()


async def newest_first_inlined(site: Site) -> None:
    """Do the same with nothing but closures, and never end after an error."""
    todo = deque([START])
    await workers(site, todo, todo.pop)


async def oldest_first(site: Site) -> None:
    """Let them share a queue, in the same way."""
    todo = deque([START])
    await workers(site, todo, todo.popleft)


async def workers(site: Site, todo: deque[Item], take: Callable[[], Item]) -> None:
    """Visit what *take* gives until nothing is left to do or being done."""
    left = len(todo)
    news = asyncio.Event()

    async def worker() -> None:
        nonlocal left
        while left:
            if not todo:
                news.clear()
                await news.wait()
                continue
            node, depth = take()
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    todo.append((link, depth + 1))
                    left += 1
                news.set()
            left -= 1
        news.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(LIMIT):
            group.create_task(worker())


async def asyncio_queue(site: Site) -> None:
    """Use the recipe of the standard library: a queue, workers, ``join()``."""
    todo = asyncio.Queue[Item]()
    todo.put_nowait(START)

    async def worker() -> None:
        while True:
            node, depth = await todo.get()
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    todo.put_nowait((link, depth + 1))
            todo.task_done()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(worker()) for _ in range(LIMIT)]
        await todo.join()
        for task in tasks:
            task.cancel()


async def anyio_stream(site: Site) -> None:
    """Let the workers read a stream without a bound, and count to close it."""
    send, receive = anyio.create_memory_object_stream[Item](math.inf)
    left = 1

    async def worker() -> None:
        nonlocal left
        async for node, depth in receive:
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    send.send_nowait((link, depth + 1))
                    left += 1
            left -= 1
            if not left:
                send.close()

    async with receive, anyio.create_task_group() as group:
        send.send_nowait(START)
        for _ in range(LIMIT):
            group.start_soon(worker)


async def trio_channel(site: Site) -> None:
    """Do the same with trio's channel."""
    import trio

    send, receive = trio.open_memory_channel[Item](math.inf)
    left = 1

    async def worker() -> None:
        nonlocal left
        async for node, depth in receive:
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    send.send_nowait((link, depth + 1))
                    left += 1
            left -= 1
            if not left:
                send.close()

    async with trio.open_nursery() as nursery:
        send.send_nowait(START)
        for _ in range(LIMIT):
            nursery.start_soon(worker)


# A task per node


async def taskgroup(site: Site) -> None:
    """Spawn a task for every link, at once: nothing bounds them."""
    async with asyncio.TaskGroup() as group:

        async def crawl(node: int, depth: int) -> None:
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    group.create_task(crawl(link, depth + 1))

        group.create_task(crawl(*START))


async def taskgroup_semaphore(site: Site) -> None:
    """Do the same, and let a semaphore bound the visits, not the tasks."""
    slots = asyncio.Semaphore(LIMIT)
    async with asyncio.TaskGroup() as group:

        async def crawl(node: int, depth: int) -> None:
            async with slots:
                links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    group.create_task(crawl(link, depth + 1))

        group.create_task(crawl(*START))


async def gather_semaphore(site: Site) -> None:
    """Have each node wait for those it links to."""
    slots = asyncio.Semaphore(LIMIT)

    async def crawl(node: int, depth: int) -> None:
        async with slots:
            links = await site.visit(node)
        if depth < DEPTH:
            await asyncio.gather(*[crawl(link, depth + 1) for link in links])

    await crawl(*START)


async def anyio_group(site: Site) -> None:
    """Spawn a task for every link in an anyio task group."""
    async with anyio.create_task_group() as group:

        async def crawl(node: int, depth: int) -> None:
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    group.start_soon(crawl, link, depth + 1)

        group.start_soon(crawl, *START)


async def trio_nursery(site: Site) -> None:
    """Spawn a task for every link in a nursery."""
    import trio

    async with trio.open_nursery() as nursery:

        async def crawl(node: int, depth: int) -> None:
            links = await site.visit(node)
            if depth < DEPTH:
                for link in links:
                    nursery.start_soon(crawl, link, depth + 1)

        nursery.start_soon(crawl, *START)


def contender(
    name: str,
    way: Way,
    build: Build,
    *,
    needs: tuple[str, ...] = (),
    backends: frozenset[Backend] = ASYNCIO,
    share: float = 1.0,
) -> Contender:
    """Make a contender of a *way* to crawl."""

    async def body(run: Run) -> None:
        count = isinstance(run.watch, Scales)
        site = build(run.n, run.backend, count)
        with run.watch:
            await way(site)
        site.check()
        if count:
            run.watch.held = site.peak

    return Contender(name, body, needs, backends, share)


def field(build: Build) -> tuple[Contender, ...]:
    """Return all who crawl the whole site."""
    add = partial(contender, build=build)
    ours = partial(add, needs=SAFECONC, backends=LOOPS)
    return (
        ours(OURS, safeconc_crawl),
        ours(STREAM, safeconc_stream),
        ours(LAZY, safeconc_stream_lazy, share=0.1),
        add("bare loop over a stack", bare_loop, backends=LOOPS),
        add(FLOOR, newest_first, backends=LOOPS),
        add("K workers, newest first, inlined", newest_first_inlined),
        add("K workers, oldest first, inlined", oldest_first),
        add("asyncio.Queue + K workers, join()", asyncio_queue),
        add("anyio memory stream + K workers", anyio_stream, backends=LOOPS, share=0.1),
        add("trio memory channel + K workers", trio_channel, backends=TRIO),
        add(TASKS, taskgroup),
        add(f"{TASKS} + Semaphore", taskgroup_semaphore, share=0.1),
        add("recursive gather + Semaphore", gather_semaphore, share=0.1),
        add("anyio group, a task per node", anyio_group, backends=LOOPS, share=0.1),
        add("nursery, a task per node", trio_nursery, backends=TRIO, share=0.1),
    )


BROAD = (
    contender(
        f"{STREAM} (submit_from)",
        safeconc_stream_lazy,
        broad_site,
        needs=SAFECONC,
        backends=LOOPS,
    ),
    contender(FLOOR, newest_first, broad_site, share=0.1),
)


def broad(name: str, what: str, n: int, quick_n: int) -> Scenario:
    """Return the scenario of a root with *n* links."""
    return Scenario(
        name,
        what,
        BROAD,
        FLOOR,
        n=n,
        quick_n=quick_n,
        metric=Metric.PEAK,
        backends=("asyncio",),
        timed=False,
        weighed=True,
    )


BENCHMARK = Benchmark(
    "crawl",
    scenarios=(
        Scenario(
            "no-wait",
            "nodes that answer at once, limit 10",
            field(quick_site),
            FLOOR,
            n=111_111,
            quick_n=11_111,
            weighed=True,
        ),
        Scenario(
            "one-checkpoint",
            "nodes that let the loop turn once, limit 10",
            field(slow_site),
            FLOOR,
            n=111_111,
            quick_n=11_111,
            weighed=True,
        ),
        broad("broad", "a page with many links, given lazily", 100_000, 10_000),
        broad(
            "broader",
            "a page with ten times as many",
            1_000_000,
            100_000,
        ),
    ),
    targets=(
        Target("no-wait", OURS, (FLOOR,), at_most=2.5),
        Target("no-wait", OURS, (TASKS,), at_least=6),
        Target("no-wait", STREAM, at_most=1024, metric=Metric.PEAK),
        Target("no-wait", OURS, at_most=50, metric=Metric.HELD),
        Target("one-checkpoint", OURS, (FLOOR,), at_most=1.6),
        Target("one-checkpoint", STREAM, at_most=1024, metric=Metric.PEAK),
        Target("one-checkpoint", OURS, at_most=1000, metric=Metric.HELD),
        Target(
            "broader",
            LAZY,
            (LAZY,),
            at_most=1.2,
            metric=Metric.PEAK,
            versus_scenario="broad",
        ),
    ),
)
