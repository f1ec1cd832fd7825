"""What an old suite leaks already, kept in a file, so that only new leaks fail."""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, astuple, dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final, cast, final

from typing_extensions import override

from safeconc.leaks._model import Entry
from safeconc.leaks._rules import Rule, Sight, check_reason
from safeconc.leaks._text import one_line

VERSION: Final = 1

TO_DO: Final = "known when the baseline was written"
"""The reason, until somebody writes a better one."""

_HEADER = """\
# Leaks that are known and do not fail. Functions are told by name, so lines may move.
# Say of each why it may stay for now. Delete a block, and its leak fails again.
version = 1
"""


@final
@dataclass(frozen=True)
class Known(Rule):
    """A leak that is known, told by what stays the same when lines move."""

    kind: str
    """What it is."""

    runs: str
    """The function that it runs."""

    waits_in: str
    """The function in which it waits."""

    created_by: str
    """The function that made it; empty if that was not noted."""

    reason: str = TO_DO
    """Why it may stay."""

    @property
    @override
    def anchor(self) -> str | None:
        return self.runs or None

    @override
    def matches(self, sight: Sight) -> bool:
        """Tell whether it is the same; who made it counts where both sides know."""
        seen = told(sight)
        creators = {self.created_by, seen.created_by}
        return (self.kind, self.runs, self.waits_in) == (
            seen.kind,
            seen.runs,
            seen.waits_in,
        ) and (len(creators) == 1 or "" in creators)


def told(sight: Sight) -> Known:
    """Return the block that tells of an entry."""
    return Known(
        sight.entry.kind,
        one_line(sight.runs),
        one_line(sight.waits_at),
        one_line(sight.created_at),
    )


def ignore_baseline(path: str | PathLike[str]) -> list[Rule]:
    """Ignore what is told in the file that :func:`write_baseline` wrote.

    Each block is a rule of its own, so put a ``*`` before the call::

        with leaks.check(ignore=[*leaks.ignore_baseline("leaks.toml")]): ...
    """
    return list(read_baseline(path))


def read_baseline(path: str | PathLike[str]) -> list[Known]:
    """Return the blocks of a baseline; ValueError if the file is none."""
    try:
        return list(_blocks(tomllib.loads(Path(path).read_text(encoding="utf-8"))))
    except ValueError as exc:
        raise ValueError(f"{path} is no baseline of leaks: {exc}") from exc


def write_baseline(path: str | PathLike[str], entries: Iterable[Entry]) -> None:
    """Write to a file what *entries* tell of, for :func:`ignore_baseline`.

    Reasons that stand in the file already are kept. Blocks of which there is no entry
    go, lest what has been mended come back unseen; so let *entries* be all that one
    run of the whole suite has leaked.
    """
    write_blocks(path, {told(Sight(entry)) for entry in entries})


def write_blocks(path: str | PathLike[str], blocks: AbstractSet[Known]) -> None:
    """Do the same with what :func:`told` has told of them."""
    file = Path(path)
    old = read_baseline(file) if file.exists() else []
    reasons = {replace(block, reason=TO_DO): block.reason for block in old}
    text = _HEADER + "".join(
        _written(replace(block, reason=reasons.get(block, TO_DO)))
        for block in sorted(blocks, key=astuple)
    )
    # Whole or not at all: a run that is cut short must not leave half a file.
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def _blocks(content: Mapping[str, Any]) -> Iterator[Known]:
    if content.get("version") != VERSION:
        raise ValueError(f"its version is not {VERSION}")
    names = {each.name for each in fields(Known)}
    for number, values in enumerate(content.get("leak", ()), start=1):
        if not _is_complete(values, names):
            wanted = ", ".join(sorted(names))
            raise ValueError(f"block {number} does not have strings for {wanted}")
        block = Known(**values)
        check_reason(block.reason)
        yield block


def _is_complete(values: object, names: set[str]) -> bool:
    if not isinstance(values, dict):
        return False
    given = cast("dict[str, object]", values)
    return given.keys() == names and all(isinstance(v, str) for v in given.values())


def _written(block: Known) -> str:
    lines = (f"{key} = {_quoted(value)}\n" for key, value in asdict(block).items())
    return f"\n[[leak]]\n{''.join(lines)}"


def _quoted(text: str) -> str:
    """Return a TOML string; JSON's is one, but for a character that TOML forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
