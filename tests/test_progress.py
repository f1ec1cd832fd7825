"""progress=: a bar for people, statistics for programs, and no thread behind it."""

import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import FanOut, FanOutStatistics, current_context, fan_out
from safeconc._progress import REFRESH, Bar

Run = Callable[..., Coroutine[Any, Any, list[Any]]]


async def _stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    async with FanOut(fn, items, **options) as results:
        return [result async for result in results]


both = pytest.mark.parametrize("run", [fan_out, _stream], ids=["fan_out", "FanOut"])


async def _echo(item: int) -> int:
    await checkpoint()
    return item


async def _at_once(item: int) -> int:
    return item


# A callable


@both
@pytest.mark.parametrize("fn", [_echo, _at_once])
async def test_a_callable_gets_the_statistics(run: Run, fn: Any) -> None:
    """It is called once an item, with counts that only grow."""
    seen: list[FanOutStatistics] = []

    await run(fn, range(20), limit=3, progress=seen.append)

    assert [statistics.finished for statistics in seen] == list(range(1, 21))
    assert {statistics.total for statistics in seen} == {20}
    started = [statistics.started for statistics in seen]
    assert started == sorted(started)


@both
async def test_a_callable_hears_of_errors_that_were_given_back(run: Run) -> None:
    """A failed call has ended like any other."""
    seen: list[FanOutStatistics] = []

    async def fn(item: int) -> None:
        raise ValueError(item)

    await run(fn, range(3), limit=1, return_exceptions=True, progress=seen.append)

    assert [(each.finished, each.failed) for each in seen] == [(1, 1), (2, 2), (3, 3)]


@both
async def test_false_reports_to_nobody(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without progress= nothing is shown."""
    await run(_echo, range(3), limit=2, progress=False)

    assert capsys.readouterr() == ("", "")


# The bar


@both
async def test_a_bar_is_drawn_on_standard_error(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows the name and the counts, and leaves standard output alone."""
    await run(_echo, range(7), limit=2, progress=True, name="pages")

    out, err = capsys.readouterr()
    assert out == ""
    assert "pages" in err
    assert "7/7" in err


@both
async def test_a_bar_without_a_total(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A generator's length is not known, so neither is the end of the bar."""
    await run(_echo, (item for item in range(7)), limit=2, progress=True)

    assert "7/?" in capsys.readouterr().err


@both
async def test_a_bar_ends_with_a_failure(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last state stays on the screen."""

    async def fn(item: int) -> None:
        if item == 3:
            raise ValueError(item)

    with pytest.raises(ValueError):
        await run(fn, range(7), limit=1, progress=True)

    assert "/7" in capsys.readouterr().err


async def test_no_thread_draws_the_bar() -> None:
    """It is drawn when something is reported, by nobody else."""
    before = set(threading.enumerate())  # some of other tests may be ending

    async with FanOut(_echo, range(7), limit=2, progress=True) as results:
        during = set(threading.enumerate())
        assert len([item async for item in results]) == 7

    assert during <= before
    assert set(threading.enumerate()) <= before


class _Counts:
    def __init__(self) -> None:
        self.total: int | None = 10
        self.finished = 0


def test_a_bar_is_not_drawn_for_every_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between two drawings passes a tenth of a second, whatever is reported."""
    now = 100.0
    drawn: list[int] = []
    monkeypatch.setattr("time.monotonic", lambda: now)
    bar = Bar("pages")
    counts = _Counts()

    def draw(counts: _Counts) -> None:
        drawn.append(counts.finished)

    monkeypatch.setattr(bar, "_draw", draw)

    for _ in range(10):
        counts.finished += 1
        bar(counts)
        now += REFRESH / 4

    assert drawn == [1, 5, 9]


# rich is missing


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an import of rich fail as if it were not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "rich":
            monkeypatch.setitem(sys.modules, name, None)
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)


async def test_without_rich_the_error_names_the_extra(no_rich: None) -> None:
    """It says what to install, and what to do without."""
    started: list[int] = []

    async def fn(item: int) -> None:
        started.append(item)

    with pytest.raises(
        ImportError, match=r"pip install 'safeconc\[progress\]'.*callab"
    ):
        await fan_out(fn, [1], limit=1, progress=True)

    assert started == []
    assert current_context() is None


async def test_without_rich_a_stream_cannot_be_made(no_rich: None) -> None:
    """The error comes before the block, so no block is left half open."""
    with pytest.raises(ImportError, match=r"safeconc\[progress\]"):
        FanOut(_echo, [1], limit=1, progress=True)


async def test_without_rich_a_callable_will_do(no_rich: None) -> None:
    """Only the bar needs the extra."""
    seen: list[FanOutStatistics] = []

    with anyio.fail_after(1):
        await fan_out(_echo, [1, 2], limit=1, progress=seen.append)

    assert len(seen) == 2
