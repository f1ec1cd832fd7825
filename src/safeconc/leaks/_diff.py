"""What has changed between two snapshots of one process."""

from dataclasses import dataclass
from typing import final

from safeconc.leaks._groups import Group, by_lines
from safeconc.leaks._model import Snapshot


@final
@dataclass(frozen=True, slots=True)
class Change:
    """A group that has another number of members than before."""

    group: Group
    """As it is now; as it was, if it is gone."""

    before: int
    after: int

    @property
    def by(self) -> int:
        """How many more there are; below zero if there are fewer."""
        return self.after - self.before


@final
@dataclass(frozen=True, slots=True)
class Diff:
    """Two snapshots, compared group by group; the largest change first."""

    before: Snapshot
    after: Snapshot
    changes: tuple[Change, ...]

    @property
    def appeared(self) -> tuple[Change, ...]:
        """Groups that were not there before."""
        return tuple(change for change in self.changes if not change.before)

    @property
    def gone(self) -> tuple[Change, ...]:
        """Groups that are not there any more."""
        return tuple(change for change in self.changes if not change.after)

    @property
    def grown(self) -> tuple[Change, ...]:
        """Groups that were there and have more members now."""
        return tuple(c for c in self.changes if c.before and c.by > 0)

    @property
    def shrunk(self) -> tuple[Change, ...]:
        """Groups that are there still and have fewer members."""
        return tuple(c for c in self.changes if c.after and c.by < 0)


def diff(before: Snapshot, after: Snapshot) -> Diff:
    """Compare two snapshots, group by group.

    It counts: a group of a hundred whose members are all others than before has not
    changed. That is what one looks for in a service, where a site that serves is as
    busy as ever, and one that leaks has more members in each snapshot::

        before = leaks.snapshot()
        ...                                     # an hour of work
        print(leaks.report(leaks.diff(before, leaks.snapshot())))
    """
    old, new = by_lines(before.entries), by_lines(after.entries)
    changes: list[Change] = []
    for key in old | new:
        was, now = old.get(key), new.get(key)
        group = now or was
        assert group is not None  # it came from one of the two
        change = Change(group, was.count if was else 0, now.count if now else 0)
        if change.by:
            changes.append(change)
    changes.sort(key=lambda change: (-change.by, -change.after))
    return Diff(before, after, tuple(changes))
