"""What an ErrGroup promises of children, be they tasks, on workers, or threads."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest

from safeconc import (
    Context,
    DeadlineExceeded,
    ErrGroupStatistics,
    current_context,
)
from tests.worlds import World, in_every_group

VAR: ContextVar[str] = ContextVar("VAR", default="unset")

starts = pytest.mark.parametrize("method", ["go", "go_nowait", "go_background"])
"""Run a test for each way to start a child."""


async def give(value: int) -> int:
    """Return *value*."""
    return value


async def fail(error: BaseException) -> None:
    """Raise *error*."""
    raise error


async def start(group: Any, method: str, *args: Any) -> Any:
    """Start a child by *method*."""
    made = getattr(group, method)(*args)
    return made if method == "go_nowait" else await made


# Results


@in_every_group
async def test_child_gives_its_result(world: World) -> None:
    """What the function returns is what the task returns, after the block as well."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(give, 7)

    assert task.result() == 7
    assert task.exception() is None
    assert task.done


@in_every_group
async def test_awaiting_a_child_waits_for_it(world: World) -> None:
    """An awaited task returns the result, whether it ended before or not."""
    event = world.event()

    async def give_later() -> int:
        await event.wait()
        return 7

    async with world.ErrGroup(limit=None) as group:
        task = await group.go(give_later)

        assert not task.done
        event.set()
        assert await task == 7
        assert await task == 7


@in_every_group
async def test_result_of_a_running_child_is_refused(world: World) -> None:
    """Who asks too early is told how to wait for it."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(world.sleep_forever)

        with pytest.raises(anyio.TaskNotFinished, match=r"has not ended; .*wait"):
            task.result()
        with pytest.raises(anyio.TaskNotFinished, match=r"has not ended; .*wait"):
            task.exception()
        group.cancel()


@in_every_group
async def test_many_may_await_one_child(world: World) -> None:
    """All who wait get the result."""
    event = world.event()
    seen: list[int] = []

    async def give_later() -> int:
        await event.wait()
        return 7

    async def look() -> None:
        seen.append(await first)

    async with world.ErrGroup(limit=None) as group:
        first = await group.go(give_later)
        for _ in range(3):
            await group.go(look)
        event.set()

    assert seen == [7, 7, 7]


@in_every_group
async def test_awaiter_that_gives_up_is_forgotten(world: World) -> None:
    """A long-lived child does not collect those who once waited for it."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(world.sleep_forever)

        async def look() -> None:
            await task

        for _ in range(3):
            awaiter = await group.go(look)
            await world.until(lambda: task._awaiters)
            awaiter.cancel()
            await world.until(lambda: awaiter.done)  # noqa: B023 - at once

        assert not task._awaiters
        assert not task.done
        group.cancel()


@in_every_group
async def test_block_waits_for_its_children(world: World) -> None:
    """When the block has been left, every child has ended."""
    event = world.event()

    async with world.ErrGroup(limit=None) as group:
        tasks = [await group.go(event.wait) for _ in range(3)]
        await group.go_background(world.sleep_forever)
        event.set()

    assert all(task.done for task in tasks)
    assert group.statistics() == ErrGroupStatistics(0, 0, 0, 4, 0)


@in_every_group
async def test_empty_block_is_fine(world: World) -> None:
    """A group need not start anything."""
    async with world.ErrGroup(limit=1) as group:
        pass

    assert group.statistics() == ErrGroupStatistics(0, 0, 0, 0, 0)
    assert group.context.done


# Names


async def noop() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "fn, expected",
    [(noop, "noop"), (partial(partial(give), 1), "give")],
    ids=["function", "partial"],
)
@in_every_group
async def test_child_is_named_after_its_function(
    world: World, fn: Callable[[], Any], expected: str
) -> None:
    """The name that shows in dumps is that of what was passed."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(fn)

    assert task.name == expected


@in_every_group
async def test_name_can_be_given(world: World) -> None:
    """A given name wins, whichever way the child is started."""
    async with world.ErrGroup(limit=None) as group:
        tasks = [
            await group.go(noop, name="a"),
            group.go_nowait(noop, name="b"),
            await group.go_background(noop, name="c"),
        ]

    assert [task.name for task in tasks] == ["a", "b", "c"]


@in_every_group
async def test_repr_tells_name_and_state(world: World) -> None:
    """A task tells how it is doing."""
    event, stopping, stopped = world.event(), world.event(), world.event()
    failed: Any = None

    async def child() -> None:
        await event.wait()

    async def slow() -> None:
        try:
            await world.sleep_forever()
        except world.cancelled:
            stopping.set()
            raise

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no"):
        async with group:
            task = await group.go(child, name="child")
            assert repr(task) == "<Task child running>"
            event.set()
            await task
            assert repr(task) == "<Task child finished>"
            stopped = await group.go(slow, name="slow")
            stopped.cancel()
            await world.until(lambda: stopped.done)
            assert repr(stopped) == "<Task slow cancelled>"
            failed = await group.go(fail, ValueError("no"), name="bad")

    assert repr(failed) == "<Task bad failed: ValueError('no')>"


# Slots


@in_every_group
async def test_never_more_children_than_the_limit(world: World) -> None:
    """The limit holds at every moment."""
    seen: list[int] = []

    async def work() -> None:
        seen.append(group.statistics().running)
        await world.pause()

    group = world.ErrGroup(limit=3)
    async with group:
        for _ in range(20):
            await group.go(work)

    assert len(seen) == 20
    assert max(seen) <= 3


@in_every_group
async def test_no_limit_means_none(world: World) -> None:
    """With ``limit=None`` thirty children run at once."""
    async with world.ErrGroup(limit=None) as group:
        for _ in range(30):
            group.go_nowait(world.sleep_forever)

        assert group.statistics().running == 30
        group.cancel()


@in_every_group
async def test_go_waits_for_a_free_slot(world: World) -> None:
    """A full group slows its caller down: that is the backpressure."""
    events = [world.event() for _ in range(2)]
    order: list[str] = []

    async def body() -> None:
        first = await group.go(events[0].wait)
        await group.go(events[1].wait)
        order.append("started")
        await first

    async with world.ErrGroup(limit=1) as group:
        async with world.ErrGroup(limit=None) as outside:
            await outside.go(body)
            await world.until(lambda: group.statistics().waiting)
            order.append("waits")
            events[0].set()
        events[1].set()

    assert order == ["waits", "started"]


@in_every_group
async def test_go_nowait_would_block_when_full(world: World) -> None:
    """Who does not want to wait is told so, and nothing is started."""
    async with world.ErrGroup(limit=1) as group:
        group.go_nowait(world.sleep_forever)

        with pytest.raises(anyio.WouldBlock):
            group.go_nowait(give, 2)
        assert group.statistics().started == 1
        group.cancel()


@in_every_group
async def test_slots_are_given_in_the_order_of_asking(world: World) -> None:
    """The line is first in, first out, and a newcomer does not barge."""
    event = world.event()
    order: list[int] = []

    async def ask(number: int) -> None:
        await group.go(note, number)

    async def note(number: int) -> None:
        order.append(number)

    async with world.ErrGroup(limit=1) as group:
        await group.go(event.wait)
        async with world.ErrGroup(limit=None) as askers:
            for number in range(5):
                await askers.go(ask, number)
                await world.until(
                    lambda: group.statistics().waiting == number + 1  # noqa: B023
                )
            with pytest.raises(anyio.WouldBlock):
                group.go_nowait(note, 5)
            event.set()

    assert order == [0, 1, 2, 3, 4]


@in_every_group
async def test_cancelled_go_leaves_the_line(world: World) -> None:
    """A cancelled call starts nothing and takes no place."""
    event = world.event()

    async def ask() -> None:
        await group.go(pytest.fail)

    async with world.ErrGroup(limit=1) as group:
        await group.go(event.wait)
        async with world.ErrGroup(limit=None) as askers:
            asker = await askers.go(ask)
            await world.until(lambda: group.statistics().waiting)
            asker.cancel()
            await world.until(lambda: asker.done)

        assert group.statistics().waiting == 0
        event.set()
    assert group.statistics().started == 1


@in_every_group
async def test_member_may_start_its_siblings(world: World) -> None:
    """An accept loop waits in ``go`` of the group that it is a child of."""
    served: list[int] = []

    async def serve(connection: int) -> None:
        served.append(connection)

    async def accept() -> None:
        for connection in range(5):
            await group.go(serve, connection)

    async with world.ErrGroup(limit=2) as group:
        await group.go(accept)

    assert served == [0, 1, 2, 3, 4]


@in_every_group
async def test_member_of_a_group_of_one_cannot_wait_for_a_slot(world: World) -> None:
    """The only holder that waits for a second slot waits for itself."""

    async def ask() -> None:
        await group.go(noop)

    group = world.ErrGroup(limit=1)
    with pytest.raises(RuntimeError, match=r"every slot .* ask"):
        async with group:
            await group.go(ask, name="ask")


@in_every_group
async def test_circle_of_waiting_members_is_refused_by_name(world: World) -> None:
    """When all slots' holders wait in ``go``, the last call names them."""
    events = [world.event() for _ in range(3)]

    async def ask(number: int) -> None:
        await events[number].wait()
        await group.go(noop)

    group = world.ErrGroup(limit=3)
    with pytest.raises(RuntimeError, match=r"limit 3.*: a, b, c;") as caught:
        async with group:
            for number, name in enumerate("abc"):
                await group.go(ask, number, name=name)
            for number, event in enumerate(events):
                event.set()
                await world.until(
                    lambda: group.statistics().waiting == number + 1  # noqa: B023
                )

    assert "second group" in str(caught.value)


@in_every_group
async def test_one_holder_that_works_breaks_the_circle(world: World) -> None:
    """While one holder does not wait, its slot will come free."""
    full, event = world.event(), world.event()
    ran: list[int] = []

    async def ask(number: int) -> None:
        await full.wait()
        await group.go(note, number)

    async def note(number: int) -> None:
        ran.append(number)

    async with world.ErrGroup(limit=3) as group:
        await group.go(event.wait)
        await group.go(ask, 1)
        await group.go(ask, 2)
        full.set()
        await world.until(lambda: group.statistics().waiting == 2)
        event.set()

    assert sorted(ran) == [1, 2]


@in_every_group
async def test_others_who_wait_make_no_circle(world: World) -> None:
    """The body and services wait in ``go`` and hold no slot meanwhile."""
    event = world.event()
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async def serve() -> None:
        await group.go(note, 1)
        event.set()

    async with world.ErrGroup(limit=1) as group:
        holder = await group.go(world.sleep_forever)
        await group.go_background(serve)
        await world.until(lambda: group.statistics().waiting)
        holder.cancel()
        await event.wait()
        await group.go(note, 2)

    assert ran == [1, 2]


@in_every_group
async def test_waiting_in_another_group_is_no_circle(world: World) -> None:
    """Slots of one group are no slots of another."""

    async def nest() -> None:
        async with world.ErrGroup(limit=1) as inner:
            await inner.go(world.pause)
            await inner.go(noop)

    async with world.ErrGroup(limit=1) as group:
        task = await group.go(nest)

    assert task.exception() is None


# Services


@in_every_group
async def test_background_child_is_not_waited_for(world: World) -> None:
    """A service ends with the block, as a cancelled child, when all others are done."""
    event = world.event()
    async with world.ErrGroup(limit=1) as group:
        service = await group.go_background(world.sleep_forever)
        await group.go(event.wait)

        assert group.statistics() == ErrGroupStatistics(
            running=1, background=1, waiting=0, started=2, failed=0
        )
        event.set()

    with pytest.raises(anyio.TaskCancelled):
        service.result()
    assert group.statistics().background == 0


@in_every_group
async def test_background_child_may_end_early(world: World) -> None:
    """A service that returns has its result, and ends nothing else."""
    async with world.ErrGroup(limit=None) as group:
        service = await group.go_background(give, 1)
        assert await service == 1
        assert await (await group.go(give, 2)) == 2

    assert service.result() == 1


@in_every_group
async def test_failing_service_fails_the_group(world: World) -> None:
    """A background child's error is an error."""
    error = ValueError("no")

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            await group.go_background(fail, error)
            await world.sleep_forever()

    assert caught.value is error


# Where context flows


@in_every_group
async def test_child_sees_the_contextvars_of_its_caller(world: World) -> None:
    """A child runs in a copy made when it was asked for, and changes only that."""
    seen: list[str] = []

    async def look(mine: str) -> None:
        seen.append(VAR.get())
        VAR.set(mine)
        await world.pause()
        seen.append(VAR.get())

    async def body() -> None:
        async with world.ErrGroup(limit=1) as group:
            for value in ("one", "two"):
                VAR.set(value)
                await (await group.go(look, f"{value}!"))

        assert VAR.get() == "two"

    async with world.ErrGroup(limit=1) as around:  # so that what it sets is its own
        await around.go(body)
    assert seen == ["one", "one!", "two", "two!"]


@in_every_group
async def test_child_outlives_a_narrower_context_of_its_caller(world: World) -> None:
    """It ends with the group, not with the block in which it was asked for."""
    event = world.event()
    async with world.ErrGroup(limit=None) as group:
        async with world.context():
            task = await group.go(event.wait)
        event.set()

    assert task.exception() is None


@in_every_group
async def test_end_of_the_group_is_the_end_of_its_childrens_context(
    world: World,
) -> None:
    """What is ambient in a child ends with the group."""
    seen: list[Any] = []

    async def look() -> None:
        seen.append(current_context())

    async with world.ErrGroup(limit=None) as group:
        await group.go(look)

    assert seen[0].done


# How it ends


@in_every_group
async def test_error_of_a_child_is_raised_itself(world: World) -> None:
    """What comes out of the block is that very object, not wrapped in anything."""
    error = ValueError("no")

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            await group.go(fail, error)

    assert caught.value is error
    assert group.errors == (error,)
    assert group.context.cause is error
    assert not hasattr(error, "__notes__")
    assert error.__context__ is None


@in_every_group
async def test_error_of_the_body_is_raised_itself(world: World) -> None:
    """The body is a member like the others."""
    error = ValueError("no")
    tasks: list[Any] = []

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            tasks.append(await group.go(world.sleep_forever))
            raise error

    assert caught.value is error
    assert group.errors == (error,)
    assert repr(tasks[0]).endswith(" cancelled>")


@in_every_group
async def test_first_error_ends_siblings_and_body_at_once(world: World) -> None:
    """Nobody goes on when one has failed."""
    tasks: list[Any] = []

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no"):
        async with group:
            tasks.append(await group.go(world.sleep_forever))
            tasks.append(await group.go_background(world.sleep_forever))
            await group.go(fail, ValueError("no"))
            await world.sleep_forever()
            pytest.fail("the body went on")

    assert [task.done for task in tasks] == [True, True]
    assert len(group.errors) == 1


@in_every_group
async def test_later_errors_are_kept(world: World) -> None:
    """They are in ``errors``, oldest first, and in a note on the one raised."""
    first, second = ValueError("1"), KeyError("2")

    async def fail_when_stopped() -> None:
        try:
            await world.sleep_forever()
        finally:
            raise second

    group = world.ErrGroup(limit=None, name="crawl")
    with pytest.raises(ValueError, match="1") as caught:
        async with group:
            stopped = await group.go(fail_when_stopped)
            await world.until(lambda: group.statistics().running)
            await world.pause()
            await world.until(lambda: repr(stopped).endswith(" running>"))
            await group.go(fail, first)

    assert caught.value is first
    if len(group.errors) == 2:  # it had begun when it was stopped
        assert group.errors == (first, second)
        assert first.__notes__ == ["ErrGroup 'crawl': 1 later error: KeyError('2')"]


@in_every_group
async def test_error_group_has_all(world: World) -> None:
    """With ``errors="group"`` an ExceptionGroup holds the errors, be it one."""
    error = ValueError("1")

    group = world.ErrGroup(limit=None, errors="group", name="crawl")
    with pytest.raises(ExceptionGroup, match="errors in ErrGroup 'crawl'") as caught:
        async with group:
            await group.go(fail, error)

    assert caught.value.exceptions == (error,)


@in_every_group
async def test_cancellation_inside_a_group_of_errors_is_taken_out(world: World) -> None:
    """A child mixes errors with our cancellation: only they stay."""
    stopping = world.event()

    async def nest() -> None:
        try:
            stopping.set()
            await world.sleep_forever()
        except world.cancelled as exc:
            raise BaseExceptionGroup("mixed", [KeyError("2"), exc]) from None

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="1"):
        async with group:
            await group.go(nest)
            await stopping.wait()
            await group.go(fail, ValueError("1"))

    assert repr(group.errors[1]) == "ExceptionGroup('mixed', [KeyError('2')])"


@in_every_group
async def test_nested_group_reports_once(world: World) -> None:
    """An error passes through blocks as the same object, with one entry in each."""
    error = ValueError("no")

    async def nest() -> None:
        async with world.ErrGroup(limit=None) as inner:
            await inner.go(fail, error)
            await world.sleep_forever()

    outer = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with outer:
            await outer.go(nest)

    assert caught.value is error
    assert outer.errors == (error,)
    assert not hasattr(error, "__notes__")


@in_every_group
async def test_awaiter_of_a_failed_child_gets_that_very_error(world: World) -> None:
    """And the block reports it once, though the body let it through as well."""
    error = ValueError("no")
    event = world.event()
    seen: list[BaseException] = []
    tasks: list[Any] = []

    async def fail_later() -> None:
        await event.wait()
        raise error

    async def look() -> None:
        try:
            await tasks[0]
        except ValueError as exc:
            seen.append(exc)
            raise

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            tasks.append(await group.go(fail_later))
            await group.go(look)
            await world.until(lambda: tasks[0]._awaiters)
            event.set()

    assert seen == [error]
    assert caught.value is error
    assert group.errors == (error,)
    assert tasks[0].exception() is error
    with pytest.raises(ValueError, match="no"):
        tasks[0].result()


@in_every_group
async def test_cancelled_child_says_so(world: World) -> None:
    """It ends alone, and its result is an ordinary error that names it."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(world.sleep_forever, name="nap")
        task.cancel()
        task.cancel()
        with pytest.raises(anyio.TaskCancelled, match="nap was cancelled"):
            await task

        assert await (await group.go(give, 1)) == 1
    assert task.done
    assert group.errors == ()
    with pytest.raises(anyio.TaskCancelled, match="nap was cancelled"):
        task.exception()


@in_every_group
async def test_cancelling_a_finished_child_changes_nothing(world: World) -> None:
    """It has its result."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(give, 1)
        await task
        task.cancel()

    assert task.result() == 1


@in_every_group
async def test_child_that_finishes_all_the_same_has_its_result(world: World) -> None:
    """Cancelled is who ends by the cancellation, not who was to."""
    begun = world.event()

    async def stubborn() -> int:
        try:
            begun.set()
            await world.sleep_forever()
        except world.cancelled:
            pass
        return 7

    async with world.ErrGroup(limit=None) as group:
        task = await group.go(stubborn)
        await begun.wait()
        task.cancel()

    assert task.result() == 7


@in_every_group
async def test_child_that_fails_when_cancelled_fails_the_group(world: World) -> None:
    """An error in the cleanup is an error."""
    error = ValueError("no")
    begun = world.event()

    async def clumsy() -> None:
        try:
            begun.set()
            await world.sleep_forever()
        finally:
            raise error

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            task = await group.go(clumsy)
            await begun.wait()
            task.cancel()

    assert caught.value is error


@pytest.mark.parametrize("cause", [None, LookupError("why")])
@in_every_group
async def test_cancel_is_quiet(world: World, cause: BaseException | None) -> None:
    """Children and body end, and nothing is raised; the first call did it."""
    async with world.ErrGroup(limit=None) as group:
        task = await group.go(world.sleep_forever)

        assert group.cancel(cause)
        assert not group.cancel(cause)
        await world.sleep_forever()
        pytest.fail("the body went on")

    assert repr(task).endswith(" cancelled>")
    assert group.context.cause is cause


@in_every_group
async def test_cancel_from_a_child(world: World) -> None:
    """Any member may end the block."""

    async def stop() -> None:
        group.cancel()

    async with world.ErrGroup(limit=None) as group:
        await group.go(stop)
        await world.sleep_forever()
        pytest.fail("the body went on")

    assert group.errors == ()


@in_every_group
async def test_error_after_cancel_is_raised(world: World) -> None:
    """A quiet end does not hide what went wrong in the cleanup."""
    error = ValueError("no")

    group = world.ErrGroup(limit=None)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            group.cancel()
            raise error

    assert caught.value is error


@in_every_group
async def test_deadline_of_a_parent_is_its_error_here(world: World) -> None:
    """In a finished body as well, while children are waited for."""
    with pytest.raises(DeadlineExceeded):
        async with world.context(timeout=0.001):
            async with world.ErrGroup(limit=None) as group:
                await group.go(world.sleep_forever)


# What is refused


@pytest.mark.parametrize("limit", [0, -1])
@in_every_group
async def test_limit_below_one_is_refused(world: World, limit: int) -> None:
    """A group that can run nothing is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        world.ErrGroup(limit=limit)


@pytest.mark.parametrize("limit", [1.5, True, "3"])
@in_every_group
async def test_limit_must_be_a_whole_number(world: World, limit: Any) -> None:
    """So is a number that is none."""
    with pytest.raises(TypeError, match="whole number"):
        world.ErrGroup(limit=limit)


@in_every_group
async def test_limit_must_be_given(world: World) -> None:
    """No bound is a decision, so it is written out."""
    with pytest.raises(TypeError, match="limit"):
        world.ErrGroup()


@in_every_group
async def test_errors_is_one_of_two(world: World) -> None:
    """A typo is told at once."""
    with pytest.raises(ValueError, match='"first" or "group"'):
        world.ErrGroup(limit=None, errors="all")


@starts
@in_every_group
async def test_what_cannot_be_called_is_refused(world: World, method: str) -> None:
    """The call says so, and nothing has started."""
    async with world.ErrGroup(limit=1) as group:
        with pytest.raises(TypeError, match="not 3"):
            await start(group, method, 3)
    assert group.statistics().started == 0


@starts
@in_every_group
async def test_coroutine_object_is_refused(world: World, method: str) -> None:
    """It is closed, so that nothing warns of it later."""
    coroutine = noop()

    async with world.ErrGroup(limit=1) as group:
        with pytest.raises(TypeError, match="coroutine"):
            await start(group, method, coroutine)
    assert group.statistics().started == 0


@starts
@in_every_group
async def test_starting_before_the_block_is_refused(world: World, method: str) -> None:
    """There would be nobody to wait for the child."""
    group = world.ErrGroup(limit=1)

    with pytest.raises(RuntimeError, match="has not been entered; start children"):
        await start(group, method, noop)


@starts
@in_every_group
async def test_starting_after_the_end_is_refused(world: World, method: str) -> None:
    """Likewise."""
    async with world.ErrGroup(limit=1) as group:
        pass

    with pytest.raises(RuntimeError, match="has ended; start work inside its '"):
        await start(group, method, noop)


@starts
@in_every_group
async def test_starting_after_a_failure_is_refused(world: World, method: str) -> None:
    """With the reason, and its cause."""
    error = ValueError("no")
    group = world.ErrGroup(limit=1)
    with pytest.raises(ValueError, match="no"):
        async with group:
            raise error

    with pytest.raises(RuntimeError, match="has failed and starts nothing") as caught:
        await start(group, method, noop)
    assert caught.value.__cause__ is error


@in_every_group
async def test_waiting_outside_ends_with_the_group(world: World) -> None:
    """Who is no member and waits for a slot is told that there will be none."""
    caught: list[RuntimeError] = []

    async def ask() -> None:
        try:
            await group.go(noop)
        except RuntimeError as exc:
            caught.append(exc)

    async with world.ErrGroup(limit=None) as outside:
        async with world.ErrGroup(limit=1) as group:
            await group.go(world.sleep_forever)
            await outside.go(ask)
            await world.until(lambda: group.statistics().waiting)
            group.cancel()

    assert ["has ended" in str(exc) for exc in caught] == [True]


@in_every_group
async def test_group_has_one_block(world: World) -> None:
    """A second one would share its end."""
    group = world.ErrGroup(limit=1)
    async with group:
        with pytest.raises(RuntimeError, match="entered before"):
            await group.__aenter__()
    with pytest.raises(RuntimeError, match="entered before"):
        await group.__aenter__()


@pytest.mark.parametrize("cause", ["why", 3])
@in_every_group
async def test_cause_must_be_an_exception(world: World, cause: Any) -> None:
    """It becomes the ``__cause__`` of errors."""
    async with world.ErrGroup(limit=1) as group:
        with pytest.raises(TypeError, match="cause must be an exception"):
            group.cancel(cause)

    assert group.context.cause is None


@in_every_group
async def test_child_that_awaits_itself_is_told(world: World) -> None:
    """It would wait for ever."""
    tasks: list[Any] = []
    event = world.event()

    async def look() -> None:
        await event.wait()
        await tasks[0]

    group = world.ErrGroup(limit=None)
    with pytest.raises(RuntimeError, match="look awaits itself"):
        async with group:
            tasks.append(await group.go(look, name="look"))
            event.set()


def test_contexts_of_the_test_are_gone() -> None:
    """No promise above has left one behind in the thread that runs the tests."""
    assert current_context() is None
    assert Context().deadline == float("inf")
