"""Rules at work: what they hold back, what passes, and which of them are idle."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

from safeconc.leaks._builtin import BUILTIN
from safeconc.leaks._model import Entry
from safeconc.leaks._rules import Rule, Sight


@final
@dataclass(frozen=True, slots=True)
class Sifted:
    """Entries, parted by rules."""

    kept: tuple[Entry, ...]
    """Those that no rule is about: leaks."""

    ignored: tuple[tuple[Entry, Rule], ...]
    """The others, each with the rule that is about it."""


@final
class Sieve:
    """Parts what rules are about from what they are not about, and counts.

    The caller's own rules are asked first: one that says the same as a built-in rule
    is not idle.

    :param builtin: apply the rules for what well-known packages leave by design.
    """

    def __init__(self, ignore: Iterable[Rule] = (), *, builtin: bool = True) -> None:
        self._own = _Indexed(ignore)
        self._builtin = _BUILTIN if builtin else _Indexed(())
        self._counts = dict.fromkeys(self._own.rules, 0)

    @property
    def counts(self) -> Mapping[Rule, int]:
        """How many entries each of the caller's rules has held back so far."""
        return self._counts.copy()

    @property
    def unmatched(self) -> tuple[Rule, ...]:
        """The caller's rules that have held nothing back: what they knew is mended."""
        return tuple(rule for rule, count in self._counts.items() if not count)

    def sift(self, entries: Iterable[Entry]) -> Sifted:
        """Part *entries*."""
        kept: list[Entry] = []
        ignored: list[tuple[Entry, Rule]] = []
        for entry in entries:
            sight = Sight(entry)
            rule = self._own.find(sight)
            if rule is not None:
                self._counts[rule] += 1
            else:
                rule = self._builtin.find(sight)
            if rule is None:
                kept.append(entry)
            else:
                ignored.append((entry, rule))
        return Sifted(tuple(kept), tuple(ignored))


@final
class _Indexed:
    """Rules, by a function without which they cannot match."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._anywhere: list[Rule] = []
        self._by_function: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise TypeError(
                    f"ignore takes rules, and {rule!r} is none; ignore_baseline() and "
                    "the like return several, so put a * before the call"
                )
            anchor = rule.anchor
            if anchor is None:
                self._anywhere.append(rule)
            else:
                self._by_function.setdefault(anchor, []).append(rule)

    def find(self, sight: Sight) -> Rule | None:
        """Return the first rule that matches, None if there is none."""
        for function in sight.calls:
            for rule in self._by_function.get(function, ()):
                if rule.matches(sight):
                    return rule
        for rule in self._anywhere:
            if rule.matches(sight):
                return rule
        return None


_BUILTIN = _Indexed(BUILTIN)
