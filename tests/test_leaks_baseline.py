"""What an old suite leaks already, in a file."""

import asyncio
from pathlib import Path

import pytest

from safeconc import leaks
from safeconc.leaks._baseline import TO_DO, read_baseline
from safeconc.leaks._rules import Sight
from safeconc.leaks._sieve import Sieve
from tests.entries import entry

OLD = entry(asyncio.sleep, "/app/feeds.py:refresh", made_by=["/app/main.py:start"])
NEW = entry(asyncio.sleep, "/app/mail.py:send")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a baseline that knows of one leak."""
    path = tmp_path / "leaks.toml"
    leaks.write_baseline(path, [OLD, OLD])
    return path


def is_known(path: Path, leak: leaks.Entry) -> bool:
    """Tell whether a rule of the baseline is about a leak."""
    return any(rule.matches(Sight(leak)) for rule in leaks.ignore_baseline(path))


def test_baseline_is_for_people(path: Path) -> None:
    """It says what it is, and has a block for each leak, once."""
    text = path.read_text()

    assert text.startswith("# Leaks that are known and do not fail.")
    assert text.endswith(
        """
[[leak]]
kind = "task"
runs = "feeds.refresh"
waits_in = "feeds.refresh"
created_by = "main.start"
reason = "known when the baseline was written"
"""
    )
    assert text.count("[[leak]]") == 1


def test_what_is_known_does_not_fail(path: Path) -> None:
    """And what is not known does."""
    assert is_known(path, OLD)
    assert not is_known(path, NEW)


def test_baseline_works_in_a_sieve(path: Path) -> None:
    """Where rules are found by the functions that they name."""
    sieve = Sieve(leaks.ignore_baseline(path))

    assert sieve.sift([OLD, NEW]).kept == (NEW,)


def test_lines_may_move(path: Path) -> None:
    """Functions are told by name."""
    moved = OLD._replace(
        stack=tuple(frame._replace(line=frame.line + 7) for frame in OLD.stack)
    )

    assert is_known(path, moved)


def test_creator_counts_where_both_know_it(path: Path) -> None:
    """A run without install() knows it of nothing."""
    other = entry(
        asyncio.sleep, "/app/feeds.py:refresh", made_by=["/app/shell.py:open"]
    )

    assert is_known(path, OLD._replace(created=()))
    assert not is_known(path, other)


def test_reasons_are_kept_and_mended_leaks_go(path: Path) -> None:
    """Whoever wrote a reason does not write it again."""
    path.write_text(path.read_text().replace(TO_DO, "until v2"))

    leaks.write_baseline(path, [OLD, NEW])
    assert [known.reason for known in read_baseline(path)] == ["until v2", TO_DO]
    leaks.write_baseline(path, [NEW])
    assert [known.runs for known in read_baseline(path)] == ["mail.send"]


def test_hostile_names_survive_the_file(path: Path) -> None:
    """Whatever a function is called, the file can be read again."""
    odd = entry('/app/a.py:<"quoted">\x7f\n\\')
    leaks.write_baseline(path, [odd])

    assert is_known(path, odd)


@pytest.mark.parametrize(
    "text, why",
    [
        ("nonsense", "is no baseline of leaks"),
        ("version = 2", "its version is not 1"),
        ("version = 1\nleak = [1]", "block 1 does not have strings for"),
        ('version = 1\n[[leak]]\nkind = "task"', "block 1 does not have strings for"),
    ],
)
def test_other_files_are_refused(path: Path, text: str, why: str) -> None:
    """With the name of the file and the fault."""
    path.write_text(text)

    with pytest.raises(ValueError, match=f"leaks.toml .*{why}"):
        leaks.ignore_baseline(path)


def test_block_needs_a_reason(path: Path) -> None:
    """As every rule does."""
    path.write_text(path.read_text().replace(TO_DO, ""))

    with pytest.raises(ValueError, match="a rule needs a reason"):
        leaks.ignore_baseline(path)
