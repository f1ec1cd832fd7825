"""A channel of tasks against the model.

Tasks send and receive, wait, and are cancelled; what needs no waiting happens
without giving them a turn in between. So a cancellation comes before or after the
hand-over that it races with, and the model knows who wins: what was handed over
counts, whatever the task hears of first; but a cancellation goes before the end.
"""

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from typing_extensions import override

from safeconc import Channel, ChannelClosed
from safeconc._policy._passes import CAREFUL
from tests.channel_model import (
    CANCELLED,
    CLOSED,
    ENDS,
    STOPPED,
    Call,
    Kind,
    Model,
)
from tests.shuffle import ShuffledEventLoop

pytestmark = pytest.mark.virtual_clock


@dataclass(eq=False, kw_only=True)
class Caller(Call):
    """A task that makes one call."""

    native: bool
    scope: anyio.CancelScope
    task: asyncio.Task[Any] | None = None
    cancelled: bool = False

    async def run(self, channel: Channel[int]) -> None:
        """Make the call; then see that a cancellation that lost arrives after all."""
        if self.native:
            self.task = asyncio.current_task()
        with self.scope:
            try:
                self.outcome = ("returned", await self._call(channel))
            except ChannelClosed as exc:
                self.outcome = (CLOSED, exc.__cause__)
            except StopAsyncIteration:
                self.outcome = STOPPED
            except anyio.get_cancelled_exc_class():
                self.outcome = CANCELLED
                self._uncancel()
                raise
            if self.cancelled:
                with pytest.raises(anyio.get_cancelled_exc_class()):
                    await checkpoint()
                self._uncancel()

    async def _call(self, channel: Channel[int]) -> object:
        if self.kind == "send":
            await channel.send(self.item)
            return None
        if self.kind == "receive":
            return await channel.receive()
        return await anext(channel)

    def cancel(self) -> None:
        """Cancel the call, as others would."""
        self.cancelled = True
        if self.task is None:
            self.scope.cancel()
        else:
            self.task.cancel()

    def _uncancel(self) -> None:
        if self.task is not None:
            assert self.task.cancelling() == 1
            self.task.uncancel()


class Play(Model[Caller]):
    """One history, of a channel and of its model."""

    def __init__(self, capacity: int, tasks: TaskGroup, *, native: bool) -> None:
        super().__init__(capacity)
        self.channel: Channel[int] = Channel(capacity)
        self.tasks = tasks
        self.native = native
        self.items = 0
        self.callers: list[Caller] = []

    def _next(self) -> int:
        self.items += 1
        return self.items

    # What may happen

    async def warm_up(self) -> None:
        """Get to where calls look at times only."""
        for _ in range(CAREFUL):
            await self.channel.send(0)
            await self.channel.receive()
        self.peak = 1

    async def call(self, kind: Kind, native: bool) -> None:
        """Have a task make a call, and all tasks get on with theirs."""
        native = native and self.native
        caller = Caller(kind, self._next(), native=native, scope=anyio.CancelScope())
        self.callers.append(caller)
        await self.settle()
        self.join(caller)
        self.tasks.start_soon(caller.run, self.channel)
        await self.settle()

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
        """Cancel who waits, perhaps already for naught: the turn has not come."""
        waiting = [each for each in self.callers if each.outcome is None]
        if waiting and not (caller := waiting[index % len(waiting)]).cancelled:
            caller.cancel()

    @override
    def close(self, error: Exception | None) -> None:
        self.channel.close(error)
        super().close(error)

    # What must hold

    async def settle(self) -> None:
        """Let all tasks come as far as they can: who was cancelled leaves the line."""
        await anyio.wait_all_tasks_blocked()
        for line in (self.senders, self.receivers):
            for caller in [each for each in line if each.cancelled]:
                self.give_up(caller)
        for caller in self.callers:
            if caller.cancelled and caller.expected and caller.expected[0] in ENDS:
                caller.expected = CANCELLED
            assert caller.outcome == caller.expected

    def check(self) -> None:
        """Compare what can be seen at any time, whoever is about to run."""
        assert self.channel.statistics() == self.statistics()


async def play(
    capacity: int, steps: list[tuple[Any, ...]], *, native: bool, warm: bool
) -> None:
    """Do the steps one after the other."""
    async with anyio.create_task_group() as tasks:
        game = Play(capacity, tasks, native=native)
        if warm and capacity:
            await game.warm_up()
        for name, *arguments in steps:
            done = getattr(game, name)(*arguments)
            if done is not None:
                await done
            game.check()
        game.close(None)
        await game.settle()
        game.check()


STEPS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(["send", "send"]), st.booleans()),
    st.tuples(st.just("call"), st.sampled_from(["receive", "step"]), st.booleans()),
    st.sampled_from([("send_nowait",), ("receive_nowait",)]),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.sampled_from(
        [("send_nowait",)] * 8 + [("close", None), ("close", ValueError())]
    ),
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    capacity=st.integers(0, 3),
    steps=st.lists(STEPS, min_size=5, max_size=40),
    warm=st.booleans(),
    seed=st.random_module(),
)
@settings(max_examples=100, deadline=None)
def test_channel_does_what_its_model_does(
    backend: str,
    capacity: int,
    steps: list[tuple[Any, ...]],
    warm: bool,
    seed: object,
) -> None:
    """Every item once, in order, to who waits longest; counted exactly at any time."""
    native = backend == "asyncio"
    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)}
    if native:
        options = {"loop_factory": partial(ShuffledEventLoop, random.getrandbits(32))}
    anyio.run(
        partial(play, capacity, steps, native=native, warm=warm),
        backend=backend,
        backend_options=options,
    )
