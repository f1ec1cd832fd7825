"""Whose is what: what was there before, what fixtures hold, and what has been told."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import final


@final
class Ledger:
    """Keeps account of what is alive, by marks.

    What a fixture has made is its own while it lives. When it ends, nothing of it
    should be there any more, so then it is to be looked at again.
    """

    def __init__(self) -> None:
        self._told: set[object] = set()
        self._held: dict[str, set[object]] = {}
        self._makers: dict[object, str] = {}
        self._accounted: set[object] = set()

    @property
    def told(self) -> AbstractSet[object]:
        """What was there before anybody watched, and leaks that have been told."""
        return self._told

    @property
    def accounted(self) -> AbstractSet[object]:
        """The same, and what living fixtures hold."""
        return self._accounted

    def tell(self, marks: Iterable[object]) -> None:
        """Have told of these; nobody is told of them again."""
        new = set(marks)
        self._told |= new
        self._accounted |= new
        for mark in new:
            self._makers.pop(mark, None)

    def begin(self, fixture: str) -> None:
        """Have a fixture live."""
        self._held.setdefault(fixture, set())

    def lives(self, fixture: str | None) -> bool:
        """Tell whether it is a fixture, and lives."""
        return fixture in self._held

    def hold(self, fixture: str, marks: Iterable[object]) -> None:
        """Have a living fixture hold these."""
        new = set(marks)
        self._held[fixture] |= new
        self._accounted |= new
        self._makers |= dict.fromkeys(new, fixture)

    def maker(self, mark: object) -> str | None:
        """Return the fixture that holds this, or has until it ended, if one has."""
        return self._makers.get(mark)

    def end(self, fixture: str) -> None:
        """Have a fixture end, if it lives: what it holds is no longer accounted for."""
        if self._held.pop(fixture, None):
            self._accounted = self._told.union(*self._held.values())
