"""A look in slices, and what it means in numbers."""

from collections.abc import Generator
from itertools import count
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc.leaks import Entry, RawFrame, Snapshot
from safeconc.leaks._alert import describe
from safeconc.leaks._alerts import Finding
from safeconc.leaks._figures import LABELS, OTHER, figures
from safeconc.leaks._groups import Group, grouped
from safeconc.leaks._model import Named, Stack
from safeconc.leaks._sample import SLICE, Sample, in_one_go, in_slices, look, take


def entry(kind: Any = "task", name: str = "Task-1", **what: Any) -> Entry:
    """Make an entry that can be told from others."""

    class Thing:
        pass

    thing = Thing()
    return Entry(kind, name, what.pop("state", "waiting"), ref=lambda: thing, **what)


def waiting_in(function: str, line: int = 1) -> Stack:
    """Make a stack of one call."""
    return Stack([RawFrame(Named("/srv/app/jobs.py", function), line)])


def sample_of(*entries: Entry, at: float = 0.0) -> Sample:
    """Take a sample of what is given."""
    sample = Sample(at, {})
    for each in entries:
        sample.add(each)
    sample.close((), 0)
    return sample


async def test_a_look_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each slice, and every slice is told."""
    clock = count(0, SLICE / 4)
    monkeypatch.setattr("safeconc.leaks._sample.perf_counter", lambda: next(clock))
    turns = 0
    slices: list[float] = []

    def work() -> Generator[None, None, str]:
        for _ in range(8):
            yield
        return "done"

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        assert await in_slices(work(), slices.append) == "done"
        assert turns >= 1
        tasks.cancel_scope.cancel()

    assert len(slices) == 3
    assert all(each <= SLICE * 1.5 for each in slices)


async def test_a_look_can_be_cancelled() -> None:
    """Between two slices."""

    def work() -> Generator[None, None, None]:
        while True:
            yield

    with anyio.CancelScope() as scope:
        scope.cancel()
        await in_slices(work(), print)

    assert scope.cancelled_caught


async def test_a_look_finds_what_a_snapshot_finds() -> None:
    """Only in more than one go."""
    snapshot = in_one_go(look())

    assert isinstance(snapshot, Snapshot)
    assert "MainThread" in {each.name for each in snapshot.entries}


async def test_ages_count_from_the_first_look_that_saw_something() -> None:
    """Nobody else tells when a task was made."""
    first = in_one_go(take(100.0, {}))
    later = in_one_go(take(130.0, first.since))

    assert first.oldest == 0
    assert later.oldest == 30
    assert max(each.age or 0 for each in later.snapshot().entries) == 30


def test_a_sample_counts_tasks_and_threads() -> None:
    """And leaves the rest to others."""
    sample = sample_of(
        entry(stack=waiting_in("run")),
        entry(stack=waiting_in("run"), state="cancelling"),
        entry("thread", ident=7),
        entry("timer"),
    )

    assert (sample.tasks, sample.threads) == (2, 1)
    assert sorted(sample.reading(0.0).sites.values()) == [1, 2]
    (site,) = sample.cancelled.values()
    group = sample.group(site)
    assert group is not None
    assert group.count == 2
    assert sample.group("elsewhere") is None
    thread = sample.thread(7)
    assert thread is not None
    assert thread.kind == "thread"
    assert sample.thread(8) is None


def test_numbers_have_names_that_do_not_grow_with_the_load() -> None:
    """Tasks go by their function, threads by their name without its numbers."""
    seen = figures(
        sample_of(
            entry(name="Task-1", stack=waiting_in("run")),
            entry(name="Task-2", stack=waiting_in("run", 2)),
            entry(name="Task-3"),
            entry("thread", "pool-1_0"),
            entry("thread", "pool-1_17"),
        ),
        lag=0.5,
        overdue=1,
        seen={"task": 10, "thread": 2},
        primitives={},
    )

    assert seen.gone == {"task": 7, "thread": 0}
    assert seen.tasks == {"jobs.run": 2, "Task-#": 1}
    assert seen.threads == {"pool-#_#": 2}
    assert (seen.lag, seen.overdue, seen.oldest, seen.abandoned) == (0.5, 1, 0, 0)


def test_rare_names_are_put_together() -> None:
    """Those with the most members keep theirs."""
    many = [
        entry(stack=waiting_in(f"run{index}"))
        for index in range(LABELS + 10)
        for _ in range(1 + (index == LABELS))
    ]

    tasks = figures(sample_of(*many), 0.0, 0, {}, {}).tasks

    assert len(tasks) == LABELS + 1
    assert tasks[f"jobs.run{LABELS}"] == 2
    assert tasks[OTHER] == 10
    assert sum(tasks.values()) == len(many)


def test_hostile_names_are_made_fit_to_be_shown() -> None:
    """A label is one line, and not a long one."""
    seen = figures(
        sample_of(entry(name="<script>\n" * 100_000), entry("thread", "\x1b[2J")),
        0.0,
        0,
        {},
        {},
    )

    (task,), (thread,) = seen.tasks, seen.threads
    assert len(task) <= 120
    assert "\n" not in task
    assert thread == "\\x#b[#J"


@pytest.mark.parametrize(
    "finding, group, says",
    [
        (Finding("abandoned", None, (0, 2), 0), None, "2 threads that nobody waits"),
        (Finding("growth", "x", (1, 2, 3), 1), None, "what is started there"),
        (Finding("cancelled", "x", (40.0,), 30), None, "let cancellations through"),
        (
            Finding("cancelled", "x", (40.0,), 30),
            grouped([entry(stack=waiting_in("run"), created=waiting_in("main", 3))])[0],
            "waits for something that cannot be cancelled",
        ),
    ],
)
def test_an_alert_says_what_is_wrong_and_what_to_do(
    finding: Finding, group: Group | None, says: str
) -> None:
    """Also where little is known."""
    alert = describe(finding, group, "", 0)

    assert says in str(alert)
    assert str(alert).startswith(f"{finding.rule}: ")
    if group is not None:
        assert "made at: /srv/app/jobs.py:3" in str(alert)


def test_an_alert_tells_a_cleanup_from_a_swallowed_cancellation() -> None:
    """The one needs a deadline, the other is a bug."""
    import inspect
    from pathlib import Path

    async def clean() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)

    lines, first = inspect.getsourcelines(clean)
    stack = Stack([RawFrame(clean.__code__, first + len(lines) - 1)])
    alert = describe(
        Finding("cancelled", "x", (40.0,), 30), grouped([entry(stack=stack)])[0], "", 0
    )

    assert "is still in its cleanup" in alert.advice
    assert f"{Path(__file__).name}:{first + len(lines) - 1}" in alert.advice
    assert "Context(timeout=...)" in alert.advice
