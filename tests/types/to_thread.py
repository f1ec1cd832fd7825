"""What type checkers must infer of calls in threads, and what they must refuse."""

from functools import partial
from typing import assert_type

import anyio

from safeconc import ErrGroup, to_thread


def read(path: str, size: int) -> bytes:
    """Stand for what blocks."""
    return path.encode()[:size]


async def the_value_is_that_of_the_function() -> None:
    """Infer the result from the function."""
    assert_type(await to_thread(read, "path", 5), bytes)
    assert_type(await to_thread(partial(read, "path"), 5), bytes)
    assert_type(await to_thread(lambda: read("path", 5)), bytes)
    assert_type(await to_thread(read, "path", 5, limiter=None), bytes)


async def a_limiter_is_accepted(limiter: anyio.CapacityLimiter) -> None:
    """Take a limiter of anyio."""
    assert_type(await to_thread(read, "path", 5, limiter=limiter), bytes)


async def it_can_be_a_child(group: ErrGroup) -> None:
    """Be started like any coroutine function."""
    task = await group.go(to_thread, read, "path", 5)
    assert_type(task.result(), bytes)


async def the_arguments_must_fit() -> None:
    """Refuse arguments that the function does not take."""
    await to_thread(read, "path")  # type: ignore[arg-type]
    await to_thread(read, 5, "path")  # type: ignore[arg-type]
    await to_thread(read, "path", size=5)  # type: ignore[arg-type, call-arg]


async def a_number_is_no_limiter() -> None:
    """Refuse what is no limiter, and what cannot be called."""
    await to_thread(read, "path", 5, limiter=5)  # type: ignore[arg-type]
    await to_thread(5)  # type: ignore[arg-type]
