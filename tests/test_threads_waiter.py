"""A thread's place in a line: handed over, or left."""

import threading
from typing import Any

import anyio
import pytest

from safeconc import Context, ContextCancelled, DeadlineExceeded
from safeconc.threads._waiter import Waiter
from tests.together import when_awaited


class Line:
    """A line of one kind of place, and the lock that guards it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiters: list[Waiter] = []

    def wait(self, owner: Context | None = None) -> object:
        """Join, and wait."""
        waiter = Waiter()
        with self.lock:
            self.waiters.append(waiter)
        return waiter.wait(self.lock, self.waiters.remove, owner)

    def hand(self, value: object) -> None:
        """Give *value* to the head of the line."""
        with self.lock:
            self.waiters.pop(0).hand(value)


def test_wait_returns_what_was_handed() -> None:
    """What another thread hands over ends the wait."""
    line = Line()
    with Context() as ctx:
        thread = when_awaited(ctx, lambda: line.hand("slot"))

        assert line.wait() == "slot"
        thread.join()


def test_what_was_handed_before_the_wait_is_there() -> None:
    """Who is first, the giver or the waiter, makes no difference."""
    waiter = Waiter()
    waiter.hand("slot")

    assert waiter.wait(threading.Lock(), Line().waiters.remove) == "slot"


@pytest.mark.parametrize("is_owner", [False, True])
def test_end_of_a_context_ends_the_wait(is_owner: bool) -> None:
    """The ambient context ends it, and that of the line's owner, too."""
    line, owner = Line(), Context.root()
    with Context() as ctx:
        ending = owner if is_owner else ctx
        thread = when_awaited(ending, ending.cancel)

        with pytest.raises(ContextCancelled):
            line.wait(owner)
        thread.join()

    assert line.waiters == []
    assert owner.statistics().waiters == 0


def test_deadline_ends_the_wait() -> None:
    """A thread that waits notices by itself."""
    line = Line()

    with Context(timeout=0.001), pytest.raises(DeadlineExceeded):
        line.wait()
    assert line.waiters == []


def test_hand_over_beats_an_end_that_comes_with_it() -> None:
    """What has been given is not given back: the call returns, the next one raises."""
    line = Line()
    with Context() as ctx:

        def act() -> None:
            line.hand("slot")
            ctx.cancel()

        thread = when_awaited(ctx, act)

        assert line.wait() == "slot"
        thread.join()
        assert ctx.done


def test_hand_over_between_the_end_and_the_lock_wins() -> None:
    """Who hands over under the lock first decides, though the thread is awake."""
    line = Line()
    waiter = Waiter()
    line.waiters.append(waiter)

    class Contended:
        def __enter__(self) -> None:
            line.hand("slot")

        def __exit__(self, *_: object) -> None:
            pass

    lock: Any = Contended()
    with Context() as ctx:
        ctx.cancel()

        assert waiter.wait(lock, line.waiters.remove) == "slot"


def test_end_that_came_before_the_wait_ends_it() -> None:
    """No wake-up is needed for what is there to be seen."""
    line = Line()
    with Context() as ctx:
        ctx.cancel()

        with pytest.raises(ContextCancelled):
            line.wait()
    assert line.waiters == []


def test_interrupted_wait_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C while it waits leaves nothing behind that a giver would find."""
    line = Line()

    def interrupt(_: Waiter) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "_is_handed", interrupt)

    with Context() as ctx, pytest.raises(KeyboardInterrupt):
        line.wait()
    assert line.waiters == []
    assert ctx.statistics().waiters == 0


def test_interrupted_wait_leaves_no_line_that_it_is_not_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Ctrl-C that comes with the hand-over: who gave it took it out already."""
    line = Line()

    def interrupt(_: Waiter) -> bool:
        line.hand("slot")
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "_is_handed", interrupt)

    with pytest.raises(KeyboardInterrupt):
        line.wait()
    assert line.waiters == []


async def test_a_task_is_refused() -> None:
    """It would stop the event loop, and perhaps who is to hand something over."""
    line = Line()

    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        line.wait()
    assert line.waiters == []
    await anyio.lowlevel.checkpoint()
