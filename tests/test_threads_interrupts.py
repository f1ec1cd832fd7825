"""A Ctrl-C where a block of threads had begun to end, and had not told everybody.

Each comes at one exact step, put there by hand: signals cannot be aimed so well.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import pytest

from safeconc import check, current_context
from safeconc._parker import Parker
from safeconc._policy._endings import End, Node
from safeconc.threads import DepthPool, ErrGroup, FanOut
from safeconc.threads._siblings import Siblings
from safeconc.threads._worker import Worker

Block: TypeAlias = AbstractContextManager[Siblings]


def sleep_forever(_: object = None) -> None:
    """Wait for the end."""
    context = current_context()
    assert context is not None
    context.wait()
    context.check()


def once(then: Callable[..., Any]) -> Callable[..., Any]:
    """Be interrupted the first time, and do *then* afterwards."""
    calls: list[int] = []

    def call(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return then(*args)

    return call


@contextmanager
def fan_out() -> Generator[Siblings, None, None]:
    """Open a fan-out whose calls wait for its end."""
    with FanOut(sleep_forever, [None] * 3, limit=2) as results:
        yield results._run.siblings


@contextmanager
def pool() -> Generator[Siblings, None, None]:
    """Open a pool whose jobs do so."""
    with DepthPool[None, None](sleep_forever, limit=2, max_depth=0) as pool:
        pool.submit(None)
        yield pool._tree.siblings


@pytest.mark.parametrize("block", [fan_out, pool])
def test_interrupt_of_a_loop_that_was_left(block: Callable[[], Block]) -> None:
    """The block's end is cut short, and made up for."""
    with pytest.raises(KeyboardInterrupt), block() as siblings:
        siblings.on_over = once(siblings.on_over)

    assert siblings.workers == {}
    assert current_context() is None


@pytest.mark.parametrize("block", [fan_out, pool])
def test_interrupt_before_the_end_was_published(
    block: Callable[[], Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members that wait for it hear of it all the same."""
    with pytest.raises(KeyboardInterrupt), block() as siblings:
        while not siblings.context.statistics().waiters:
            check()
        monkeypatch.setattr(Node, "_finish", once(Node._finish))

    assert siblings.workers == {}


def test_interrupt_between_the_end_and_the_word_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits for it is woken after all."""
    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        group.go(sleep_forever)
        while not group.context.statistics().children:
            check()
        monkeypatch.setattr(Node, "_tell", once(Node._tell))
        raise ValueError("no")

    assert group._siblings.workers == {}
    assert isinstance(group.errors[0], ValueError)


@pytest.mark.parametrize("step", ["_publish", "_sooner"])
def test_interrupt_as_the_end_is_handed_down(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A member that was about to hear of it hears of it after all."""
    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        for _ in range(3):
            group.go(sleep_forever)
        while group.context.statistics().children < 3:
            check()
        do: Callable[[Node, End], object] = getattr(Node, step)
        interrupted = once(do)

        def act(node: Node, end: End) -> object:
            return (do if node is group.context else interrupted)(node, end)

        monkeypatch.setattr(Node, step, act)
        raise ValueError("no")

    assert group._siblings.workers == {}


def test_interrupt_as_a_waiter_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is woken again."""
    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        group.go(group.context.wait)
        while not group.context.statistics().waiters:
            check()
        monkeypatch.setattr(Parker, "unpark", once(Parker.unpark))
        group.context._state["wakers"] = {
            key: key.unpark for key in group.context._state["wakers"]
        }
        raise ValueError("no")

    assert group._siblings.workers == {}


def test_interrupt_after_a_start_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that never was is taken back nevertheless, and once."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    class Workers(dict[Worker, None]):
        def __delitem__(self, worker: Worker) -> None:
            take_out(self, worker)

    take_out = once(dict[Worker, None].__delitem__)
    group = ErrGroup(limit=1)
    group._siblings.workers = Workers()
    with pytest.raises(KeyboardInterrupt), group:
        with monkeypatch.context() as full:
            full.setattr("threading.Thread.start", refuse)
            group.go(abs, -1)

    assert group._siblings.workers == {}
    assert group.statistics().running == group.statistics().started == 0


def test_worker_is_taken_back_once() -> None:
    """What it was to do is the caller's again, not twice."""
    block = Siblings("Block", None)
    worker = Worker("worker", lambda _: None)
    block.workers[worker] = None
    undone: list[int] = []
    crew = ErrGroup(limit=None)._crew
    crew._siblings = block

    assert crew.take_back(worker, lambda: undone.append(1)) == 0
    assert crew.take_back(worker, lambda: undone.append(1)) is None
    assert undone == [1]
