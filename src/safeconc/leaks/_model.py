"""What was seen alive: raw, so that looking is cheap, and named only when shown."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, final

from typing_extensions import override

Kind = Literal[
    "task", "thread", "timer", "asyncgen", "process", "executor", "error", "primitive"
]
"""What is counted: asyncio's and trio's tasks, threads, pending ``call_later`` timers,
open async generators, child processes, executors that were not shut down, tasks that
failed and were never asked how they ended, and blocks of ours that were not left."""


class Code(Protocol):
    """What is known of a function: a code object is one."""

    @property
    def co_filename(self) -> str: ...
    @property
    def co_name(self) -> str: ...
    @property
    def co_qualname(self) -> str: ...


@final
class Named(NamedTuple):
    """A function of which only the names are known."""

    co_filename: str
    """The path of its file."""

    co_name: str
    """Its name."""

    @property
    def co_qualname(self) -> str:
        """Its name, too: more was not kept."""
        return self.co_name


@final
class Found(NamedTuple):
    """A function that was found in its source."""

    co_filename: str
    """The path of its file."""

    co_name: str
    """Its name."""

    co_qualname: str
    """Its name, with what it is defined in."""


class RawFrame(NamedTuple):
    """A line of a function."""

    code: Code
    """The function."""

    line: int
    """The line, counted from one; 0 if it is not known."""


@final
class Stack(tuple[RawFrame, ...]):  # noqa: SLOT001 - a tuple cannot have slots
    """Calls, the innermost first.

    Thousands of tasks wait at one place. They share one of these, which hashes code
    objects once: to hash one costs more than to find a task.
    """

    _hash: int | None = None

    @override
    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = super().__hash__()
        return self._hash


NOWHERE = Stack()
"""No calls, or none that are known."""


@final
class Entry(NamedTuple):
    """One thing that was alive."""

    kind: Kind
    """What it is."""

    name: str
    """What it is called, as its maker gave it: from a stranger, so not to be shown as
    it is."""

    state: str
    """What it was doing: ``"waiting"``, ``"running"``, ``"cancelling"``,
    ``"not started"``, and what else there is for its kind."""

    stack: tuple[RawFrame, ...] = NOWHERE
    """Where it was, the innermost call first, through all awaits."""

    created: tuple[RawFrame, ...] = NOWHERE
    """Where it was made, the innermost call first; empty if nobody noted it."""

    owner: str | None = None
    """For whom it was made: a test or a fixture; None if nobody said so."""

    age: float | None = None
    """Seconds since it was made, if somebody noted when."""

    ident: int = 0
    """Its :func:`id`, or the number of a thread or process. One that has ended may
    have had the same."""

    ref: Callable[[], Any] = lambda: None
    """Returns the thing itself, or None when it is gone."""


@final
class Snapshot(NamedTuple):
    """All that was seen alive at an instant."""

    entries: Sequence[Entry]
    """What was seen."""

    at: float = 0.0
    """When, by :func:`time.time`."""

    notes: tuple[str, ...] = ()
    """What could not be seen, and why: whole sentences."""

    def kinds(self) -> dict[Kind, int]:
        """Count the entries of each kind that occurs."""
        return count_kinds(self.entries)


def count_kinds(entries: Iterable[Entry]) -> dict[Kind, int]:
    """Count the entries of each kind that occurs."""
    counts: dict[Kind, int] = {}
    for entry in entries:
        counts[entry.kind] = counts.get(entry.kind, 0) + 1
    return counts
