"""Look for leaks around a block, or right now; and say so, once all had their time."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Self, final

import anyio

from safeconc._context import check_seconds
from safeconc._loop import here, in_task
from safeconc.leaks._census import Census
from safeconc.leaks._lost import Lost
from safeconc.leaks._model import Entry, Snapshot
from safeconc.leaks._report import report
from safeconc.leaks._rules import Rule
from safeconc.leaks._search import Search, Seen
from safeconc.leaks._sieve import Sieve

GRACE = 1.0
"""Seconds that what is about to end has for it, unless one says otherwise."""


class LeakError(AssertionError):
    """Something outlived its owner: ``str()`` of it is the whole report."""

    def __init__(self, snapshot: Snapshot, refused: Sequence[Entry] = ()) -> None:
        super().__init__(snapshot, refused)
        self.snapshot = snapshot
        """What has leaked."""

        self.refused: tuple[Entry, ...] = tuple(refused)
        """Of these, those that were cancelled and go on all the same."""

    def __str__(self) -> str:
        text = report(self.snapshot)
        if self.refused:
            refused = Snapshot(self.refused, self.snapshot.at)
            title = "Cancelled, and going on all the same"
            text += "\n\n" + report(refused, title=title, advice=False)
        return text


def find(*, ignore: Iterable[Rule] = (), grace: float = 0.0) -> Snapshot:
    """Return all that is alive and should not be, if this is all there is to do.

    That is everything but the caller (its task, its thread), the main thread, and what
    a rule is about. So it is to be asked where nothing else goes on, at the end of a
    program or of a test. Around a block use :func:`check`, which knows what was there
    before.

    :param ignore: rules for what may stay; the built-in ones apply as well.
    :param grace: seconds to wait until nothing is left; without waiting if 0. A task
        cannot wait here, since the loop would stand still: there it must be 0.
    """
    search = Search(lambda: _look(frozenset()), Sieve(ignore))
    if check_seconds("grace", grace) and in_task():
        raise RuntimeError(
            "find() in a task cannot wait for what is about to end, since the loop "
            "would stand still: leave grace at 0, or use 'async with check()'"
        )
    for pause in search.rounds(grace):
        time.sleep(pause)
    return search.found


def verify_none(*, ignore: Iterable[Rule] = (), grace: float | None = None) -> None:
    """Raise :exc:`LeakError` if :func:`find` finds anything.

    :param grace: as there; None is a second in a plain thread, and 0 in a task.
    """
    if grace is None:
        grace = 0.0 if in_task() else GRACE
    found = find(ignore=ignore, grace=grace)
    if found.entries:
        raise LeakError(found)


@final
class check:  # noqa: N801 - used like a function
    """Fail if anything outlives this block that began in it.

    ::

        async with leaks.check():
            await handle(request)

        with leaks.check(grace=5):
            run_workers()

    Tasks, threads, timers and all else that a :class:`Snapshot` tells of are looked at
    when the block is entered and when it is left. What is new has *grace* seconds to
    end, in which it is looked at again and again, with growing pauses. What then is
    left raises :exc:`LeakError`. Where nothing is left, nothing is waited for.

    An error of the body is raised as it is: what has leaked by then is told in a note
    on it, without waiting. A cancellation passes through without a look.

    What others begin meanwhile, elsewhere in the process, it cannot tell from what the
    body began: take the check there where nothing else runs.

    :param grace: seconds that what has begun in the block has to end.
    :param ignore: rules for what may stay; the built-in ones apply as well.
    :param cancel: end what was found, wait for it as long again (a tenth of a second
        at least), and say in :attr:`LeakError.refused` what did not end. That is for
        asyncio's tasks and timers; trio lets nobody cancel a single task, and nobody
        can stop a thread.
    """

    def __init__(
        self,
        *,
        grace: float = GRACE,
        ignore: Iterable[Rule] = (),
        cancel: bool = False,
    ) -> None:
        self._grace = check_seconds("grace", grace)
        self._ignore = tuple(ignore)
        self._cancel = cancel
        self._search: Search | None = None
        self._lost: Lost | None = None

    def __enter__(self) -> Self:
        if in_task():
            raise RuntimeError(
                "'with check()' in a task could not wait for what is about to end, "
                "since the loop would stand still; write 'async with'"
            )
        self._begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pause in self._end(exc):
            time.sleep(pause)

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            self._lost = Lost(asyncio.get_running_loop())
        except RuntimeError:  # trio's loop: it loses no errors
            return self
        self._lost.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for pause in self._end(exc):
                await anyio.sleep(pause)
        finally:
            if self._lost is not None:
                self._lost.close()

    def _begin(self) -> None:
        if self._search is not None:
            raise RuntimeError("this check has been used before; make a new one")
        known = Census().marks()
        self._search = Search(lambda: _look(known, self._lost), Sieve(self._ignore))

    def _end(self, exc: BaseException | None) -> Iterator[float]:
        """Yield how long to wait before each further look; raise what was found."""
        search = self._search
        assert search is not None
        if exc is not None:
            if isinstance(exc, Exception) and search.look():
                exc.add_note(report(search.found))
            return
        yield from search.rounds(self._grace)
        if search.found.entries:
            refused: list[Entry] = []
            if self._cancel:
                yield from search.end(self._grace, refused)
            raise LeakError(search.found, refused)


def _look(known: AbstractSet[object], lost: Lost | None = None) -> Seen:
    """See all but the caller, and what is known."""
    census, caller = Census(known), _caller()
    alive = [entry for entry in census if entry.ref() not in caller]
    return (*alive, *(() if lost is None else lost.entries)), census.notes


def _caller() -> tuple[object, ...]:
    """Return who asks, a thread and perhaps a task, and what is never a leak."""
    loop = here()
    task = None if loop is None else loop.current_task()
    return (threading.current_thread(), threading.main_thread(), task or object())
