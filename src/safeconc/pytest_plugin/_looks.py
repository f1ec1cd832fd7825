"""When to look for what a test has left, and whose it is.

Three times, of which two cost nothing worth mentioning where nothing is left:

- a fixture for more than one test has been set up: what is new then is its own;
- a loop is about to be closed, be it by the test or after it: all on it has leaked;
- the test and its fixtures have been torn down: what is new then has leaked, but for
  what fixtures hold that live on.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from contextlib import closing
from typing import Any, Final, final
from weakref import WeakSet, ref

from safeconc.leaks import Entry, Rule, Snapshot, report
from safeconc.leaks._census import Census, mark_of
from safeconc.leaks._lost import Lost
from safeconc.leaks._private import lost_error
from safeconc.leaks._search import Search, Seen
from safeconc.leaks._sieve import Sieve
from safeconc.pytest_plugin import _trio
from safeconc.pytest_plugin._case import Case
from safeconc.pytest_plugin._ledger import Ledger
from safeconc.pytest_plugin._runners import Loop, is_running, pass_time

OFF: Final = "off"

ORDERS: Final = (KeyboardInterrupt, SystemExit)
"""What stops a loop at once, wherever on it a task raises it."""

SHORTEST: Final = 0.02
"""Seconds that what was cancelled has at least, to do as it is told."""

REFUSED: Final = """\
The runner of this test waits, maybe for ever: cancelled, and going on all the same"""


@final
class Looks:
    """Looks for what the current test and its fixtures leave.

    :param ignore: rules for what may stay.
    :param shout: says at once what could not be said later.
    """

    case: Case | None = None
    """The test that runs."""

    def __init__(self, ignore: Iterable[Rule], shout: Callable[[str], None]) -> None:
        self._ignore = tuple(ignore)
        self._shout = shout
        self._sieve = Sieve(self._ignore)
        self._ledger = Ledger()
        self._ledger.tell(Census().marks())
        self._ledger.tell(_executors())
        self._loops: WeakSet[Loop] = WeakSet()
        self._lost: dict[Loop, Lost] = {}

    # While tests and fixtures run

    def arrive(self, case: Case | None = None) -> None:
        """Note on which loop the caller runs: a fixture, or the test itself."""
        canary = None if case is None else case.canary
        if _trio.in_trio():
            _trio.at_end(self.ending)
            if canary is not None:
                canary.on_trio()
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if canary is not None:
                canary.nowhere()
            return
        self._loops.add(loop)
        if loop not in self._lost:
            self._lost[loop] = Lost(loop)
            self._lost[loop].open()
        if canary is not None:
            canary.on_asyncio(loop)

    def begin(self, fixture: str) -> None:
        """Have a fixture live."""
        self._ledger.begin(fixture)

    def end(self, fixture: str) -> None:
        """Have a fixture end: what it has made should be gone."""
        self._ledger.end(fixture)

    def unaccounted(self) -> set[object]:
        """Return marks of what is nobody's yet."""
        return self._new()

    def adopt(self, fixture: str, before: AbstractSet[object]) -> None:
        """Have a living fixture hold what is new, unless it is known to be another's.

        :param before: what was :meth:`unaccounted` for before the fixture was set up.
        """
        self._ledger.hold(fixture, self._new(fixture) - before)

    def _new(self, fixture: str | None = None) -> set[object]:
        census = self._census()
        owners = (None, fixture)
        marks = {mark_of(each) for each in census if each.owner in owners}
        # Of these also the ones in somebody's hand: a runner may have the fixture's own
        # in hers, and drop it with the next test.
        return marks | census.generators()

    # Looks

    def closing(self, loop: Loop) -> None:
        """Look at a loop that is about to be closed; in any thread."""
        case, lost = self.case, self._lost.pop(loop, None)
        try:
            if case is not None and case.mode != OFF:
                self._close(case, loop, lost)
        finally:
            if case is not None and case.canary is not None:
                case.canary.looked(loop)
            if lost is not None:
                lost.close()

    def _close(self, case: Case, loop: Loop, lost: Lost | None) -> None:
        """Look, and cancel what was found, as the runner is about to do."""
        search = Search(lambda: self._see_loop(loop, lost), self._sieve_of(case))
        try:
            self._wait(case, search, [loop])
            self._cancel(case, search, loop)
        finally:
            self._find(case, search)

    def ending(self) -> None:
        """Look at a run of trio whose main task has ended; trio then ends the rest."""
        case = self.case
        if case is not None and case.mode != OFF:
            search = Search(self._see_trio, self._sieve_of(case))
            search.look()
            self._find(case, search)

    def after(self, case: Case) -> None:
        """Look at everything once the test and its fixtures have been torn down."""
        loops = [loop for loop in self._loops if not loop.is_closed()]
        if case.mode == OFF:
            self._ledger.tell(self.unaccounted())
        else:
            search = Search(self._see_all, self._sieve_of(case))
            self._wait(case, search, loops)
            self._find(case, search)
        for loop in loops:
            if (lost := self._lost.pop(loop, None)) is not None:
                lost.close()
            if case.canary is not None:
                case.canary.looked(loop)

    def now(self, case: Case) -> Snapshot:
        """Return what the test has made so far, and has not ended yet."""
        search = Search(self._see_all, self._sieve_of(case))
        search.look()
        return search.found

    def _wait(self, case: Case, search: Search, loops: list[Loop]) -> None:
        """Look, as often as it takes."""
        try:
            for pause in search.rounds(case.grace):
                _pass_time(pause, loops, search.found)
        except ORDERS:
            search.look()
            raise

    def _cancel(self, case: Case, search: Search, loop: Loop) -> None:
        """Cancel what was found, and tell who refuses.

        The runner waits for them without an end, so that must be told before.
        """
        if is_running():  # another one, so this one cannot do as it is told
            return
        refused: list[Entry] = []
        with closing(search.end(max(case.grace, SHORTEST), refused)) as pauses:
            for pause in pauses:
                _pass_time(pause, [loop], search.found)
        if refused:
            named = [
                entry._replace(owner=entry.owner or case.owner) for entry in refused
            ]
            self._shout(report(Snapshot(tuple(named)), title=REFUSED))

    def _find(self, case: Case, search: Search) -> None:
        """Have the test answer for what was found."""
        for entry in search.found.entries:
            mark = mark_of(entry)
            owner = entry.owner or self._ledger.maker(mark)
            case.find(mark, entry._replace(owner=owner))
        if search.found.entries:
            case.remark(search.found.notes)
            self._ledger.tell(map(mark_of, search.found.entries))

    def _sieve_of(self, case: Case) -> Sieve:
        return Sieve((*case.ignore, *self._ignore)) if case.ignore else self._sieve

    # What there is to be seen

    def _census(self) -> Census:
        loops = [loop for loop in self._loops if not loop.is_closed()]
        return Census(self._ledger.accounted, loops)

    def _see_all(self) -> Seen:
        census, seen = self._census(), list[Entry]()
        for entry in census:
            fixture = entry.owner or self._host(census, entry)
            if fixture is not None and self._ledger.lives(fixture):
                self._ledger.hold(fixture, (mark_of(entry),))
            else:
                seen.append(entry)
        for lost in self._lost.values():
            seen += lost.entries
        return seen, census.notes

    def _host(self, census: Census, entry: Entry) -> str | None:
        """Return the fixture that holds the thread in whose loop this is.

        What a server makes for a request has no owner: its thread inherits none.
        """
        thread = census.host_of(entry)
        return None if thread is None else self._ledger.maker(ref(thread))

    def _see_loop(self, loop: Loop, lost: Lost | None) -> Seen:
        census = Census(self._ledger.told, [loop])
        failed = () if lost is None else lost.entries
        return (*census.of_loops(), *failed), census.notes

    def _see_trio(self) -> Seen:
        census = Census(self._ledger.told)
        return census.of_trio(), census.notes


def _pass_time(seconds: float, loops: Iterable[Loop], found: Snapshot) -> None:
    """Let time pass.

    A task that orders the program to end is heard as soon as it does, so its error is
    not a lost one.
    """
    try:
        pass_time(seconds, loops)
    except ORDERS as order:
        for entry in found.entries:
            task: Any = entry.ref()
            if isinstance(task, asyncio.Task):
                _hear(task, order)  # pyright: ignore[reportUnknownArgumentType] - of any result
        raise


def _hear(task: "asyncio.Task[Any]", order: BaseException) -> None:
    if lost_error(task) is order:
        task.exception()


def _executors() -> Iterator[object]:
    """Yield marks of all executors, also of those that have no threads yet.

    A module that has one for its functions makes it when it is imported; its threads
    come with the first test that calls them. A census sees only those.
    """
    for thing in gc.get_objects():
        if issubclass(type(thing), Executor):
            yield ref(thing)
