"""What threads do to a Context, step by step."""

import pytest

from safeconc import Context, ContextCancelled, DeadlineExceeded
from safeconc.threads._waiter import Waiter
from tests.interleaved.conftest import explored, make_lock, together
from tests.together import NOTHING, ending


@explored
def test_who_waits_is_woken() -> None:
    """However late it begins to, and however far down the end has to come."""
    root = Context.root()
    leaf = Context(Context(root))

    together(root.cancel, leaf.wait)

    assert leaf.done
    assert leaf.statistics() == NOTHING


@explored
def test_one_of_two_cancels_wins() -> None:
    """It is told so, and the one who waits is told its cause."""
    ctx = Context.root()
    causes = ValueError(), KeyError()
    won: list[Exception] = []

    def cancel(cause: Exception) -> None:
        if ctx.cancel(cause):
            won.append(cause)

    together(lambda: cancel(causes[0]), lambda: cancel(causes[1]), ctx.wait)

    assert won == [ctx.cause]


@explored
def test_one_of_two_parents_decides() -> None:
    """A child that both of them end tells one story."""
    one, other = Context.root(), Context.root()
    child = Context(one, other)
    causes = ValueError(), KeyError()
    seen: set[object] = set()

    def look() -> None:
        child.wait()
        seen.add(child.cause)

    together(lambda: one.cancel(causes[0]), lambda: other.cancel(causes[1]), look)

    assert seen == {child.cause}
    assert child.cause in causes


@explored
def test_deadline_or_cancel_decides() -> None:
    """Time passes only where nothing else happens: so the cancel comes first."""
    parent = Context.root()
    child = Context(parent, timeout=1)
    cause = ValueError()

    together(lambda: parent.cancel(cause), child.wait)

    assert ending(child) == (ContextCancelled, cause)


@explored
def test_deadline_wakes_all_who_wait() -> None:
    """Whoever notices it first ends the context for the others."""
    ctx = Context.root(timeout=1)

    together(ctx.wait, Context(ctx).wait)

    assert ending(ctx) == (DeadlineExceeded, None)
    assert ctx.statistics() == NOTHING


@explored
def test_function_registered_as_the_parent_ends_runs_once() -> None:
    """Whoever sees it runs it, and only one does."""
    root = Context.root()
    child = Context(root)
    ran: list[int] = []

    together(root.cancel, lambda: child.after(lambda: ran.append(1)))

    assert ran == [1]
    assert root.statistics() == NOTHING


@explored
def test_function_runs_or_was_stopped() -> None:
    """stop() tells which of the two it was, and join() returns in either case."""
    ctx = Context.root()
    ran: list[int] = []
    stopped: list[bool] = []
    registration = ctx.after(lambda: ran.append(1))

    together(ctx.cancel, lambda: stopped.append(registration.stop()), registration.join)

    assert stopped == [not ran]


@explored
def test_block_that_is_left_as_its_parent_ends_runs_what_is_registered() -> None:
    """The end of the block and that of the parent meet in one run of the function."""
    root = Context.root()
    child = Context(root)
    ran: list[int] = []

    def use() -> None:
        with child:
            child.after(lambda: ran.append(1))

    together(root.cancel, use)

    assert ran == [1]
    assert child.done
    assert root.statistics() == NOTHING


@explored
def test_helper_of_a_block_is_gone_with_it() -> None:
    """The thread that notices the deadline is joined, also if it is just beginning."""
    ctx = Context.root(timeout=1)
    ran: list[int] = []

    def use() -> None:
        with ctx:
            ctx.after(lambda: ran.append(1))

    together(use, ctx.cancel)

    assert ran == [1]
    assert ctx.statistics() == NOTHING


@explored
def test_child_made_as_its_parent_ends_has_ended() -> None:
    """There is no moment in which a child escapes, nor a grandchild."""
    root = Context.root()
    made: list[Context] = []

    def derive() -> None:
        child = Context(root)
        made.extend([child, Context(child)])

    together(root.cancel, derive)

    assert [each.done for each in made] == [True, True]


@explored
def test_parent_holds_a_child_while_functions_are_registered() -> None:
    """Two threads come and go; what the last one leaves is what the parent holds."""
    parent = Context.root()
    child = Context(parent)

    together(
        lambda: child.after(lambda: None),
        lambda: child.after(lambda: None).stop(),
    )

    assert list(parent._state["held"]) == [child]


@explored
def test_parent_lets_go_of_a_child_that_nobody_waits_for() -> None:
    """The one who goes last takes the hold along."""
    parent = Context.root()
    child = Context(parent)
    ran: list[int] = []

    def come_and_go() -> None:
        child.after(lambda: ran.append(1)).stop()

    together(come_and_go, come_and_go)

    assert list(parent._state["held"]) == []
    assert ran == []


@explored
def test_place_in_a_line_is_handed_over_or_left() -> None:
    """A giver that finds a waiter has given; one that finds none has kept."""
    ctx = Context.root()
    lock = make_lock()
    line: list[Waiter] = []
    waiter = Waiter()
    line.append(waiter)
    got: list[object] = []
    kept: list[bool] = []

    def give() -> None:
        with lock:
            kept.append(not line)
            if line:
                line.pop().hand("slot")

    def wait() -> None:
        with ctx:
            try:
                got.append(waiter.wait(lock, line.remove))
            except ContextCancelled:
                got.append(None)

    together(give, wait, ctx.cancel)

    assert got == [None if kept == [True] else "slot"]
    assert line == []


pytestmark = pytest.mark.timeout(600)
