"""Which job comes next, and which comes not at all."""

import math
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator
from typing import Any, Generic, Literal, TypeVar, final

T = TypeVar("T")
J = TypeVar("J")

Order = Literal["depth", "breadth"]
Overflow = Literal["raise", "drop"]

NOTHING: Any = object()
"""No job waits."""

PAUSE: Any = object()
"""Many items were refused in a row: let others run before asking again."""

USED_UP: Any = object()
"""An iterable has no further item."""

IN_A_ROW = 100
"""Items of iterables that may be refused before others get their turn."""


class FrontierFull(Exception):  # noqa: N818 - a signal, like queue.Full
    """More jobs wait than ``max_frontier`` allows."""


@final
class Lazy(Generic[J]):
    """An iterable of items that become jobs one by one, when their turn comes.

    :param depth: of these jobs.
    :param items: gives the items.
    :param make: makes a job of an item.
    :param run: calls a function with arguments, in the surroundings of whoever
        submitted the iterable: what is called is, in part, code of theirs.
    """

    __slots__ = ("depth", "items", "make", "run", "spent", "taken", "waits")

    def __init__(
        self,
        depth: int,
        items: Iterator[Any],
        make: Callable[[Any], J],
        run: Callable[..., Any],
    ) -> None:
        self.depth = depth
        self.items = items
        self.make = make
        self.run = run
        self.taken = False
        """Whether somebody is about to take an item; nobody else may then."""
        self.spent = False
        """Whether it has come to its turn too late: there have been enough jobs."""
        self.waits = True
        """Whether it is in the frontier."""

    def next(self) -> Any:
        """Take the next item; ``USED_UP`` if there is none. Calls code of others."""
        return USED_UP if self.spent else next(self.items, USED_UP)

    def close(self) -> None:
        """Tell the iterable that no more will be taken."""
        items = self.items
        if isinstance(items, Generator):
            self.run(items.close)


@final
class Frontier(Generic[J]):
    r"""The jobs of a tree that wait, and the rules for who may join them.

    ``"depth"`` takes the newest job first. So a branch is walked to its end before
    the next one is begun, and what waits is a few siblings on each level. With
    ``"breadth"``, the oldest first, a whole level waits at once::

        tree:          a            depth:    a c g f b e d     at most 3 wait
                     /   \          breadth:  a b c d e f g     at most 4 wait
                    b     c
                   / \   / \
                  d   e f   g

    An iterable of items waits as one, and stays in its place until it is used up.

    :param max_depth: jobs deeper than that are refused; None for no bound.
    :param key: items of an equal key are one job; None if all are different.
    :param max_frontier: how many may wait; None for no bound.
    :param max_jobs: how many may be accepted in all; None for no bound.
    """

    def __init__(
        self,
        *,
        max_depth: int | None = None,
        order: Order = "depth",
        key: Callable[[Any], Hashable] | None = None,
        max_frontier: int | None = None,
        overflow: Overflow = "raise",
        max_jobs: int | None = None,
    ) -> None:
        if order not in ("depth", "breadth"):
            raise ValueError(f'order must be "depth" or "breadth", not {order!r}')
        if overflow not in ("raise", "drop"):
            raise ValueError(f'overflow must be "raise" or "drop", not {overflow!r}')
        self._max_depth = math.inf if max_depth is None else max_depth
        self._newest_first = order == "depth"
        self._key = key
        self._max_frontier = max_frontier
        self._overflow = overflow
        self._budget = math.inf if max_jobs is None else max_jobs
        self._has_rules = (key, max_frontier, max_jobs) != (None, None, None)
        self._peak = 0
        self._seen: set[Hashable] = set()
        self._in_hand = 0
        self.waiting: deque[J | Lazy[J]] = deque()
        """What was admitted and not yet taken; who had it admitted appends it."""
        self.accepted: list[int] = []
        """Jobs accepted, by depth."""
        self.easy = 0
        """Of items less deep, :meth:`admits` would only count one more as accepted."""
        self.too_deep = 0
        self.duplicates = 0
        self.dropped = 0
        self.over_budget = 0

    @property
    def peak(self) -> int:
        """The largest number that has waited."""
        return max(self._peak, len(self.waiting))

    @property
    def seen(self) -> int:
        """Keys that are remembered."""
        return len(self._seen)

    def admits(self, item: Any, depth: int, *, waits: bool = True) -> bool:
        """Decide on an item, and count it.

        :param waits: whether its job will wait here, or is taken at once.
        """
        if depth > self._max_depth:
            self.too_deep += 1
            return False
        return self.accepts(self.key_of(item), depth, waits=waits)

    # The same in steps, of which only the second one calls code of others

    def is_too_deep(self, depth: int) -> bool:
        """Refuse what is too deep."""
        if depth > self._max_depth:
            self.too_deep += 1
            return True
        return False

    def key_of(self, item: Any) -> Hashable:
        """Return what :meth:`accepts` decides by."""
        return NOTHING if self._key is None else self._key(item)

    def accepts(self, key: Hashable, depth: int, *, waits: bool = True) -> bool:
        """Decide on an item by its key, if it is not too deep."""
        if self._has_rules and not self._obeys_rules(key, waits=waits):
            return False
        try:
            self.accepted[depth] += 1
        except IndexError:  # the first one so deep
            self.accepted.append(1)
            self.easy = 0 if self._has_rules else len(self.accepted)
        return True

    def admits_lazy(self, depth: int) -> bool:
        """Decide on an iterable of items."""
        return not self.is_too_deep(depth) and self._has_place()

    # Jobs leave in two ways: where a step is never interrupted, by take(); else by
    # pick(), and the items of an iterable are taken outside of any lock.

    def take(self) -> J:
        """Return the next job; ``NOTHING`` if none waits, ``PAUSE`` to ask again."""
        waiting = self.waiting
        # What pick() does with a job that comes next, without a call for each.
        if waiting and not self._in_hand:
            if len(waiting) > self._peak:  # noqa: PLR1730 - max() is a call, too
                self._peak = len(waiting)
            if type(waiting[-1] if self._newest_first else waiting[0]) is not Lazy:
                return waiting.pop() if self._newest_first else waiting.popleft()  # type: ignore[return-value]
        refused = 0
        while refused < IN_A_ROW:
            entry: Any = self.pick()
            if type(entry) is not Lazy:
                return entry  # type: ignore[no-any-return]
            job = self._take_lazy(entry)  # pyright: ignore[reportUnknownArgumentType]
            if job is not NOTHING:
                return job
            refused += 1
        return PAUSE  # type: ignore[no-any-return]

    def pick(self) -> J | Lazy[J]:
        """Choose what comes next; ``NOTHING`` if there is nothing.

        A job leaves. An iterable stays in its place, but is in the caller's hand,
        until :meth:`lay_back` or :meth:`drop`; meanwhile others get what comes after.
        """
        waiting = self.waiting
        count = len(waiting)
        self._peak = max(self._peak, count)
        if count == self._in_hand:
            return NOTHING  # type: ignore[no-any-return]
        entry: Any = waiting[-1] if self._newest_first else waiting[0]
        if type(entry) is not Lazy:
            return waiting.pop() if self._newest_first else waiting.popleft()
        if entry.taken:
            return self._pick_behind()
        return self._take_up(entry)  # pyright: ignore[reportUnknownArgumentType]

    def has_free(self) -> bool:
        """Tell whether :meth:`pick` would find something."""
        return len(self.waiting) > self._in_hand

    def lay_back(self, entry: Lazy[J]) -> None:
        """Let others take an item of an iterable that was in hand."""
        entry.taken = False
        if entry.waits:
            self._in_hand -= 1

    def drop(self, entry: Lazy[J]) -> None:
        """Take out an iterable that was in hand."""
        self.lay_back(entry)
        waiting = self.waiting
        self._peak = self.peak
        # At the end it is found without a search, and nearly always it is at either
        # end. But its items may come from code that submitted jobs.
        if entry.waits and waiting[-1] is entry:
            waiting.pop()
        elif entry.waits:
            waiting.remove(entry)
        entry.waits = False

    def _take_up(self, entry: Lazy[J]) -> Lazy[J]:
        entry.taken = True
        self._in_hand += 1
        if not self._budget:
            entry.spent = True
            self.over_budget += 1
        return entry

    def _pick_behind(self) -> J | Lazy[J]:
        """Choose what comes after those that are in others' hands."""
        waiting = self.waiting
        count = len(waiting)
        places = range(count - 1, -1, -1) if self._newest_first else range(count)
        place = next(place for place in places if not _is_taken(waiting[place]))
        entry = waiting[place]
        if isinstance(entry, Lazy):
            return self._take_up(entry)  # pyright: ignore[reportUnknownArgumentType]
        del waiting[place]
        return entry

    def _take_lazy(self, entry: Lazy[J]) -> J:
        """Return a job from an iterable; ``NOTHING`` if its next item makes none."""
        job: J = USED_UP
        try:
            job = entry.run(self._make_next, entry)
        finally:
            if job is USED_UP:
                self.drop(entry)
                entry.close()
            else:
                self.lay_back(entry)
        return NOTHING if job is USED_UP else job

    def _make_next(self, entry: Lazy[J]) -> J:
        item = entry.next()
        if item is USED_UP:
            return item  # type: ignore[no-any-return]
        admitted = self.admits(item, entry.depth, waits=False)
        return entry.make(item) if admitted else NOTHING

    def clear(self) -> list[J | Lazy[J]]:
        """Drop all that waits, and return it."""
        self._peak = self.peak
        dropped = list(self.waiting)
        self.waiting.clear()
        self._in_hand = 0
        for entry in dropped:
            if isinstance(entry, Lazy):
                entry.waits = False
        return dropped

    def _obeys_rules(self, key: Hashable, *, waits: bool) -> bool:
        if key in self._seen:
            self.duplicates += 1
            return False
        if not self._budget:
            self.over_budget += 1
            return False
        if waits and not self._has_place():
            return False
        if key is not NOTHING:
            self._seen.add(key)
        self._budget -= 1
        return True

    def _has_place(self) -> bool:
        count = len(self.waiting)
        if self._max_frontier is None or count < self._max_frontier:
            return True
        self.dropped += 1
        if self._overflow == "drop":
            return False
        raise FrontierFull(
            f"{count} jobs wait already (max_frontier={self._max_frontier}); give "
            "children as an iterable with submit_from, which waits as one, raise "
            'max_frontier, or choose overflow="drop"'
        )


def _is_taken(entry: object) -> bool:
    """Tell whether it is an iterable in somebody's hand."""
    return isinstance(entry, Lazy) and entry.taken
