"""What type checkers infer of a Context, and what they refuse."""

from types import TracebackType
from typing import assert_type

from safeconc import (
    Context,
    ContextCancelled,
    ContextStatistics,
    DeadlineExceeded,
    Registration,
    check,
    current_context,
)


def properties(ctx: Context) -> None:
    """Infer what a context tells."""
    assert_type(ctx.name, str)
    assert_type(ctx.done, bool)
    assert_type(ctx.err, ContextCancelled | DeadlineExceeded | None)
    assert_type(ctx.cause, BaseException | None)
    assert_type(ctx.deadline, float)
    assert_type(ctx.remaining, float)
    assert_type(ctx.statistics(), ContextStatistics)
    assert_type(ctx.statistics().children, int)
    assert_type(current_context(), Context | None)


def makers(one: Context, other: Context) -> None:
    """Accept whole seconds."""
    assert_type(Context(), Context)
    assert_type(Context(one, other, timeout=1, deadline=2.5, name="n"), Context)
    assert_type(Context.root(timeout=1.5, deadline=None, name=None), Context)


def calls(ctx: Context) -> None:
    """Infer what a thread gets back."""
    assert_type(ctx.cancel(), bool)
    assert_type(ctx.cancel(KeyboardInterrupt()), bool)
    assert_type(ctx.wait(), bool)
    assert_type(ctx.wait(1), bool)
    registration = ctx.after(lambda: "what it returns is ignored")
    assert_type(registration, Registration)
    assert_type(registration.stop(), bool)


def block_of_a_thread() -> int:
    """Know that the block swallows nothing, so that no return is missing."""
    with Context() as ctx:
        assert_type(ctx, Context)
        return 1


async def block_of_a_task() -> int:
    """Know the same of a task."""
    async with Context() as ctx:
        assert_type(ctx, Context)
        return 1


def errors(cancelled: ContextCancelled, late: DeadlineExceeded) -> None:
    """Take a deadline for a timeout."""
    timeout: TimeoutError = late
    cause: BaseException | None = cancelled.__cause__
    traceback: TracebackType | None = timeout.__traceback__
    del cause, traceback


def refused(ctx: Context, registration: Registration) -> None:
    """Refuse what would fail when it runs."""
    Context("parent")  # type: ignore[arg-type]
    Context(timeout="1")  # type: ignore[arg-type]
    Context(1.5)  # type: ignore[arg-type]
    Context.root(ctx)  # type: ignore[arg-type, call-arg]
    ctx.cancel("why")  # type: ignore[arg-type]
    ctx.cancel(ValueError)  # type: ignore[arg-type]
    ctx.after(None)  # type: ignore[arg-type]
    ctx.after(lambda argument: argument)  # type: ignore[arg-type, misc]
    ctx.sleep()  # type: ignore[call-arg]
    ctx.done = True  # type: ignore[misc]
    ctx.statistics().waiters = 1  # type: ignore[misc]
    registration.join(1)  # type: ignore[call-arg]


async def refused_in_a_task(ctx: Context) -> None:
    """Find an await that was forgotten."""
    ctx.wait_cancelled()  # type: ignore[unused-coroutine]


def nothing_returned(ctx: Context, registration: Registration) -> None:
    """Find that these return nothing."""
    str(check())  # type: ignore[func-returns-value]
    str(ctx.check())  # type: ignore[func-returns-value]
    str(ctx.sleep(1))  # type: ignore[func-returns-value]
    str(registration.join())  # type: ignore[func-returns-value]
