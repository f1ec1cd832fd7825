"""Each scenario holds, whichever of the tasks that are ready runs first.

A failure shows its seed, and the same test run again fails by the same one. Continuous
integration tries 100 seeds, by hand it is ``SAFECONC_TEST_SEEDS=100``.
"""

import asyncio
import random
from importlib import import_module

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.conftest import VirtualClockEventLoop
from tests.harness import ATTACKS, NATIVE_ATTACKS, SCENARIOS, play
from tests.shuffle import SEEDS, run_shuffled

import_module("tests.test_cancel_everywhere")  # which registers its scenarios

pytestmark = pytest.mark.virtual_clock  # runs on loops of its own

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def length_of(name: str) -> int:
    """Count the instants of a scenario when it is neither shuffled nor attacked."""
    with asyncio.Runner(loop_factory=VirtualClockEventLoop) as runner:
        return runner.run(play(SCENARIOS[name]))


@each_backend
@pytest.mark.parametrize("name", SCENARIOS)
def test_any_task_may_run_first(name: str, backend: str) -> None:
    """Nothing is lost or left, in peace or cancelled at an instant of chance."""
    length = length_of(name)
    kinds = [ATTACKS] if backend == "trio" else [ATTACKS, NATIVE_ATTACKS]

    async def play_it() -> None:
        for kind in kinds:
            # A run that does not come to its instant is left in peace.
            instant = random.randrange(length * 5 // 4 + 1)
            await play(SCENARIOS[name], random.choice(kind), instant)

    run_shuffled(backend, play_it)


async def race() -> tuple[int, ...]:
    """Wake three tasks at once; return them in the order in which they came."""
    came: list[int] = []
    start = anyio.Event()

    async def run(number: int) -> None:
        await start.wait()
        came.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(run, number)
        await anyio.wait_all_tasks_blocked()
        start.set()
    return tuple(came)


def orders_of(backend: str) -> list[tuple[int, ...]]:
    """Return how the race ended for each seed."""
    orders: list[tuple[int, ...]] = []

    async def run() -> None:
        orders.append(await race())

    run_shuffled(backend, run, seeds=100)
    return orders


@each_backend
def test_seed_decides_the_order(backend: str) -> None:
    """What failed once can be run again."""
    assert orders_of(backend) == orders_of(backend)


@each_backend
def test_every_order_comes(backend: str) -> None:
    """It is not by luck that a seed was found for something."""
    assert len(set(orders_of(backend))) == 6


def test_plain_callbacks_keep_their_order() -> None:
    """What asyncio promises stays promised."""
    called: list[int] = []

    async def call_some() -> None:
        loop = asyncio.get_running_loop()
        for number in range(5):
            loop.call_soon(called.append, number)
        await checkpoint()

    run_shuffled("asyncio", call_some)

    assert called == [0, 1, 2, 3, 4] * SEEDS


def test_no_task_passes_a_checkpoint_of_a_cancelled_scope() -> None:
    """What anyio promises stays promised, for tasks that had been woken before too."""
    passed: list[int] = []

    async def run(number: int, start: anyio.Event) -> None:
        await start.wait()
        await checkpoint()
        passed.append(number)

    async def cancel_what_was_woken() -> None:
        start = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(run, number, start)
            await anyio.wait_all_tasks_blocked()
            start.set()
            tasks.cancel_scope.cancel()

    run_shuffled("asyncio", cancel_what_was_woken)

    assert passed == []
