"""What a test can say about its own leaks, and what it is told."""

from typing import final

import pytest

from safeconc.leaks import Rule, Snapshot
from safeconc.pytest_plugin._case import Case
from safeconc.pytest_plugin._looks import Looks


class LeakWarning(pytest.PytestWarning):
    """Something outlived its test, or the fixture that made it."""


@final
class LeakCheck:
    """The fixture ``leakcheck``: what the test has left so far, and what may stay.

    To ask for it is to be checked, also where leaks are ``off`` for the rest.
    """

    def __init__(self, case: Case, looks: Looks) -> None:
        self._case = case
        self._looks = looks

    def ignore(self, *rules: Rule) -> None:
        """Let stay what these rules are about, for this test."""
        self._case.ignore += rules

    def find(self) -> Snapshot:
        """Return what has come since the test began, but for what fixtures hold.

        It neither waits nor fails: what the test is still to end is there, too, and so
        is the test itself, if it runs in a task.
        """
        return self._looks.now(self._case)
