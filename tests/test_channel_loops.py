"""A channel belongs to one loop at a time, and keeps nothing alive."""

import asyncio
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Channel, ChannelClosed, ErrGroup
from safeconc._policy._passes import CAREFUL, EVERY
from tests.harness import on_asyncio
from tests.together import backends, collect, in_thread


async def warm_up(channel: Channel[Any]) -> None:
    """Get to where calls look at times only."""
    for _ in range(CAREFUL):
        await channel.send(0)
        await channel.receive()


async def pass_on(channel: Channel[int], *, sender_first: bool) -> int:
    """Hand an item over between two tasks, one of which waits."""
    async with ErrGroup(limit=None) as group:
        if sender_first:
            for item in (1, 2):
                await group.go(channel.send, item)
                await anyio.wait_all_tasks_blocked()
            assert await channel.receive() == 1
            return await channel.receive()
        receiver = await group.go(channel.receive)
        await anyio.wait_all_tasks_blocked()
        await channel.send(2)
    return receiver.result()


# Loops


@backends
@pytest.mark.parametrize("other", ["asyncio", "trio"])
@pytest.mark.parametrize("sender_first", [True, False])
@pytest.mark.parametrize("many", [True, False], ids=["many", "few"])
def test_channel_may_be_used_in_one_loop_after_the_other(
    backend: str,
    options: dict[str, Any],
    other: str,
    sender_first: bool,
    many: bool,
) -> None:
    """Of any kind, also after so many calls that most do not look any more."""
    channel = Channel[int](1)

    async def use() -> int:
        if many:
            await warm_up(channel)
        return await pass_on(channel, sender_first=sender_first)

    async def use_again() -> int:
        return await pass_on(channel, sender_first=sender_first)

    assert anyio.run(use, backend=backend, backend_options=options) == 2
    assert anyio.run(use_again, backend=other) == 2


@backends
def test_items_survive_their_loop(backend: str, options: dict[str, Any]) -> None:
    """What is buffered when a loop ends is there in the next."""
    channel = Channel[int](1)

    async def send() -> None:
        await channel.send(1)

    async def receive() -> int:
        return await channel.receive()

    anyio.run(send, backend=backend, backend_options=options)

    assert anyio.run(receive, backend=backend, backend_options=options) == 1


def _elsewhere(use: "Use", channel: Channel[int]) -> list[BaseException]:
    """Use it in another thread, in a loop if one is needed; tell what that raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            made = use(channel)
            if made is not None:
                with asyncio.Runner() as runner:
                    runner.run(made)
        except Exception as exc:
            raised.append(exc)

    in_thread(run)
    return raised


Use: TypeAlias = Callable[[Channel[int]], Coroutine[Any, Any, object] | None]


def send(channel: Channel[int]) -> Coroutine[Any, Any, object]:
    """Send an item."""
    return channel.send(1)


def receive(channel: Channel[int]) -> Coroutine[Any, Any, object]:
    """Receive one."""
    return channel.receive()


def step(channel: Channel[int]) -> Coroutine[Any, Any, object]:
    """Receive one as a loop does."""
    return channel.__anext__()


def send_nowait(channel: Channel[int]) -> None:
    """Send an item at once."""
    channel.send_nowait(1)


def receive_nowait(channel: Channel[int]) -> None:
    """Receive one at once."""
    channel.receive_nowait()


uses = pytest.mark.parametrize(
    "use", [send, receive, step, send_nowait, receive_nowait, Channel[int].close]
)


@pytest.mark.parametrize("side", ["senders", "receivers"])
@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
@uses
async def test_others_may_not_wake_the_tasks_of_a_loop(
    use: Use, many: bool, side: str
) -> None:
    """A call from another thread is refused, with a loop there or without."""
    channel = Channel[int](1, name="orders")
    if many:
        await warm_up(channel)
    if side == "senders":
        await channel.send(0)
    async with ErrGroup(limit=None) as group:
        await group.go(_wait_at, channel, side)
        await anyio.wait_all_tasks_blocked()
        before = channel.statistics()
        raised = _elsewhere(use, channel)

        assert [str(exc) for exc in raised] == [
            "tasks of another event loop wait at Channel 'orders'; call it from there"
        ]
        assert channel.statistics() == before
        group.cancel()


async def _wait_at(channel: Channel[int], side: str) -> None:
    await (channel.send(1) if side == "senders" else channel.receive())


@on_asyncio
async def test_call_that_would_wait_with_tasks_of_another_loop_is_refused() -> None:
    """Also where calls are many, and this one had a pass."""
    channel = Channel[int](1)
    await warm_up(channel)
    task = asyncio.create_task(channel.receive())
    await anyio.wait_all_tasks_blocked()
    for _ in range(2):
        await channel.send(1)
        await task
        task = asyncio.create_task(channel.receive())
        await anyio.wait_all_tasks_blocked()
    raised = _elsewhere(receive, channel)

    assert len(raised) == 1
    assert "another event loop" in str(raised[0])
    await channel.send(1)
    assert await task == 1


async def test_all_channels_of_a_loop_share_their_passes() -> None:
    """A round over many of them gives way as often as a loop over one."""
    channels = [Channel[int](3 * EVERY) for _ in range(5)]
    for channel in channels:
        await warm_up(channel)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await checkpoint()
        turns = 0
        for item in range(2 * EVERY):
            for channel in channels:
                await channel.send(item)
        tasks.cancel_scope.cancel()

    assert turns >= 2 * len(channels) - 1


# Memory


class _Thing:
    """Something that can be referred to weakly."""


async def test_received_item_is_not_kept() -> None:
    """Neither what was buffered nor what was handed over."""
    channel = Channel[_Thing](1)
    things = [_Thing(), _Thing()]
    refs = [weakref.ref(thing) for thing in things]
    async with ErrGroup(limit=None) as group:
        await group.go_background(channel.receive)
        await anyio.wait_all_tasks_blocked()
        await channel.send(things.pop())
        await channel.send(things.pop())
        await channel.receive()
    del group
    collect(*refs)

    assert [ref() for ref in refs] == [None, None]


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_item_that_was_not_sent_is_not_kept(how: str) -> None:
    """It is the sender's alone."""
    channel = Channel[_Thing](0)
    scope = anyio.CancelScope()

    async def send(thing: _Thing) -> None:
        with scope:
            try:
                await channel.send(thing)
            except ChannelClosed:
                assert how == "closed"

    async with ErrGroup(limit=None) as group:
        thing = _Thing()
        ref = weakref.ref(thing)
        await group.go(send, thing)
        del thing
        await anyio.wait_all_tasks_blocked()
        if how == "cancelled":
            scope.cancel()
        else:
            channel.close()
    del group
    collect(ref)

    assert ref() is None


async def test_closed_channel_is_gone_when_nobody_holds_it() -> None:
    """With its items, its error and who waited."""
    channel = Channel[_Thing](1)
    thing = _Thing()
    refs: list[Callable[[], object]] = [weakref.ref(channel), weakref.ref(thing)]
    await channel.send(thing)
    with pytest.raises(OSError):
        async with channel:
            raise OSError
    del channel, thing
    collect(*refs)

    assert [ref() for ref in refs] == [None, None]


@backends
def test_channel_does_not_keep_its_loop_waiting(
    backend: str, options: dict[str, Any]
) -> None:
    """Nothing runs behind it: a channel that is never closed lets the loop end."""
    channels: list[Channel[int]] = []

    async def main() -> None:
        channel = Channel[int](1)
        await channel.send(1)
        channels.append(channel)

    anyio.run(main, backend=backend, backend_options=options)

    assert channels[0].statistics().buffered == 1


async def test_many_who_give_up_in_any_order_leave_nothing() -> None:
    """Whoever leaves the line is found at once, wherever it stands."""
    channel = Channel[int](0)
    count = 300
    scopes = [anyio.CancelScope() for _ in range(count)]

    async def wait(scope: anyio.CancelScope) -> None:
        with scope:
            await channel.receive()

    async with anyio.create_task_group() as tasks:
        for scope in scopes:
            tasks.start_soon(wait, scope)
        await anyio.wait_all_tasks_blocked()
        assert channel.statistics().waiting_receivers == count
        random.shuffle(scopes)
        for scope in scopes:
            scope.cancel()

    assert channel.statistics().waiting_receivers == 0
