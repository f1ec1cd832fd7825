"""What the callers of each vice do, and live through."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from threading import Barrier, Event, Timer
from threading import enumerate as live_threads
from typing import Any, NoReturn, final

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.to_thread import run_sync

from safeconc.antipatterns import executor_per_call

CALL = 0.02
"""Seconds within which a caller is through."""

PAGE = 16_384
"""Bytes of an update, or of a page."""

LINKS = 10
"""Links on each page of a site."""

DEPTH = 5
"""Levels of pages below its first one."""

LENT = ("AnyIO worker", "Trio thread")
"""How the threads are named in which callers of blocking code run."""

LATE = 50
"""Row of a feed with which whoever wanted the fourth loses patience."""

PATIENCE = 2
"""Rows of an export that its client is content to wait for."""


def count_tasks() -> int:
    """Count the tasks of the running loop, the caller's included."""
    return len(anyio.get_running_tasks())


def _nothing() -> None: ...


@final
@dataclass(frozen=True, slots=True)
class Scenario:
    """How a vice is called, and how to tell what happened."""

    title: str
    """What the vice is."""

    verdict: str
    """What was seen, when the vice has left something and the cure nothing."""

    caller: Callable[[Any], Awaitable[None]]
    """Make one call of the function given: the vice, or its cure."""

    calls: int = 20
    """How many calls are made, one after the other."""

    kind: str = "tasks"
    """What the vice leaves behind."""

    census: Callable[[], int] = count_tasks
    """Count what is alive of that kind."""

    let_go: Callable[[], object] = _nothing
    """End what would outlive the event loop."""


async def _hang_up(serve: Callable[..., Awaitable[None]]) -> None:
    """Connect, get one update, hear nothing more, and leave."""
    received: list[bytes] = []

    async def send(update: bytes) -> None:
        received.append(update)

    with anyio.move_on_after(CALL):
        await serve(_quiet_topic(), send, anyio.sleep_forever)


async def _quiet_topic() -> AsyncIterator[bytes]:
    yield bytes(PAGE)
    await anyio.sleep_forever()


async def _fail_early(
    fetch_all: Callable[
        [Callable[[int], Awaitable[bytes]], Sequence[int]], Awaitable[list[bytes]]
    ],
) -> None:
    """Fetch thirty pages, of which the first to answer is broken."""
    answered = anyio.Event()

    async def fetch(url: int) -> bytes:
        if url == 0:
            try:
                await _fail()
            finally:
                answered.set()
        await answered.wait()  # then 0 is the first, however busy the machine is
        await anyio.sleep(CALL)
        return bytes(PAGE)

    with suppress(OSError):
        await fetch_all(fetch, range(30))


async def _fail() -> NoReturn:
    await anyio.sleep(CALL / 4)
    raise OSError("the database is away")


async def _need_all(run_all: Callable[..., Awaitable[list[NoReturn]]]) -> None:
    """Run three queries, of which one fails and two hang."""
    with suppress(OSError):
        await run_all(_fail, anyio.sleep_forever, anyio.sleep_forever)


async def _stay_a_while(serve: Callable[..., Awaitable[None]]) -> None:
    """Connect, be checked a few times, and leave."""
    await serve(anyio.lowlevel.checkpoint, partial(anyio.sleep, CALL), CALL / 4)


async def _break_off(upload: Callable[..., Awaitable[None]]) -> None:
    """Upload three rows, and fail at the next."""
    with suppress(OSError):
        await upload(_broken_rows(), _store)


async def _broken_rows() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield bytes(PAGE)
    await _fail()


async def _store(row: bytes) -> None:
    del row
    await anyio.lowlevel.checkpoint()


@final
class _SlowSite:
    """Pages that link to further pages; those of the last level do not answer."""

    def __init__(self) -> None:
        self._waiting = 0

    async def ask(self, walk: Callable[..., Awaitable[None]]) -> None:
        """Crawl it, and give up."""
        with anyio.move_on_after(4 * CALL):
            await walk(self._links, (), DEPTH)

    def count(self) -> int:
        """Count the tasks that read a page; to look at each would take too long."""
        return self._waiting

    async def _links(self, page: tuple[int, ...]) -> list[tuple[int, ...]]:
        self._waiting += 1
        try:
            if len(page) == DEPTH:
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
        finally:
            self._waiting -= 1
        return [(*page, link) for link in range(LINKS)]


@final
class _Exports:
    """Exports without an end, and how many of them are at work."""

    def __init__(self) -> None:
        self._writing: set[anyio.CancelScope] = set()
        self._over = Event()

    async def ask(self, export: Callable[..., Awaitable[None]]) -> None:
        """Ask for an export, and lose patience with its rows."""
        over = self._over
        rows = takewhile(lambda _: not over.is_set(), count())
        with anyio.CancelScope() as client:
            await export(rows, partial(self._write, client, over))

    def count(self) -> int:
        """Count the threads that write."""
        return len(self._writing)

    def stop(self) -> None:
        """End all of them."""
        self._over.set()
        self._over = Event()

    def _write(self, client: anyio.CancelScope, over: Event, row: int) -> None:
        self._writing.add(client)
        if row == PATIENCE:
            # Not after a time, which may be up before the thread has begun.
            anyio.from_thread.run_sync(client.cancel)
        over.wait(CALL / 4)
        if client.cancelled_caught:
            over.wait()  # it is gone; be writing whenever somebody counts
        self._writing.remove(client)


@final
class _Blocking:
    """Callers of blocking code, each in a thread; and what keeps it busy."""

    def __init__(self) -> None:
        self._reading: set[object] = set()
        self._over = Event()

    def count_threads(self) -> int:
        """Count the threads, without those that the event loop lends to callers.

        A timer and the next one that it has just set count once.
        """
        threads = [each for each in live_threads() if not each.name.startswith(LENT)]
        return len(
            {
                id(next(iter(each.args)) if isinstance(each, Timer) else each)
                for each in threads
            }
        )

    def count_readers(self) -> int:
        """Count those who read a feed."""
        return len(self._reading)

    def stop(self) -> None:
        """End all of it."""
        self._over.set()
        self._over = Event()
        while timers := [each for each in live_threads() if isinstance(each, Timer)]:
            for timer in timers:
                timer.cancel()
                timer.join()  # it may just be making the next

    async def look_on(self, copy: Callable[..., None]) -> None:
        """Look at a live view, and leave."""
        await run_sync(copy, self._feed(), self._pause, self._pause)

    async def stay_a_while(self, serve: Callable[..., None]) -> None:
        """Connect, be checked a few times, and leave."""
        await run_sync(serve, partial(bool), self._pause, CALL / 4)

    async def fetch(self, fetch_all: Callable[..., list[bytes]]) -> None:
        """Fetch as many pages as there are threads, all at once."""
        together = Barrier(executor_per_call.WORKERS)

        def fetch(url: int) -> bytes:
            together.wait()
            return bytes(url)

        await run_sync(fetch_all, fetch, [PAGE] * together.parties)

    async def search(self, find: Callable[..., object]) -> None:
        """Look for the fourth row of a feed, and lose patience with a late one."""
        token = anyio.lowlevel.current_token()

        def parse(row: int) -> int:
            if row == LATE:
                # Not after a time: it may be up before the fourth has come.
                anyio.from_thread.run_sync(client.cancel, token=token)
            return row

        with anyio.CancelScope() as client:
            call = partial(find, parse, self._feed(), (3).__eq__)
            await run_sync(call, abandon_on_cancel=True)

    def _feed(self) -> Iterator[int]:
        over, reader = self._over, object()
        for row in takewhile(lambda _: not over.is_set(), count()):
            yield row
            # A feed that was dropped half read has no reader, whenever it is collected.
            self._reading.add(reader)
            # Without haste once the caller is gone: it is there that counts.
            over.wait(CALL / 40 if row < LATE else CALL)
            self._reading.remove(reader)

    def _pause(self, *_: object) -> None:
        self._over.wait(CALL / 2)


_site = _SlowSite()
_exports = _Exports()
_blocking = _Blocking()

SCENARIOS = {
    "forgotten_cancellation": Scenario(
        title="a worker that does not know that its caller is gone",
        verdict=(
            "{calls} clients hung up, and {left} forwarders still wait for an "
            "update to send them; in an ErrGroup each was over with its client."
        ),
        caller=_hang_up,
    ),
    "abandoned_senders": Scenario(
        title="senders that wait for a reader who has given up",
        verdict=(
            "{calls} batches failed at their first page, and {left} senders still "
            "stand there with a page each; fan_out ran ten at a time and took them "
            "along."
        ),
        caller=_fail_early,
    ),
    "unstopped_ticker": Scenario(
        title="a loop that ticks, and that nobody stops",
        verdict=(
            "{calls} clients came and went, and {left} loops still check on them; "
            "those of every() were over with their clients."
        ),
        caller=_stay_a_while,
    ),
    "silent_producer": Scenario(
        title="a reader that waits for an end which is never sent",
        verdict=(
            "{calls} uploads broke off, and {left} readers still wait for their next "
            "row; a Channel told each of them that there will be none, and why."
        ),
        caller=_break_off,
    ),
    "unbounded_recursion": Scenario(
        title="a task for every link, and for every link of those",
        verdict=(
            "One crawl of ten links a page, five levels deep, was given up, and "
            "{left} tasks still wait for pages (memory: {memory}); crawl() had ten "
            "under way and took them along. Go's 100,000 goroutines need some 200 MB."
        ),
        caller=_site.ask,
        calls=1,
        census=_site.count,
    ),
    "orphaned_siblings": Scenario(
        title="calls that go on after their group has failed",
        verdict=(
            "{calls} requests failed on one query, and {left} others still run for "
            "them; an ErrGroup cancelled them with the first error."
        ),
        caller=_need_all,
    ),
    "abandoned_thread": Scenario(
        title="a thread that works on for a caller who is gone",
        verdict=(
            "{calls} callers lost patience, and {left} threads still write exports "
            "for them; to_thread told each thread, and waited for it."
        ),
        caller=_exports.ask,
        kind="threads",
        census=_exports.count,
        let_go=_exports.stop,
    ),
    "unjoined_thread": Scenario(
        title="a thread that is started, and that nobody joins",
        verdict=(
            "{calls} clients looked on and left, and {left} threads still copy rows "
            "for them; those of an ErrGroup were joined with their clients."
        ),
        caller=_blocking.look_on,
        kind="threads",
        census=_blocking.count_threads,
        let_go=_blocking.stop,
    ),
    "unstopped_timer": Scenario(
        title="a timer that sets the next one, and that nobody cancels",
        verdict=(
            "{calls} clients came and went, and {left} timers still run for them, each "
            "in a thread; those of every() were over with their clients."
        ),
        caller=_blocking.stay_a_while,
        kind="threads",
        census=_blocking.count_threads,
        let_go=_blocking.stop,
    ),
    "executor_per_call": Scenario(
        title="a pool of threads for each call, never shut down",
        verdict=(
            "{calls} calls made a pool each, and {left} threads of those are still "
            "there, idle; fan_out had as many at work, and none of them stays."
        ),
        caller=_blocking.fetch,
        kind="threads",
        census=_blocking.count_threads,
        let_go=executor_per_call.close_all,
    ),
    "eager_map": Scenario(
        title="a map that takes all there is before it gives anything",
        verdict=(
            "{calls} callers wanted the fourth row of a feed, and {left} threads still "
            "swallow its rows; FanOut took the few that it needed."
        ),
        caller=_blocking.search,
        kind="threads",
        census=_blocking.count_readers,
        let_go=_blocking.stop,
    ),
}
"""By the name of the module under :mod:`safeconc.antipatterns`, in order."""
