"""What all tests have left, told in reports, and summed up at the end of a run.

It travels as plain data with pytest's own reports, since pytest-xdist runs tests in
other processes, and sends those.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypedDict, final

from safeconc.leaks import Snapshot
from safeconc.leaks._baseline import Known, told, write_blocks
from safeconc.leaks._groups import Group, grouped
from safeconc.leaks._places import Place
from safeconc.leaks._rules import Sight
from safeconc.leaks._text import one_line
from safeconc.leaks._words import members, several, total

GROUPS: Final = 100
"""Groups of one test that are counted at most."""

PLACES: Final = 10
"""Places that the summary shows at most."""

OWNERS: Final = 3
"""Of each of them, tests and fixtures at most."""

KEY: Final = "safeconc_leaks"
"""The attribute of a report."""


class Told(TypedDict):
    """Leaks of one group and one owner."""

    kind: str
    count: int
    owner: str
    waits_at: str
    made_at: str
    known: dict[str, str]


def tell(snapshot: Snapshot) -> list[Told]:
    """Return plain data about what was found."""
    return [
        _tell(group, owner, count)
        for group in grouped(snapshot.entries)[:GROUPS]
        for owner, count in group.tally("owner", OWNERS).items()
    ]


def _tell(group: Group, owner: str, count: int) -> Told:
    sample = group.entries[0]
    return Told(
        kind=group.kind,
        count=count,
        owner=owner,
        waits_at=_at(group.waits_at) or one_line(sample.name),
        made_at=_at(group.created_at),
        known=asdict(told(Sight(sample))),
    )


def _at(place: Place | None) -> str:
    return "" if place is None else f"{place.where} {one_line(place.function)}"


@final
class Tally:
    """Sums up what was told of all tests."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], Counter[str]] = {}
        self._known: set[Known] = set()

    def add(self, report: object) -> None:
        """Take what a report tells."""
        leaks: list[Told] = getattr(report, KEY, [])
        for leak in leaks:
            place = leak["kind"], leak["waits_at"], leak["made_at"]
            owners = self._places.setdefault(place, Counter())
            owners[leak["owner"]] += leak["count"]
            self._known.add(Known(**leak["known"]))

    def lines(self) -> Iterator[str]:
        """Yield the summary, the largest place first; nothing if nothing leaked."""
        places = sorted(self._places.items(), key=lambda each: -each[1].total())
        if not places:
            return
        kinds = total((kind, owners.total()) for (kind, *_), owners in places)
        yield f"{kinds}, in {several(len(places), 'place')}."
        for (kind, waits_at, made_at), owners in places[:PLACES]:
            yield f"{members(owners.total(), kind)} at {waits_at}"
            if made_at:
                yield f"    made at {made_at}"
            yield from _shares(owners)
        if (rest := len(places) - PLACES) > 0:
            yield f"... and in {several(rest, 'more place')}"

    def write(self, path: Path) -> int:
        """Write a baseline of what was told; return how many leaks it tells of."""
        write_blocks(path, self._known)
        return len(self._known)


def _shares(owners: Counter[str]) -> Iterator[str]:
    for owner, count in owners.most_common(OWNERS):
        yield f"    {count:,} of {owner}"
    if (rest := len(owners) - OWNERS) > 0:
        yield f"    and those of {several(rest, 'other')}"


def attach(report: Any, snapshot: Snapshot) -> None:
    """Have a report tell of what was found."""
    setattr(report, KEY, tell(snapshot))
