"""What a person reads, and what a program does."""

import asyncio
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from safeconc import leaks
from safeconc.antipatterns import unstopped_ticker
from safeconc.leaks import Entry
from safeconc.leaks._report import Level
from safeconc.leaks._text import one_line
from safeconc.leaks._words import duration
from tests.entries import Call, alive, entry

FEED = "/app/feeds.py:Feed.refresh"
MAIN = "/app/main.py:start"


async def waiting() -> None:
    """Stand in a file that can be read."""
    await asyncio.sleep(3600)


LINE = waiting.__code__.co_firstlineno


def feeds(count: int) -> Iterator[Entry]:
    """Make as many tasks that refresh a feed."""
    for number in range(count):
        yield entry(
            asyncio.sleep, FEED, name=f"Task-{number}", made_by=[MAIN], age=90.0
        )


def test_report_says_what_where_and_what_to_do() -> None:
    """One group: how many, the line that waits, the line that made it, and advice."""
    (one,) = feeds(1)
    text = leaks.report(alive(*feeds(3)))

    assert (
        text
        == f"""\
Leaked: 3 tasks, in 1 place.

3 tasks, oldest 2 min: 'Task-0', 'Task-1', 'Task-2'
    waits at   /app/feeds.py:{one.stack[1].line} feeds.Feed.refresh
    in         asyncio.tasks.sleep
    made at    /app/main.py:{one.created[0].line} main.start
    often      a loop that nobody stops
    instead    start it with go_background() in an ErrGroup, which ends with its block,
               or iterate over a Ticker, behind which nothing runs (docs/ticker.md)"""
    )


def test_report_of_nothing_says_so() -> None:
    """It is one line."""
    assert leaks.report(alive()) == "Leaked: nothing."


def test_report_has_the_largest_group_first() -> None:
    """Then the one with the oldest member."""
    few = entry(asyncio.sleep, "/app/a.py:few", age=1.0)
    old = entry(asyncio.sleep, "/app/b.py:old", age=9.0)
    text = leaks.report(alive(few, old, *feeds(2)), advice=False)

    assert text.index("Feed.refresh") < text.index("b.old") < text.index("a.few")
    assert "often" not in text


def test_report_shows_the_source() -> None:
    """Where the file can be read, the line stands there."""
    text = leaks.report(alive(entry(waiting)))

    assert f"test_leaks_report.py:{LINE} " in text
    assert "async def waiting() -> None:" in text


def test_report_tells_how_to_learn_more() -> None:
    """Who did not install sees how to get the line that made it; nobody else does."""
    unknown, known = alive(entry(waiting)), alive(*feeds(1))
    depth = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(0)
    try:
        assert "safeconc.leaks.install()" in leaks.report(unknown)
        assert "safeconc.leaks.install()" not in leaks.report(known)
        with leaks.install():
            assert "safeconc.leaks.install()" not in leaks.report(unknown)
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)


def test_report_tells_what_could_not_be_seen() -> None:
    """The snapshot's notes stand at the end."""
    text = leaks.report(alive(*feeds(1), notes=["uvloop does not tell."]))

    assert text.endswith("\n\nuvloop does not tell.")


def test_level_2_shows_whole_stacks_and_members() -> None:
    """The innermost call is the last line, as in a traceback."""
    one = entry(
        asyncio.sleep, FEED, MAIN, name="a", state="cancelling", owner="t1", age=0.5
    )
    other = entry(asyncio.sleep, FEED, MAIN, name="b", owner="t2")
    text = leaks.report(alive(one, other), level=2)

    at = [
        text.index(part) for part in ("main.start", "\n      ", "asyncio.tasks.sleep")
    ]
    assert at[0] < at[2]
    assert "'a', cancelling, 0.5 s, of t1" in text
    assert "'b', waiting, of t2" in text
    assert "owner      t1 (1), t2 (1)" in text


def test_level_2_shows_where_it_was_made() -> None:
    """All calls that were noted."""
    made = entry(asyncio.sleep, made_by=[MAIN, "/app/run.py:run"])

    assert "run.run" in leaks.report(alive(made), level=2)


def test_report_tells_who_called_and_for_whom() -> None:
    """The next call outwards, and the owners, the most frequent first."""
    owners = ["t1", "t1", *(f"t{number}" for number in range(2, 8))]
    text = leaks.report(
        alive(*(entry(asyncio.sleep, FEED, MAIN, owner=owner) for owner in owners))
    )

    assert "    called by  /app/main.py:" in text
    assert "    owner      t1 (2), t2 (1), t3 (1), t4 (1), others (3)" in text


def test_owner_of_all_is_named_alone() -> None:
    """Without a count that says nothing."""
    text = leaks.report(alive(entry(FEED, owner="t1"), entry(FEED, owner="t1")))

    assert "    owner      t1\n" in text


def test_report_shows_the_vice_and_not_what_runs_it() -> None:
    """An anti-pattern is the reader's code, though it is in our package."""
    vice = unstopped_ticker.leaky
    text = leaks.report(alive(entry(asyncio.sleep, vice, FEED)))

    assert "antipatterns.unstopped_ticker.leaky" in text.partition("in  ")[0]


def test_level_is_checked() -> None:
    """There are two."""
    with pytest.raises(ValueError, match="level must be 1 or 2, not 3"):
        leaks.report(alive(), level=3)  # type: ignore[arg-type]


def test_long_stack_shows_both_ends() -> None:
    """What is in between is counted."""
    calls = [f"/app/deep.py:f{number}" for number in range(50)]
    text = leaks.report(alive(entry(*calls)), level=2)

    assert "... 30 more calls ..." in text
    assert "deep.f0" in text
    assert "deep.f49" in text
    assert "deep.f30" not in text


def test_100_000_identical_leaks_are_one_group() -> None:
    """The report fits on a screen, at both levels."""
    snapshot = alive(*(*feeds(10),) * 10_000)

    levels: tuple[Level, ...] = (1, 2)
    for level in levels:
        text = leaks.report(snapshot, level=level)
        assert len(text) < 10_000
        assert text.startswith("Leaked: 100,000 tasks, in 1 place.")


def test_many_groups_are_cut_off_and_counted() -> None:
    """The smaller ones are told by their number."""
    many = [entry(asyncio.sleep, f"/app/a.py:f{number}") for number in range(32)]
    text = leaks.report(alive(*many))

    assert "... and in 12 more places: 12 tasks" in text
    assert len(text) < 20_000


def test_hostile_names_stay_in_their_line() -> None:
    """A name cannot forge a line, repaint the terminal, or drown the report."""
    names = ["a\nLeaked: nothing.", "\x1b[2J", "x" * 1_000_000, "\ud800", "'"]
    snapshot = alive(*(entry(asyncio.sleep, name=name) for name in names))
    text = leaks.report(snapshot, level=2)

    assert "\nLeaked: nothing." not in text
    assert "\x1b" not in text
    assert len(text) < 5_000
    assert max(map(len, text.splitlines())) < 600


class Broken:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "value, text",
    [
        ("plain", "plain"),
        ("two\nlines", "two\\nlines"),
        ("y" * 200, "y" * 117 + "..."),
        (7, "7"),
        (Broken(), "<a Broken whose text raises RuntimeError>"),
    ],
)
def test_text_of_strangers_becomes_one_line(value: object, text: str) -> None:
    """Printable, bounded, whatever it was."""
    assert one_line(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(1.25, "1.2 s"), (90, "2 min"), (7200, "2.0 h"), (864_000, "10.0 days")],
)
def test_ages_have_the_digits_that_one_needs(seconds: float, text: str) -> None:
    """Nobody counts the seconds of a day."""
    assert duration(seconds) == text


# On a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "environment, coloured",
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    """On a terminal, unless it or its user says no."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal, file = Terminal(), io.StringIO()

    leaks.show(alive(*feeds(1)), file=terminal)
    leaks.show(alive(*feeds(1)), file=file)

    assert ("\x1b[1m" in terminal.getvalue()) is coloured
    assert "\x1b" not in file.getvalue()


def test_show_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """What a program prints of its own is not mixed with it."""
    leaks.show(alive())

    out, err = capsys.readouterr()
    assert (out, err) == ("", "Leaked: nothing.\n")


def test_show_writes_what_the_stream_has_not() -> None:
    """No time to fail for an umlaut."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    leaks.show(alive(entry(asyncio.sleep, name="Überwacher")), file=stream)
    stream.flush()

    assert b"'\\xdcberwacher'" in raw.getvalue()


# Differences


def test_diff_counts_group_by_group() -> None:
    """What is new, gone, more and fewer, the largest change first."""
    gone, new = entry(asyncio.sleep, "/a.py:gone"), entry(asyncio.sleep, "/a.py:new")
    less, same = entry(asyncio.sleep, "/a.py:less"), entry(asyncio.sleep, "/a.py:same")
    before = alive(gone, less, less, same, *feeds(1))
    diff = leaks.diff(before, alive(new, less, same, *feeds(4)))

    assert [change.by for change in diff.changes] == [3, 1, -1, -1]
    assert [change.after for change in diff.grown] == [4]
    assert [change.group.count for change in diff.appeared] == [1]
    assert [change.before for change in diff.gone] == [1]
    assert [(change.before, change.after) for change in diff.shrunk] == [(2, 1)]


def test_report_of_a_diff_shows_what_has_grown() -> None:
    """And only counts what has become less."""
    gone = entry(asyncio.sleep, "/a.py:gone")
    text = leaks.report(leaks.diff(alive(gone, *feeds(1)), alive(*feeds(4))))

    assert text.startswith("More: 3 tasks in 1 place. Fewer: 1 task in 1 place.")
    assert "3 tasks more (1 before, 4 now), oldest 2 min" in text
    assert "a.gone" not in text


def test_report_of_a_diff_is_bounded() -> None:
    """As that of a snapshot is."""
    many = [entry(asyncio.sleep, f"/app/a.py:f{number}") for number in range(30)]
    text = leaks.report(leaks.diff(alive(), alive(*many)))

    assert "... and more in other places: 10 tasks in 10 places" in text
    assert leaks.report(leaks.diff(alive(), alive())).startswith(
        "More: nothing. Fewer: nothing."
    )


# For programs


def test_json_has_the_groups() -> None:
    """Under a schema of its own."""
    one = entry(asyncio.sleep, FEED, made_by=[MAIN], owner="t1", age=2.0)
    parsed = json.loads(leaks.as_json(alive(one, notes=["a note"])))
    (group,) = parsed.pop("groups")

    assert parsed == {
        "schema": "safeconc.leaks/1",
        "total": 1,
        "omitted": 0,
        "notes": ["a note"],
    }
    assert group["kind"] == "task"
    assert group["count"] == 1
    assert group["oldest"] == 2.0
    assert group["names"] == ["Task-1"]
    assert group["states"] == {"waiting": 1}
    assert group["owners"] == {"t1": 1}
    assert group["waits_at"]["function"] == "feeds.Feed.refresh"
    assert group["made_at"]["file"] == "/app/main.py"
    assert [call["function"] for call in group["stack"]] == [
        "asyncio.tasks.sleep",
        "feeds.Feed.refresh",
    ]
    assert group["advice"]["page"] == "docs/ticker.md"


def test_json_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest groups have room in it; the others are counted."""
    monkeypatch.setattr("safeconc.leaks._json.LONGEST", 3_000)
    few = [entry(asyncio.sleep, f"/app/a.py:f{number}") for number in range(30)]
    text = leaks.as_json(alive(*feeds(2), *few))
    parsed = json.loads(text)

    assert len(text) < 4_000
    assert parsed["groups"][0]["count"] == 2
    assert 1 < len(parsed["groups"]) == 31 - parsed["omitted"]


def test_json_of_a_diff_has_the_changes() -> None:
    """With the counts of both sides."""
    parsed = json.loads(leaks.as_json(leaks.diff(alive(), alive(*feeds(2)))))

    assert [(g["before"], g["count"]) for g in parsed["groups"]] == [(0, 2)]


@pytest.mark.parametrize(
    "calls, kind, page",
    [
        ((asyncio.Queue[int].get,), "task", "docs/channel.md"),
        ((asyncio.Queue[int].put,), "task", "docs/channel.md"),
        ((asyncio.Event.wait,), "task", "docs/errgroup.md"),
        ((asyncio.run,), "task", "docs/errgroup.md"),
        (("/app/a.py:f",), "task", "docs/errgroup.md"),
        (("/app/a.py:f",), "thread", "docs/errgroup.md"),
        ((), "timer", "docs/ticker.md"),
    ],
)
def test_advice_fits_what_it_waits_for(
    calls: tuple[Call, ...], kind: leaks.Kind, page: str
) -> None:
    """By the function that the reader's own line calls, else by the kind."""
    assert page in leaks.report(alive(entry(*calls, kind=kind)))


def test_unknown_kind_gets_no_advice() -> None:
    """Rather none than a wrong one."""
    odd = entry(kind="task")._replace(kind="future")  # type: ignore[arg-type]

    assert "often" not in leaks.report(alive(odd))


def test_module_is_told_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among whatever stands in sys.modules; a lazy module is not loaded for it."""

    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            pytest.fail(f"loaded for its {name}")

    lazy = Lazy("app.lazy")
    vars(ModuleType)["__dict__"].__get__(lazy)["__file__"] = "/app/lazy/core.py"
    monkeypatch.setitem(sys.modules, "app.odd", object())
    monkeypatch.setitem(sys.modules, "app.lazy", lazy)
    text = leaks.report(alive(entry("/app/lazy/core.py:run", "/app/odd/none.py:run")))

    assert "app.lazy.run" in text
    assert "none.run" in text


def test_place_is_named_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path below it is short; if it is gone, the path stays whole."""
    here = alive(entry(waiting))
    monkeypatch.chdir(Path(__file__).parent)
    assert f"waits at   {Path(__file__).name}:{LINE} " in leaks.report(here)

    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert __file__ in leaks.report(here)
