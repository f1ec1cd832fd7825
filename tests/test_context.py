"""What ends a Context, which error that is, and whom it makes ambient."""

import contextvars
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

import safeconc
from safeconc import Context, ContextCancelled, DeadlineExceeded, current_context
from tests.together import NOTHING, ending

# A context that lives


def test_new_context_has_not_ended() -> None:
    """A new Context has no error, no cause, no deadline, and passes its check."""
    ctx = Context()

    ctx.check()
    assert (ctx.done, ctx.err, ctx.cause) == (False, None, None)
    assert (ctx.deadline, ctx.remaining) == (math.inf, math.inf)


def test_unnamed_context_is_called_context() -> None:
    """Errors and dumps call it so."""
    assert Context().name == "Context"


def test_repr_of_a_live_context_tells_what_is_left() -> None:
    """The deadline is shown as the time that remains."""
    assert repr(Context()) == "<Context live>"
    assert repr(Context(timeout=1e9, name="crawl")) == "<crawl live, 1e+09 s left>"


def test_repr_of_an_ended_context_tells_why() -> None:
    """A dump need not be searched for the reason."""
    ctx = Context(name="crawl")
    ctx.cancel()

    assert repr(ctx) == "<crawl was cancelled>"
    assert repr(Context(timeout=0)) == "<Context ran past its deadline>"


# Cancelling


def test_cancel_ends_it() -> None:
    """After cancel() the context is done, at once."""
    ctx = Context()

    assert ctx.cancel()
    assert ctx.done
    assert isinstance(ctx.err, ContextCancelled)


def test_first_cancel_wins() -> None:
    """A second cancel() is told so, and changes nothing."""
    first, second = ValueError(), KeyError()
    ctx = Context()

    assert ctx.cancel(first)
    assert not ctx.cancel(second)
    assert ctx.cause is first


def test_cancel_comes_too_late_after_the_deadline() -> None:
    """A deadline that has passed has ended the context, whether seen or not."""
    ctx = Context(timeout=0)

    assert not ctx.cancel(ValueError())
    assert ending(ctx) == (DeadlineExceeded, None)


def test_error_names_the_context_and_the_cause() -> None:
    """The message tells which context, what happened, and why."""
    ctx = Context(name="crawl")
    ctx.cancel(ValueError("no route"))

    assert str(ctx.err) == "crawl was cancelled: ValueError('no route')"


@pytest.mark.parametrize("cause", [None, ValueError("why"), KeyboardInterrupt()])
def test_error_is_raised_from_the_cause(cause: BaseException | None) -> None:
    """``__cause__`` is what cancel() was given."""
    ctx = Context()
    ctx.cancel(cause)

    assert ctx.err is not None
    assert ctx.err.__cause__ is cause


def test_error_is_always_the_same_object() -> None:
    """``err`` can be compared by identity with what was raised."""
    ctx = Context()
    ctx.cancel()

    with pytest.raises(ContextCancelled) as first:
        ctx.check()
    with pytest.raises(ContextCancelled) as second:
        ctx.check()
    assert first.value is second.value is ctx.err


def test_error_does_not_grow_as_it_is_raised() -> None:
    """Each raise starts a new traceback."""
    ctx = Context()
    ctx.cancel()

    def depth() -> int:
        with pytest.raises(ContextCancelled) as caught:
            ctx.check()
        return len(caught.traceback)

    assert depth() == depth()


def test_deadline_exceeded_is_a_timeout_error() -> None:
    """Code that catches TimeoutError catches it; a cancellation is no timeout."""
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert not issubclass(ContextCancelled, TimeoutError)


# Parents


def test_end_of_the_parent_ends_the_child() -> None:
    """Children end with their parent and have its cause."""
    cause = ValueError()
    parent = Context()
    child = Context(parent)

    parent.cancel(cause)

    assert ending(child) == (ContextCancelled, cause)


def test_end_of_the_child_leaves_the_parent_alone() -> None:
    """Cancellation goes downward only."""
    parent = Context()

    Context(parent).cancel()

    assert not parent.done


def test_error_of_a_child_is_its_own() -> None:
    """A child's error names the child; it is not the parent's object."""
    parent = Context()
    child = Context(parent, name="child")
    parent.cancel()

    assert str(child.err) == "child was cancelled"
    assert child.err is not parent.err


@pytest.mark.parametrize("first", [0, 1, 2])
def test_any_of_several_parents_ends_the_child(first: int) -> None:
    """Several parents merge their cancellation."""
    parents = [Context(), Context(), Context()]
    child = Context(*parents)

    parents[first].cancel()

    assert child.done
    assert [parent.done for parent in parents].count(True) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_first_parent_to_end_decides(order: tuple[int, int]) -> None:
    """Whoever looks after both parents ended still learns which was the first."""
    parents = [Context(), Context()]
    causes = [ValueError(), KeyError()]
    child = Context(*parents)

    for index in order:
        parents[index].cancel(causes[index])

    assert child.cause is causes[order[0]]


@pytest.mark.parametrize("timeout", [None, 5])
def test_child_of_an_ended_parent_has_ended(timeout: float | None) -> None:
    """It makes no difference whether the child was made before or after."""
    cause = ValueError()
    parent = Context()
    parent.cancel(cause)

    child = Context(parent, timeout=timeout)

    assert ending(child) == (ContextCancelled, cause)


def test_grandchild_ends_with_a_middle_that_is_held_by_nobody() -> None:
    """A child keeps its parents alive, so the chain never breaks."""
    root = Context()
    leaf = Context(Context(Context(root)))

    root.cancel()

    assert leaf.done


def test_siblings_do_not_end_each_other() -> None:
    """What one child does is not the other's business."""
    parent = Context()
    one, other = Context(parent), Context(parent)

    one.cancel()

    assert not other.done


# The ambient context


def test_block_makes_it_ambient() -> None:
    """Inside its block, and only there, it is the current context."""
    with Context() as outer:
        with Context() as inner:
            innermost = current_context()
        between = current_context()

    assert innermost is inner
    assert between is outer
    assert current_context() is None


def test_ambient_context_is_the_parent_of_new_ones() -> None:
    """A Context with no parent named takes the ambient one."""
    cause = ValueError()
    with Context() as outer:
        child = Context()
        outer.cancel(cause)

        assert child.cause is cause


def test_named_parent_replaces_the_ambient_one() -> None:
    """Whoever names parents gets these and no other."""
    parent = Context()
    with Context() as outer:
        child = Context(parent)
        outer.cancel()

        assert not child.done


def test_root_has_no_parent() -> None:
    """Context.root goes on when the ambient context has ended, deadline or not."""
    with Context(timeout=0):
        root = Context.root(timeout=1e9)

        assert not root.done


def test_root_leaves_the_ambient_context_as_it_is() -> None:
    """Making a root, also in vain, does not change the current context."""
    with Context() as ctx:
        Context.root(name="audit")
        with pytest.raises(ValueError):
            Context.root(timeout=-1)

        assert current_context() is ctx


def test_root_outside_of_any_block() -> None:
    """It takes what a Context takes, except parents."""
    root = Context.root(timeout=1e9, deadline=-1.0, name="audit")

    assert (root.name, root.deadline) == ("audit", -1.0)


def test_ambient_value_is_restored_in_another_contextvars_context() -> None:
    """A fixture may leave in a context it did not enter in."""
    with Context() as outer:
        inner = Context()
        inner.__enter__()
        elsewhere = contextvars.copy_context()
        elsewhere.run(inner.__exit__, None, None, None)

        assert elsewhere.run(current_context) is outer


def test_no_ambient_context_is_restored_in_another_contextvars_context() -> None:
    """Where there was none before, there is none afterwards."""
    ctx = Context()
    elsewhere = contextvars.copy_context()
    elsewhere.run(ctx.__enter__)
    ctx.__exit__(None, None, None)

    assert current_context() is None


def test_check_looks_at_the_ambient_context() -> None:
    """safeconc.check() raises the error of the innermost context, if it ended."""
    safeconc.check()
    with Context() as ctx:
        safeconc.check()
        ctx.cancel()

        with pytest.raises(ContextCancelled) as caught:
            safeconc.check()
    assert caught.value is ctx.err


# The block of a thread


def test_leaving_the_block_ends_it() -> None:
    """What is still there afterwards finds the context over, for that reason."""
    with Context(name="request") as ctx:
        pass

    assert str(ctx.err) == ("request is over: the block it belongs to has been left")
    assert ending(ctx) == (ContextCancelled, None)


def test_leaving_the_block_ends_children_and_grandchildren() -> None:
    """Nothing that was derived inside outlives the block."""
    with Context():
        child = Context()
        grandchild = Context(child)

    assert (child.done, grandchild.done) == (True, True)


def test_leaving_an_ended_block_changes_nothing() -> None:
    """The cause of before is kept."""
    cause = ValueError()
    with Context() as ctx:
        ctx.cancel(cause)

    assert ctx.cause is cause


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_of_the_body_passes(error: type[BaseException]) -> None:
    """It is that very object, and the context is over."""
    raised = error()
    ctx = Context()

    with pytest.raises(error) as caught, ctx:
        raise raised
    assert caught.value is raised
    assert ctx.done


def test_block_of_a_thread_raises_nothing_by_itself() -> None:
    """A thread is never cut short, so its block has nothing to report."""
    with Context(timeout=0) as ctx:
        assert ctx.done


@pytest.mark.parametrize("when", ["inside", "after"])
def test_entered_once(when: str) -> None:
    """A Context has one block: another would begin ended, which helps nobody."""
    ctx = Context(name="request")
    with ctx:
        if when == "inside":
            with pytest.raises(RuntimeError, match="request has been entered before"):
                ctx.__enter__()
            assert current_context() is ctx

    if when == "after":
        with pytest.raises(RuntimeError, match="make a new one"):
            ctx.__enter__()
        assert current_context() is None


# Bad input


@pytest.mark.parametrize("bad", ["1", True, False, 1j, [1]])
@pytest.mark.parametrize("option", ["timeout", "deadline"])
def test_time_must_be_a_number(option: str, bad: Any) -> None:
    """A bool is most likely a slip, so it is none."""
    with pytest.raises(TypeError, match=f"{option} must be a number of seconds"):
        Context(**{option: bad})


@pytest.mark.parametrize("option", ["timeout", "deadline"])
def test_time_must_fit_into_a_float(option: str) -> None:
    """No clock will ever read it."""
    with pytest.raises(ValueError, match=f"{option} is out of range"):
        Context(**{option: 10**400})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["timeout", "deadline"])
def test_time_must_not_be_nan(option: str) -> None:
    """NaN would never come."""
    with pytest.raises(ValueError, match=f"{option} must be .* not NaN"):
        Context(**{option: math.nan})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-1, -0.001, -math.inf])
def test_timeout_must_not_be_negative(bad: float) -> None:
    """A deadline may have passed; a negative duration is a mistake."""
    with pytest.raises(ValueError, match="timeout must not be negative"):
        Context(timeout=bad)


@pytest.mark.parametrize("wait", [Context.wait, Context.sleep])
@pytest.mark.parametrize(
    "bad, error",
    [("1", TypeError), (True, TypeError), (-1, ValueError), (math.nan, ValueError)],
)
def test_waits_refuse_what_is_no_duration(
    wait: Callable[[Context, Any], object], bad: Any, error: type[Exception]
) -> None:
    """Also on a context that has ended, where they would not wait."""
    ctx = Context()
    ctx.cancel()

    with pytest.raises(error, match="timeout must"):
        wait(ctx, bad)


@pytest.mark.parametrize("bad", ["ctx", Context, object()])
def test_parent_must_be_a_context(bad: Any) -> None:
    """It is named in the message."""
    with pytest.raises(TypeError, match="a parent must be a Context, not"):
        Context(Context(), bad)


@pytest.mark.parametrize("bad", ["why", ValueError, 1])
def test_cause_must_be_an_exception(bad: Any) -> None:
    """Neither a text nor a class; and nothing is cancelled by a mistake."""
    ctx = Context()

    with pytest.raises(TypeError, match="cause must be an exception, not"):
        ctx.cancel(bad)
    assert not ctx.done


@pytest.mark.parametrize("bad", [None, "print()"])
def test_function_must_be_callable(bad: Any) -> None:
    """It is refused at the call; later there would be nobody to tell."""
    ctx = Context()

    with pytest.raises(TypeError, match="fn must be callable, not"):
        ctx.after(bad)
    assert ctx.statistics() == NOTHING


def test_binding_needs_a_loop() -> None:
    """``async with`` and its await say so where none is running."""
    ctx = Context()

    with pytest.raises(RuntimeError, match="needs a running event loop"):
        ctx.__aenter__().send(None)
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        ctx.wait_cancelled().send(None)


def test_clock_of_a_plain_thread_is_the_monotonic_one() -> None:
    """A deadline there is a reading of ``time.monotonic``."""
    earliest = time.monotonic()
    ctx = Context(timeout=100)
    latest = time.monotonic()

    assert earliest + 100 <= ctx.deadline <= latest + 100
