"""Who gets which visit, and who is still at work on one."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, Generic, TypeVar, final

from safeconc._policy._exchange import Waiting, leaving

V = TypeVar("V")

END: Any = object()
"""There is no further visit."""

ENDED: Any = object()
"""The block has ended before a visit could be handed over."""


@final
class Visits(Generic[V]):
    """Visits that wait for a consumer, consumers in line, and visits in their hands.

    A visit in somebody's hand counts as work, since whoever works on it may submit
    further jobs. It is over when the same one asks for the next, or has let go of the
    iterator: each visit comes with a receipt, by which the iterator tells.
    """

    def __init__(self) -> None:
        self.ready: deque[V] = deque()
        self.consumers: OrderedDict[Waiting, Hashable] = OrderedDict()
        self.hands: dict[Hashable, int] = {}
        self.done = False
        """Whether the end was reached, and told."""
        self._taken = 0
        self._closed = False

    def deliver(self, visit: V) -> bool:
        """Give *visit* to the first in line; True if it waits here, as none is."""
        if self.consumers:
            waiter, consumer = self.consumers.popitem(last=False)
            waiter.hand((visit, self._hold(consumer)))
            return False
        if self._closed:
            return False  # of a job that paid no heed to the end
        self.ready.append(visit)
        return True

    def take(self, consumer: Hashable) -> tuple[V, int]:
        """Take a visit that is ready; and a receipt for it."""
        return self.ready.popleft(), self._hold(consumer)

    def put_down(self, consumer: Hashable) -> bool:
        """Note that *consumer* is done with what it took; False if that was nothing."""
        return self.hands.pop(consumer, None) is not None

    def let_go(self, receipt: int) -> bool:
        """Note that nobody works any more on what was taken; False if it was known."""
        for consumer, held in self.hands.items():
            if held == receipt:
                del self.hands[consumer]
                return True
        return False

    def finish(self) -> None:
        """Tell all in line that there is no further visit."""
        self.done = True
        for waiter in leaving(self.consumers):
            waiter.hand((END, 0))

    def close(self) -> None:
        """Give out nothing more, and tell all in line."""
        self._closed = True
        self.ready.clear()
        self.hands.clear()
        for waiter in leaving(self.consumers):
            waiter.hand((ENDED, 0))

    def _hold(self, consumer: Hashable) -> int:
        self._taken += 1
        self.hands[consumer] = self._taken
        return self._taken
