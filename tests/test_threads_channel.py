"""Channel between threads: interruptions, signals, loops, and handlers that block.

What it promises in every world is in ``test_channel_promises`` and its like.
"""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from safeconc import Context, ContextCancelled, DeadlineExceeded
from safeconc._policy._exchange import Exchange
from safeconc.threads import (
    Channel,
    ChannelClosed,
    ChannelStatistics,
    ErrGroup,
    consume,
)
from safeconc.threads._waiter import Waiter
from tests.together import handled, interrupted


def until(condition: Callable[[], object]) -> None:
    """Let other threads run until *condition* holds."""
    while not condition():
        time.sleep(0)


def waiting(channel: Channel[Any], *, senders: int = 0, receivers: int = 0) -> None:
    """Let other threads run until so many wait at *channel*."""

    def is_so() -> bool:
        statistics = channel.statistics()
        counts = statistics.waiting_senders, statistics.waiting_receivers
        return counts == (senders, receivers)

    until(is_so)


def filled(*items: int) -> Channel[int]:
    """Make a channel with items in it."""
    channel = Channel[int](max(len(items), 1))
    for item in items:
        channel.send_nowait(item)
    return channel


def never(thing: object) -> None:
    """Be a function that should not be called."""
    pytest.fail(f"called with {thing!r}")


# Waiting


def test_block_gives_the_channel() -> None:
    """So it may be made in the same line."""
    channel = Channel[int](1)
    with channel as same:
        assert same is channel


@pytest.mark.parametrize("capacity", [0, 1])
def test_deadline_ends_a_send(capacity: int) -> None:
    """A thread that waits notices it by itself."""
    channel = Channel[int](capacity)
    for item in range(capacity):
        channel.send(item)

    with pytest.raises(DeadlineExceeded), Context(timeout=0.001):
        channel.send(9)
    assert channel.statistics().waiting_senders == 0
    assert channel.statistics().buffered == capacity


def test_deadline_ends_a_loop_with_its_error() -> None:
    """A loop over a channel does not stop as if all had been sent."""
    channel = Channel[int](1)

    with pytest.raises(DeadlineExceeded), Context(timeout=0.001):
        for _ in channel:
            pytest.fail("there was an item")
    assert channel.statistics().waiting_receivers == 0


def test_both_ends_cancelled_at_once_leave_nobody_in_line() -> None:
    """All who wait hear of it, on both sides of two channels."""
    full, empty = filled(1), Channel[int](1)
    with ErrGroup(limit=None) as group:
        for _ in range(3):
            group.go(full.send, 2)
            group.go(empty.receive)
        waiting(full, senders=3)
        waiting(empty, receivers=3)
        group.cancel()

    assert full.statistics() == ChannelStatistics(1, 1, 0, 0, closed=False)
    assert empty.statistics() == ChannelStatistics(0, 0, 0, 0, closed=False)


def test_loop_of_sends_that_need_not_wait_sees_the_end() -> None:
    """However much room there is."""
    channel = Channel[int](10)
    with pytest.raises(ContextCancelled), Context() as context:
        for item in range(10):
            channel.send(item)
            if item == 3:
                context.cancel()

    assert channel.statistics().buffered == 4


# A Ctrl-C while it waits


def test_wait_interrupted_when_it_had_left_gives_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stands nowhere, and nobody has given it anything."""

    def leave_and_raise(
        self: Waiter, lock: threading.Lock, leave: Callable[[Waiter], object]
    ) -> None:
        with lock:
            leave(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "wait", leave_and_raise)
    channel = Channel[int](1)

    with pytest.raises(KeyboardInterrupt):
        channel.receive()

    assert channel.statistics().waiting_receivers == 0
    assert channel.statistics().buffered == 0


def interrupt_when_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a wait interrupted when it has been handed something."""

    def is_handed(waiter: Waiter) -> bool:
        if waiter._handed:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(Waiter, "_is_handed", is_handed)


def test_item_of_an_interrupted_receive_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the next one again."""
    interrupt_when_handed(monkeypatch)
    channel = Channel[int](5)

    def send() -> None:
        waiting(channel, receivers=1)
        channel.send(1)
        channel.send(2)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        channel.receive()
    thread.join()

    assert [channel.receive(), channel.receive()] == [1, 2]


def test_interrupted_wait_for_the_end_gives_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was handed over is no item then."""
    interrupt_when_handed(monkeypatch)
    channel = Channel[int](5)

    def close() -> None:
        waiting(channel, receivers=1)
        channel.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        channel.receive()
    thread.join()

    assert channel.statistics().buffered == 0


def test_item_of_an_interrupted_receive_goes_to_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not lie in the channel while another receiver waits."""
    channel = Channel[int](5)
    other = Waiter()

    def wait(waiter: Waiter, *_: object) -> None:
        with channel._lock:
            channel._exchange.join_receivers(other)
        channel.send(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        channel.receive()

    assert other._value == 1
    assert channel.statistics() == ChannelStatistics(0, 0, 0, 0, closed=False)


@pytest.mark.parametrize("side", ["send", "receive"])
def test_ctrl_c_before_the_wait_begins_leaves_the_line(
    monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """Nobody stays in line who will not come: an item would be handed to no one."""
    channel = Channel[int](0)

    def wait(waiter: Waiter, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        partial(channel.send, 1)() if side == "send" else channel.receive()

    assert channel.statistics() == ChannelStatistics(0, 0, 0, 0, closed=False)


@pytest.mark.parametrize("side", ["send", "receive"])
def test_ctrl_c_before_there_is_a_place_in_line_passes(
    monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """There is nothing to leave, and the lock is free again."""
    channel = Channel[int](0)

    def look(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Exchange, "put", look)
        patch.setattr(Exchange, "take", look)
        with pytest.raises(KeyboardInterrupt):
            partial(channel.send, 1)() if side == "send" else channel.receive()

    assert channel.statistics() == ChannelStatistics(0, 0, 0, 0, closed=False)


@pytest.mark.parametrize("side", ["senders", "receivers"])
def test_ctrl_c_ends_a_wait_and_leaves_the_line(side: str) -> None:
    """A thread that blocks is woken by the signal, as in all of Python."""
    channel = Channel[int](0)

    with interrupted(lambda: getattr(channel.statistics(), f"waiting_{side}")):
        partial(channel.send, 1)() if side == "senders" else channel.receive()
    assert channel.statistics() == ChannelStatistics(0, 0, 0, 0, closed=False)


# A handler above this very thread


@pytest.mark.parametrize("step", ["put", "take", "close"])
def test_handler_may_cancel_while_its_thread_holds_the_lock(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """No cancel takes the lock of a channel, also if it ends waits at it."""
    channel = Channel[int](5)
    steps: dict[str, Callable[[], object]] = {
        "put": partial(channel.send_nowait, 1),
        "take": channel.receive_nowait,
        "close": channel.close,
    }
    context = Context.root()
    was_held: list[bool] = []

    def handle(_: object) -> None:
        was_held.append(channel._lock.locked())
        context.cancel()

    def signalled(exchange: Exchange[int], *arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(exchange, *arguments)

    def wait() -> None:
        with suppress(ContextCancelled, ChannelClosed), context:
            channel.receive()

    thread = threading.Thread(target=wait)
    thread.start()
    waiting(channel, receivers=1)
    original = getattr(Exchange, step)
    monkeypatch.setattr(Exchange, step, signalled)
    with handled(signal.SIGINT, handle), suppress(anyio.WouldBlock):
        steps[step]()
    thread.join()

    assert was_held == [True]


# Event loops


@pytest.mark.parametrize("call", ["send", "receive", "next", "enter", "consume"])
async def test_a_task_may_not_block(call: str) -> None:
    """Nor need it wait: what would work now would stop the loop another time."""
    channel = filled(1, 2)
    channel.receive_nowait()
    calls: dict[str, Callable[[], object]] = {
        "send": partial(channel.send, 3),
        "receive": channel.receive,
        "next": partial(next, channel),
        "enter": channel.__enter__,
        "consume": partial(consume, channel, print),
    }

    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        calls[call]()
    assert channel.statistics() == ChannelStatistics(1, 2, 0, 0, closed=False)
    await anyio.lowlevel.checkpoint()


async def test_a_task_may_hand_to_threads_without_waiting() -> None:
    """And take from them, and tell them of the end: the way out of a loop."""
    work, done = Channel[int](3), Channel[int](3)

    def double() -> None:
        with done:
            for item in work:
                done.send(2 * item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, double)
        for item in range(3):
            work.send_nowait(item)
        work.close()

    assert [done.receive_nowait() for _ in range(3)] == [0, 2, 4]
    with pytest.raises(ChannelClosed):
        done.receive_nowait()


# Handlers


@pytest.mark.parametrize("drain", [None, 5])
def test_coroutine_function_is_no_handler(drain: float | None) -> None:
    """It would make coroutines that nobody awaits; nothing has been taken."""
    channel = filled(1)

    async def handle(item: int) -> None:
        pytest.fail(f"handled {item}")

    with pytest.raises(TypeError, match=r"coroutine function .*needs no thread"):
        consume(channel, handle, drain=drain)
    assert channel.statistics().buffered == 1


def test_handler_that_returns_a_coroutine_is_told_at_its_first_item() -> None:
    """The coroutine is closed."""

    async def handle(item: int) -> None:
        pytest.fail(f"handled {item}")

    with pytest.raises(TypeError, match=r"got the coroutine .*handle\(\)"):
        consume(filled(1, 2), lambda item: handle(item))  # noqa: PLW0108 - it is plain


def test_channel_of_tasks_is_refused() -> None:
    """The two have one name, but not one way to wait."""
    import safeconc

    channel: Any = safeconc.Channel[int](1)
    with pytest.raises(TypeError, match=r"expected a Channel of safeconc\.threads"):
        consume(channel, print)


# The drain of a thread


def test_item_that_came_with_the_end_is_drained() -> None:
    """What was handed over as the context ended is in the hand of nobody else."""
    channel = Channel[int](5)
    seen: list[int] = []
    with ErrGroup(limit=None) as group:
        group.go_background(partial(consume, channel, seen.append, drain=100))
        waiting(channel, receivers=1)
        with channel._lock:  # which the consumer needs to leave the line
            group.cancel()
            channel._send_now(1)
            channel._send_now(2)

    assert seen == [1, 2]


def test_item_that_came_with_the_end_is_put_back_if_there_is_no_time() -> None:
    """It is the next one again."""
    channel = Channel[int](5)
    with ErrGroup(limit=None) as group:
        group.go_background(partial(consume, channel, never, drain=0))
        waiting(channel, receivers=1)
        with channel._lock:
            group.cancel()
            channel._send_now(1)
            channel._send_now(2)

    assert [channel.receive(), channel.receive()] == [1, 2]


def test_handler_that_outstays_the_time_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread cannot be stopped, but no further item is begun."""
    channel = filled(1, 2, 3)
    seen: list[int] = []

    now = 0

    def handle(item: int) -> None:
        nonlocal now
        now += 10
        seen.append(item)

    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("safeconc._context.time", clock)
    with pytest.raises(ContextCancelled), Context() as context:
        context.cancel()
        consume(channel, handle, drain=5)

    assert seen == [1]
    assert channel.statistics().buffered == 2


def test_deadline_of_the_handler_is_an_error_while_there_is_time() -> None:
    """It is told from that of the drain."""
    channel = filled(1, 2)

    def handle(item: int) -> None:
        with Context(timeout=0, name="own") as context:
            context.check()

    with pytest.raises(DeadlineExceeded, match="own"), Context() as context:
        context.cancel()
        consume(channel, handle, drain=100)

    assert channel.statistics().buffered == 1


def test_error_like_that_of_the_context_does_not_drain() -> None:
    """A handler whose own deadline has passed has failed; nobody was cancelled."""
    channel = filled(1, 2)

    def handle(item: int) -> None:
        with Context(timeout=0) as context:
            context.check()

    with pytest.raises(DeadlineExceeded), Context():
        consume(channel, handle, drain=100)

    assert channel.statistics().buffered == 1


def test_consumer_without_a_context_runs_to_the_end() -> None:
    """There is nothing that could cancel it."""
    channel = filled(1, 2)
    channel.close()
    seen: list[int] = []
    consume(channel, seen.append, drain=5)

    assert seen == [1, 2]


def test_error_of_a_context_elsewhere_does_not_drain() -> None:
    """Where no context is ambient, none has ended."""
    channel = filled(1, 2)

    def handle(item: int) -> None:
        raise ContextCancelled

    with pytest.raises(ContextCancelled):
        consume(channel, handle, drain=5)
    assert channel.statistics().buffered == 1
