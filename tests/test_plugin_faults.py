"""Whatever happens, the plugin is in the way of nothing, and leaves nothing behind."""

import asyncio
import sys
import threading

import pytest

from safeconc.leaks._origins import owner
from safeconc.pytest_plugin._runners import Closing, pass_time
from tests.inner import AT_ONCE, ON_PURPOSE, Run

pytestmark = ON_PURPOSE

ERROR = f"--leaks=error {AT_ONCE}"


def state() -> tuple[object, ...]:
    """Return what a run may change, and has to put back."""
    depth = sys.get_coroutine_origin_tracking_depth()
    return asyncio.Runner.close, depth, owner.get()


@pytest.mark.parametrize(
    "end, code",
    [
        ("pytest.exit('enough')", pytest.ExitCode.INTERRUPTED),
        ("raise KeyboardInterrupt", pytest.ExitCode.INTERRUPTED),
    ],
)
@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_run_that_is_cut_short_leaves_nothing(
    run: Run, end: str, code: pytest.ExitCode, when: str
) -> None:
    """It tells of what it has found by then."""
    before, threads = state(), set(threading.enumerate())
    result = run(
        f"""
def end():
    {end}

@pytest.fixture
def fixture():
    {"end()" if when == "setup" else "pass"}
    yield
    {"end()" if when == "teardown" else "pass"}

def test_leaky():
    async def main(): leak()
    asyncio.run(main())

def test_it(fixture):
    {"end()" if when == "call" else "pass"}
""",
        f"{ERROR} -p no:anyio",
    )

    assert result.ret == code
    assert state() == before
    assert set(threading.enumerate()) <= threads  # those of other tests may have ended
    result.stdout.fnmatch_lines(["1 task, in 1 place."])


@pytest.mark.parametrize("twice", ["-psafeconc", "-psafeconc.pytest_plugin"])
def test_loaded_twice_it_looks_once(run: Run, twice: str) -> None:
    """By its entry point, and by name."""
    source = "def test_it():\n  async def main(): leak()\n  asyncio.run(main())"
    result = run(source, f"{twice} {ERROR}")

    result.assert_outcomes(passed=1, errors=1)


def test_loops_of_ones_own_are_seen(run: Run) -> None:
    """A policy, a factory, a runner within a runner's thread."""
    result = run(
        """
class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return asyncio.SelectorEventLoop()

async def main():
    leak()
    await asyncio.sleep(0)

def test_policy():
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        asyncio.run(main())
    finally:
        asyncio.set_event_loop_policy(before)

@pytest.mark.anyio
async def test_inner():
    await asyncio.to_thread(asyncio.run, main())

@pytest.mark.anyio
async def test_closed_within():
    runner = asyncio.Runner()
    thread = threading.Thread(target=runner.run, args=(main(),))
    thread.start()
    thread.join()
    with pytest.raises((RuntimeError, ValueError)):  # asyncio's own, as ever
        runner.close()
""",
        f"{ERROR} -Wignore::DeprecationWarning",
    )

    result.assert_outcomes(passed=3, errors=3)


def test_task_that_refuses_is_told_of_at_once(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runner waits for it without an end, so later might be never."""
    result = run(
        """
async def refuse():
    try:
        await asyncio.sleep(99)
    except asyncio.CancelledError:
        pass
    await asyncio.sleep(99)

@pytest.mark.anyio
async def test_it():
    kept.append(asyncio.ensure_future(refuse()))
    await asyncio.sleep(0)
""",
        ERROR,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stderr.fnmatch_lines(
        ["The runner of this test waits*: 1 task*", "*waits at *.refuse"]
    )


def test_thousands_of_leaks_are_one_group(run: Run) -> None:
    """And the run tells of them on a few lines."""
    result = run(
        """
@pytest.mark.anyio
async def test_it():
    for _ in range(1_000):
        leak()
""",
        ERROR,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["1,000 tasks: *", "1,000 tasks, in 1 place."])
    assert len(result.outlines) < 50


def test_test_that_switches_the_runner_is_not_disturbed(run: Run) -> None:
    """It keeps what it has put there, and gets it back."""
    before = asyncio.Runner.close
    result = run(
        """
def test_it(monkeypatch):
    monkeypatch.setattr(asyncio.Runner, "close", asyncio.Runner.close)
    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
    asyncio.Runner().close()
""",
        ERROR,
    )

    result.assert_outcomes(passed=1)
    assert asyncio.Runner.close is before


def test_whoever_comes_after_us_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours stays beneath, and only passes things on."""
    seen = list[object]()
    closing = Closing(seen.append)
    monkeypatch.setattr(asyncio.Runner, "close", asyncio.Runner.close)
    closing.open()
    ours = asyncio.Runner.close

    def theirs(runner: asyncio.Runner) -> None:
        ours(runner)

    monkeypatch.setattr(asyncio.Runner, "close", theirs)
    closing.close()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

    assert asyncio.Runner.close is theirs
    assert loop.is_closed()
    assert not seen


def test_time_passes_only_where_it_can() -> None:
    """In a loop that is closed it does not, nor in one that something stops."""
    loop = asyncio.new_event_loop()
    loop.call_soon(loop.stop)
    pass_time(0.001, [loop])
    loop.run_until_complete(asyncio.sleep(0))
    assert not asyncio.all_tasks(loop)
    loop.close()
    pass_time(0.0, [loop])


def test_items_that_are_no_functions_are_watched_too(run: Run) -> None:
    """Of a doctest, for example."""
    result = run(
        """
async def main():
    leak()

def spin():
    '''
    >>> asyncio.run(main())
    '''
""",
        f"{ERROR} --doctest-modules",
    )

    result.assert_outcomes(passed=1, errors=1)


def test_loops_outside_of_tests_are_nobodys(run: Run) -> None:
    """What is left on them was made by no test."""
    result = run(
        "def test_it(): pass",
        ERROR,
        conftest="""
import asyncio

async def main():
    asyncio.ensure_future(asyncio.sleep(99))
    await asyncio.sleep(0)

def pytest_sessionfinish():
    asyncio.run(main())
""",
    )

    result.assert_outcomes(passed=1)


def test_fixture_on_a_strange_loop_is_let_through(run: Run) -> None:
    """Nobody has promised that it is seen."""
    result = run(
        """
@pytest.fixture
async def strange():
    return 1

def test_it(strange):
    assert strange == 1
""",
        ERROR,
        conftest="""
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    if fixturedef.argname == "strange":
        try:
            fixturedef.func().send(None)
        except StopIteration as end:
            fixturedef.cached_result = (end.value, None, None)
            return end.value
""",
    )

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("order", ["KeyboardInterrupt", "SystemExit"])
def test_order_to_the_program_comes_out_as_without_us(run: Run, order: str) -> None:
    """It stops the loop at once, and its runner lets the others end, as do we."""
    result = run(
        f"""
async def obey():
    await asyncio.sleep(0)
    raise {order}

async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(obey())

def test_clean():
    with pytest.raises({order}):
        asyncio.run(main())

async def leaking():
    leak()
    asyncio.get_running_loop().call_later(3600, print)
    await main()

def test_leaking():
    with pytest.raises({order}):
        asyncio.run(leaking())

async def late():
    try:
        await asyncio.sleep(3600)
    finally:
        raise {order}

async def leaving():
    kept.append(asyncio.ensure_future(late()))
    await asyncio.sleep(0)

def test_leaving():
    with pytest.raises({order}):
        asyncio.run(leaving())
""",
        ERROR,
    )

    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaking*",
            "Leaked: 1 task, 1 timer, in 2 places.*",
            "*'left'",
            "*ERROR at teardown of test_leaving*",
            "Leaked: 1 task, in 1 place.",
            "*waits at *.late",
        ]
    )
    result.stdout.no_fnmatch_line("*never retrieved*")
