"""DepthPool and crawl on random sites, against a walk that is written as recursion."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from safeconc import DepthPool, DepthPoolStatistics, ErrGroup, Job, Visit, crawl
from safeconc._policy._frontier import Order

AnyVisit: TypeAlias = Visit[int, int]


@dataclass(frozen=True)
class Site:
    """Pages that link to pages, also to themselves, and how they are to be walked."""

    links: list[list[int]]
    roots: list[int]
    lazy: frozenset[int]
    """The pages that give their links as an iterable."""

    waits: list[int]
    """How often a page waits, before each link."""

    async def page(self, job: Job[int]) -> int:
        """Be the job of a page."""
        links, wait = self.links[job.item], self.waits[job.item]
        if job.item in self.lazy:
            job.submit_from(iter(links))
        for link in links:
            for _ in range(wait):
                await checkpoint()
            if job.item not in self.lazy:
                job.submit(link)
        return 2 * job.item


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Draw a small site."""
    count = draw(st.integers(1, 6))
    page = st.integers(0, count - 1)
    waits = st.lists(st.integers(0, 2), min_size=count, max_size=count)
    return Site(
        draw(st.lists(st.lists(page, max_size=3), min_size=count, max_size=count)),
        draw(st.lists(page, max_size=2)),
        draw(st.frozensets(page)),
        draw(waits),
    )


@dataclass
class Walk:
    """The definition: what one worker visits, in which order, and what it refuses."""

    site: Site
    max_depth: int | None
    modulus: int | None
    max_jobs: int | None = None
    visits: list[AnyVisit] = field(default_factory=list[AnyVisit])
    keys: set[int] = field(default_factory=set[int])
    accepted: Counter[int] = field(default_factory=Counter[int])
    refused: Counter[str] = field(default_factory=Counter[str])

    def is_too_deep(self, depth: int) -> bool:
        """Refuse what is too deep, an iterable as a whole."""
        too_deep = self.max_depth is not None and depth > self.max_depth
        self.refused["too_deep"] += too_deep
        return too_deep

    def is_spent(self) -> bool:
        """Refuse what is over the budget."""
        spent = self.accepted.total() == self.max_jobs
        self.refused["over_budget"] += spent
        return spent

    def admits(self, item: int, depth: int) -> bool:
        """Decide on an item."""
        if self.is_too_deep(depth):
            return False
        if self.modulus is not None and item % self.modulus in self.keys:
            self.refused["duplicates"] += 1
            return False
        if self.is_spent():
            return False
        if self.modulus is not None:
            self.keys.add(item % self.modulus)
        self.accepted[depth] += 1
        return True

    def lazily(self, items: Iterable[int], depth: int) -> Iterator[int]:
        """Take items one by one."""
        if self.is_too_deep(depth):
            return
        rest = deque(items)
        while not self.is_spent() and rest:
            item = rest.popleft()
            if self.admits(item, depth):
                yield item

    def children(
        self, items: list[int], depth: int, *, lazy: bool, newest_first: bool
    ) -> Iterable[int]:
        """Return those that are to be visited, in order."""
        if lazy:
            return self.lazily(items, depth)
        admitted = [item for item in items if self.admits(item, depth)]
        return reversed(admitted) if newest_first else admitted

    def depth_first(
        self, items: list[int], depth: int, parent: int | None, *, lazy: bool
    ) -> None:
        """Walk each branch to its end."""
        for item in self.children(items, depth, lazy=lazy, newest_first=True):
            self.visits.append(Visit(item, depth, parent, 2 * item))
            links, rests = self.site.links[item], item in self.site.lazy
            self.depth_first(links, depth + 1, item, lazy=rests)

    def breadth_first(self, *, lazy: bool) -> None:
        """Walk level after level."""
        queue: deque[tuple[Iterable[int], int, int | None]] = deque()

        def add(items: list[int], depth: int, parent: int | None, lazy: bool) -> None:
            found = self.children(items, depth, lazy=lazy, newest_first=False)
            queue.append((found, depth, parent))

        add(self.site.roots, 0, None, lazy)
        while queue:
            found, depth, parent = queue.popleft()
            for item in found:
                self.visits.append(Visit(item, depth, parent, 2 * item))
                add(self.site.links[item], depth + 1, item, item in self.site.lazy)

    def go(self, order: Order, *, lazy: bool) -> None:
        """Walk the site, from roots that are given lazily or one by one."""
        if order == "breadth":
            self.breadth_first(lazy=lazy)
        else:
            self.depth_first(self.site.roots, 0, None, lazy=lazy)

    def counts(self) -> dict[str, Any]:
        """Return what the statistics must tell."""
        by_depth = tuple(self.accepted[depth] for depth in sorted(self.accepted))
        reasons = ("too_deep", "duplicates", "over_budget")
        return {
            "frontier": 0,
            "running": 0,
            "buffered": 0,
            "failed": 0,
            "dropped": 0,
            "accepted": by_depth,
            "finished": by_depth,
            "keys": len(self.keys),
        } | {reason: self.refused[reason] for reason in reasons}


def key_of(modulus: int | None) -> Callable[[int], int] | None:
    """Return the key function for a modulus."""
    return None if modulus is None else modulus.__rmod__


def counts_of(statistics: DepthPoolStatistics) -> dict[str, Any]:
    """Return what the model knows, too."""
    return {
        name: getattr(statistics, name)
        for name in DepthPoolStatistics.__slots__
        if name != "peak_frontier"
    }


async def consume(pool: DepthPool[int, int], visits: list[AnyVisit], wait: int) -> None:
    """Be a consumer that takes its time."""
    async for visit in pool:
        visits.append(visit)
        for _ in range(wait):
            await checkpoint()


orders: st.SearchStrategy[Order] = st.sampled_from(("depth", "breadth"))
bounds = st.none() | st.integers(0, 3)
keys = st.none() | st.integers(1, 6)


@given(sites(), orders, bounds, keys, st.none() | st.integers(0, 9))
@settings(max_examples=60, deadline=None)
async def test_one_worker_walks_as_the_definition_says(
    site: Site,
    order: Order,
    max_depth: int | None,
    modulus: int | None,
    max_jobs: int | None,
) -> None:
    """With limit=1, crawl and DepthPool give the visits in exactly that order."""
    if modulus is max_depth is max_jobs is None:
        max_depth = 3  # else it would not end
    walks = {lazy: Walk(site, max_depth, modulus, max_jobs) for lazy in (True, False)}
    for lazy, walk in walks.items():
        walk.go(order, lazy=lazy)
    options: Any = {
        "max_depth": max_depth,
        "limit": 1,
        "order": order,
        "key": key_of(modulus),
        "max_jobs": max_jobs,
    }

    assert await crawl(site.page, site.roots, **options) == walks[True].visits
    pool: DepthPool[int, int] = DepthPool(site.page, **options)
    async with pool:
        for root in site.roots:
            pool.submit(root)
        assert [visit async for visit in pool] == walks[False].visits
    assert counts_of(pool.statistics()) == walks[False].counts()


@given(
    site=sites(),
    order=orders,
    max_depth=st.integers(0, 3),
    limit=st.integers(1, 5),
    buffer=st.none() | st.integers(0, 3),
    waits=st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
async def test_many_workers_visit_what_the_definition_says(
    *,
    site: Site,
    order: Order,
    max_depth: int,
    limit: int,
    buffer: int | None,
    waits: list[int],
) -> None:
    """Without keys, all paths are walked, whoever waits for how long."""
    walk = Walk(site, max_depth, None)
    walk.go(order, lazy=False)
    visits: list[AnyVisit] = []

    collected = await crawl(
        site.page, site.roots, max_depth=max_depth, limit=limit, order=order
    )
    pool: DepthPool[int, int] = DepthPool(
        site.page, max_depth=max_depth, limit=limit, order=order, buffer=buffer
    )
    async with pool, ErrGroup(limit=None) as group:
        for root in site.roots:
            pool.submit(root)
        for wait in waits:
            group.go_nowait(consume, pool, visits, wait)

    assert Counter(collected) == Counter(visits) == Counter(walk.visits)
    assert counts_of(pool.statistics()) == walk.counts()


@given(
    site=sites(),
    order=orders,
    max_depth=bounds,
    modulus=st.integers(1, 6),
    limit=st.integers(1, 5),
    max_jobs=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
async def test_many_workers_and_keys_agree_with_themselves(
    *,
    site: Site,
    order: Order,
    max_depth: int | None,
    modulus: int,
    limit: int,
    max_jobs: int,
) -> None:
    """Each key is visited once, below a parent that links to it."""
    options: Any = {"max_depth": max_depth, "limit": limit, "order": order}

    run: Any = crawl
    visits: list[AnyVisit] = await run(
        site.page, site.roots, key=key_of(modulus), max_jobs=max_jobs, **options
    )

    assert len({visit.item % modulus for visit in visits}) == len(visits) <= max_jobs
    known = {(visit.item, visit.depth) for visit in visits}
    for visit in visits:
        if visit.parent is None:
            assert visit.depth == 0
            assert visit.item in site.roots
        else:
            assert (visit.parent, visit.depth - 1) in known
            assert visit.item in site.links[visit.parent]


@given(sites(), orders, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
async def test_every_page_that_can_be_reached_is_visited_once(
    site: Site, order: Order, limit: int
) -> None:
    """With items that are their own keys, and no other bound."""
    reached = set(site.roots)
    for _ in site.links:
        reached |= {link for page in reached for link in site.links[page]}

    visits = await crawl(
        site.page,
        site.roots,
        max_depth=None,
        limit=limit,
        order=order,
        key=lambda item: item,
    )

    assert sorted(visit.item for visit in visits) == sorted(reached)


@given(sites(), st.booleans())
@settings(max_examples=60, deadline=None)
async def test_breadth_first_finds_the_shortest_paths(site: Site, lazy: bool) -> None:
    """One worker does, where all is given lazily or nothing is."""
    distance = dict.fromkeys(site.roots, 0)
    for depth in range(len(site.links)):
        for page in [page for page, found in distance.items() if found == depth]:
            for link in site.links[page]:
                distance.setdefault(link, depth + 1)

    same = replace(site, lazy=frozenset(range(6)) if lazy else frozenset())
    pool: DepthPool[int, int] = DepthPool(
        same.page, max_depth=None, limit=1, order="breadth", key=lambda item: item
    )
    async with pool:
        if lazy:
            pool.submit_from(site.roots)
        else:
            for root in site.roots:
                pool.submit(root)

        assert {visit.item: visit.depth async for visit in pool} == distance


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=8),
    st.integers(1, 3),
    st.integers(1, 3),
)
@pytest.mark.virtual_clock
@settings(max_examples=40, deadline=None)
async def test_jobs_take_as_long_as_the_workers_need(
    naps: list[float], limit: int, buffer: int
) -> None:
    """No worker rests while a job waits: the end comes when it must."""
    free = [0.0] * limit
    for nap in reversed(naps):  # the newest root comes first
        free[0] += nap
        free.sort()
    start = anyio.current_time()

    async def sleep(job: Job[float]) -> None:
        await anyio.sleep(job.item)

    async with DepthPool(sleep, max_depth=0, limit=limit, buffer=buffer) as pool:
        for nap in naps:
            pool.submit(nap)
        async for _ in pool:
            pass

    assert anyio.current_time() - start == max(free)
