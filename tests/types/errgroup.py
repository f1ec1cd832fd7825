"""What type checkers infer of an ErrGroup, and what they refuse."""

from types import CoroutineType
from typing import Any, assert_type

from safeconc import Context, ErrGroup, ErrGroupStatistics, Task


async def fetch(url: str, retries: int) -> bytes:
    """Be a child with two arguments."""
    return b""


async def results_are_those_of_the_function() -> None:
    """Know what the function returns, whichever way the child is started."""
    async with ErrGroup(limit=None) as group:
        assert_type(group, ErrGroup)
        assert_type(await group.go(fetch, "x", 1), Task[bytes])
        assert_type(group.go_nowait(fetch, "x", 1), Task[bytes])
        assert_type(await group.go_background(fetch, "x", 1), Task[bytes])


async def tasks_are_awaited_for_results(task: Task[int]) -> None:
    """Get the result out."""
    assert_type(await task, int)
    assert_type(task.result(), int)
    assert_type(task.exception(), BaseException | None)
    assert_type(task.done, bool)
    assert_type(task.name, str)


async def groups_tell(group: ErrGroup) -> None:
    """Look at the rest of the surface."""
    assert_type(group.context, Context)
    assert_type(group.errors, tuple[BaseException, ...])
    assert_type(group.statistics(), ErrGroupStatistics)
    assert_type(group.cancel(), bool)
    assert_type(group.cancel(ValueError()), bool)


def tasks_are_covariant(task: Task[bool]) -> Task[int]:
    """Pass a task of a narrower result."""
    return task


def limit_is_demanded() -> None:
    """No limit, no group; nor half a one."""
    ErrGroup()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ErrGroup(limit="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ErrGroup(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def errors_is_one_of_two() -> None:
    """Take one of two words and no other."""
    ErrGroup(limit=1, errors="group")
    ErrGroup(limit=1, errors="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def arguments_are_checked(group: ErrGroup) -> None:
    """They must fit the function, which must be one that can be awaited."""
    await group.go(fetch, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await group.go(fetch, 1, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await group.go(len, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    call: CoroutineType[Any, Any, bytes] = fetch("x", 1)  # type: ignore[assignment]
    await group.go(call)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def cause_is_an_exception(group: ErrGroup) -> None:
    """Words are no cause."""
    group.cancel("enough")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
