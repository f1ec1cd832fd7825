"""What a fixture makes is its own while it lives, and its leak when it has gone."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

import pytest

from safeconc.pytest_plugin._owners import stepwise
from tests.inner import AT_ONCE, ON_PURPOSE, Run

pytestmark = ON_PURPOSE

ERROR = f"--leaks=error {AT_ONCE}"


@contextmanager
def noted(steps: list[str]) -> Generator[None]:
    """Note when the block is entered and left."""
    steps.append("in")
    try:
        yield
    finally:
        steps.append("out")


def test_fixture_keeps_what_it_made_while_it_lives(run: Run) -> None:
    """Tasks, threads, timers and pools: no test that sees them has leaked them."""
    result = run(
        """
from concurrent.futures import ThreadPoolExecutor

@pytest.fixture(scope="module")
async def server(anyio_backend):
    task = asyncio.ensure_future(forever())
    timer = asyncio.get_running_loop().call_later(99, print)
    yield task
    task.cancel()
    timer.cancel()

@pytest.fixture(scope="session")
def pool():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool

@pytest.fixture(scope="class")
def thread():
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    yield
    event.set()
    thread.join()

@pytest.mark.anyio
@pytest.mark.parametrize("n", [1, 2])
async def test_async(server, pool, n):
    assert not server.done()

class TestThread:
    def test_thread(self, thread, pool):
        pool.submit(int).result()

    def test_again(self, thread):
        pass
""",
        "--leaks=error",
    )

    result.assert_outcomes(passed=4)


def test_fixture_that_leaves_something_is_named(run: Run) -> None:
    """Its leak comes with the teardown of the last test that used it."""
    result = run(
        """
@pytest.fixture(scope="module")
async def module(anyio_backend):
    leak("of module")

@pytest.fixture
async def function(anyio_backend):
    yield leak("of function")

@pytest.fixture(scope="session")
def wait():
    wait = threading.Event()
    afterwards.append(wait.set)
    threading.Thread(target=wait.wait, name="of thread").start()
    yield wait

@pytest.mark.anyio
async def test_first(module, function, wait):
    pass

@pytest.mark.anyio
async def test_last(module, wait):
    pass
""",
        ERROR,
    )

    result.assert_outcomes(passed=2, errors=2)
    first = ["*at teardown of test_first*", "*'of function'", "*fixture 'function' (*"]
    result.stdout.fnmatch_lines(first)
    result.stdout.fnmatch_lines(
        ["*teardown of test_last*", "*'of module'", "*'module'*"]
    )
    result.stdout.fnmatch_lines(["*teardown of test_last*", "*'of thread'", "*'wait'*"])


def test_test_on_a_loop_for_many_leaks_by_itself(run: Run) -> None:
    """The loop goes on, and its next test is not to blame."""
    result = run(
        """
@pytest.fixture(scope="module", autouse=True)
async def loop_stays(anyio_backend):
    yield

@pytest.mark.anyio
async def test_leaky():
    leak()

@pytest.mark.anyio
async def test_clean():
    pass

@pytest.mark.anyio
async def test_takes_its_time():
    asyncio.ensure_future(asyncio.sleep(0.01))
""",
        "--leaks=error -o safeconc_leaks_grace=0.2",
    )

    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaky*"])


def test_task_of_a_test_in_a_group_of_a_fixture_is_no_leak(run: Run) -> None:
    """What was made is judged once the fixtures have ended it."""
    result = run(
        """
@pytest.fixture
async def group(anyio_backend):
    async with asyncio.TaskGroup() as group:
        yield group
        for task in kept:
            task.cancel()

@pytest.mark.anyio
async def test_it(group):
    kept.append(group.create_task(forever()))
""",
        "--leaks=error",
    )

    result.assert_outcomes(passed=1)


def test_request_to_a_server_in_a_thread_is_its_own(run: Run) -> None:
    """What it makes for a request of the test, and keeps, the test cannot end."""
    result = run(
        """
@pytest.fixture(scope="module")
def server():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    async def end():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        loop.call_soon(loop.stop)
    asyncio.run_coroutine_threadsafe(end(), loop)
    thread.join()
    loop.close()

def test_it(server):
    done = threading.Event()
    def request():
        server.call_later(99, print)
        kept.append(server.create_task(forever()))
        done.set()
    # As a socket would wake it: in nobody's context.
    server.call_soon_threadsafe(request, context=contextvars.Context())
    done.wait()

def test_other(server):
    pass
""",
        "--leaks=error",
    )

    result.assert_outcomes(passed=2)


def test_task_of_a_fixture_may_go_on_to_make_others(run: Run) -> None:
    """They are the fixture's, too, whichever test they are made in."""
    result = run(
        """
@pytest.fixture(scope="module")
async def service(anyio_backend):
    ask = asyncio.Event()
    async def serve(group):
        await ask.wait()
        group.create_task(forever())
    async with asyncio.TaskGroup() as group:
        main = group.create_task(serve(group))
        yield ask
        for task in asyncio.all_tasks():
            if task.get_coro().__name__ == "forever":
                task.cancel()

@pytest.mark.anyio
async def test_it(service):
    service.set()
    await asyncio.sleep(0)

@pytest.mark.anyio
async def test_other(service):
    pass
""",
        "--leaks=error",
    )

    result.assert_outcomes(passed=2)


def test_failing_setup_keeps_its_failure(run: Run) -> None:
    """Whatever it has left by then is told at the end."""
    result = run(
        """
@pytest.fixture
async def broken(anyio_backend):
    leak()
    raise ValueError("its own")

@pytest.fixture(scope="module")
def broken_later():
    yield
    raise ValueError("its own, too")

@pytest.mark.anyio
async def test_it(broken):
    pass

def test_other(broken_later):
    pass
""",
        ERROR,
    )

    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        ["*ValueError: its own", "*ValueError: its own, too", "*1 of fixture 'broken'*"]
    )


def test_pool_of_a_module_is_no_leak(run: Run) -> None:
    """It was there before, although its threads come with the first call."""
    result = run(
        """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)

def test_it():
    pool.submit(int).result()

def test_end():
    pool.shutdown()
""",
        "--leaks=error",
    )

    result.assert_outcomes(passed=2)


def test_fixtures_on_trio_hold_what_they_made(run: Run) -> None:
    """The run of trio ends with the last of them; what is left beside it is theirs."""
    result = run(
        """
import trio

@pytest.fixture(scope="module")
def anyio_backend():
    return "trio"

@pytest.fixture(scope="module")
async def system(anyio_backend):
    yield trio.lowlevel.spawn_system_task(trio.sleep_forever, name="of system")

@pytest.mark.anyio
async def test_first(system):
    pass

@pytest.mark.anyio
async def test_last(system):
    pass
""",
        ERROR,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*teardown of test_last*", "*1 task: *of system*"])


def test_trio_is_left_alone_where_it_is_off(run: Run) -> None:
    """Also when the run ends."""
    result = run(
        """
import trio

@pytest.fixture
def anyio_backend():
    return "trio"

@pytest.mark.anyio
@pytest.mark.leakcheck("off", reason="it is what this is about")
async def test_it():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)
""",
        ERROR,
    )

    result.assert_outcomes(passed=1)


def test_async_fixture_may_catch_what_is_thrown_into_it() -> None:
    """In blocks of its own, as it would without them."""
    entered = list[str]()

    async def fixture() -> AsyncIterator[int]:
        try:
            yield 1
        except ValueError:
            yield 2

    async def main() -> None:
        generator = stepwise(fixture, lambda: noted(entered))()
        assert await anext(generator) == 1
        assert await generator.athrow(ValueError()) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(generator)

    asyncio.run(main())
    assert entered == ["in", "out"] * 3
