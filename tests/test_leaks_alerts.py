"""The rules of a monitor, against their definitions."""

from collections.abc import Hashable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from safeconc.leaks._alerts import (
    BURST,
    PER_SECOND,
    Alarms,
    Ceiling,
    Finding,
    Growth,
    Overdue,
    Reading,
)

counts = st.dictionaries(st.sampled_from("abc"), st.integers(1, 6))
histories = st.lists(counts, max_size=20)
pauses = st.lists(st.integers(0, 200), max_size=60)


def reading(at: float = 0.0, **found: Any) -> Reading:
    """Make a sample that found nothing but what is said."""
    nothing: dict[str, Any] = {
        "tasks": 0,
        "threads": 0,
        "sites": {},
        "cancelled": {},
        "abandoned": 0,
        "lag": 0.0,
    }
    return Reading(at=at, **nothing | found)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 9))
def test_a_ceiling_is_broken_above_it(values: list[int], limit: int) -> None:
    """The limit itself is fine; a finding shows the last few numbers."""
    rule = Ceiling("tasks", limit, lambda each: each.tasks, shown=3)

    for index, value in enumerate(values):
        found = list(rule.judge(reading(tasks=value)))

        shown = tuple(values[max(0, index - 2) : index + 1])
        expected = [Finding("tasks", None, shown, limit)] if value > limit else []
        assert found == expected


def grown(history: list[dict[str, int]], samples: int) -> dict[str, tuple[int, ...]]:
    """Look at the whole history: which sites grew in each of the last samples."""
    last = history[-samples - 1 :]
    if len(last) <= samples:
        return {}
    rows = {site: [each.get(site, 0) for each in last] for site in last[-1]}
    return {
        site: tuple(row)
        for site, row in rows.items()
        if row[0] and all(a < b for a, b in pairwise(row))
    }


@given(histories, st.integers(2, 4))
def test_growth_is_growth_in_every_one_of_the_last_samples(
    history: list[dict[str, int]], samples: int
) -> None:
    """No sample may have been level, at that very site; it must have been there."""
    rule = Growth(samples)

    for index, sites in enumerate(history):
        found = {each.site: each.values for each in rule.judge(reading(sites=sites))}

        assert found == grown(history[: index + 1], samples)


@given(histories)
def test_growth_remembers_the_sites_of_the_last_sample_only(
    history: list[dict[str, int]],
) -> None:
    """Sites that have gone are forgotten, and long growth is not kept in full."""
    rule = Growth(2)

    for step, sites in enumerate(history):
        list(rule.judge(reading(sites={**sites, "up": step})))

        assert set(rule._runs) == set(sites) | {"up"}
        assert max(map(len, rule._runs.values())) <= 3


@given(st.lists(st.sets(st.sampled_from("abc")), max_size=20), st.integers(0, 4))
def test_a_cancelled_task_is_overdue_from_the_first_sample_that_saw_it(
    history: list[set[str]], limit: int
) -> None:
    """One that was gone in between begins anew; the oldest one speaks for a site."""
    rule = Overdue(limit)
    since: dict[str, int] = {}

    for at, tasks in enumerate(history):
        since = {task: since.get(task, at) for task in tasks}
        late = {task: at - begun for task, begun in since.items() if at - begun > limit}
        found = list(rule.judge(reading(at, cancelled=dict.fromkeys(tasks, "site"))))

        assert rule.count == len(late)
        if late:
            expected = Finding("cancelled", "site", (max(late.values()),), limit)
            assert found == [expected]
        else:
            assert found == []


def finding(site: Hashable) -> Finding:
    """Make a finding that differs from others by its site."""
    return Finding("growth", site, (1,), 0)


def test_what_is_new_is_told_and_what_lasts_is_told_again_later() -> None:
    """What was gone in between is new."""
    alarms = Alarms(repeat=100)

    def told(at: float, *sites: str) -> list[Hashable]:
        return [each.site for each in alarms.choose(at, map(finding, sites))]

    assert told(0, "a") == ["a"]
    assert told(50, "a", "b") == ["b"]
    assert told(99, "a", "b") == []
    assert told(100, "a", "b") == ["a"]
    assert told(110, "a") == []
    assert told(120, "a", "b") == ["b"]


def test_one_rule_at_two_sites_is_two_findings() -> None:
    """So are two rules at one site."""
    alarms = Alarms(repeat=100)
    other = Finding("cancelled", "a", (1,), 0)

    assert alarms.choose(0, [finding("a")]) == [finding("a")]
    assert alarms.choose(1, [finding("a"), finding("b"), other]) == [
        finding("b"),
        other,
    ]


@given(pauses)
def test_alerts_keep_to_their_rate(pauses: list[int]) -> None:
    """However many are found: every one is told, or counted as held back."""
    alarms = Alarms(repeat=0)
    at = told = found = 0

    for pause in pauses:
        at += pause
        findings = [finding(site) for site in range(3)]
        found += len(findings)
        told += len(alarms.choose(at, findings))

        assert told <= BURST + at * PER_SECOND
        assert told + alarms.held_back == found


def test_what_was_held_back_is_told_when_there_is_room() -> None:
    """It is not forgotten for the time of a repetition."""
    alarms = Alarms(repeat=1e9)
    many = [finding(site) for site in range(BURST + 1)]

    assert len(alarms.choose(0, many)) == BURST
    assert alarms.choose(1, many) == []
    assert alarms.choose(1 + 1 / PER_SECOND, many) == many[-1:]
    assert alarms.held_back == 2
