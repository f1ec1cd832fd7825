"""A rule for what is there already."""

from typing import final

from typing_extensions import override

from safeconc.leaks._census import Census, mark_of
from safeconc.leaks._rules import Rule, Sight, check_reason


@final
class Current(Rule):
    """Matches what was alive when the rule was made, and nothing that came later."""

    def __init__(self, reason: str) -> None:
        check_reason(reason)
        self.reason = reason
        self._marks = Census().marks()

    @override
    def matches(self, sight: Sight) -> bool:
        """Tell whether it was there."""
        return mark_of(sight.entry) in self._marks


def ignore_current(*, reason: str = "it was there before") -> Rule:
    """Ignore what is alive now, as goleak's ``IgnoreCurrent`` does.

    It keeps none of it alive.
    """
    return Current(reason)
