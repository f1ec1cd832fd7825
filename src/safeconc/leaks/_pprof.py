"""Snapshots as pprof profiles, for ``go tool pprof`` and all that reads its format."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple, final

from safeconc.leaks._diff import Diff
from safeconc.leaks._model import RawFrame, Snapshot
from safeconc.leaks._places import PATH, function
from safeconc.leaks._protobuf import message, number, packed
from safeconc.leaks._text import LINE, MORE, one_line

VALUES = 100
"""Different values of a label in one profile; the rarer ones are called "other"."""

_LABELS = ("kind", "name", "state", "owner")
_OTHER = "other"
_DIGITS = re.compile(r"\d+")


def as_pprof(what: Snapshot | Diff) -> bytes:
    """Return a gzipped profile: how many there are, by stack and labels.

    A stack leads from where a task waits out to the function that it runs, and on to
    the calls that made it, where these were noted; so ``-top -cum`` brings up the
    lines that make the most of them. The labels are ``kind``, ``name``, ``state`` and
    ``owner``. Numbers in names and owners are written as ``#``, lest every task be a
    sample of its own.

    Of a diff it has the changes, which are below zero where there are fewer.
    """
    if isinstance(what, Diff):
        counts = _counted(what.after)
        counts.subtract(_counted(what.before))
        at = what.after.at
    else:
        counts, at = _counted(what), what.at
    return gzip.compress(_profile(_bounded(counts), at), mtime=0)


class _Alike(NamedTuple):
    """What the entries of one sample have in common."""

    stack: tuple[RawFrame, ...]
    created: tuple[RawFrame, ...]
    labels: tuple[str, ...]


def _counted(snapshot: Snapshot) -> Counter[_Alike]:
    names = _Names()
    return Counter(
        _Alike(
            entry.stack,
            entry.created,
            (
                entry.kind,
                names.numberless(entry.name),
                one_line(entry.state),
                names.numberless(entry.owner or ""),
            ),
        )
        for entry in snapshot.entries
    )


@final
class _Names:
    """Names without their numbers: a hundred thousand are a few, and made fit once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def numberless(self, name: object) -> str:
        if not name:
            return ""
        if type(name) is not str:  # who knows what its methods do
            return _DIGITS.sub("#", one_line(name))
        if len(name) > LINE:
            name = name[: LINE - len(MORE)] + MORE
        bare = _DIGITS.sub("#", name)
        known = self._known.get(bare)
        if known is None:
            known = self._known[bare] = one_line(bare)
        return known


def _bounded(counts: Mapping[_Alike, int]) -> Counter[_Alike]:
    """Put together the samples that differ in rare values only."""
    totals: tuple[Counter[str], ...] = tuple(Counter() for _ in _LABELS)
    for alike, count in counts.items():
        for total, value in zip(totals, alike.labels, strict=True):
            total[value] += abs(count)
    frequent = [{value for value, _ in total.most_common(VALUES)} for total in totals]
    bounded: Counter[_Alike] = Counter()
    for alike, count in counts.items():
        labels = tuple(
            value if value in known else _OTHER
            for value, known in zip(alike.labels, frequent, strict=True)
        )
        bounded[_Alike(alike.stack, alike.created, labels)] += count
    return bounded


def _profile(counts: Mapping[_Alike, int], at: float) -> bytes:
    """Encode a ``Profile``; the numbers are those of the fields in profile.proto."""
    tables = _Tables()
    unit = number(1, tables.string("alive")) + number(2, tables.string("count"))
    samples = [tables.sample(*each) for each in counts.items() if each[1]]
    return b"".join(
        (
            message(1, unit),
            *samples,
            *tables.definitions(),
            number(9, int(at * 1e9)),
            message(11, unit),
            number(12, 1),
        )
    )


@final
class _Tables:
    """What a profile defines once and then refers to by number."""

    def __init__(self) -> None:
        self._strings = {"": 0}
        self._functions: dict[tuple[int, int], int] = {}
        self._locations: dict[tuple[int, int], int] = {}

    def string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def sample(self, alike: _Alike, count: int) -> bytes:
        labels = (
            message(3, number(1, self.string(key)), number(2, self.string(value)))
            for key, value in zip(_LABELS, alike.labels, strict=True)
            if value
        )
        places = map(self._location, (*alike.stack, *alike.created))
        return message(2, packed(1, places), packed(2, (count,)), *labels)

    def definitions(self) -> Iterator[bytes]:
        for (function_id, line), place in self._locations.items():
            at = message(4, number(1, function_id), number(2, line))
            yield message(4, number(1, place), at)
        for (name, file), each in self._functions.items():
            yield message(5, number(1, each), number(2, name), number(4, file))
        for text in self._strings:
            yield message(6, text.encode())

    def _location(self, frame: RawFrame) -> int:
        name = self.string(one_line(function(frame)))
        file = self.string(one_line(frame.code.co_filename, PATH))
        # These count from one: zero means none.
        key = (name, file)
        called = self._functions.setdefault(key, len(self._functions) + 1)
        here = (called, frame.line)
        return self._locations.setdefault(here, len(self._locations) + 1)
