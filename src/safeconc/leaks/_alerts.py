"""When to wake somebody: the rules of a monitor, without a clock and without a loop."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias, final

from safeconc._policy._rate import Rate

RuleName: TypeAlias = Literal[
    "tasks", "threads", "growth", "cancelled", "lag", "abandoned", "hang"
]

BURST = 10
"""Alerts that may come at once."""

PER_SECOND = 1 / 60
"""Alerts that may come in the long run."""


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """What one sample found, as far as rules look at it."""

    at: float
    """When, on the clock of the monitor."""

    tasks: int
    """Live tasks."""

    threads: int
    """Live threads."""

    sites: Mapping[Hashable, int]
    """Live tasks and threads by the place where they wait and were made."""

    cancelled: Mapping[Hashable, Hashable]
    """Tasks that were cancelled and are alive, each with its site."""

    abandoned: int
    """Threads that nobody waits for any more."""

    lag: float
    """The latest that the loop came, in seconds, since the sample before."""


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken now."""

    rule: RuleName
    """Which one."""

    site: Hashable | None
    """Where, if it is about one place."""

    values: tuple[float, ...]
    """What was seen, oldest first: counts, or seconds."""

    limit: float
    """What the last of *values* was not to exceed."""


@final
class Ceiling:
    """A number that is not to exceed *limit*.

    :param shown: how many numbers a finding has, so that one sees where it is going.
    """

    def __init__(
        self, rule: RuleName, limit: float, look: Callable[[Reading], float], shown: int
    ) -> None:
        self._rule: RuleName = rule
        self._limit = limit
        self._look = look
        self._values: deque[float] = deque(maxlen=shown)

    def judge(self, reading: Reading) -> Iterable[Finding]:
        """Take a sample; yield what is wrong."""
        value = self._look(reading)
        self._values.append(value)
        if value > self._limit:
            yield Finding(self._rule, None, tuple(self._values), self._limit)


@final
class Growth:
    """Sites that have had more and more in every one of the last *samples*.

    A busy site goes up and down. That so many samples in a row happen to grow has
    odds of one to *samples* factorial, which is why ten is a good number and
    three is not.

    It remembers the sites of the last sample, and no number older than it needs.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._runs: dict[Hashable, tuple[int, ...]] = {}

    def judge(self, reading: Reading) -> Iterable[Finding]:
        """Take a sample; yield what is wrong."""
        before, self._runs = self._runs, {}
        for site, count in reading.sites.items():
            run = before.get(site, ())
            if run and run[-1] < count:
                run = (*run[-self._samples :], count)
            else:
                run = (count,)
            self._runs[site] = run
            if len(run) > self._samples:
                yield Finding("growth", site, run, run[0])


@final
class Overdue:
    """Tasks that were cancelled more than *limit* seconds ago and are alive.

    A task does not say when it was cancelled, so the time counts from the first
    sample that saw it.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: dict[Hashable, float] = {}
        self.count = 0
        """How many there were in the last sample."""

    def judge(self, reading: Reading) -> Iterable[Finding]:
        """Take a sample; yield what is wrong, once per site."""
        before = self._since
        self._since = {task: before.get(task, reading.at) for task in reading.cancelled}
        self.count = 0
        oldest: dict[Hashable, float] = {}
        for task, since in self._since.items():
            seconds = reading.at - since
            if seconds > self._limit:
                self.count += 1
                site = reading.cancelled[task]
                oldest[site] = max(seconds, oldest.get(site, -inf))
        for site, seconds in oldest.items():
            yield Finding("cancelled", site, (seconds,), self._limit)


@final
class Alarms:
    """Which findings are worth a word.

    One that is new is; one that lasts is again after *repeat* seconds; one that was
    gone in between is new. All together they are held to a rate, lest a bad day
    fill the log: what does not fit is counted, and tried again at the next sample.
    """

    def __init__(self, repeat: float) -> None:
        self._repeat = repeat
        self._rate = Rate(PER_SECOND, BURST)
        self._told: dict[object, float] = {}
        self.held_back = 0
        """Findings since the last one told that did not fit into the rate."""

    def choose(self, at: float, findings: Iterable[Finding]) -> list[Finding]:
        """Return those of the *findings* of a sample that are to be told."""
        before, self._told = self._told, {}
        chosen: list[Finding] = []
        for finding in findings:
            key = finding.rule, finding.site
            told = before.get(key, -inf)
            if at < told + self._repeat:
                self._told[key] = told
            elif self._rate.take(at):
                self._told[key] = at
                chosen.append(finding)
            else:
                self.held_back += 1
        return chosen
