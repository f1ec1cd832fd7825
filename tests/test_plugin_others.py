"""Beside other plugins of pytest: some run async tests, some elsewhere."""

import pytest

from tests.inner import AT_ONCE, ON_PURPOSE, Run

pytestmark = ON_PURPOSE

ERROR = f"--leaks=error {AT_ONCE}"
ASYNCIO = f"{ERROR} -pasyncio -pno:anyio -o asyncio_default_fixture_loop_scope=function"
TRIO = f"{ERROR} -ptrio -pno:anyio"

SCOPED = """
@pytest.mark.asyncio(loop_scope="{scope}")
class TestScoped:
    async def test_leaky(self):
        leak()

    async def test_clean(self):
        pass
"""

FIXTURES = """
import pytest_asyncio

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service():
    task = asyncio.ensure_future(forever())
    yield
    task.cancel()

@pytest_asyncio.fixture
async def leaky():
    yield leak()

@pytest.mark.asyncio(loop_scope="module")
async def test_service(service):
    leak("of the test")

@pytest.mark.asyncio(loop_scope="module")
async def test_clean(service):
    pass

@pytest.mark.asyncio
async def test_fixture(leaky):
    pass
"""


@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
def test_pytest_asyncio_with_any_scope_of_its_loop(run: Run, scope: str) -> None:
    """Where a loop goes on, the next test is not to blame."""
    result = run(SCOPED.format(scope=scope), ASYNCIO)

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of TestScoped.test_leaky*", "1 task: 'left'", "*owner*"]
    )


def test_pytest_asyncio_in_its_auto_mode(run: Run) -> None:
    """Tests without a mark, and failures of their own."""
    result = run(
        """
async def test_leaky():
    leak()

async def test_clean():
    asyncio.ensure_future(asyncio.sleep(0))

async def test_fails():
    leak()
    raise ValueError("its own")
""",
        f"{ASYNCIO} -o asyncio_mode=auto -o safeconc_leaks_grace=0.01",
    )

    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*ValueError: its own", "*Leaks, seen at teardown*"])


def test_pytest_asyncio_with_fixtures(run: Run) -> None:
    """What a fixture holds is its own while it lives."""
    result = run(FIXTURES, ASYNCIO)

    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*teardown of test_service*", "1 task: 'of the test'"])
    result.stdout.fnmatch_lines(
        ["*teardown of test_fixture*", "*owner*fixture 'leaky' (function) of *"]
    )


def test_pytest_trio(run: Run) -> None:
    """A nursery ends what is in it; a system task is beside all of them."""
    result = run(
        """
import trio

@pytest.fixture
async def service(nursery):
    nursery.start_soon(trio.sleep_forever)
    yield

@pytest.mark.trio
async def test_leaky():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)

@pytest.mark.trio
async def test_clean(nursery, service):
    nursery.start_soon(trio.sleep_forever)
""",
        TRIO,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*teardown of test_leaky*", "*owner*::test_leaky"])


def test_reports_of_other_processes_are_summed_up(run: Run) -> None:
    """pytest-xdist sends them as text, by way of these two hooks of pytest."""
    result = run(
        """
def test_it():
    async def main(): leak()
    asyncio.run(main())
""",
        ERROR,
        conftest="""
import json, pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item):
    report = yield
    hook = item.config.hook
    sent = hook.pytest_report_to_serializable(config=item.config, report=report)
    text = json.dumps(sent)
    data = json.loads(text)
    return hook.pytest_report_from_serializable(config=item.config, data=data)
""",
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["1 task, in 1 place.", "1 task at *forever"])


MANY = """
@pytest.mark.parametrize("number", range(4))
def test_leaky(number):
    async def main(): leak()
    asyncio.run(main())

@pytest.mark.parametrize("number", range(4))
def test_clean(number):
    pass
"""


@pytest.mark.parametrize(
    "options, times",
    [
        pytest.param("-pxdist -n2", 1, id="xdist"),
        pytest.param("-prandomly", 1, id="randomly"),
        pytest.param("-prepeat --count=3", 3, id="repeat"),
    ],
)
def test_runs_in_another_order_or_process_tell_the_same(
    run: Run, options: str, times: int
) -> None:
    """Each leak is told of its own test, and at the end all are one group."""
    result = run(MANY, f"{ERROR} {options}")

    leaks = 4 * times
    result.assert_outcomes(passed=8 * times, errors=leaks)
    text = result.stdout.str()
    assert text.count("at teardown of test_leaky") == leaks
    assert "at teardown of test_clean" not in text
    result.stdout.fnmatch_lines([f"{leaks} tasks, in 1 place."])
