"""Who gets which item, and who has to wait."""

from collections import OrderedDict, deque
from typing import Any, Generic, Protocol, TypeVar, final

T = TypeVar("T")
W = TypeVar("W")

EMPTY: Any = object()
"""There is no item to take now."""

END: Any = object()
"""Handed to a receiver in line when there will be no item any more."""

REFUSED: Any = object()
"""Handed to a sender in line whose item nobody will take any more."""

_NOTHING: deque[Any] = deque(maxlen=0)


class Waiting(Protocol):
    """Somebody in line."""

    def hand(self, value: object = None) -> None:
        """Give them what they wait for; it is theirs from now on."""
        ...


@final
class Exchange(Generic[T]):
    """A bounded buffer with a line of senders before it and one of receivers behind.

    Whoever brings an item or takes one settles in the same step what that means
    for the head of the other line, so at most one of three things is there: free
    room, senders in line, or receivers in line. A newcomer cannot barge, since it
    finds room only if nobody waits for it. Items leave in the order in which they
    came, those of the senders in line after those in the buffer.

    :param capacity: items that the buffer holds; with 0 each one goes from hand to
        hand.
    """

    __slots__ = (
        "_room",
        "buffer",
        "closed",
        "easy",
        "peak",
        "ready",
        "receivers",
        "senders",
    )

    def __init__(self, capacity: int) -> None:
        self._room = capacity
        self.buffer: deque[T] = deque()
        self.easy = 0
        """While the buffer holds fewer items, :meth:`put` only appends to it: there is
        room, it is no new peak, and no receiver waits."""
        self.ready = self.buffer
        """The buffer while :meth:`take` only takes from it, since no sender waits;
        else something empty."""
        # Ordered dicts, not deques: who gives up may stand anywhere in line.
        self.senders: OrderedDict[Waiting, T] = OrderedDict()
        self.receivers: OrderedDict[Waiting, None] = OrderedDict()
        self.closed = False
        self.peak = 0

    def put(self, item: T) -> bool:
        """Give *item* to the first receiver in line, else put it into the buffer.

        False if there is no room, or if the exchange is closed.
        """
        if self.receivers:
            self.receivers.popitem(last=False)[0].hand(item)
            self._settle()
            return True
        if len(self.buffer) >= self._room:
            return False
        self.buffer.append(item)
        self.peak = max(self.peak, len(self.buffer))
        self._settle()
        return True

    def take(self) -> T:
        """Return the oldest item; ``EMPTY`` if there is none."""
        item: T = self.buffer.popleft() if self.buffer else EMPTY
        if self.senders:
            sender, waiting = self.senders.popitem(last=False)
            if item is EMPTY:
                item = waiting
            else:
                self.buffer.append(waiting)
            sender.hand()
            self._settle()
        return item

    def put_back(self, item: T) -> None:
        """Undo a :meth:`take`: *item* is the oldest again, be there room or not."""
        if self.receivers:
            self.receivers.popitem(last=False)[0].hand(item)
        else:
            self.buffer.appendleft(item)
        self._settle()

    def join_senders(self, sender: Waiting, item: T) -> None:
        """Put *sender* at the end of the line, with its item."""
        self.senders[sender] = item
        self._settle()

    def join_receivers(self, receiver: Waiting) -> None:
        """Put *receiver* at the end of the line."""
        self.receivers[receiver] = None
        self._settle()

    def leave(self, waiting: Waiting) -> None:
        """Take *waiting* out of its line; it gave up."""
        if waiting in self.senders:
            del self.senders[waiting]
        else:
            del self.receivers[waiting]
        self._settle()

    def close(self) -> bool:
        """Take nothing more, and tell both lines; True if this call did it.

        What is in the buffer stays there to be taken.
        """
        if self.closed:
            return False
        self.closed = True
        self._room = 0  # so that put() need not ask
        for receiver in leaving(self.receivers):
            receiver.hand(END)
        for sender in leaving(self.senders):
            sender.hand(REFUSED)
        self._settle()
        return True

    def _settle(self) -> None:
        self.easy = 0 if self.receivers else min(self._room, self.peak)
        self.ready = _NOTHING if self.senders else self.buffer


def leaving(line: OrderedDict[W, Any]) -> list[W]:
    """Dissolve *line* and return who stood in it."""
    members = list(line)
    line.clear()
    return members
