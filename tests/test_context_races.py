"""Threads and loops that meet at one Context."""

import functools
import threading
import weakref
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, ContextCancelled, Registration
from tests.together import RACES, backends, collect, repeated, run_together

# Races


@repeated
def test_one_of_many_concurrent_cancels_wins() -> None:
    """Exactly one is told so, and its cause is the cause."""
    ctx = Context()
    won: list[BaseException] = []

    def cancel() -> None:
        cause = ValueError()
        if ctx.cancel(cause):
            won.append(cause)

    run_together(*[cancel] * 4)

    assert won == [ctx.cause]


@repeated
def test_one_of_two_concurrent_parents_decides() -> None:
    """Whoever was faster, the child tells one story."""
    one, other = Context(), Context()
    child = Context(one, other)

    run_together(lambda: one.cancel(ValueError()), lambda: other.cancel(KeyError()))

    assert child.cause in {one.cause, other.cause}
    assert child.err is not None
    assert child.err.__cause__ is child.cause


@repeated
def test_error_is_one_object_for_all_threads() -> None:
    """Threads that look at the same time see the same error."""
    ctx = Context()
    ctx.cancel()
    seen: list[object] = []

    run_together(*[lambda: seen.append(ctx.err)] * 2)

    assert seen[0] is seen[1]


@repeated
def test_function_registered_as_the_context_ends_runs_once() -> None:
    """It is seen by the one or by the other, never by both or by none."""
    parent = Context()
    child = Context(parent)
    ran: list[int] = []

    def register() -> None:
        for number in range(5):
            child.after(functools.partial(ran.append, number))

    run_together(parent.cancel, register)

    assert sorted(ran) == list(range(5))


@repeated
def test_function_stopped_as_the_context_ends_runs_or_was_stopped() -> None:
    """stop() tells which of the two it was."""
    ctx = Context()
    ran: list[int] = []
    stopped: list[bool] = []
    registration = ctx.after(lambda: ran.append(1))

    run_together(ctx.cancel, lambda: stopped.append(registration.stop()))

    assert stopped == [not ran]


@repeated
def test_wait_that_begins_as_the_context_ends_returns() -> None:
    """No wake-up is lost on the way down from a parent."""
    root = Context()
    leaf = Context(Context(root))

    run_together(root.cancel, leaf.wait)

    assert leaf.statistics().waiters == 0


@repeated
def test_child_made_as_its_parent_ends_has_ended() -> None:
    """There is no moment in which a child escapes."""
    root = Context()
    seen: list[Context] = []

    def derive() -> None:
        seen.extend(Context(Context(root), timeout=1e9) for _ in range(3))

    run_together(root.cancel, derive)

    assert [child.done for child in seen] == [True] * 3


def test_child_whose_functions_come_and_go_is_held_by_nobody() -> None:
    """When the last one has gone the parent has let go of the child."""
    parent = Context()

    def come_and_go(child: Context) -> None:
        for _ in range(RACES):
            child.after(lambda: None).stop()

    def race() -> weakref.ref[Context]:
        child = Context(Context(parent))
        run_together(*[functools.partial(come_and_go, child)] * 3)
        return weakref.ref(child)

    forgotten = race()
    collect(forgotten)

    assert forgotten() is None


def test_statistics_may_be_read_while_children_come_and_go() -> None:
    """They are a snapshot, taken without a lock."""
    parent = Context()
    seen: set[bool] = set()

    def come_and_go() -> None:
        for _ in range(RACES):
            Context(parent).after(lambda: None).stop()

    def read() -> None:
        for _ in range(RACES):
            seen.add(parent.statistics().children >= 0)

    run_together(come_and_go, read, come_and_go)

    assert seen == {True}


# Loops in several threads


@pytest.mark.parametrize("who", ["a parent", "a sibling's thread", "the main thread"])
def test_one_cancel_ends_blocks_in_many_loops(who: str) -> None:
    """Each loop hears of it in its own thread."""
    root = Context()
    parent = Context(root)
    cause = ValueError()
    open_blocks = threading.Barrier(4)
    caught: list[BaseException | None] = []

    async def main(index: int) -> None:
        async with Context(parent):
            open_blocks.wait()
            if who == "a sibling's thread" and index == 0:
                parent.cancel(cause)
            await anyio.sleep_forever()

    def thread(index: int) -> None:
        with pytest.raises(ContextCancelled) as info:
            anyio.run(main, index, backend=("asyncio", "trio")[index % 2])
        caught.append(info.value.__cause__)

    def canceller() -> None:
        open_blocks.wait()
        if who != "a sibling's thread":
            (root if who == "a parent" else parent).cancel(cause)

    run_together(canceller, *(functools.partial(thread, index) for index in range(3)))

    assert caught == [cause] * 3


@backends
def test_cancel_as_blocks_are_entered_and_left(
    backend: str, options: dict[str, Any]
) -> None:
    """A block is cut short or not; it is never told when it has been left."""
    parent = Context()
    children = [Context(parent) for _ in range(RACES)]
    wrong: list[BaseException] = []

    async def main() -> None:
        for child in children:
            try:
                async with child:
                    await checkpoint()
            except ContextCancelled as exc:
                if exc is not child.err:
                    wrong.append(exc)

    def cancel() -> None:
        for child in children:
            child.cancel()

    run_together(
        lambda: anyio.run(main, backend=backend, backend_options=options), cancel
    )

    assert wrong == []
    assert parent.statistics().children == 0


def test_who_comes_while_the_last_one_leaves_is_held() -> None:
    """The parent's hold is settled again when it was not for the latest state."""
    parent = Context()
    child = Context(parent)
    came: list[Registration] = []

    class Held(dict[Context, None]):
        """Lets somebody in at the worst moment."""

        def pop(self, *args: Any) -> Any:
            popped = super().pop(*args)
            came.append(child.after(lambda: None))
            return popped

    held = parent._state["held"] = Held()
    child.after(lambda: None).stop()

    assert list(held) == [child]
    assert parent.statistics().children == 1
