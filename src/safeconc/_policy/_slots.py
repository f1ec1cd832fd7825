"""Who may start, who waits in line, and when waiting can never end."""

from collections import OrderedDict
from typing import Generic, TypeVar, final

W = TypeVar("W")
H = TypeVar("H")


@final
class Slots(Generic[W, H]):
    """A fixed number of slots with one fair line in front of them.

    A slot that comes free belongs to the head of the line in the same step: it
    is handed over, never put up for whoever looks next. So a free slot means
    that nobody waits, and a newcomer cannot barge.

    A holder that waits for a slot of its own group holds one back. When all
    holders do, none will ever come free; :meth:`circle` tells before the last
    of them joins the line.

    :param limit: how many slots there are; None means as many as asked for.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken = 0
        # Ordered, not a deque: who gives up may stand anywhere in it.
        self._line: OrderedDict[W, None] = OrderedDict()
        self._holding: dict[W, H] = {}

    @property
    def limit(self) -> int | None:
        """How many slots there are; None if there is no bound."""
        return self._limit

    @property
    def taken(self) -> int:
        """Slots in use, or handed over and not yet used."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Members of the line."""
        return len(self._line)

    def take(self) -> bool:
        """Take a slot if there is one."""
        if self._limit is not None and self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    def circle(self) -> tuple[H, ...] | None:
        """Return the holders in line if one more would be the last, else None."""
        if len(self._holding) + 1 == self._limit:
            return tuple(self._holding.values())
        return None

    def join(self, waiter: W, holder: H | None = None) -> None:
        """Put *waiter* at the end of the line.

        :param holder: who waits, if it holds a slot itself.
        """
        self._line[waiter] = None
        if holder is not None:
            self._holding[waiter] = holder

    def leave(self, waiter: W) -> None:
        """Take *waiter* out of the line; it gave up."""
        del self._line[waiter]
        self._holding.pop(waiter, None)

    def free(self) -> W | None:
        """Give a slot back; return the waiter that has it now, if any."""
        if not self._line:
            self._taken -= 1
            return None
        waiter, _ = self._line.popitem(last=False)
        self._holding.pop(waiter, None)
        return waiter

    def clear(self) -> list[W]:
        """Dissolve the line and return who stood in it."""
        waiters = list(self._line)
        self._line.clear()
        self._holding.clear()
        return waiters
