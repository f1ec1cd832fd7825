"""What a person reads about leaks, at three in the morning and for the first time."""

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Literal, TextIO, TypeAlias, final

from safeconc.leaks._diff import Change, Diff
from safeconc.leaks._groups import Group, grouped
from safeconc.leaks._model import Entry, Snapshot
from safeconc.leaks._origins import noted
from safeconc.leaks._places import Place
from safeconc.leaks._text import one_line
from safeconc.leaks._words import duration, members, several, shares, total

Level: TypeAlias = Literal[1, 2]

GROUPS = 20
"""Groups that are shown at most."""

MEMBERS = 100
"""Leaks that level 2 lists one by one, of all groups together."""

FRAMES = 20
"""Calls of one stack that level 2 shows at most."""

NOTES = 5
"""Remarks that are shown at most."""

_OUTER = 5
"""Of those calls, how many are the outermost ones."""

_FEW = 4
"""Names, states or owners of one group."""

_LABEL = 9
"""Width of the column of labels."""

_INDENT = 4 + _LABEL + 2

WIDTH = 88
"""Columns that advice takes; lines of code and their places take what they need."""

_BOLD, _CYAN, _DIM = "1", "36", "2"

_STANDS = {"timer": "calls", "error": "failed at"}
"""What a member does at the line at which it is, if it does not wait."""

_INSTALL = (
    "The line that made a leak is shown if safeconc.leaks.install() was called before."
)


def report(
    what: Snapshot | Diff,
    *,
    level: Level = 1,
    title: str = "Leaked",
    advice: bool = True,
    colour: bool = False,
) -> str:
    """Tell what has leaked, where it was made, and what usually mends it.

    Leaks that wait at the same lines, and were made at the same lines, are one group;
    the largest comes first. Level 1 names the line that waits and the line that made
    them. Level 2 shows whole stacks and lists the members. What would go on for too
    long (groups, members, calls, names) is counted instead, so a report of a hundred
    thousand leaks still fits on a few screens.

    :param title: begins the first line; what is only alive has not leaked yet.
    :param advice: say what usually mends a leak of that sort.
    :param colour: mark it up for a terminal; :func:`show` finds out by itself.
    """
    if level not in (1, 2):
        raise ValueError(f"level must be 1 or 2, not {level!r}")
    writer = _Writer(detailed=level > 1, advice=advice, colour=colour)
    if isinstance(what, Diff):
        return "\n".join(writer.diff(what))
    return "\n".join(writer.snapshot(what, title))


def show(
    what: Snapshot | Diff,
    *,
    level: Level = 1,
    title: str = "Leaked",
    advice: bool = True,
    file: TextIO | None = None,
) -> None:
    """Print a :func:`report`; in colour on a terminal, unless ``NO_COLOR`` is set.

    :param file: standard error if None.
    """
    stream: TextIO = sys.stderr if file is None else file
    colour = _takes_colour(stream)
    text = report(what, level=level, title=title, advice=advice, colour=colour)
    # Names may have characters that this stream has not; that is no time to fail.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _takes_colour(file: TextIO) -> bool:
    return (
        file.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


@final
class _Writer:
    """Writes a report, line by line."""

    def __init__(self, *, detailed: bool, advice: bool, colour: bool) -> None:
        self._detailed = detailed
        self._advice = advice
        self._colour = colour
        self._room = MEMBERS

    def snapshot(self, snapshot: Snapshot, title: str) -> Iterator[str]:
        """Yield the lines about what is there."""
        groups = grouped(snapshot.entries)
        shown, rest = groups[:GROUPS], groups[GROUPS:]
        yield self._paint(_headline(title, groups), _BOLD)
        for group in shown:
            yield ""
            yield from self._group(group, members(group.count, group.kind))
        if rest:
            yield f"\n... and in {several(len(rest), 'more place')}: {_kinds(rest)}"
        yield from self._footnotes(snapshot, shown)

    def diff(self, diff: Diff) -> Iterator[str]:
        """Yield the lines about what has become more, and a word on the rest."""
        more = [change for change in diff.changes if change.by > 0]
        fewer = [change for change in diff.changes if change.by < 0]
        shown, rest = more[:GROUPS], more[GROUPS:]
        yield self._paint(f"More: {_changes(more)}. Fewer: {_changes(fewer)}.", _BOLD)
        for change in shown:
            yield ""
            yield from self._group(change.group, _growth(change))
        if rest:
            yield f"\n... and more in other places: {_changes(rest)}"
        yield from self._footnotes(diff.after, [change.group for change in shown])

    def _group(self, group: Group, count: str) -> Iterator[str]:
        """Yield the lines about one group."""
        age = "" if group.oldest is None else f", oldest {duration(group.oldest)}"
        names = ", ".join(f"'{name}'" for name in group.names(_FEW))
        more = ", ..." if group.count > _FEW else ""
        yield f"{self._paint(count + age, _BOLD)}: {names}{more}"
        yield from self._wait(group)
        yield from self._origin(group)
        if owners := group.tally("owner", _FEW):
            yield _labelled("owner", shares(owners, group.count))
        if self._advice and (advice := group.advice):
            yield _labelled("often", advice.cause)
            yield from _wrapped("instead", f"{advice.cure} ({advice.page})")
        if self._detailed:
            yield from self._members(group)

    def _wait(self, group: Group) -> Iterator[str]:
        """Yield where the members are, and by which calls."""
        if group.waits_at is None:
            return
        yield from self._line(_STANDS.get(group.kind, "waits at"), group.waits_at)
        if self._detailed:
            yield from self._stack(group.stack)
            return
        own = group.stack.index(group.waits_at)
        if own:
            yield _labelled("in", one_line(group.stack[own - 1].function))
        if callers := group.stack[own + 1 :]:
            yield _labelled("called by", _at(callers[0]))

    def _origin(self, group: Group) -> Iterator[str]:
        """Yield where the members were made."""
        if group.created_at is None:
            return
        yield from self._line("made at", group.created_at)
        if self._detailed:
            yield from self._stack(group.created)

    def _line(self, label: str, place: Place) -> Iterator[str]:
        """Yield a place, and what stands there."""
        yield _labelled(label, self._paint(_at(place), _CYAN))
        if place.source:
            yield _labelled("", f"    {self._paint(place.source, _DIM)}")

    def _stack(self, stack: Sequence[Place]) -> Iterator[str]:
        """Yield calls, the innermost one last; out of a long stack, both ends."""
        calls = [_at(place) for place in reversed(stack)]
        if (left_out := len(calls) - FRAMES) > 0:
            calls[_OUTER : _OUTER + left_out] = [f"... {left_out:,} more calls ..."]
        for label, call in zip_longest(["stack"], calls, fillvalue=""):
            yield _labelled(label, self._paint(call, _DIM))

    def _members(self, group: Group) -> Iterator[str]:
        """Yield a line for each member, while there is room."""
        lines = [_member(entry) for entry in group.entries[: self._room]]
        self._room -= len(lines)
        if left_out := group.count - len(lines):
            lines.append(f"... and {left_out:,} more")
        for label, line in zip_longest(["members"], lines, fillvalue=""):
            yield _labelled(label, line)

    def _footnotes(self, snapshot: Snapshot, shown: list[Group]) -> Iterator[str]:
        """Yield what the snapshot could not tell."""
        notes = [one_line(note, 400) for note in snapshot.notes[:NOTES]]
        if not noted() and any(map(_is_orphan, shown)):
            notes.append(_INSTALL)
        if notes:
            yield ""
        yield from notes

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def _is_orphan(group: Group) -> bool:
    """Tell whether it could be known who made them, and is not."""
    return group.created_at is None and group.kind in {"task", "thread"}


def _headline(title: str, groups: Sequence[Group]) -> str:
    if not groups:
        return f"{title}: nothing."
    return f"{title}: {_kinds(groups)}, in {several(len(groups), 'place')}."


def _kinds(groups: Sequence[Group]) -> str:
    return total((group.kind, group.count) for group in groups)


def _changes(changes: Sequence[Change]) -> str:
    listed = total((change.group.kind, abs(change.by)) for change in changes)
    return f"{listed} in {several(len(changes), 'place')}" if changes else "nothing"


def _growth(change: Change) -> str:
    more = members(change.by, change.group.kind)
    return f"{more} more ({change.before:,} before, {change.after:,} now)"


def _labelled(label: str, text: str) -> str:
    return f"    {label:{_LABEL}}  {text}"


def _wrapped(label: str, text: str) -> Iterator[str]:
    for line in wrap(text, WIDTH - _INDENT):
        yield _labelled(label, line)
        label = ""


def _at(place: Place) -> str:
    return f"{place.where} {one_line(place.function)}"


def _member(entry: Entry) -> str:
    told = [f"'{one_line(entry.name)}'", one_line(entry.state)]
    if entry.age is not None:
        told.append(duration(entry.age))
    if entry.owner is not None:
        told.append(f"of {one_line(entry.owner)}")
    return ", ".join(told)
