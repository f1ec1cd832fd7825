"""Tell pytest that leaks can be found, and import nothing of ours until they are to be.

pytest imports the plugins of all installed packages, in every run of every project. So
this module stands beside the package, not in it: to import a module of a package is to
import the package. What does the work is :mod:`safeconc.pytest_plugin`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safeconc.leaks import Rule
    from safeconc.pytest_plugin import LeakCheck, Watch

MODES: Final = ("off", "warn", "error")
"""What a leak is: nothing, a warning, or an error of the test that leaked."""

WATCH: Final = "safeconc.leaks"
"""By what name the plugin is registered that does the work."""


class Specifications:
    """Hooks that a ``conftest.py`` may implement."""

    @pytest.hookspec
    def pytest_leaks_ignore(self, config: pytest.Config) -> "Sequence[Rule]":
        """Return rules for leaks that may stay, in any test; asked once per run."""
        raise NotImplementedError


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Tell which hooks of ours there are."""
    if not hasattr(pluginmanager.hook, "pytest_leaks_ignore"):
        pluginmanager.add_hookspecs(Specifications)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell which options there are, and which settings."""
    group = parser.getgroup("safeconc", "leaks of tasks, threads and timers")
    try:
        group.addoption(
            "--leaks",
            choices=MODES,
            help="what a leak is: nothing, a warning, or an error of its test",
        )
    except ValueError:  # loaded twice, under two names
        return
    group.addoption(
        "--leaks-baseline",
        metavar="FILE",
        help="pass over the leaks that FILE tells of, which an earlier run has written",
    )
    group.addoption(
        "--leaks-baseline-update",
        action="store_true",
        help="write what leaks in this run to the baseline; nothing of it fails",
    )
    parser.addini(
        "safeconc_leaks",
        "what a leak is: off, warn or error; off if not given, unless with a baseline",
        default="",
    )
    parser.addini(
        "safeconc_leaks_grace",
        "seconds that what is about to end has at the end of a test",
        default="1.0",
    )
    parser.addini(
        "safeconc_leaks_baseline",
        "the file with the leaks that are known, below the root directory",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch if one is to."""
    config.addinivalue_line(
        "markers",
        "leakcheck(mode, *, grace, ignore, reason): look for what this test leaves "
        "behind; mode is 'off' (with a reason), 'warn' or 'error'.",
    )
    # Where others run the tests, their reports may tell of leaks all the same.
    if _is_wanted(config) or config.getoption("numprocesses", None):
        _watch(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to watch if a test asks for it."""
    if any(map(_asks, session.items)):
        _watch(session.config)


@pytest.fixture
def leakcheck(request: pytest.FixtureRequest) -> "LeakCheck":
    """Look for what this test leaves behind, and say what may stay."""
    return _watch(request.config).check()


def _is_wanted(config: pytest.Config) -> bool:
    options = ("leaks", "leaks_baseline", "leaks_baseline_update")
    settings = ("safeconc_leaks", "safeconc_leaks_baseline")
    given = [*map(config.getoption, options), *map(config.getini, settings)]
    return any(value and value != "off" for value in given)


def _asks(item: pytest.Item) -> bool:
    marks = item.iter_markers("leakcheck")
    return any(mark.args != ("off",) for mark in marks) or "leakcheck" in getattr(
        item, "fixturenames", ()
    )


def _watch(config: pytest.Config) -> "Watch":
    """Return who watches, whom this call may be the first to need."""
    watch: Watch | None = config.pluginmanager.get_plugin(WATCH)
    if watch is None:
        watch = import_module("safeconc.pytest_plugin").Watch(config)
        config.pluginmanager.register(watch, WATCH)
    assert watch is not None
    return watch
