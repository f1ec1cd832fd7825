"""What a call in a thread returns, raises and refuses."""

import asyncio
import math
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

from safeconc import Context, ErrGroup, check, current_context, to_thread
from safeconc._loop import here
from tests.harness import on_asyncio
from tests.together import hold_the_clock

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_value_is_returned() -> None:
    """The arguments go in, the result comes out."""
    assert await to_thread(max, 2, 3) == 3
    assert await to_thread(partial(int, base=2), "101") == 5


async def test_function_runs_in_another_thread() -> None:
    """The loop's thread is free meanwhile, and no loop runs in the worker."""

    def look() -> tuple[int, object]:
        return threading.get_ident(), here()

    ident, loop = await to_thread(look)

    assert ident != threading.get_ident()
    assert loop is None


# What it inherits


async def test_contextvars_flow_in_and_do_not_flow_out() -> None:
    """The function sees the caller's, and what it sets is its own."""

    def swap() -> str:
        seen = variable.get()
        variable.set("thread")
        return seen

    variable.set("task")

    assert [await to_thread(swap) for _ in range(3)] == ["task"] * 3
    assert variable.get() == "task"


async def test_function_has_a_context_of_its_own() -> None:
    """It is a child of the caller's, named as the function, and over with the call."""
    async with Context() as outer:
        seen = await to_thread(current_context)
        assert not outer.done

    assert seen is not None
    assert seen is not outer
    assert seen.done
    assert seen.name == "current_context"


async def test_function_inherits_the_deadline() -> None:
    """It is the same instant on the same clock."""

    def look() -> float:
        context = current_context()
        assert context is not None
        return context.deadline

    called = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold_the_clock, called.is_set)
        async with Context(timeout=60) as outer:
            assert await to_thread(look) == outer.deadline
        called.set()

    assert await to_thread(look) == math.inf


async def test_what_hangs_on_the_context_of_the_function_ends_with_it() -> None:
    """A registered function is called when the thread leaves the block."""
    called: list[int] = []

    def register() -> None:
        context = current_context()
        assert context is not None
        context.after(lambda: called.append(threading.get_ident()))
        called.append(threading.get_ident())

    await to_thread(register)

    assert len(called) == 2
    assert called[0] == called[1] != threading.get_ident()


async def test_function_may_call_the_loop() -> None:
    """What anyio offers to its worker threads is there."""

    async def name() -> str:
        await checkpoint()
        return variable.get()

    def ask() -> str:
        return anyio.from_thread.run(name)

    variable.set("flows")

    assert await to_thread(ask) == "flows"


# Errors


def fail(error: BaseException) -> None:
    """Be the one who raises it."""
    raise error


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyboardInterrupt(), SystemExit(3), StopAsyncIteration()],
    ids=repr,
)
async def test_error_is_raised_itself(error: BaseException) -> None:
    """Also one that ends programs; its traceback leads to the line that failed."""
    with pytest.raises(type(error)) as caught:
        await to_thread(fail, error)

    assert caught.value is error
    assert error.__context__ is None
    assert traceback.extract_tb(error.__traceback__)[-1].line == "raise error"


async def test_stop_iteration_is_explained() -> None:
    """A coroutine cannot raise it, so an error that can be raised tells of it."""
    empty: Iterator[int] = iter(())

    with pytest.raises(
        RuntimeError, match="next raised StopIteration, which"
    ) as caught:
        await to_thread(next, empty)

    assert isinstance(caught.value.__cause__, StopIteration)


@on_asyncio
async def test_cancellation_out_of_nowhere_is_a_failure() -> None:
    """Raised bare, it would look as if the caller had been cancelled."""
    with pytest.raises(
        anyio.TaskCancelled, match="fail raised a cancellation"
    ) as caught:
        await to_thread(fail, asyncio.CancelledError())

    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_failed_thread_that_cannot_be_started_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is the caller's, the token is back, and the function never runs."""
    limiter = anyio.CapacityLimiter(1)
    refuse = Mock(side_effect=RuntimeError("can't"))
    monkeypatch.setattr("safeconc._to_thread.run_sync", refuse)

    with pytest.raises(RuntimeError, match="can't"):
        await to_thread(pytest.fail, "ran", limiter=limiter)

    assert limiter.borrowed_tokens == 0


# Arguments


async def fetch(url: str) -> str:
    """Be no function for a thread."""
    await checkpoint()
    return url


class Fetch:
    async def __call__(self) -> None:
        """Be one that cannot be told before it is called."""


def fetched() -> Coroutine[Any, Any, str]:
    """Look like an ordinary function."""
    return fetch("url")


@pytest.mark.parametrize(
    "fn, message",
    [
        (fetch, "got the coroutine function fetch, which needs no thread: just await"),
        (partial(fetch, "url"), "got the coroutine function fetch"),
        (fetched, r"got the coroutine fetch\(\)"),
        (Fetch(), r"got the coroutine Fetch.__call__\(\)"),
    ],
)
async def test_coroutines_are_refused(fn: Callable[[], object], message: str) -> None:
    """A thread would only make them, and nobody would await them."""
    with pytest.raises(TypeError, match=message):
        await to_thread(fn)


async def test_coroutine_object_is_refused() -> None:
    """It is closed, so that nobody warns of it, too."""
    wrong: Any = fetch("url")

    with pytest.raises(TypeError, match=r"got the coroutine fetch\(\), which"):
        await to_thread(wrong)


async def test_what_cannot_be_called_is_refused() -> None:
    """The error comes from the call, not from a thread."""
    wrong: Any = 5

    with pytest.raises(TypeError, match="fn must be callable, not 5"):
        await to_thread(wrong)


@pytest.mark.parametrize("limiter", [5, 5.0, trio.CapacityLimiter(5)], ids=repr)
async def test_what_is_no_limiter_is_refused(limiter: Any) -> None:
    """Also one of trio, which anyio's functions do not take either."""
    with pytest.raises(TypeError, match="limiter must be an anyio"):
        await to_thread(pytest.fail, "ran", limiter=limiter)


# The limiter


@pytest.mark.parametrize("own", [False, True])
async def test_token_is_held_while_the_function_runs(own: bool) -> None:
    """It is one of the limiter given, else of anyio's default for threads."""
    default = anyio.to_thread.current_default_thread_limiter()
    limiter = anyio.CapacityLimiter(1) if own else default

    def look() -> int:
        return limiter.borrowed_tokens

    assert await to_thread(look, limiter=limiter if own else None) == 1
    assert limiter.borrowed_tokens == default.borrowed_tokens == 0


async def test_calls_wait_for_a_token() -> None:
    """No more of them run than the limiter allows."""
    limiter = anyio.CapacityLimiter(1)
    running: list[int] = []
    counts: list[int] = []

    def run(number: int) -> None:
        running.append(number)
        counts.append(len(running))
        running.remove(number)

    async with ErrGroup(limit=None) as group:
        for number in range(5):
            await group.go(lambda n: to_thread(run, n, limiter=limiter), number)

    assert counts == [1] * 5
    assert limiter.borrowed_tokens == 0


async def test_check_passes_while_nothing_has_ended() -> None:
    """Looking is free of consequences."""
    async with Context():
        await to_thread(check)
