"""A signal handler may run between any two steps of a Context: here it does."""

import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from types import FrameType
from typing import Any, Self

import anyio
import pytest

from safeconc import (
    Channel,
    Context,
    ContextCancelled,
    DepthPool,
    ErrGroup,
    FanOut,
    consume,
    crawl,
    every,
    fan_out,
)
from tests.together import collect

STRIDE = 10
"""Steps between those at which a whole block is disturbed: it has hundreds."""


class _Signal:
    """Calls *handler* before the n-th line that safeconc executes."""

    def __init__(self, n: int, handler: Callable[[], object]) -> None:
        self._left = n
        self._handler = handler

    @property
    def came(self) -> bool:
        return self._left <= 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Self | None:
        if not frame.f_globals["__name__"].startswith("safeconc"):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self._handler()
        return self

    def during(self, act: Callable[[], object]) -> object:
        """Call *act*, and return what it returns."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return act()
        finally:
            sys.settrace(before)


class _Stage:
    """A family, what was registered with it, and what ran."""

    def __init__(self) -> None:
        self.root = Context.root()
        self.parent = Context(self.root)
        self.child: Context | None = Context(self.parent)
        self.won: list[bool] = []
        self.ran = self.expected = 0
        self.children: list[Context] = []

    def run(self) -> None:
        self.ran += 1

    def cancel(self) -> None:
        self.won.append(self.root.cancel())

    def cancel_parent(self) -> None:
        self.parent.cancel()

    def register(self) -> None:
        assert self.child is not None
        self.expected += 1
        self.child.after(self.run)

    def come_and_go(self) -> None:
        assert self.child is not None
        if not self.child.after(self.run).stop():
            self.expected += 1

    def derive(self) -> None:
        self.children.append(Context(self.parent))

    def enter_and_leave(self) -> None:
        assert self.child is not None
        with self.child:
            pass

    def look(self) -> None:
        assert self.child is not None
        self.child.statistics()
        repr(self.child)
        seen = {self.child.err, self.child.err} - {None}
        assert len(seen) <= 1


_actions = [
    _Stage.cancel,
    _Stage.cancel_parent,
    _Stage.register,
    _Stage.come_and_go,
    _Stage.derive,
    _Stage.enter_and_leave,
    _Stage.look,
]


@pytest.mark.parametrize("handler", _actions, ids=lambda each: each.__name__)
@pytest.mark.parametrize("action", _actions, ids=lambda each: each.__name__)
def test_signal_at_each_step_loses_nothing(
    action: Callable[[_Stage], None], handler: Callable[[_Stage], None]
) -> None:
    """Each function runs once, one cancel wins, and no child escapes or is let go."""
    if action == handler == _Stage.enter_and_leave:
        return  # one of the two is refused: that is another test
    stages: list[_Stage] = []

    def came_at(step: int) -> bool:
        stage = _Stage()
        stages.append(stage)
        signal = _Signal(step, partial(handler, stage))
        signal.during(partial(action, stage))
        stage.child = None
        return signal.came

    for step in count(1):
        if not came_at(step):
            break
    # Only what the parents hold is left of the children.
    collect()
    for each in stages:
        each.cancel()

    assert [each.ran for each in stages] == [each.expected for each in stages]
    assert {each.won.count(True) for each in stages} == {1}
    assert {each.done for stage in stages for each in stage.children} <= {True}


@pytest.mark.parametrize("index", [0, 1])
def test_child_of_several_ends_in_the_same_step_as_the_parent(index: int) -> None:
    """It looks at all of its parents, so it need not be told first."""
    for step in count(1):
        parents = Context.root(), Context.root()
        child = Context(*parents)
        ending = parents[index]
        seen: list[bool] = []
        signal = _Signal(step, lambda: seen.append(child.done is ending.done))  # noqa: B023 - called in this round
        signal.during(ending.cancel)
        if not signal.came:
            break

        assert seen == [True]


def test_cancel_at_each_step_of_a_wait_ends_it() -> None:
    """There is no step at which the wake-up is lost."""

    def cancel_when_awaited() -> None:
        while not (ctx.done or ctx.statistics().waiters):
            time.sleep(0)
        root.cancel()

    for step in count(1):
        root = Context.root()
        ctx = Context(Context(root), timeout=1e9)
        signal = _Signal(step, root.cancel)
        thread = threading.Thread(target=cancel_when_awaited)
        thread.start()
        ended = signal.during(ctx.wait)
        thread.join()

        assert ended
        assert ctx.statistics().waiters == 0
        if not signal.came:
            break


def test_registration_may_fail_at_each_step_of_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever leaves the block meanwhile is not told of another thread's failure."""
    starting, failing = threading.Event(), threading.Event()
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        starting.set()
        failing.wait(0.05)
        raise RuntimeError("can't start new thread")

    def register() -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            ctx.after(lambda: None)

    def fail() -> None:
        failing.set()
        thread.join()

    monkeypatch.setattr("threading.Thread.start", start)
    for step in count(1):
        starting.clear()
        failing.clear()
        ctx = Context.root(timeout=1e9)
        thread = threading.Thread(target=register)
        signal = _Signal(step, fail)
        ctx.__enter__()
        original(thread)
        starting.wait()
        signal.during(lambda ctx=ctx: ctx.__exit__(None, None, None))  # type: ignore[misc]
        thread.join()

        assert ctx.done
        if not signal.came:
            break


# Blocks that build on one


async def _never(_: object) -> None:
    await anyio.sleep_forever()


async def _in_a_group(*, reuse: bool) -> None:
    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go(_never, 1)
        await group.go(_never, 2)


async def _beside_a_service() -> None:
    async with ErrGroup(limit=None) as group:
        await group.go_background(_never, 1)
        await group.go(_never, 2)


async def _in_a_stream() -> None:
    async with FanOut(_never, range(3), limit=2) as results:
        async for _ in results:
            pytest.fail("passed")


async def _in_a_pool() -> None:
    async with DepthPool[int, None](_never, max_depth=0, limit=1) as pool:
        pool.submit(1)
        async for _ in pool:
            pytest.fail("passed")


async def _at_a_channel() -> None:
    channel = Channel[int](1)
    async with ErrGroup(limit=None) as group:
        await group.go(consume, channel, _never)
        async with channel:
            for item in count():
                await channel.send(item)


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(partial(_in_a_group, reuse=False), id="ErrGroup"),
        pytest.param(partial(_in_a_group, reuse=True), id="ErrGroup-reuse"),
        pytest.param(_beside_a_service, id="go_background"),
        pytest.param(partial(fan_out, _never, range(3), limit=2), id="fan_out"),
        pytest.param(_in_a_stream, id="FanOut"),
        pytest.param(
            partial(crawl, _never, range(3), max_depth=0, limit=2), id="crawl"
        ),
        pytest.param(_in_a_pool, id="DepthPool"),
        pytest.param(_at_a_channel, id="Channel"),
        pytest.param(partial(every, 1000, partial(_never, 1)), id="every"),
    ],
)
async def test_end_that_another_thread_makes_at_any_step_is_told(
    wait: Callable[[], Awaitable[object]],
) -> None:
    """What has not begun yet ends without a word, but the block does not."""

    async def ended_at(step: int) -> bool:
        shared, came = Context.root(), False

        def end() -> None:
            nonlocal came
            came = not limit.cancel_called
            shared.cancel()

        with anyio.move_on_after(100) as limit:
            tracing = sys.gettrace()
            sys.settrace(_Signal(step, end))
            try:
                async with Context(shared):
                    await wait()
                pytest.fail(f"passed, with an end at step {step}")
            except ContextCancelled:
                pass
            finally:
                sys.settrace(tracing)
        return came

    step = random.randrange(1, STRIDE)
    while await ended_at(step):
        step += STRIDE
