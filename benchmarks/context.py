"""A deadline and a cause: what they cost to make, to look at and to deliver."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from benchmarks._model import (
    ANYWHERE,
    ASYNCIO,
    THREAD,
    TRIO,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeconc import Context

    Cancel: TypeAlias = Callable[..., object]

SAFECONC = ("safeconc",)
SCOPE = "anyio.CancelScope()"
FAIL_AFTER = "anyio.fail_after(10)"
EVENT = "threading.Event.is_set()"


# Make one and leave it, bound to nothing


def context_in_thread(run: Run) -> None:
    """Enter and leave a context in a thread without a loop."""
    from safeconc import Context

    with run.watch:
        for _ in range(run.n):
            with Context():
                pass


async def context_in_task(run: Run) -> None:
    """Make a context in a task and cancel it there, without a block."""
    from safeconc import Context

    with run.watch:
        for _ in range(run.n):
            Context().cancel()


async def anyio_scope(run: Run) -> None:
    """Enter and leave a scope of anyio, which is always bound to its task."""
    with run.watch:
        for _ in range(run.n):
            with anyio.CancelScope():
                pass


async def trio_scope(run: Run) -> None:
    """Enter and leave a scope of trio."""
    import trio

    with run.watch:
        for _ in range(run.n):
            with trio.CancelScope():
                pass


async def asyncio_timeout_none(run: Run) -> None:
    """Enter and leave a timeout that never comes."""
    with run.watch:
        for _ in range(run.n):
            async with asyncio.timeout(None):
                pass


# Bound to a task, with a deadline


async def context_bound(run: Run) -> None:
    """Enter and leave a context that ends this task's awaits."""
    from safeconc import Context

    with run.watch:
        for _ in range(run.n):
            async with Context(timeout=10):
                pass


async def anyio_fail_after(run: Run) -> None:
    """Enter and leave anyio's timeout."""
    with run.watch:
        for _ in range(run.n):
            with anyio.fail_after(10):
                pass


async def trio_fail_after(run: Run) -> None:
    """Enter and leave trio's timeout."""
    import trio

    with run.watch:
        for _ in range(run.n):
            with trio.fail_after(10):
                pass


async def quattro_fail_after(run: Run) -> None:
    """Enter and leave quattro's timeout."""
    import quattro

    with run.watch:
        for _ in range(run.n):
            with quattro.fail_after(10):
                pass


async def asyncio_timeout(run: Run) -> None:
    """Enter and leave the timeout of the standard library."""
    with run.watch:
        for _ in range(run.n):
            async with asyncio.timeout(10):
                pass


# Look whether it is over: eight looks a turn, so that the loop itself weighs little


LOOKS = 8


def context_done(run: Run) -> None:
    """Read ``done`` of a context without a deadline."""
    from safeconc import Context

    look(Context(), run)


def context_done_deadline(run: Run) -> None:
    """Read ``done`` of a context with a deadline, which has to look at the clock."""
    from safeconc import Context

    look(Context(timeout=3600), run)


def look(ctx: Context, run: Run) -> None:
    """Read ``done`` while it is false."""
    with run.watch:
        for _ in range(run.n // LOOKS):
            over = ctx.done
            over = ctx.done
            over = ctx.done
            over = ctx.done
            over = ctx.done
            over = ctx.done
            over = ctx.done
            over = ctx.done
            if over:
                raise RuntimeError("nobody cancelled it")


def event_is_set(run: Run) -> None:
    """Read a ``threading.Event``, which has no deadline."""
    event = threading.Event()
    with run.watch:
        for _ in range(run.n // LOOKS):
            over = event.is_set()
            over = event.is_set()
            over = event.is_set()
            over = event.is_set()
            over = event.is_set()
            over = event.is_set()
            over = event.is_set()
            over = event.is_set()
            if over:
                raise RuntimeError("nobody set it")


# A parent with many children


def context_children(run: Run) -> None:
    """Make children of one parent and keep them."""
    from safeconc import Context

    root = Context.root()
    children: list[Context | None] = [None] * run.n
    with run.watch:
        for index in range(run.n):
            children[index] = Context(root)
    root.cancel()


def event_children(run: Run) -> None:
    """Make as many events: what the naive twin would give to each child."""
    children: list[threading.Event | None] = [None] * run.n
    with run.watch:
        for index in range(run.n):
            children[index] = threading.Event()


def context_cancel_tree(run: Run) -> None:
    """Cancel a parent, and with it all its children."""
    from safeconc import Context

    root = Context.root()
    children = [Context(root) for _ in range(run.n)]
    with run.watch:
        root.cancel()
    if not all(child.done for child in children):
        raise RuntimeError("a child is still alive")


def context_cancel_and_look(run: Run) -> None:
    """Cancel a parent and have each child notice: the price of the lazy way."""
    from safeconc import Context

    root = Context.root()
    children = [Context(root) for _ in range(run.n)]
    with run.watch:
        root.cancel()
        over = all(child.done for child in children)
    if not over:
        raise RuntimeError("a child is still alive")


def context_cancel_and_call(run: Run) -> None:
    """Cancel a parent whose children have each a function to call."""
    from safeconc import Context

    root = Context.root()
    children = [Context(root) for _ in range(run.n)]
    calls: list[None] = []
    for child in children:
        child.after(partial(calls.append, None))
    with run.watch:
        root.cancel()
    if len(calls) != run.n:
        raise RuntimeError("a child was not told")


def event_cancel_tree(run: Run) -> None:
    """Set one event after the other."""
    children = [threading.Event() for _ in range(run.n)]
    with run.watch:
        for child in children:
            child.set()


BENCHMARK = Benchmark(
    "context",
    scenarios=(
        Scenario(
            "unbound",
            "make one and leave it, bound to no task",
            (
                Contender(
                    "with safeconc.Context() in a thread",
                    context_in_thread,
                    SAFECONC,
                    THREAD,
                ),
                Contender(
                    "safeconc.Context().cancel() in a task", context_in_task, SAFECONC
                ),
                Contender(SCOPE, anyio_scope),
                Contender(
                    "asyncio.timeout(None)", asyncio_timeout_none, backends=ASYNCIO
                ),
                Contender("trio.CancelScope()", trio_scope, backends=TRIO),
            ),
            SCOPE,
            n=20_000,
            quick_n=10_000,
        ),
        Scenario(
            "bound",
            "bind a task to a deadline and leave the block in time",
            (
                Contender(
                    "async with safeconc.Context(timeout=10)", context_bound, SAFECONC
                ),
                Contender(FAIL_AFTER, anyio_fail_after),
                Contender("asyncio.timeout(10)", asyncio_timeout, backends=ASYNCIO),
                Contender(
                    "quattro.fail_after(10)",
                    quattro_fail_after,
                    ("quattro",),
                    ASYNCIO,
                ),
                Contender("trio.fail_after(10)", trio_fail_after, backends=TRIO),
            ),
            FAIL_AFTER,
            n=10_000,
            quick_n=5_000,
        ),
        Scenario(
            "done",
            "look whether it is over, in a thread",
            (
                Contender("safeconc.Context.done", context_done, SAFECONC, ANYWHERE),
                Contender(
                    "safeconc.Context.done, with a deadline",
                    context_done_deadline,
                    SAFECONC,
                    ANYWHERE,
                ),
                Contender(EVENT, event_is_set, backends=ANYWHERE),
            ),
            EVENT,
            n=400_000,
            quick_n=200_000,
            backends=("thread",),
        ),
        Scenario(
            "children",
            "make live children of one parent",
            (
                Contender("safeconc.Context(root)", context_children, SAFECONC, THREAD),
                Contender("threading.Event()", event_children, backends=THREAD),
            ),
            "threading.Event()",
            n=100_000,
            quick_n=100_000,
            backends=("thread",),
            weighed=True,
        ),
        Scenario(
            "cancel-children",
            "cancel a parent with live children",
            (
                Contender("root.cancel()", context_cancel_tree, SAFECONC, THREAD),
                Contender(
                    "root.cancel(), then child.done of each",
                    context_cancel_and_look,
                    SAFECONC,
                    THREAD,
                ),
                Contender(
                    "root.cancel(), an after() at each child",
                    context_cancel_and_call,
                    SAFECONC,
                    THREAD,
                    share=0.2,
                ),
                Contender("event.set() for each", event_cancel_tree, backends=THREAD),
            ),
            "event.set() for each",
            n=100_000,
            quick_n=100_000,
            metric=Metric.TOTAL,
            backends=("thread",),
        ),
    ),
    targets=(
        Target("unbound", "with safeconc.Context() in a thread", (SCOPE,), at_most=0.4),
        Target(
            "unbound", "safeconc.Context().cancel() in a task", (SCOPE,), at_most=0.4
        ),
        Target(
            "bound",
            "async with safeconc.Context(timeout=10)",
            (FAIL_AFTER,),
            at_most=1.2,
        ),
        Target("done", "safeconc.Context.done", (EVENT,), at_most=3, backend="thread"),
        Target("children", "safeconc.Context(root)", at_most=1, backend="thread"),
        Target(
            "children",
            "safeconc.Context(root)",
            at_most=250,
            metric=Metric.BYTES,
            backend="thread",
        ),
        Target(
            "cancel-children",
            "root.cancel()",
            at_most=15,
            metric=Metric.TOTAL,
            backend="thread",
        ),
    ),
)
