"""A channel of threads against the model.

Each call has a thread. After each step all of them come to rest: they have returned,
or stand in line. So histories are the same each time, though the threads are real.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from safeconc import Context, ContextCancelled
from safeconc.threads import Channel, ChannelClosed
from tests.channel_model import CANCELLED, CLOSED, STOPPED, Call, Kind, Model


@dataclass(eq=False)
class Caller(Call):
    """A thread that makes one call."""

    context: Context = field(default_factory=Context.root)

    def run(self, channel: Channel[int]) -> None:
        """Make the call."""
        try:
            with self.context:
                self.outcome = ("returned", self._call(channel))
        except ChannelClosed as exc:
            self.outcome = (CLOSED, exc.__cause__)
        except StopIteration:
            self.outcome = STOPPED
        except ContextCancelled:
            self.outcome = CANCELLED

    def _call(self, channel: Channel[int]) -> object:
        if self.kind == "send":
            channel.send(self.item)
            return None
        return channel.receive() if self.kind == "receive" else next(channel)


class Play(Model[Caller]):
    """One history, of a channel and of its model."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.channel = Channel[int](capacity)
        self.items = 0
        self.callers: list[Caller] = []
        self.threads: list[threading.Thread] = []

    def _next(self) -> int:
        self.items += 1
        return self.items

    def call(self, kind: Kind) -> None:
        """Have a thread make a call."""
        caller = Caller(kind, self._next())
        self.callers.append(caller)
        self.join(caller)
        thread = threading.Thread(target=caller.run, args=(self.channel,))
        self.threads.append(thread)
        thread.start()

    def send_nowait(self) -> None:
        """Send, if there is room."""
        item = self._next()
        if self.has_room:
            self.channel.send_nowait(item)
            self.put(item)
        else:
            with pytest.raises(ChannelClosed if self.closed else anyio.WouldBlock):
                self.channel.send_nowait(item)

    def receive_nowait(self) -> None:
        """Receive, if there is an item."""
        if self.has_item:
            assert self.channel.receive_nowait() == self.take()
        else:
            with pytest.raises(ChannelClosed if self.closed else anyio.WouldBlock):
                self.channel.receive_nowait()

    def cancel(self, index: int) -> None:
        """Cancel who waits."""
        waiting = [*self.senders, *self.receivers]
        if waiting:
            caller = waiting[index % len(waiting)]
            self.give_up(caller)
            caller.context.cancel()

    @override
    def close(self, error: Exception | None) -> None:
        self.channel.close(error)
        super().close(error)

    def settle(self) -> None:
        """Let all threads come to rest, and compare."""
        waiting = {*self.senders, *self.receivers}
        for caller, thread in zip(self.callers, self.threads, strict=True):
            if caller not in waiting:
                thread.join()
            assert caller.outcome == caller.expected
        while self.channel.statistics() != self.statistics():
            time.sleep(0)


STEPS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(["send", "receive", "step"])),
    st.sampled_from([("send_nowait",), ("receive_nowait",)]),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.sampled_from(
        [("send_nowait",)] * 8 + [("close", None), ("close", ValueError())]
    ),
)


@given(capacity=st.integers(0, 3), steps=st.lists(STEPS, min_size=5, max_size=25))
@settings(max_examples=30, deadline=None)
def test_channel_does_what_its_model_does(
    capacity: int, steps: list[tuple[Any, ...]]
) -> None:
    """Every item once, in order, to who waits longest; counted exactly at any time."""
    game = Play(capacity)
    try:
        for name, *arguments in steps:
            getattr(game, name)(*arguments)
            game.settle()
    finally:
        game.close(None)
    game.settle()
