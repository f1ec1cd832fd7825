"""Entries as a census makes them, of functions that are real or made up."""

from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from safeconc.leaks import Entry, Kind, RawFrame, Snapshot

Call = Callable[..., Any] | str
"""A function, or ``"file:name"`` of one that there is not."""


def code_of(call: Call) -> CodeType:
    """Return the code of a function; of none, make some."""
    if not isinstance(call, str):
        code: CodeType = getattr(call, "__func__", call).__code__
        return code
    file, _, name = call.rpartition(":")
    return code_of(code_of).replace(
        co_filename=file, co_name=name.rpartition(".")[2], co_qualname=name
    )


def frames(calls: Iterable[Call], line: int = 0) -> tuple[RawFrame, ...]:
    """Return a stack of *calls*, the innermost first, each at its first line."""
    codes = map(code_of, calls)
    return tuple(RawFrame(code, line or code.co_firstlineno) for code in codes)


def entry(
    *calls: Call,
    kind: Kind = "task",
    name: str = "Task-1",
    state: str = "waiting",
    made_by: Iterable[Call] = (),
    owner: str | None = None,
    age: float | None = None,
) -> Entry:
    """Make an entry that is in *calls*, the innermost first."""
    return Entry(kind, name, state, frames(calls), frames(made_by), owner, age)


def alive(*entries: Entry, notes: Iterable[str] = ()) -> Snapshot:
    """Make a snapshot of *entries*, taken at a certain instant."""
    return Snapshot(entries, 1_000_000.5, tuple(notes))
