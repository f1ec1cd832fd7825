"""The page that one looks at in a browser: groups, counts, ages, growth."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import final

from safeconc.leaks._groups import Group
from safeconc.leaks._places import Place
from safeconc.leaks._words import duration, noun, total

ROWS = 100
"""Groups that are shown at most."""

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em;
       padding: 0 1em; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.3em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4em .8em .4em 0;
         border-bottom: 1px solid #ddd; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.up { color: #b00020; font-weight: 600; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
small { color: #666; display: block; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #161616; } td, th { border-color: #333; }
  small { color: #999; } td.up { color: #ff6b6b; } a { color: #8ab4f8; } }
"""

STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
"""By which the page's policy lets in this style, and nothing else."""

_LINKS = (
    ("tasks?debug=1", "tasks, grouped"),
    ("tasks?debug=2", "tasks, with whole stacks"),
    ("threads", "threads"),
    ("tasks.json", "JSON"),
    ("pprof/tasks", "a profile for go tool pprof"),
    ("pprof/tasks?seconds=30", "what is started and stays in 30 s"),
)


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A group, and what has become of it since the look before."""

    group: Group
    by: int | None
    """How many more there are than then; None if nobody has looked before."""


def page(rows: Sequence[Row], ago: float | None, notes: Sequence[str]) -> str:
    """Write the page; every word that comes from elsewhere is escaped.

    :param ago: when the look before was, in seconds; None if there was none.
    """
    return "".join(_page(rows, ago, notes))


def _page(
    rows: Sequence[Row], ago: float | None, notes: Sequence[str]
) -> Iterator[str]:
    head = total((row.group.kind, row.group.count) for row in rows) or "nothing"
    yield (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(head)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(head)} alive</h1><p>"
    )
    yield " · ".join(f'<a href="{escape(to)}">{text}</a>' for to, text in _LINKS)
    since = "change" if ago is None else f"change in {duration(ago)}"
    yield (
        '</p><table><thead><tr><th class="n">count<th class="n">'
        f'{escape(since)}<th class="n">oldest<th>what<th>waits at<th>made at'
        "</thead><tbody>"
    )
    for row in rows[:ROWS]:
        yield from _row(row)
    yield "</tbody></table>"
    if len(rows) > ROWS:
        yield f"<p>... and {len(rows) - ROWS} more groups, with fewer members.</p>"
    for note in notes:
        yield f"<p>{escape(note)}</p>"
    yield "</body></html>\n"


def _row(row: Row) -> Iterator[str]:
    group = row.group
    up = ' class="n up"' if row.by is not None and row.by > 0 else ' class="n"'
    by = "" if not row.by else f"{row.by:+d}"
    age = "" if group.oldest is None else duration(group.oldest)
    names = ", ".join(group.names(3))
    advice = group.advice
    often = "" if advice is None else f"<small>often {escape(advice.cause)}</small>"
    yield (
        f'<tr><td class="n">{group.count}<td{up}>{by}<td class="n">{escape(age)}'
        f"<td>{escape(noun(group.kind))} <small>{escape(names)}</small>"
        f"<td>{_place(group.waits_at)}{often}<td>{_place(group.created_at)}"
    )


def _place(place: Place | None) -> str:
    if place is None:
        return ""
    return f"<code>{escape(place.where)}</code><br><code>{escape(place.source)}</code>"
