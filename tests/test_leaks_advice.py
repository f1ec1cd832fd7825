"""What usually mends a leak, told by what it really waits for."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from safeconc import Channel, ErrGroup, Ticker, leaks
from safeconc.leaks import _advice
from safeconc.leaks._advice import Advice
from safeconc.leaks._groups import grouped

Wait = Callable[[], Awaitable[object]]


async def advice_for(wait: Wait) -> Advice | None:
    """Have a task of one's own wait, and ask."""

    async def leak() -> None:
        await wait()

    found: list[leaks.Entry] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leak, name="the leak")
        await anyio.wait_all_tasks_blocked()
        found += [e for e in leaks.snapshot().entries if e.name == "the leak"]
        tasks.cancel_scope.cancel()
    (group,) = grouped(found)
    return group.advice


async def contend(lock: Any) -> None:
    """Wait for what another task has taken and keeps."""
    taken = anyio.Event()

    async def keep() -> None:
        async with lock:
            taken.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        await taken.wait()
        async with lock:
            pass


async def acquire(limiter: anyio.CapacityLimiter) -> None:
    """Take more than there is."""
    for _ in range(2):
        await limiter.acquire_on_behalf_of(object())


async def next_tick() -> None:
    """Wait for the second tick."""
    async for _ in Ticker(3600, first="later"):
        pass


async def leave_children(group: Any) -> None:
    """Leave a group while a child goes on."""
    async with group as children:
        if isinstance(children, ErrGroup):
            await children.go(anyio.sleep_forever)
        else:
            children.start_soon(anyio.sleep_forever)


async def meet(*, receive: bool) -> None:
    """Wait at a stream of anyio for somebody to take an item, or to bring one."""
    send, take = anyio.create_memory_object_stream[int](0)
    with send, take:
        await (take.receive() if receive else send.send(1))


WAITS: dict[str, tuple[Wait, Advice]] = {
    "sleep": (lambda: anyio.sleep(3600), _advice._SLEEP),
    "tick": (next_tick, _advice._SLEEP),
    "receive": (lambda: meet(receive=True), _advice._RECEIVE),
    "receive of ours": (lambda: Channel[int](0).receive(), _advice._RECEIVE),
    "send": (lambda: meet(receive=False), _advice._SEND),
    "send of ours": (lambda: Channel[int](0).send(1), _advice._SEND),
    "lock": (lambda: contend(anyio.Lock()), _advice._LOCK),
    "semaphore": (lambda: anyio.Semaphore(0).acquire(), _advice._LOCK),
    "limiter": (lambda: acquire(anyio.CapacityLimiter(1)), _advice._LOCK),
    "event": (lambda: anyio.Event().wait(), _advice._EVENT),
    "children": (
        lambda: leave_children(anyio.create_task_group()),
        _advice._CHILDREN,
    ),
    "children of ours": (lambda: leave_children(ErrGroup(limit=2)), _advice._CHILDREN),
}


@pytest.mark.parametrize("wait, expected", WAITS.values(), ids=WAITS)
async def test_advice_fits_the_wait(wait: Wait, expected: Advice) -> None:
    """On both loops, whatever their private modules are called today."""
    assert await advice_for(wait) is expected


ASYNCIO: dict[str, tuple[Wait, Advice]] = {
    "sleep": (lambda: asyncio.sleep(3600), _advice._SLEEP),
    "get": (lambda: asyncio.Queue[int]().get(), _advice._RECEIVE),
    "lock": (lambda: contend(asyncio.Lock()), _advice._LOCK),
    "event": (lambda: asyncio.Event().wait(), _advice._EVENT),
    "read": (lambda: asyncio.StreamReader().read(), _advice._SOCKET),
    "future": (
        lambda: asyncio.get_running_loop().create_future(),
        _advice._BY_KIND["task"],
    ),
}


@pytest.mark.parametrize("wait, expected", ASYNCIO.values(), ids=ASYNCIO)
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_advice_fits_a_wait_of_asyncio(wait: Wait, expected: Advice) -> None:
    """What asyncio itself has to wait for."""
    assert await advice_for(wait) is expected


def test_every_page_is_there() -> None:
    """Nobody is sent to a page that does not exist."""
    top = Path(__file__).parents[1]
    pages = {each.page for each in (*_advice._WAITS, *_advice._BY_KIND.values())}

    assert {page for page in pages if not (top / page).is_file()} == set()
