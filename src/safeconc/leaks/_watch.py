"""What a monitor makes of a sample: the part of it that waits for nothing."""

import logging
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol, final

from safeconc._context import check_seconds
from safeconc._limit import check_whole
from safeconc.leaks._alert import Alert, describe
from safeconc.leaks._alerts import (
    Alarms,
    Ceiling,
    Finding,
    Growth,
    Overdue,
    Reading,
    RuleName,
)
from safeconc.leaks._groups import Group
from safeconc.leaks._report import report
from safeconc.leaks._sample import Sample, take

_log = logging.getLogger("safeconc")

BEAT = 0.25
"""Seconds between two looks at how late a loop is."""

QUEUE = 16
"""Samples with alerts that may wait for ``on_alert``."""

SHOWN = 10
"""Samples that an alert about a number shows."""


class _Rule(Protocol):
    def judge(self, reading: Reading) -> Iterable[Finding]: ...


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What a monitor is to tell of; None switches a rule off."""

    max_tasks: int | None
    max_threads: int | None
    max_abandoned: int | None
    max_lag: float | None
    growth: int | None
    cancelled: float | None
    repeat: float

    def __post_init__(self) -> None:
        check_whole("max_tasks", self.max_tasks, 1)
        check_whole("max_threads", self.max_threads, 1)
        check_whole("max_abandoned", self.max_abandoned, 0)
        check_whole("growth", self.growth, 2)
        check_seconds("repeat", self.repeat)
        for name in ("max_lag", "cancelled"):
            seconds = getattr(self, name)
            if seconds is not None:
                check_seconds(name, seconds)


@final
@dataclass(frozen=True, slots=True)
class MonitorStatistics:
    """A snapshot of a monitor, safe to keep and to compare."""

    samples: int
    """Samples since the monitor was opened."""

    alerts: int
    """Alerts that were told."""

    held_back: int
    """Alerts that came too fast; they are told later, if they still hold."""

    dropped: int
    """Alerts that nobody was there to take: ``on_alert`` was busy with others."""

    errors: int
    """Errors of ``on_alert``, of ``on_sample`` and of samples. They were logged."""

    longest_slice: float
    """Seconds for which a sample kept the loop at most."""


@final
class Watch:
    """The rules of one monitor, and what it remembers from sample to sample."""

    def __init__(self, limits: Limits) -> None:
        numbers: list[tuple[RuleName, float | None, Callable[[Reading], float]]] = [
            ("tasks", limits.max_tasks, lambda reading: reading.tasks),
            ("threads", limits.max_threads, lambda reading: reading.threads),
            ("abandoned", limits.max_abandoned, lambda reading: reading.abandoned),
            ("lag", limits.max_lag, lambda reading: reading.lag),
        ]
        self._rules: list[_Rule] = [
            Ceiling(rule, limit, look, SHOWN)
            for rule, limit, look in numbers
            if limit is not None
        ]
        if limits.growth is not None:
            self._rules.append(Growth(limits.growth))
        self._overdue = Overdue(inf if limits.cancelled is None else limits.cancelled)
        self._rules.append(self._overdue)
        self._alarms = Alarms(limits.repeat)
        self._max_lag = limits.max_lag
        self._hangs = Alarms(limits.repeat)
        self._mentioned = 0
        self._since: dict[Hashable, float] = {}
        self.seen = {"task": 0, "thread": 0}
        """Tasks and threads that a sample has had, each counted once."""

        self.samples = self.alerts = self.dropped = self.errors = 0
        self.longest_slice = 0.0

    @property
    def overdue(self) -> int:
        """How many tasks had been cancelled for too long at the last sample."""
        return self._overdue.count

    @property
    def held_back(self) -> int:
        """How many findings came too fast."""
        return self._alarms.held_back

    def steps(self, at: float) -> Generator[None, None, Sample]:
        """Take the next sample, one entry a step."""
        return take(at, self._since)

    def look(
        self, sample: Sample, lag: float, found: Iterable[Finding] = ()
    ) -> "Told | None":
        """Judge a sample; return what is to be told of it, if anything is.

        :param found: what was found besides.
        """
        self.samples += 1
        self._since = sample.since
        for kind, count in sample.fresh.items():
            self.seen[kind] += count
        reading = sample.reading(lag)
        findings = [*found]
        for rule in self._rules:
            findings.extend(rule.judge(reading))
        chosen = self._alarms.choose(reading.at, findings)
        if not chosen:
            return None
        self.alerts += len(chosen)
        before, self._mentioned = self._mentioned, self.held_back
        return Told(sample, chosen, self.held_back - before)

    def hung(self, at: float, silent: Mapping[int, float]) -> list[Finding]:
        """Judge the loops; return what is to be told at once.

        :param silent: for how many seconds the loop in each thread has not answered.
        """
        limit = inf if self._max_lag is None else self._max_lag
        chosen = self._hangs.choose(
            at,
            (
                Finding("hang", ident, (seconds,), limit)
                for ident, seconds in silent.items()
                if seconds > limit
            ),
        )
        self.alerts += len(chosen)
        return chosen

    def statistics(self) -> MonitorStatistics:
        """Return the counts so far."""
        return MonitorStatistics(
            samples=self.samples,
            alerts=self.alerts,
            held_back=self.held_back,
            dropped=self.dropped,
            errors=self.errors,
            longest_slice=self.longest_slice,
        )

    def note(self, seconds: float) -> None:
        """Take how long a slice of a sample was."""
        self.longest_slice = max(self.longest_slice, seconds)

    def failed(self, what: str, error: Exception) -> None:
        """Log an error that is to hurt nobody."""
        self.errors += 1
        _log.error("%s of a Monitor failed", what, exc_info=error)


@final
class Told:
    """Findings that are to become alerts, and the sample that they are about."""

    def __init__(
        self, sample: Sample, findings: Sequence[Finding], held_back: int = 0
    ) -> None:
        self._sample = sample
        self._findings = findings
        self._held_back = held_back

    def __len__(self) -> int:
        return len(self._findings)

    def alerts(self) -> list[Alert]:
        """Put them into words. It takes a while, and reads files."""
        text = report(self._sample.snapshot(), title="Alive", advice=False)
        return [
            describe(
                finding,
                self._group(finding),
                text,
                0 if index else self._held_back,
            )
            for index, finding in enumerate(self._findings)
        ]

    def _group(self, finding: Finding) -> Group | None:
        if finding.rule == "hang":
            return self._sample.thread(finding.site)
        return self._sample.group(finding.site)
