"""A check that could not look is an error, and no pass."""

import asyncio

import pytest

from safeconc.pytest_plugin._canary import Canary
from tests.inner import AT_ONCE, ON_PURPOSE, Run

pytestmark = ON_PURPOSE

ERROR = f"--leaks=error {AT_ONCE}"
ASYNC = "async def test_it(): leak(); await asyncio.sleep(0)"


@pytest.mark.parametrize(
    "conftest, told",
    [
        (
            "asyncio.run(pyfuncitem.function.__wrapped__())",
            "*has passed, but was never seen to run*",
        ),
        (
            """new = asyncio.new_event_loop()
    new.run_until_complete(pyfuncitem.obj())
    new.close()""",
            "*was closed before anybody could look at it*",
        ),
        (
            "[None for _ in pyfuncitem.obj().__await__()]",
            "*on an event loop that is neither asyncio's nor trio's*",
        ),
    ],
)
def test_loop_that_was_not_seen_is_an_error(run: Run, conftest: str, told: str) -> None:
    """It says why, and what to do."""
    result = run(
        ASYNC if "new_event_loop" in conftest else "async def test_it(): pass",
        f"{ERROR} -Wignore",
        conftest=f"""
import asyncio, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    {conftest}
    return True
""",
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([told, "Or do without the check: *"])


def test_loop_that_was_not_seen_is_nothing_to_those_who_do_not_look(run: Run) -> None:
    """So they are told how to do without."""
    result = run(
        """
@pytest.mark.leakcheck("off", reason="another loop")
async def test_it(): pass
""",
        ERROR,
        conftest="def pytest_pyfunc_call(pyfuncitem): return True",
    )

    result.assert_outcomes(passed=1)


def test_test_that_never_ran_need_not_be_seen(run: Run) -> None:
    """Whether it was skipped, or has failed before."""
    result = run(
        """
class TestCase(unittest.IsolatedAsyncioTestCase):
    @unittest.skip("not now")
    async def test_skipped(self): pass

    @unittest.expectedFailure
    async def test_fails(self): raise ValueError

async def test_nobody_runs(): pass
""",
        ERROR,
    )

    result.assert_outcomes(skipped=1, xfailed=1, failed=1)


def test_task_that_its_loop_does_not_know_is_an_error() -> None:
    """No census would see those beside it either."""
    canary = Canary()
    loop = asyncio.new_event_loop()
    canary.on_asyncio(loop)  # not even running: there is no task
    loop.close()

    assert "asyncio does not know the task" in (canary.verdict() or "")


def test_loop_that_was_looked_at_is_fine() -> None:
    """As soon as all loops have been."""
    canary = Canary()

    async def main() -> None:
        canary.on_asyncio(asyncio.get_running_loop())

    with asyncio.Runner() as runner:
        runner.run(main())
        assert "closed before" in (canary.verdict() or "")
        canary.looked(runner.get_loop())

    assert canary.verdict() is None
