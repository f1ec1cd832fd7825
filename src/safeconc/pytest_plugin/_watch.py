"""The hooks of pytest that the plugin takes part in."""

import sys
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from typing import Any, Final, TypeAlias, final
from unittest import TestCase

import pytest

from safeconc.leaks import Rule, Snapshot, ignore_baseline, install, report
from safeconc.leaks._groups import grouped
from safeconc.leaks._origins import TRIO_FRAMES, Installed
from safeconc.leaks._words import several
from safeconc.pytest_plugin._canary import Canary
from safeconc.pytest_plugin._case import Case
from safeconc.pytest_plugin._check import LeakCheck, LeakWarning
from safeconc.pytest_plugin._looks import OFF, Looks
from safeconc.pytest_plugin._owners import has_steps, owning, stepwise
from safeconc.pytest_plugin._runners import Closing
from safeconc.pytest_plugin._tally import Tally, attach
from safeconc.pytest_plugin._terms import baseline_of, configured

SECTION: Final = "Leaks, seen at teardown"

Wrapper: TypeAlias = Generator[None, Any, Any]


@final
class Watch:
    """Looks for leaks while pytest runs tests. It is in the way of none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terms = configured(config)
        self._baseline = baseline_of(config)
        self._updates = bool(config.getoption("leaks_baseline_update"))
        if self._updates and self._baseline is None:
            raise pytest.UsageError("--leaks-baseline-update needs a --leaks-baseline")
        self._tally = Tally()
        self._looks: Looks | None = None
        self._installed: Installed | None = None
        self._closing: Closing | None = None
        self._case: Case | None = None
        self._is_complete = False

    # The run

    def pytest_report_header(self) -> str:
        """Say that somebody watches."""
        baseline = f", baseline: {self._baseline}" if self._baseline else ""
        return f"leaks: {self._terms.mode}{baseline}"

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Note whether the run has come to its end."""
        ended = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
        self._is_complete = ended and not (session.shouldstop or session.shouldfail)

    def pytest_unconfigure(self) -> None:
        """Watch no longer."""
        if self._closing is not None:
            self._closing.close()
        if self._installed is not None:
            self._installed.uninstall()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sum up, also what other processes report."""
        self._tally.add(report)

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Tell what leaked most."""
        lines = [*self._tally.lines()]
        if self._updates:
            lines.append(self._update())
        if lines:
            terminalreporter.section("leaks")
            for line in lines:
                terminalreporter.write_line(line)

    def _update(self) -> str:
        """Write the baseline; say so."""
        assert self._baseline is not None
        if not self._is_complete:
            return f"The run was cut short: {self._baseline} was left as it is."
        count = self._tally.write(self._baseline)
        return f"{self._baseline} now tells of {several(count, 'known leak')}."

    def check(self) -> LeakCheck:
        """Return what the test that runs can say of itself."""
        assert self._case is not None
        return LeakCheck(self._case, self._begin())

    # A test

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Wrapper:
        """Have the test own what is started in it."""
        with owning(item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)  # others begin first, and may fail
    def pytest_runtest_setup(self, item: pytest.Item) -> Wrapper:
        """Begin to watch."""
        try:
            terms = self._terms.marked(item)
        except pytest.UsageError as exc:
            pytest.fail(str(exc), pytrace=False)
        self._case = self._begin().case = Case(item, terms)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Wrapper:
        """Be there where the test runs, if that is on a loop."""
        case, looks = self._case, self._looks
        assert case is not None, "a test is set up before it is called"
        assert looks is not None

        def step() -> owning:
            looks.arrive(case)
            return owning(case.owner)

        target = _target(item)
        test = None if target is None else getattr(*target)
        if target is None or not has_steps(test):
            return (yield)
        case.canary = Canary()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*target, stepwise(test, step))
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Wrapper:
        """Look at what is left."""
        case, looks = self._case, self._looks
        if case is None or looks is None:
            return (yield)
        try:
            result = yield
        except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
            raise
        except BaseException:
            case.failed = True
            looks.after(case)
            raise
        looks.after(case)
        self._judge(case)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Wrapper:
        """Add to the reports of a test what it has left."""
        report: pytest.TestReport = yield
        case = self._case
        if case is None or case.item is not item:
            return report
        if report.when == "teardown":
            self._case = self._begin().case = None
            self._tell(case, report)
            return report
        if report.failed or hasattr(report, "wasxfail"):
            case.failed = True
        if report.when == "call":
            case.passed = report.passed
        return report

    def _begin(self) -> Looks:
        """Begin to look, with the first test."""
        if self._looks is None:
            ignore = [*self._rules()]
            self._installed = install(TRIO_FRAMES)  # trio may yet be imported
            self._looks = Looks(ignore, self._shout)
            self._closing = Closing(self._looks.closing)
            self._closing.open()
        return self._looks

    def _shout(self, text: str) -> None:
        """Say something at once, whatever pytest holds back."""
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        with (
            nullcontext() if capture is None else capture.global_and_fixture_disabled()
        ):
            print(f"\n{text}", file=sys.stderr, flush=True)  # noqa: T201

    def _rules(self) -> Iterator[Rule]:
        """Yield what may stay in any test."""
        for rules in self._config.hook.pytest_leaks_ignore(config=self._config):
            yield from rules
        if self._baseline is not None and not self._updates:
            try:
                yield from ignore_baseline(self._baseline)
            except FileNotFoundError:
                raise pytest.UsageError(
                    f"there is no {self._baseline}; write it with "
                    "--leaks-baseline-update, in a run of the whole suite"
                ) from None

    def _judge(self, case: Case) -> None:
        """Fail or warn, if a test that has passed has left anything."""
        if self._updates or case.failed or case.mode == OFF:
            return
        failures: list[str] = []
        if case.passed and case.canary is not None:
            failures += filter(None, [case.canary.verdict()])
        found = case.found
        if found.entries and case.mode == "error":
            failures.append(report(found))
        elif found.entries:
            _warn(case.item, found)
        if failures:
            pytest.fail("\n\n".join(failures), pytrace=False)

    def _tell(self, case: Case, test_report: pytest.TestReport) -> None:
        """Have the report of a teardown tell what was found."""
        if case.found.entries:
            attach(test_report, case.found)
            if case.failed:
                test_report.sections.append((SECTION, report(case.found)))

    # Fixtures

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[Any]") -> Wrapper:
        """Have a fixture own what it starts, as long as it lives."""
        looks, name = self._begin(), _name_of(fixturedef)

        def step() -> owning:
            looks.arrive()
            return owning(name)

        # What is for one test only is looked at when all of that test is over.
        is_wide = fixturedef.scope != "function"
        before = looks.unaccounted() if is_wide else frozenset[object]()
        fn = fixturedef.func
        with pytest.MonkeyPatch.context() as patch, owning(name):
            if has_steps(fn):
                patch.setattr(fixturedef, "func", stepwise(fn, step))
            looks.begin(name)
            try:
                result = yield
            except BaseException:
                looks.end(name)
                raise
        if is_wide:
            looks.adopt(name, before)
        return result

    def pytest_fixture_post_finalizer(
        self, fixturedef: "pytest.FixtureDef[Any]"
    ) -> None:
        """Have what a fixture has left be its leak from now on."""
        self._begin().end(_name_of(fixturedef))


def _target(item: pytest.Item) -> tuple[object, str] | None:
    """Return what to replace, and its name, to be there where a test runs."""
    if not isinstance(item, pytest.Function):
        return None
    hypothesis: object = getattr(item.obj, "hypothesis", None)
    if hypothesis is not None:
        return hypothesis, "inner_test"
    if isinstance(item.instance, TestCase):
        return item.instance, item.name
    return item, "obj"


def _name_of(fixturedef: "pytest.FixtureDef[Any]") -> str:
    fn = fixturedef.func
    return f"fixture '{fixturedef.argname}' ({fixturedef.scope}) of {fn.__module__}"


def _warn(item: pytest.Item, found: Snapshot) -> None:
    for group in grouped(found.entries):
        each = found._replace(entries=group.entries)
        item.warn(LeakWarning(report(each)))
