"""What is left on purpose: rules that say so, each with its reason."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeAlias, final

from typing_extensions import override

from safeconc.leaks._model import Entry
from safeconc.leaks._places import function, innermost, outermost

Text: TypeAlias = str | re.Pattern[str]
"""A string that is to be equal, or a pattern that is to match the whole."""


@final
class Sight:
    """An entry as rules see it: by the names of its functions, innermost call first."""

    def __init__(self, entry: Entry) -> None:
        self.entry: Entry = entry
        self.calls: list[str] = [function(frame) for frame in entry.stack]

    @cached_property
    def creators(self) -> list[str]:
        """The functions that made it, as far as that was noted."""
        return [function(frame) for frame in self.entry.created]

    @cached_property
    def waits_at(self) -> str:
        """The function that a report names as the place where it waits."""
        return self.calls[innermost(self.entry.stack)] if self.calls else ""

    @cached_property
    def created_at(self) -> str:
        """The function that a report names as the one that made it."""
        return self.creators[innermost(self.entry.created)] if self.creators else ""

    @cached_property
    def runs(self) -> str:
        """What it is there to do: the outermost function that is near to the reader."""
        return self.calls[outermost(self.entry.stack)] if self.calls else ""


class Rule(ABC):
    """Says of some leaks that they are known, and why that is all right."""

    reason: str
    """Why, for whoever reads the rule in a year."""

    @property
    def anchor(self) -> str | None:
        """A function without which the rule cannot match, if there is one."""
        return None

    @abstractmethod
    def matches(self, sight: Sight) -> bool:
        """Tell whether it is about this one."""


@final
@dataclass(frozen=True, kw_only=True)
class Ignore(Rule):
    """A rule by what can be seen of a leak: all that is given has to fit.

    Functions are named as reports name them, by module and qualified name:
    ``app.feeds.Feed.refresh``. A string has to be equal; of a compiled pattern, all has
    to match.
    """

    reason: str
    """Why it is all right to leave them."""

    kind: str | None = None
    """What it is, such as ``"task"`` or ``"thread"``."""

    state: Text | None = None
    """What it is doing."""

    name: Text | None = None
    """What the task or thread is called."""

    module: str | None = None
    """The module in which the function is that it runs, or a package around it."""

    function: Text | None = None
    """Where it waits: the innermost function, or the one that a report names."""

    any_function: Text | tuple[str, ...] | None = None
    """A function that it is in; of several, each is called by the next."""

    created_by: Text | None = None
    """A function that made it; matches nothing where that was not noted."""

    def __post_init__(self) -> None:
        check_reason(self.reason)
        if all(getattr(self, condition) is None for condition in _CONDITIONS):
            raise ValueError("a rule without a condition would ignore every leak")

    @override
    def matches(self, sight: Sight) -> bool:
        """Tell whether all conditions hold."""
        entry = sight.entry
        return (
            (self.kind is None or self.kind == entry.kind)
            and (self.any_function is None or _within(self.any_function, sight.calls))
            and (self.state is None or _fits(self.state, entry.state))
            and (self.name is None or _fits(self.name, entry.name))
            and (self.function is None or _waits(self.function, sight))
            and (self.module is None or sight.runs.startswith(f"{self.module}."))
            and (self.created_by is None or _any_fits(self.created_by, sight.creators))
        )

    @property
    @override
    def anchor(self) -> str | None:
        for where in (self.any_function, self.function):
            if isinstance(where, tuple):
                return where[-1]
            if isinstance(where, str):
                return where
        return None


_CONDITIONS = [each.name for each in fields(Ignore) if each.name != "reason"]


def ignore_name(name: Text, *, reason: str, kind: str | None = None) -> Rule:
    """Ignore what is called *name*."""
    return Ignore(name=name, reason=reason, kind=kind)


def ignore_function(function: Text, *, reason: str, kind: str | None = None) -> Rule:
    """Ignore what waits in *function*, as goleak's ``IgnoreTopFunction`` does.

    That is the innermost function of the stack. Since that is mostly one of asyncio's,
    it is also the one that a report shows behind "waits at".
    """
    return Ignore(function=function, reason=reason, kind=kind)


def ignore_any_function(
    function: Text, *, reason: str, kind: str | None = None
) -> Rule:
    """Ignore what has *function* anywhere on its stack.

    Take one that nothing else runs in: with ``app.main`` you would ignore all that
    your program leaks.
    """
    return Ignore(any_function=function, reason=reason, kind=kind)


def ignore_created_by(function: Text, *, reason: str, kind: str | None = None) -> Rule:
    """Ignore what was made by *function*.

    It needs :func:`install`: where nobody noted who made it, nothing is ignored.
    """
    return Ignore(created_by=function, reason=reason, kind=kind)


def ignore_module(module: str, *, reason: str, kind: str | None = None) -> Rule:
    """Ignore what runs a function of *module*, or of a module below it.

    What a function of yours waits for inside the module is not meant: only tasks and
    threads that have nothing but the module's own functions to run.
    """
    return Ignore(module=module, reason=reason, kind=kind)


def ignore_state(state: Text, *, reason: str, kind: str | None = None) -> Rule:
    """Ignore what is in *state*."""
    return Ignore(state=state, reason=reason, kind=kind)


def check_reason(reason: object) -> None:
    """Refuse a rule that does not say why."""
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a string, not {reason!r}")
    if not reason.strip():
        raise ValueError("a rule needs a reason: say why this may be left")


def _within(wanted: Text | tuple[str, ...], calls: Sequence[str]) -> bool:
    if isinstance(wanted, tuple):
        length = len(wanted)
        starts = range(len(calls) - length + 1)
        return any(tuple(calls[start : start + length]) == wanted for start in starts)
    return _any_fits(wanted, calls)


def _waits(wanted: Text, sight: Sight) -> bool:
    # The innermost function first: to find the other one takes more.
    return _any_fits(wanted, sight.calls[:1]) or _fits(wanted, sight.waits_at)


def _any_fits(wanted: Text, values: Collection[str]) -> bool:
    if isinstance(wanted, str):
        return wanted in values
    return any(wanted.fullmatch(value) for value in values)


def _fits(wanted: Text, value: str) -> bool:
    return _any_fits(wanted, (value,))
