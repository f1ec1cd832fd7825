"""Have pytest look for what each test leaves behind: tasks, threads, timers.

It is installed with safeconc, and off until one says ``safeconc_leaks = error`` in
the settings, ``--leaks=error`` on the command line, or ``@pytest.mark.leakcheck`` on a
test. ``docs/howto/adopt-in-an-existing-suite.md`` tells the rest.

Layers, lowest first; a module imports only what stands before it::

    _terms  _owners  _trio        what is asked for, and for whom things are made
    _ledger  _canary  _runners    whose is what; what was looked at; loops at rest
    _case                         the test that runs
    _looks  _tally                when to look, and what came of it
    _check                        what a test can say of itself
    _watch                        the hooks of pytest
"""

from _safeconc_pytest import (
    leakcheck,
    pytest_addhooks,
    pytest_addoption,
    pytest_collection_finish,
    pytest_configure,
)
from safeconc.pytest_plugin._check import LeakCheck, LeakWarning
from safeconc.pytest_plugin._watch import Watch

__all__ = (
    "LeakCheck",
    "LeakWarning",
    "Watch",
    "leakcheck",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_configure",
)

# Warnings and docs should say ``safeconc.pytest_plugin.LeakWarning``: filters name it.
for _name in ("LeakCheck", "LeakWarning"):
    globals()[_name].__module__ = __name__
