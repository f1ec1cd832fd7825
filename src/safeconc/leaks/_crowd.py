"""Entries that are alike, kept together: a hundred thousand cost little more than one.

To make an entry costs a fair part of what it costs to look at a task. Where thousands
wait at one place, all that differs is their names, so an entry is made when somebody
asks for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, SupportsIndex, final, overload
from weakref import ref

from typing_extensions import override

from safeconc.leaks._model import Entry

_new: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
"""As NamedTuple does itself, at half the price."""


class _Made(Sequence[Entry]):
    """A sequence whose items are made in order."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    @override
    def __getitem__(self, index: SupportsIndex | slice) -> Entry | Sequence[Entry]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(islice(self, places, None))
        if places.step > 0:
            return tuple(islice(self, places.start, places.stop, places.step))
        return tuple(self)[index]


@final
class Crowd(_Made):
    """Tasks that wait at one place and were made at one place, for one owner.

    :param sample: what they have in common.
    """

    __slots__ = ("names", "refs", "sample")

    def __init__(self, sample: Entry) -> None:
        self.sample = sample
        self.names: list[str] = []
        self.refs: list[ref[Any]] = []

    @override
    def __len__(self) -> int:
        return len(self.refs)

    @override
    def __iter__(self) -> Iterator[Entry]:
        kind, _, state, stack, created, owner, age, _, _ = self.sample
        for name, mark in zip(self.names, self.refs, strict=True):
            thing = mark()
            ident = 0 if thing is None else id(thing)
            fields = (kind, name, state, stack, created, owner, age, ident, mark)
            yield _new(Entry, fields)


@final
class Crowds(_Made):
    """Crowds, one after the other, as the entries in them.

    :param parts: crowds, and other entries.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Sequence[Entry]]) -> None:
        self.parts = tuple(parts)
        """What it consists of; like entries may be in more than one."""

    def samples(self) -> Iterator[tuple[Entry, int]]:
        """Yield entries, and of each how many are alike in all but their names."""
        for part in self.parts:
            if isinstance(part, Crowd):
                yield part.sample, len(part)
            else:
                for entry in part:
                    yield entry, 1

    @override
    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @override
    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self.parts)
