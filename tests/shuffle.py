"""Event loops that wake tasks in an order of chance, the same one for the same seed.

Which of two tasks that are ready runs first is no promise of any loop, though on
asyncio it is always the one that was woken first: a program that relies on it stays
green there for ever. trio rolls dice; :class:`ShuffledEventLoop` does so for asyncio.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextvars import Context as ContextVars
from contextvars import copy_context
from functools import partial
from itertools import count
from typing import Any, TypeVarTuple, final
from weakref import WeakKeyDictionary

import anyio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from typing_extensions import override

from tests.conftest import VirtualClockEventLoop

Ts = TypeVarTuple("Ts")

SEEDS = int(os.environ.get("SAFECONC_TEST_SEEDS", "5"))
"""How many orders each scenario is tried in."""


@final
class ShuffledEventLoop(VirtualClockEventLoop):
    """An event loop that shuffles the tasks which are ready in one turn.

    All other callbacks keep their order, for two reasons. That ``call_soon`` is
    first in, first out is documented, and transports and futures build on it. And
    anyio delivers the cancellation of a scope by a callback that comes again in
    each turn: it must run between any two steps of a task, or a checkpoint in a
    cancelled scope would let the task pass.

    So a task that becomes ready goes into an urn, from where all move to the queue
    together, a turn later than they would have::

        turn 1:  A wakes B, B wakes C, A sleeps     urn: B, C, A
        turn 2:  deliver cancellation, empty urn    queue: C, A, B
        turn 3:  deliver cancellation, C, A, B

    A step of a task is told by its callback being a method of a task, as asyncio
    tells it to format handles.

    :param seed: what decides the order, alone: the urn is sorted by the ages of its
        tasks first, since some are woken in the order of a set.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._count = count()
        self._ages: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._urn: dict[int, Callable[[], object]] = {}
        self._emptying: asyncio.Handle

    @override
    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: ContextVars | None = None,
    ) -> asyncio.Handle:
        """Have *callback* called in the next turn; a task's step, in the one after."""
        queue = super().call_soon
        context = context or copy_context()
        task = getattr(callback, "__self__", None)
        if not isinstance(task, asyncio.Task):
            return queue(callback, *args, context=context)
        if not self._urn:
            self._emptying = queue(self._empty_urn)
        age = self._ages.setdefault(task, next(self._count))  # pyright: ignore[reportUnknownArgumentType] - its result matters to nobody here
        self._urn[age] = lambda: queue(callback, *args, context=context)
        # Not that of the step, but nobody withdraws the step of a task.
        return self._emptying

    def _empty_urn(self) -> None:
        calls = [self._urn[age] for age in sorted(self._urn)]
        self._urn.clear()
        self._random.shuffle(calls)
        for call in calls:
            call()


def run_shuffled(
    backend: str,
    fn: Callable[..., Awaitable[object]],
    *args: object,
    seeds: int = SEEDS,
) -> None:
    """Run ``fn(*args)`` once for each seed, in a loop of its own, in that order.

    It may use :mod:`random`, which has the same seed. A failure shows it, and comes
    again, since the seeds are the same ones in each run.
    """
    (_run_trio if backend == "trio" else _run_asyncio)(partial(fn, *args), seeds)


def _run_asyncio(fn: Callable[[], Awaitable[object]], seeds: int) -> None:
    for seed in range(seeds):
        random.seed(seed)
        options = {"loop_factory": partial(ShuffledEventLoop, seed)}
        try:
            anyio.run(fn, backend_options=options)
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise


def _run_trio(fn: Callable[[], Awaitable[object]], seeds: int) -> None:
    """Take the way to trio's order that is public: its plugin for Hypothesis.

    A run of trio takes no seed, but for a test of Hypothesis's its order hangs on
    what ``random_module()`` draws.
    """

    @settings(
        max_examples=seeds,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # one seed is as simple as another
        report_multiple_bugs=False,
    )
    @given(seed=st.random_module())
    def run(seed: object) -> None:
        options = {"clock": MockClock(autojump_threshold=0)}
        anyio.run(fn, backend="trio", backend_options=options)

    run()
