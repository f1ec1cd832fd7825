"""Which results may leave, and in which order."""

from collections import deque
from typing import Generic, TypeVar, final

R = TypeVar("R")


@final
class Window(Generic[R]):
    """Results between the workers that finish them and the consumer.

    An item is :attr:`outstanding` from its start until its result is taken. Whoever
    starts items bounds that number, and so what can pile up here.

    With *ordered*, results leave in the order in which the items started::

        started:  0 1 2 3
        finished: 2 0 3 1
        leave:        0     1 2 3
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._early: dict[int, R] = {}
        self._ready: deque[R] = deque()
        self._started = 0
        self._released = 0
        self._taken = 0

    @property
    def started(self) -> int:
        """Items started so far."""
        return self._started

    @property
    def buffered(self) -> int:
        """Results that are finished and not taken."""
        return len(self._early) + len(self._ready)

    @property
    def outstanding(self) -> int:
        """Items started whose results are not taken."""
        return self._started - self._taken

    def start(self) -> int:
        """Start an item; return its key."""
        key = self._started
        self._started += 1
        return key

    def finish(self, key: int, result: R) -> None:
        """Put the result of the item *key*."""
        if not self._ordered:
            self._ready.append(result)
            return
        self._early[key] = result
        while self._released in self._early:
            self._ready.append(self._early.pop(self._released))
            self._released += 1

    def is_ready(self) -> bool:
        """Tell whether a result may leave now."""
        return bool(self._ready)

    def take(self) -> R:
        """Take the next result; :exc:`IndexError` if none may leave now."""
        result = self._ready.popleft()
        self._taken += 1
        return result

    def put_back(self, result: R) -> None:
        """Undo a :meth:`take`: *result* is the next one again."""
        self._ready.appendleft(result)
        self._taken -= 1

    def clear(self) -> None:
        """Drop the results that nobody will take."""
        self._early.clear()
        self._ready.clear()
