"""What happens when a call, a report, or the program itself goes wrong."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import Context, DeadlineExceeded, FanOut, FanOutStatistics, fan_out
from tests.together import ends_by

Run = Callable[..., Coroutine[Any, Any, list[Any]]]


async def _stream(fn: Any, items: Any, **options: Any) -> list[Any]:
    async with FanOut(fn, items, **options) as results:
        return [result async for result in results]


both = pytest.mark.parametrize(
    "run",
    [fan_out, _stream, functools.partial(_stream, ordered=False)],
    ids=["fan_out", "ordered", "unordered"],
)


async def _echo(item: int) -> int:
    await checkpoint()
    return item


async def _raise(item: BaseException) -> None:
    raise item


# Errors of a call


@both
@pytest.mark.parametrize("waits", [True, False], ids=["late", "at once"])
@pytest.mark.parametrize("bad", [0, 3, 9])
async def test_an_error_is_raised_itself(run: Run, waits: bool, bad: int) -> None:
    """The very object comes out, with no group around it and no context of ours."""
    error = ValueError("fn")

    async def fn(item: int) -> None:
        if waits:
            await checkpoint()
        if item == bad:
            raise error

    with pytest.raises(ValueError) as caught:
        await run(fn, range(10), limit=3)

    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None


@both
async def test_an_error_at_the_call_is_raised_itself(run: Run) -> None:
    """Also code that runs before there is a coroutine may fail."""
    error = ValueError("at the call")

    def fn(item: int) -> Awaitable[int]:
        raise error

    with pytest.raises(ValueError) as caught:
        await run(fn, range(5), limit=2)

    assert caught.value is error
    assert error.__context__ is None


@both
async def test_the_traceback_leads_to_the_line(run: Run) -> None:
    """The function that raised is the innermost frame."""

    async def culprit(item: int) -> None:
        await checkpoint()
        raise ValueError(item)

    with pytest.raises(ValueError) as caught:
        await run(culprit, [1], limit=1)

    assert caught.traceback[-1].name == "culprit"


@both
async def test_the_rest_is_cancelled_and_awaited(run: Run) -> None:
    """No call outlives the block, and no item is started after the error."""
    events: list[str] = []

    async def fn(item: int) -> None:
        events.append(f"start {item}")
        if item == 2:
            raise ValueError
        try:
            await anyio.sleep_forever()
        finally:
            events.append(f"end {item}")

    with pytest.raises(ValueError):
        await run(fn, range(10), limit=5)

    assert sorted(events) == ["end 0", "end 1", "start 0", "start 1", "start 2"]


@both
async def test_later_errors_are_told_in_a_note(run: Run) -> None:
    """What fails in its cleanup does not hide the root cause."""

    async def fn(item: int) -> None:
        try:
            if item:
                await anyio.sleep_forever()
            await anyio.wait_all_tasks_blocked()
            raise ValueError("root")
        finally:
            if item:
                raise KeyError("cleanup")

    with pytest.raises(ValueError, match="root") as caught:
        await run(fn, range(2), limit=2)

    assert "1 later error: KeyError('cleanup')" in caught.value.__notes__[0]


async def test_the_body_is_cancelled_at_once() -> None:
    """A body that waits for something else does not delay the error."""
    reached = False

    with pytest.raises(ValueError):
        async with FanOut(_raise, [ValueError()], limit=1):
            await anyio.sleep_forever()
            reached = True

    assert not reached


async def test_an_error_during_the_cleanup_of_an_early_leave_is_raised() -> None:
    """Leaving early is quiet about cancellations, not about errors."""

    async def fn(item: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    with pytest.raises(KeyError, match="cleanup"):
        async with FanOut(fn, [1], limit=1):
            await anyio.wait_all_tasks_blocked()


@both
async def test_an_error_beats_a_cancellation(run: Run) -> None:
    """An error is raised also when the caller is being cancelled."""

    async def fn(item: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tg:
            tg.start_soon(_cancel_when_quiet, scope)
            with pytest.raises(KeyError):
                await run(fn, [1], limit=1)

    assert scope.cancel_called


async def _cancel_when_quiet(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


@both
async def test_a_function_that_takes_other_arguments(run: Run) -> None:
    """The TypeError is that of the call."""

    async def fn() -> None:
        pass

    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        await run(fn, range(3), limit=2)


# Errors that are given back


@both
async def test_exceptions_are_given_back(run: Run) -> None:
    """With return_exceptions the other calls go on."""
    errors = {item: ValueError(item) for item in (0, 3, 4)}

    async def fn(item: int) -> int:
        if item % 2:
            await checkpoint()
        if item in errors:
            raise errors[item]
        return item

    results = await run(fn, range(8), limit=3, return_exceptions=True)

    expected = [errors.get(item, item) for item in range(8)]
    assert sorted(results, key=str) == sorted(expected, key=str)


@both
async def test_exceptions_at_the_call_are_given_back(run: Run) -> None:
    """Whether the call or the coroutine raised makes no difference."""
    error = ValueError("at the call")

    def fn(item: int) -> Awaitable[int]:
        if item == 1:
            raise error
        return _echo(item)

    results = await run(fn, range(3), limit=1, return_exceptions=True)

    assert results == [0, error, 2]


@both
async def test_a_wrong_arity_is_given_back(run: Run) -> None:
    """All faces treat the TypeError of a call like any other error of it."""

    async def fn() -> None:
        pass

    results = await run(fn, [1], limit=1, return_exceptions=True)

    assert [type(result) for result in results] == [TypeError]


class _Stop(BaseException):
    pass


@both
async def test_other_base_exceptions_are_not_given_back(run: Run) -> None:
    """What is no Exception ends the block, bare."""
    stop = _Stop()

    with pytest.raises(_Stop) as caught:
        await run(_raise, [stop], limit=1, return_exceptions=True)

    assert caught.value is stop


@both
@pytest.mark.parametrize("waits", [True, False])
async def test_a_base_exception_at_the_call_is_raised_itself(
    run: Run, waits: bool
) -> None:
    """Not wrapped into a group, wherever in the call it happened."""
    stop = _Stop()

    def fn(item: int) -> Awaitable[int]:
        if item == 1 or not waits:
            raise stop
        return _echo(item)

    with pytest.raises(_Stop) as caught:
        await run(fn, range(3), limit=2)

    assert caught.value is stop


# Cancelled by nobody we know


@both
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("at_the_call", [True, False])
async def test_a_call_cancelled_by_a_stranger_has_failed(
    run: Run, at_the_call: bool
) -> None:
    """A cancellation that nobody asked for is an error, never a missing result."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.cancel()

    async def await_it(item: int) -> int:
        return await future if item == 1 else item

    def ask_it(item: int) -> Awaitable[int]:
        return _echo(future.result() if item == 1 else item)

    with pytest.raises(anyio.TaskCancelled):
        await run(ask_it if at_the_call else await_it, range(3), limit=2)


@both
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_call_that_cancels_its_own_task_has_failed(run: Run) -> None:
    """The error says who may have asked for it."""

    async def fn(item: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await checkpoint()

    with pytest.raises(anyio.TaskCancelled, match="cancel its own task"):
        await run(fn, range(3), limit=2)


@both
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_cancellation_left_pending_hits_no_other_call(run: Run) -> None:
    """A call that cancelled its task and returned spoils only its worker."""

    async def fn(item: int) -> int:
        if item == 2:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        else:
            await checkpoint()
        return item

    assert sorted(await run(fn, range(6), limit=1)) == list(range(6))


# KeyboardInterrupt


@pytest.mark.parametrize("face", [fan_out, _stream], ids=["fan_out", "FanOut"])
@pytest.mark.parametrize("where", ["at the call", "at once", "late"])
@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
def test_an_order_to_the_program_stays_bare(
    anyio_backend: tuple[str, dict[str, Any]],
    face: Run,
    where: str,
    order: type[BaseException],
) -> None:
    """KeyboardInterrupt and SystemExit come out as they are, cleanup included."""
    cleaned: list[int] = []

    async def coroutine(item: int) -> None:
        if item == 1:
            if where == "late":
                await checkpoint()
            raise order
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(item)

    def fn(item: int) -> Awaitable[None]:
        if item == 1 and where == "at the call":
            raise order
        return coroutine(item)

    ends_by(order, functools.partial(face, fn, range(2), limit=2), anyio_backend)

    assert cleaned == [0]


# Cancelled from outside


@both
async def test_an_outer_cancellation_ends_it(run: Run) -> None:
    """The calls are cancelled and awaited, and no further item is started."""
    started: list[int] = []
    ended: list[int] = []

    async def fn(item: int) -> None:
        started.append(item)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(item)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tg:
            tg.start_soon(_cancel_when_quiet, scope)
            await run(fn, range(50), limit=3)

    assert scope.cancelled_caught
    assert started == [0, 1, 2]
    assert sorted(ended) == started


@both
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_native_cancellation_ends_it(run: Run) -> None:
    """The cancellation of an asyncio task arrives as what it is."""
    started: list[int] = []

    async def fn(item: int) -> None:
        started.append(item)
        await anyio.sleep_forever()

    task = asyncio.ensure_future(run(fn, range(50), limit=3))
    await anyio.wait_all_tasks_blocked()
    task.cancel("enough")

    with pytest.raises(asyncio.CancelledError):
        await task
    assert started == [0, 1, 2]


@both
@pytest.mark.virtual_clock
async def test_a_deadline_ends_it(run: Run) -> None:
    """A Context around it cuts it short, at its deadline, and says so."""
    start = anyio.current_time()
    started: list[int] = []

    async def fn(item: int) -> None:
        started.append(item)
        await anyio.sleep(4)

    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=10):
            await run(fn, range(50), limit=2)

    assert anyio.current_time() - start == 10
    assert started == [0, 1, 2, 3, 4, 5]


@both
async def test_a_cancelled_context_ends_it(run: Run) -> None:
    """The cause given to cancel() is the cause of the error."""
    cause = ValueError("shutdown")

    async def fn(item: int) -> None:
        if item == 4:
            context.cancel(cause)
        await checkpoint()

    with pytest.raises(Exception, match="shutdown") as caught:
        async with Context() as context:
            await run(fn, range(1000), limit=2)

    assert caught.value.__cause__ is cause


@both
async def test_what_has_finished_is_not_undone_by_a_late_cancellation(
    run: Run,
) -> None:
    """A caller that is shielded gets its results, though its context ends."""

    async def fn(item: int) -> int:
        with anyio.CancelScope(shield=True):
            await checkpoint()
        return item

    with anyio.CancelScope(shield=True):
        assert sorted(await run(fn, range(5), limit=2)) == list(range(5))


# Errors of a report


@both
@pytest.mark.parametrize("waits", [True, False])
async def test_an_error_of_the_progress_callable_is_raised_itself(
    run: Run, waits: bool
) -> None:
    """It ends the block at once, like an error of a call."""
    error = ValueError("progress")
    started: list[int] = []

    async def fn(item: int) -> None:
        started.append(item)
        if waits:
            await checkpoint()

    def progress(_: FanOutStatistics) -> None:
        raise error

    with pytest.raises(ValueError) as caught:
        await run(fn, range(20), limit=2, progress=progress)

    assert caught.value is error
    assert len(started) <= 2
