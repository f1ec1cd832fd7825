"""What a channel does, in plain lists: who waits, who is served, what is told.

The model never decides: it puts everybody in line, and then lets whoever can be
served go, always from the front.
"""

from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from safeconc import ChannelStatistics

Kind: TypeAlias = Literal["send", "receive", "step"]
Outcome: TypeAlias = tuple[str, object]

CANCELLED: Outcome = ("cancelled", None)
CLOSED = "closed"
STOPPED: Outcome = ("stopped", None)
ENDS = (CLOSED, "stopped")


@dataclass(eq=False)
class Call:
    """A call of a channel, and what comes of it."""

    kind: Kind
    item: int
    """What a sender brings."""

    outcome: Outcome | None = None
    """What happened."""

    expected: Outcome | None = None
    """What the model says."""


C = TypeVar("C", bound=Call)


class Model(Generic[C]):
    """A channel without anybody who really waits."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer: list[int] = []
        self.senders: list[C] = []
        self.receivers: list[C] = []
        self.closed = False
        self.error: Exception | None = None
        self.peak = 0

    def join(self, call: C) -> None:
        """Have somebody send or receive."""
        if self.closed and (call.kind == "send" or not self.buffer):
            self._end(call)
        else:
            (self.senders if call.kind == "send" else self.receivers).append(call)
            self._serve()

    @property
    def has_room(self) -> bool:
        """Whether an item can be sent now."""
        return not self.closed and (
            bool(self.receivers) or len(self.buffer) < self.capacity
        )

    @property
    def has_item(self) -> bool:
        """Whether an item can be received now."""
        return bool(self.buffer or self.senders)

    def put(self, item: int) -> None:
        """Send an item for which there is room."""
        self.buffer.append(item)
        self._serve()

    def take(self) -> int:
        """Receive the item that is there."""
        item = self.buffer.pop(0) if self.buffer else self._admit()
        self._serve()
        return item

    def give_up(self, call: C) -> None:
        """Have who waits be cancelled."""
        (self.senders if call.kind == "send" else self.receivers).remove(call)
        call.expected = CANCELLED

    def close(self, error: Exception | None) -> None:
        """Close; only the first one counts."""
        if not self.closed:
            self.closed, self.error = True, error
            for call in (*self.senders, *self.receivers):
                self._end(call)
            self.senders, self.receivers = [], []

    def statistics(self) -> ChannelStatistics:
        """Tell what the channel should."""
        return ChannelStatistics(
            buffered=len(self.buffer),
            peak=self.peak,
            waiting_senders=len(self.senders),
            waiting_receivers=len(self.receivers),
            closed=self.closed,
        )

    def _serve(self) -> None:
        while True:
            if self.receivers and (self.buffer or self.senders):
                item = self.buffer.pop(0) if self.buffer else self._admit()
                self.receivers.pop(0).expected = ("returned", item)
            elif self.senders and len(self.buffer) < self.capacity:
                self.buffer.append(self._admit())
            else:
                break
        self.peak = max(self.peak, len(self.buffer))

    def _admit(self) -> int:
        sender = self.senders.pop(0)
        sender.expected = ("returned", None)
        return sender.item

    def _end(self, call: C) -> None:
        call.expected = (CLOSED, self.error)
        if call.kind == "step" and self.error is None:
            call.expected = STOPPED
