"""Where tests run, the plugin looks: whoever runs them, and whatever they leave."""

import trio

from safeconc.pytest_plugin._trio import at_end
from tests.inner import AT_ONCE, ON_PURPOSE, Run

pytestmark = ON_PURPOSE

ERROR = f"--leaks=error {AT_ONCE}"

RUNNERS = {
    "anyio": """
@pytest.mark.anyio
async def test_anyio():
    {body}
""",
    "method": """
class TestClass:
    @pytest.mark.anyio
    async def test_method(self):
        {body}
""",
    "unittest": """
class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_unittest(self):
        {body}
""",
    "teardown": """
class TestTeardown(unittest.IsolatedAsyncioTestCase):
    async def asyncTearDown(self):
        {body}
    async def test_teardown(self):
        pass
""",
    "run": """
def test_run():
    async def main():
        {body}
    asyncio.run(main())
""",
    "thread": """
def test_thread():
    async def main():
        {body}
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    thread.join()
    {after}
""",
    "factory": """
def test_factory():
    class Loop(asyncio.SelectorEventLoop):
        pass
    async def main():
        {body}
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
""",
    "hypothesis": """
@pytest.mark.anyio
@hypothesis.settings(max_examples=2, database=None, deadline=None)
@hypothesis.given(hypothesis.strategies.just(1))
async def test_hypothesis(anyio_backend, _):
    {body}
""",
}


def everywhere(body: str, after: str = "pass") -> str:
    """Return a module with a test for each runner."""
    tests = [test.format(body=body, after=after) for test in RUNNERS.values()]
    return "\n".join(["import hypothesis", *tests])


def test_leak_is_an_error_of_its_test(run: Run) -> None:
    """The runners would cancel it, and say nothing."""
    result = run(everywhere("leak()"), ERROR)

    result.assert_outcomes(passed=len(RUNNERS), errors=len(RUNNERS))
    for name in RUNNERS:
        result.stdout.fnmatch_lines(
            [
                f"*ERROR at teardown of *test_{name} *",
                "Leaked: * task*, in 1 place.",
                "* task*: 'left'*",
                "    waits at   *.forever",
                f"    owner      *::test_{name}",
            ]
        )


def test_clean_test_passes(run: Run) -> None:
    """What is about to end has the time for it, and nothing else is held against it."""
    body = "asyncio.ensure_future(asyncio.sleep(0.01)); await asyncio.sleep(0)"
    result = run(everywhere(body), "--leaks=error")

    result.assert_outcomes(passed=len(RUNNERS))
    result.stdout.no_fnmatch_line("*leaked*")


def test_failing_test_keeps_its_failure(run: Run) -> None:
    """The leak is told below it."""
    failing = "leak(); raise ValueError('its own')"
    result = run(everywhere(failing, "assert False"), f"{ERROR} -W ignore")

    result.assert_outcomes(failed=len(RUNNERS))
    for name in RUNNERS:
        result.stdout.fnmatch_lines(
            [
                f"*_ *test_{name} _*",
                "*Leaks, seen at teardown*",
                "* task*: 'left'*",
                f"    owner      *::test_{name}",
            ]
        )


def test_off_means_off(run: Run) -> None:
    """Who has not asked for it sees nothing of it."""
    result = run(everywhere("leak()"))

    result.assert_outcomes(passed=len(RUNNERS))
    result.stdout.no_fnmatch_line("*leak*")


def test_trio_task_beside_the_main_one_is_found(run: Run) -> None:
    """A system task: trio ends it with the run, and says nothing."""
    result = run(
        """
import trio

@pytest.fixture
def anyio_backend():
    return "trio"

@pytest.mark.anyio
async def test_it():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)

@pytest.mark.anyio
async def test_clean():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
""",
        ERROR,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*1 task: *sleep_forever*", "*owner *::test_it"])


def test_thread_and_executor_are_found(run: Run) -> None:
    """Daemons as well; and they are told once, not again with the next test."""
    result = run(
        """
from concurrent.futures import ThreadPoolExecutor
wait = threading.Event()

def test_thread():
    threading.Thread(target=wait.wait, name="stays", daemon=True).start()
    afterwards.append(wait.set)

def test_executor():
    kept.append(ThreadPoolExecutor(1, thread_name_prefix="mine"))
    kept[-1].submit(int).result()
    afterwards.append(kept[-1].shutdown)

def test_clean():
    pass
""",
        ERROR,
    )

    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        ["1 thread: 'stays'", "*owner *::test_thread", "1 executor: 'mine'"]
    )


def test_failed_task_that_nobody_awaits_is_found(run: Run) -> None:
    """By itself asyncio only logs it, and only once it is collected."""
    result = run(
        """
async def fail():
    raise ValueError("lost")

class TestIt(unittest.IsolatedAsyncioTestCase):
    async def test_it(self):
        asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        gc.collect()  # where references are not counted, it is not noticed before
""",
        ERROR,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["Leaked: 1 failed task*", "*failed at *.fail"])


def test_end_of_trio_is_told_once() -> None:
    """When the main task ends, whichever tasks have asked."""
    ended: list[str] = []

    async def ask() -> None:
        at_end(lambda: ended.append("told"))

    async def main() -> None:
        await ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
        assert not ended

    trio.run(main)

    assert ended == ["told"]
