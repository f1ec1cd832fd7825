"""What a person reads who was woken by it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from safeconc.leaks._alerts import Finding, RuleName
from safeconc.leaks._groups import Group
from safeconc.leaks._swallow import find_swallower

_SPIN = (
    "On asyncio such a task also costs a core: a cancel scope repeats its cancellation "
    "at every turn of the loop for as long as somebody swallows it"
)


@final
@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that a monitor found wrong: ``str()`` of it is the whole message.

    Strings from tasks (their names, their functions) are made fit to be shown.
    """

    rule: RuleName
    """Which rule was broken: ``"tasks"``, ``"threads"``, ``"growth"``,
    ``"cancelled"``, ``"lag"``, ``"hang"`` or ``"abandoned"``."""

    summary: str
    """What is wrong, in one line."""

    site: str | None
    """The line of code that it is about, as ``file:line``."""

    created: str | None
    """The line that made what waits there, if ``leaks.install()`` noted it."""

    values: tuple[float, ...]
    """What was seen, oldest first: counts, or seconds."""

    limit: float
    """What the last of :attr:`values` exceeds."""

    advice: str
    """What is usually wrong then, and what to do."""

    report: str
    """What was alive, grouped, the largest groups first. It is bounded."""

    held_back: int
    """Alerts before this one that came too fast and were not told."""

    def __str__(self) -> str:
        lines = [f"{self.rule}: {self.summary}"]
        if len(self.values) > 1:
            lines.append("  samples: " + " ".join(map(_short, self.values)))
        if self.site is not None:
            lines.append(f"  at:      {self.site}")
        if self.created is not None:
            lines.append(f"  made at: {self.created}")
        lines.append(f"  advice:  {self.advice}")
        if self.held_back:
            lines.append(f"  and {self.held_back} more, held back: they came too fast")
        if self.report:
            lines.append(self.report)
        return "\n".join(lines)


def describe(
    finding: Finding, group: Group | None, report: str, held_back: int
) -> Alert:
    """Put a finding into words.

    It reads source files, so it is nothing for an event loop.

    :param group: what is alive at the site of the finding, if it has one.
    """
    at = None if group is None else group.waits_at
    summary, advice = _WORDS[finding.rule](finding, group)
    made = None if group is None else group.created_at
    return Alert(
        rule=finding.rule,
        summary=summary,
        site=None if at is None else at.where,
        created=None if made is None else made.where,
        values=finding.values,
        limit=finding.limit,
        advice=advice,
        report=report,
        held_back=held_back,
    )


def _tasks(finding: Finding, _: Group | None) -> tuple[str, str]:
    return (
        f"{_short(finding.values[-1])} live tasks, more than {_short(finding.limit)}",
        (
            "see which group below has the most; if all are busy, bound what starts "
            "them: ErrGroup(limit=...), fan_out(limit=...)"
        ),
    )


def _threads(finding: Finding, _: Group | None) -> tuple[str, str]:
    return (
        f"{_short(finding.values[-1])} live threads, more than {_short(finding.limit)}",
        (
            "see which group below has the most; an executor that is made per request "
            "and never shut down looks like this"
        ),
    )


def _abandoned(finding: Finding, _: Group | None) -> tuple[str, str]:
    return (
        f"{_short(finding.values[-1])} threads that nobody waits for any more",
        (
            "nothing can stop a thread: call the function by safeconc.to_thread, have "
            "it call safeconc.check() in its loops, and give timeouts to what blocks"
        ),
    )


def _lag(finding: Finding, _: Group | None) -> tuple[str, str]:
    return (
        (
            f"the event loop came {finding.values[-1]:.2f} s late, more than "
            f"{_short(finding.limit)} s"
        ),
        (
            "something keeps the loop: a blocking call, or a long computation without "
            "an await; move it into safeconc.to_thread. 'with Monitor()' watches from "
            "a thread, and shows the line while it happens"
        ),
    )


def _hang(finding: Finding, group: Group | None) -> tuple[str, str]:
    return (
        f"an event loop has not answered for {finding.values[-1]:.1f} s" + _in(group),
        (
            "its thread stands at the line above: move what blocks there into "
            "safeconc.to_thread"
        ),
    )


def _growth(finding: Finding, group: Group | None) -> tuple[str, str]:
    samples = len(finding.values) - 1
    usually = None if group is None else group.advice
    return (
        f"{_count(finding, group)}, more in each of the last {samples} samples"
        + _in(group),
        "what is started there does not end as fast as it is started"
        if usually is None
        else f"often {usually.cause}; {usually.cure}: see {usually.page}",
    )


def _cancelled(finding: Finding, group: Group | None) -> tuple[str, str]:
    summary = f"cancelled {finding.values[-1]:.0f} s ago and still alive" + _in(group)
    if group is None:
        return summary, f"let cancellations through. {_SPIN}"
    stack = group.stack[::-1]
    found = find_swallower([(place.file, place.line) for place in stack])
    if found is None:
        holder = (
            "no handler in its own source holds the cancellation: it waits for "
            "something that cannot be cancelled, such as a thread"
        )
    else:
        holder = (
            f"{stack[found.index].function} "
            + ("is still in its cleanup" if found.cleans_up else "swallows it")
            + f", at {replace(stack[found.index], line=found.line).where}: "
            + (
                "give the cleanup a Context(timeout=...)"
                if found.cleans_up
                else "re-raise it there"
            )
        )
    return summary, f"{holder}. {_SPIN}"


_WORDS: dict[RuleName, Callable[[Finding, Group | None], tuple[str, str]]] = {
    "tasks": _tasks,
    "threads": _threads,
    "growth": _growth,
    "cancelled": _cancelled,
    "lag": _lag,
    "hang": _hang,
    "abandoned": _abandoned,
}


def _count(finding: Finding, group: Group | None) -> str:
    kind = "task" if group is None else group.kind
    return f"{_short(finding.values[-1])} {kind}s"


def _in(group: Group | None) -> str:
    place = None if group is None else group.waits_at
    return "" if place is None else f", at {place.where} in {place.function}"


def _short(value: float) -> str:
    return f"{value:.3g}" if value % 1 else f"{value:.0f}"
