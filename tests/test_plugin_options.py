"""What one can ask of the plugin: in the settings, by options, by marks, in a test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.inner import AT_ONCE, ON_PURPOSE, Run

pytestmark = [
    ON_PURPOSE,
    pytest.mark.skipif(
        sys.implementation.name == "pypy",
        reason="options are the same to all interpreters, and each run takes seconds",
    ),
]

ERROR = f"--leaks=error {AT_ONCE}"
WARN = f"--leaks=warn {AT_ONCE}"
LEAKY = """
def run(name):
    async def main():
        leak(name)
    asyncio.run(main())

def test_it():
    run("left")
"""


def test_nothing_is_imported_until_it_is_wanted(tmp_path: Path) -> None:
    """Pytest imports every plugin that is installed, in every run of every project."""
    code = """
import sys, pytest
pytest.main(["-pno:anyio", "-pno:hypothesispytest"])
assert "_safeconc_pytest" in sys.modules
assert "safeconc" not in sys.modules
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)  # noqa: S603


def test_warning_per_group(run: Run) -> None:
    """Those of a kind are one warning; the run passes."""
    result = run(
        LEAKY
        + """
def test_more():
    for _ in range(2):
        run("left")
    wait = threading.Event()
    afterwards.append(wait.set)
    threading.Thread(target=wait.wait).start()
""",
        WARN,
    )

    result.assert_outcomes(passed=2, warnings=3)
    result.stdout.fnmatch_lines(
        ["*.py:25: LeakWarning: Leaked: 2 tasks*", "*2 tasks: 'left'"]
    )


def test_warning_can_be_made_an_error(run: Run) -> None:
    """By pytest's own filters."""
    filter_ = "-W error::safeconc.pytest_plugin.LeakWarning"
    run(LEAKY, f"{WARN} {filter_}").assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "options, outcomes",
    [
        ("-o safeconc_leaks=error", {"passed": 1, "errors": 1}),
        ("-o safeconc_leaks=warn", {"passed": 1, "warnings": 1}),
        ("-o safeconc_leaks=warn --leaks=off", {"passed": 1}),
    ],
)
def test_settings(run: Run, options: str, outcomes: dict[str, int]) -> None:
    """The command line has the last word."""
    run(LEAKY, f"{options} {AT_ONCE}").assert_outcomes(**outcomes)


@pytest.mark.parametrize(
    "options, told",
    [
        ("-o safeconc_leaks=loud", "*off, warn or error, and not 'loud'*"),
        ("--leaks=error -o safeconc_leaks_grace=ages", "*seconds, and not 'ages'*"),
        ("--leaks=error -o safeconc_leaks_grace=-1", "*seconds, and not '-1'*"),
        ("--leaks-baseline=gone.toml", "*no *gone.toml; write it with *-update*"),
        ("--leaks-baseline-update", "*needs a --leaks-baseline*"),
    ],
)
def test_what_cannot_be_is_refused(run: Run, options: str, told: str) -> None:
    """Before any test runs."""
    result = run(LEAKY, options)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_marks(run: Run) -> None:
    """A test can be left out, with a reason; or have other terms."""
    result = run(
        LEAKY
        + """
@pytest.mark.leakcheck("off", reason="on purpose")
class TestOff:
    def test_off(self):
        run("left")

    @pytest.mark.leakcheck("warn")
    def test_warn(self):
        run("left")

from safeconc import leaks

@pytest.mark.leakcheck(ignore=leaks.ignore_name("ours", reason="it stays"), grace=0)
def test_ignored():
    run("ours")

def test_clean():
    pass
""",
        f"{ERROR} --strict-markers",
    )

    result.assert_outcomes(passed=5, errors=1, warnings=1)


@pytest.mark.parametrize(
    "mark, told",
    [
        ("'off'", "*to switch it off takes a reason*"),
        ("'off', reason=' '", "*a rule needs a reason*"),
        ("'loud'", "*'warn' or 'error', and not 'loud'*"),
        ("grace=-1", "*grace must not be negative*"),
        ("ignore=['x']", "*ignore takes rules*"),
        ("patience=3", "*leakcheck* unexpected keyword argument 'patience'*"),
    ],
)
def test_mark_that_cannot_be_read(run: Run, mark: str, told: str) -> None:
    """It fails its test, and says why."""
    result = run(f"@pytest.mark.leakcheck({mark})\ndef test_it(): pass", ERROR)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told])


def test_mark_and_fixture_switch_it_on(run: Run) -> None:
    """For their tests, where it is off for the others."""
    result = run(
        LEAKY
        + """
@pytest.mark.leakcheck
def test_marked():
    run("left")

def test_asks(leakcheck):
    run("left")
""",
        AT_ONCE,
    )

    result.assert_outcomes(passed=3, errors=2)


def test_fixture_sees_what_is_there_by_now(run: Run) -> None:
    """And a test can say what may stay."""
    result = run(
        """
from safeconc import leaks

@pytest.mark.anyio
async def test_it(leakcheck):
    known = {entry.name for entry in leakcheck.find().entries}
    leak("ours")
    found = {entry.name for entry in leakcheck.find().entries}
    assert found - known == {"ours"}
    leakcheck.ignore(leaks.ignore_name("ours", reason="it stays"))
""",
        ERROR,
    )

    result.assert_outcomes(passed=1)


def test_hook_tells_what_may_stay_anywhere(run: Run) -> None:
    """It is asked once, in the conftest."""
    result = run(
        LEAKY,
        ERROR,
        conftest="""
from safeconc import leaks

def pytest_leaks_ignore(config):
    return [leaks.ignore_any_function("*.forever".replace("*", "x"), reason="no"),
            leaks.ignore_name("left", reason="it is left")]
""",
    )

    result.assert_outcomes(passed=1)


def test_summary_has_the_largest_first(run: Run) -> None:
    """At most so many places, and of each so many owners."""
    result = run(
        LEAKY
        + "".join(
            f"""
async def wait_{n}():
    await asyncio.sleep(99)

@pytest.mark.parametrize("n", range({4 if n == 7 else 1}))
def test_{n}(n):
    async def main():
        kept.append(asyncio.ensure_future(wait_{n}()))
    asyncio.run(main())
"""
            for n in range(11)
        ),
        ERROR,
    )

    result.stdout.fnmatch_lines(
        [
            "15 tasks, in 12 places.",
            "4 tasks at *.wait_7",
            "    made at *.main",
            "    1 of *::test_7?0?",
            "    1 of *::test_7?1?",
            "    1 of *::test_7?2?",
            "    and those of 1 other",
            "1 task at *",
            "... and in 2 more places",
        ]
    )


def test_baseline_is_what_an_old_suite_begins_with(run: Run) -> None:
    """What it tells of passes, what is new fails, and reasons are kept."""
    update = f"--leaks-baseline=known.toml --leaks-baseline-update {AT_ONCE}"
    result = run(LEAKY, update)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*known.toml now tells of 1 known leak."])
    file = Path("known.toml")
    file.write_text(file.read_text().replace("known when", "we know that"))

    result = run(LEAKY, f"-o safeconc_leaks_baseline=known.toml {AT_ONCE}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["leaks: error, baseline: *known.toml"])

    new = "async def new(): await asyncio.sleep(9)\n" + LEAKY.replace(
        "leak(name)", "kept.append(asyncio.ensure_future(new()))"
    )
    run(new, f"--leaks-baseline=known.toml {AT_ONCE}").assert_outcomes(
        passed=1, errors=1
    )

    run(LEAKY, update)
    assert "we know that" in file.read_text()


def test_baseline_is_left_alone_by_a_run_that_is_cut_short(run: Run) -> None:
    """It would tell of a part only."""
    cut = LEAKY + "\ndef test_cut(): assert False\ndef test_more(): pass"
    result = run(
        cut, f"--leaks-baseline=known.toml --leaks-baseline-update -x {AT_ONCE}"
    )

    result.stdout.fnmatch_lines(["The run was cut short: *known.toml was left as*"])
    assert not Path("known.toml").exists()
