"""A test that runs: what is asked of it, and what it has left."""

import time
from functools import cached_property
from typing import final

import pytest

from safeconc.leaks import Entry, Rule, Snapshot
from safeconc.pytest_plugin._canary import Canary
from safeconc.pytest_plugin._terms import Terms


@final
class Case:
    """What is known of the test that runs now."""

    def __init__(self, item: pytest.Item, terms: Terms) -> None:
        self.item = item
        self.mode: str = terms.mode
        self.grace: float = terms.grace
        self.ignore: list[Rule] = [*terms.ignore]
        self.canary: Canary | None = None
        """Is there if it runs on a loop."""

        self.passed = False
        """The test itself has run, and is content."""

        self.failed = False
        """It has an error of its own, be it in a fixture."""

        self._found: dict[object, Entry] = {}
        self._remarks: dict[str, None] = {}

    @property
    def owner(self) -> str:
        """How the test is called."""
        return self.item.nodeid

    def find(self, mark: object, entry: Entry) -> None:
        """Have it leave something; it is its own unless it is known to be another's."""
        if entry.kind == "error":  # of a task that is gone, and has no mark
            mark = object()
        self._found.setdefault(mark, entry._replace(owner=entry.owner or self.owner))

    def remark(self, remarks: tuple[str, ...]) -> None:
        """Note what could not be seen."""
        self._remarks |= dict.fromkeys(remarks)

    @cached_property
    def found(self) -> Snapshot:
        """All that it has left: to be asked when it is over."""
        return Snapshot((*self._found.values(),), time.time(), (*self._remarks,))
