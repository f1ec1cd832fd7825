"""A report for programs."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from safeconc.leaks._diff import Diff
from safeconc.leaks._groups import Group, grouped
from safeconc.leaks._model import Snapshot
from safeconc.leaks._places import PATH, Place
from safeconc.leaks._text import one_line

SCHEMA: Final = "safeconc.leaks/1"
"""Its number grows when a field goes or gets another meaning, not when one is new."""

GROUPS = 1_000
"""Groups that are written at most."""

LONGEST = 900_000
"""Characters that all groups together take at most."""

FRAMES = 100
"""Calls of one stack, at most."""

_SOME = 20
"""Names, states or owners of one group, at most."""


def as_json(what: Snapshot | Diff) -> str:
    """Return the groups of a snapshot, or the changes of a diff, as a JSON object.

    ============  ====================================================================
    ``schema``    ``"safeconc.leaks/1"``
    ``total``     how many there are
    ``groups``    a list of the groups, the largest first; of a diff, those that have
                  changed, the one that has grown most first
    ``omitted``   how many groups are not in the list, lest it be too long
    ``notes``     strings: what the snapshot could not tell
    ============  ====================================================================

    Each group is an object:

    ============  ====================================================================
    ``kind``      what they are
    ``count``     how many; of a diff also ``before``
    ``oldest``    the age of the oldest in seconds, or null
    ``names``     some of their names
    ``states``    the most frequent ones, each with its count; likewise ``owners``
    ``stack``     calls, the innermost first; each has ``function``, ``file``, ``line``
    ``created``   likewise, of whoever made them; empty if that was not noted
    ``waits_at``  the call in ``stack`` that a report names, or null
    ``made_at``   the call in ``created`` that a report names, or null
    ``advice``    null, or ``cause``, ``cure`` and ``page``
    ============  ====================================================================
    """
    if isinstance(what, Diff):
        snapshot = what.after
        groups = _fitting(
            _group(each.group) | {"count": each.after, "before": each.before}
            for each in what.changes[:GROUPS]
        )
        omitted = len(what.changes) - len(groups)
    else:
        snapshot = what
        found = grouped(snapshot.entries)
        groups = _fitting(map(_group, found[:GROUPS]))
        omitted = len(found) - len(groups)
    return json.dumps(
        {
            "schema": SCHEMA,
            "total": len(snapshot.entries),
            "groups": groups,
            "omitted": omitted,
            "notes": [one_line(note) for note in snapshot.notes],
        }
    )


def _fitting(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups from the first to the last that there is room for."""
    room = LONGEST
    fitting: list[dict[str, Any]] = []
    for group in groups:
        room -= len(json.dumps(group))
        if room < 0:
            break
        fitting.append(group)
    return fitting


def _group(group: Group) -> dict[str, Any]:
    advice = group.advice
    return {
        "kind": group.kind,
        "count": group.count,
        "oldest": group.oldest,
        "names": group.names(_SOME),
        "states": group.tally("state", _SOME),
        "owners": group.tally("owner", _SOME),
        "stack": [_call(place) for place in group.stack[:FRAMES]],
        "created": [_call(place) for place in group.created[:FRAMES]],
        "waits_at": group.waits_at and _call(group.waits_at),
        "made_at": group.created_at and _call(group.created_at),
        "advice": advice and asdict(advice),
    }


def _call(place: Place) -> dict[str, Any]:
    return {
        "function": one_line(place.function),
        "file": one_line(place.file, PATH),
        "line": place.line,
    }
