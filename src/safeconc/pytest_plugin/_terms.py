"""What is asked of a test: by the command line, the settings, and its marks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import pytest

from _safeconc_pytest import MODES
from safeconc._context import check_seconds
from safeconc.leaks import Rule
from safeconc.leaks._rules import check_reason

MARKER: Final = "leakcheck"


@final
@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of a test."""

    mode: str
    """What a leak is: ``"off"`` for nothing, ``"warn"`` or ``"error"``."""

    grace: float
    """Seconds that what is about to end has."""

    ignore: tuple[Rule, ...] = ()
    """What may stay, beside what may stay anywhere."""

    def marked(self, item: pytest.Item) -> "Terms":
        """Return what is asked of this test, by its marks; the nearest one counts.

        What the marks of a class or a module may leave, the tests in it may, too.
        """
        marks = [_read(mark) for mark in item.iter_markers(MARKER)]
        if not marks and MARKER not in getattr(item, "fixturenames", ()):
            return self
        modes = (mark["mode"] for mark in marks if mark["mode"] is not None)
        graces = (mark["grace"] for mark in marks if mark["grace"] is not None)
        return Terms(
            next(modes, "error" if self.mode == "off" else self.mode),
            next(graces, self.grace),
            tuple(rule for mark in marks for rule in mark["ignore"]),
        )


def configured(config: pytest.Config) -> Terms:
    """Return what is asked of all tests."""
    mode: str = config.getoption("leaks") or config.getini("safeconc_leaks")
    if not mode:
        mode = "off" if baseline_of(config) is None else "error"
    if mode not in MODES:
        raise pytest.UsageError(
            f"safeconc_leaks is off, warn or error, and not {mode!r}"
        )
    grace = config.getini("safeconc_leaks_grace")
    try:
        return Terms(mode, check_seconds("safeconc_leaks_grace", float(grace)))
    except ValueError:
        raise pytest.UsageError(
            f"safeconc_leaks_grace is a number of seconds, and not {grace!r}"
        ) from None


def baseline_of(config: pytest.Config) -> Path | None:
    """Return the file with the leaks that are known, if there is to be one."""
    option: str | None = config.getoption("leaks_baseline")
    if option:
        return config.invocation_params.dir / option
    setting: str = config.getini("safeconc_leaks_baseline")
    return config.rootpath / setting if setting else None


def _read(mark: pytest.Mark) -> dict[str, Any]:
    """Return the arguments of a mark, checked."""
    try:
        return _arguments(*mark.args, **mark.kwargs)
    except (TypeError, ValueError) as exc:
        text = f"@pytest.mark.{MARKER} cannot be read: {exc}"
        raise pytest.UsageError(text.replace("_arguments()", MARKER)) from None


def _arguments(
    mode: str | None = None,
    *,
    grace: float | None = None,
    ignore: Rule | Iterable[Rule] = (),
    reason: str | None = None,
) -> dict[str, Any]:
    if mode is not None and mode not in MODES:
        raise ValueError(f"mode is 'off', 'warn' or 'error', and not {mode!r}")
    if mode == "off" and reason is None:
        raise TypeError("to switch it off takes a reason='...', for others to judge")
    if reason is not None:
        check_reason(reason)
    if grace is not None:
        check_seconds("grace", grace)
    rules = (ignore,) if isinstance(ignore, Rule) else tuple(ignore)
    if not all(isinstance(rule, Rule) for rule in rules):
        raise TypeError("ignore takes rules: safeconc.leaks.ignore_name('x', ...)")
    return {"mode": mode, "grace": grace, "ignore": rules}
