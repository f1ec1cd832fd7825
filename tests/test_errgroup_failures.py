"""How an ErrGroup ends: by errors, by cancellation, and by both."""

import asyncio
import gc
import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    DepthPool,
    ErrGroup,
    Job,
    Task,
    crawl,
    fan_out,
)
from tests.harness import on_asyncio
from tests.together import ends_by, handled


@pytest.fixture(params=[False, True], ids=["tasks", "workers"])
def reuse(request: pytest.FixtureRequest) -> bool:
    """Run the children either way: what is promised is the same."""
    choice: bool = request.param
    return choice


async def fail(error: BaseException, delay: float = 0.01) -> None:
    """Raise *error*, after a while."""
    await anyio.sleep(delay)
    raise error


async def fail_when_stopped(error: BaseException) -> None:
    """Raise *error* in place of the cancellation."""
    try:
        await anyio.sleep_forever()
    finally:
        raise error


# The first error


@pytest.mark.virtual_clock
async def test_first_error_ends_siblings_and_body_at_once(reuse: bool) -> None:
    """Nobody goes on when one has failed."""
    start = anyio.current_time()
    tasks: list[Task[None]] = []

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no"):
        async with group:
            tasks.append(await group.go(anyio.sleep, 100))
            tasks.append(await group.go_background(anyio.sleep, 100))
            await group.go(fail, ValueError("no"), 1)
            await anyio.sleep(100)
            pytest.fail("the body went on")

    assert anyio.current_time() - start == 1
    assert [_outcome(task) for task in tasks] == ["cancelled", "cancelled"]


async def test_later_errors_are_kept(reuse: bool) -> None:
    """They are in ``errors``, oldest first, and in a note on the one raised."""
    first, second, third = ValueError("1"), KeyError("2"), OSError("3")

    group = ErrGroup(limit=None, reuse=reuse, name="crawl")
    with pytest.raises(ValueError, match="1") as caught:
        async with group:
            await group.go(fail_when_stopped, second)
            await group.go(fail, first)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
                raise third

    assert caught.value is first
    assert group.errors == (first, second, third)
    assert first.__notes__ == [
        "ErrGroup 'crawl': 2 later errors: KeyError('2'), OSError('3')"
    ]


async def test_error_group_has_all(reuse: bool) -> None:
    """With ``errors="group"`` an ExceptionGroup holds the errors in their order."""
    first, second = ValueError("1"), KeyError("2")

    group = ErrGroup(limit=None, reuse=reuse, errors="group", name="crawl")
    with pytest.raises(ExceptionGroup, match="errors in ErrGroup 'crawl'") as caught:
        async with group:
            await group.go(fail_when_stopped, second)
            await group.go(fail, first)

    assert caught.value.exceptions == (first, second)


@pytest.mark.parametrize("errors", ["first", "group"])
async def test_cancellation_we_caused_is_no_error(reuse: bool, errors: Any) -> None:
    """Siblings that were stopped are not counted among the failures."""
    group = ErrGroup(limit=None, reuse=reuse, errors=errors)
    with pytest.raises((ValueError, ExceptionGroup)):
        async with group:
            for _ in range(3):
                await group.go(anyio.sleep_forever)
            await group.go(fail, ValueError("no"))

    assert len(group.errors) == 1


async def test_service_that_fails_when_stopped_fails_the_group(reuse: bool) -> None:
    """Also at the very end, when everybody else is done."""
    error = ValueError("no")

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            await group.go_background(fail_when_stopped, error)
            await anyio.wait_all_tasks_blocked()

    assert caught.value is error


# Awaiting a child that did not return


async def test_awaiter_that_handles_the_error_cannot_save_the_block(
    reuse: bool,
) -> None:
    """The block has failed, whoever else looked at the error."""
    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no"):
        async with group:
            task = await group.go(fail, ValueError("no"))
            try:
                await task
            except ValueError:
                pass
            await anyio.sleep(0.01)
            pytest.fail("went on after a failure")


async def test_awaiter_that_is_cancelled_with_the_child_is_cancelled(
    reuse: bool,
) -> None:
    """One cancellation for both is no error of the child's."""
    for _ in range(5):  # trio chooses who is first
        group = ErrGroup(limit=None, reuse=reuse)
        with anyio.move_on_after(0.01) as scope:
            async with group:
                task = await group.go(anyio.sleep_forever)
                await task

        assert scope.cancelled_caught
        assert group.errors == ()


async def test_awaiter_in_a_group_that_is_cancelled_is_quiet(reuse: bool) -> None:
    """A body that waits for a child when the group is cancelled raises nothing."""

    async def stop(group: ErrGroup) -> None:
        await checkpoint()
        group.cancel()

    for _ in range(5):
        async with ErrGroup(limit=None, reuse=reuse) as group:
            task = await group.go(anyio.sleep_forever)
            await group.go(stop, group)
            await task

        assert group.errors == ()


# Cancelling children


async def test_cancelled_child_ends_alone(reuse: bool) -> None:
    """Stopping one child is nobody else's business."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        sibling = await group.go(anyio.sleep, 0.05)
        task = await group.go(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        task.cancel()
        later = await group.go(anyio.sleep, 0.05)

    assert sibling.exception() is None
    assert later.exception() is None
    assert group.errors == ()


async def test_child_cancelled_before_it_began(reuse: bool) -> None:
    """It never gets past its first wait, its slot is free, and no warning is heard."""
    passed: list[int] = []

    async def work() -> None:
        await checkpoint()
        passed.append(1)

    async with ErrGroup(limit=1, reuse=reuse) as group:
        task = group.go_nowait(work)
        task.cancel()
        await group.go(checkpoint)

    assert passed == []
    with pytest.raises(anyio.TaskCancelled):
        task.result()


async def test_one_of_many_cancelled_before_they_began(reuse: bool) -> None:
    """The right one is taken out of the queue."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        tasks = [group.go_nowait(anyio.sleep, 0.01) for _ in range(3)]
        tasks[1].cancel()

    assert [_outcome(task) for task in tasks] == ["done", "cancelled", "done"]


def _outcome(task: Task[None]) -> str:
    try:
        task.result()
    except anyio.TaskCancelled:
        return "cancelled"
    return "done"


async def test_child_may_cancel_its_own_task(reuse: bool) -> None:
    """That is asked for, so it is no failure, and it ends at its next wait."""
    own: list[Task[None]] = []

    async def stop() -> None:
        own[0].cancel()
        await checkpoint()
        pytest.fail("went on after its own cancellation")

    async with ErrGroup(limit=None, reuse=reuse) as group:
        own.append(group.go_nowait(stop))
        sibling = group.go_nowait(anyio.sleep, 0.01)

    assert _outcome(own[0]) == "cancelled"
    assert _outcome(sibling) == "done"


# Cancelling the group


def _from_task(group: ErrGroup) -> Callable[[], object]:
    return group.cancel


def _from_thread(group: ErrGroup) -> Callable[[], object]:
    def cancel() -> None:
        thread = threading.Thread(target=group.cancel)
        thread.start()
        thread.join()

    return cancel


def _from_signal_handler(group: ErrGroup) -> Callable[[], object]:
    def cancel() -> None:
        with handled(signal.SIGTERM, lambda _: group.cancel()):
            signal.raise_signal(signal.SIGTERM)

    return cancel


@pytest.mark.parametrize("way", [_from_task, _from_thread, _from_signal_handler])
async def test_cancel_from_anywhere_is_quiet(
    reuse: bool, way: Callable[[ErrGroup], Callable[[], object]]
) -> None:
    """Children and body are stopped and nothing is raised, whoever asked for it."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(anyio.sleep_forever)
        service = await group.go_background(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        way(group)()
        await anyio.sleep_forever()

    assert group.errors == ()
    assert _outcome(task) == _outcome(service) == "cancelled"


async def test_cancel_wakes_a_loop_that_sleeps(reuse: bool) -> None:
    """A thread that cancels need not wait for the loop's next timer."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go(anyio.sleep_forever)
        await anyio.to_thread.run_sync(
            threading.Thread(target=group.cancel).start, abandon_on_cancel=False
        )
        await anyio.sleep_forever()

    assert group.context.done


async def test_cancel_of_a_block_that_waits_for_children(reuse: bool) -> None:
    """A body that has finished does not keep the end from being quiet."""

    async def stop(group: ErrGroup) -> None:
        await anyio.sleep(0.01)
        group.cancel()

    async with ErrGroup(limit=None, reuse=reuse) as group:
        task = await group.go(anyio.sleep_forever)
        await group.go(stop, group)

    assert _outcome(task) == "cancelled"


async def test_cancel_before_the_block(reuse: bool) -> None:
    """A group that was cancelled before it began starts nothing and is quiet."""
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    group = ErrGroup(limit=None, reuse=reuse)
    group.cancel()
    async with group:
        await group.go(note)
        pytest.fail("started a child after the end")

    assert ran == []


# The context's parents


async def test_deadline_of_an_outer_block_is_told_by_that_block(reuse: bool) -> None:
    """Where the parent's own block is cut short, too, its error is the one raised."""
    group: ErrGroup | None = None
    outer = Context(timeout=0.01)

    with pytest.raises(DeadlineExceeded) as caught:
        async with outer:
            group = ErrGroup(limit=None, reuse=reuse)
            async with group:
                await group.go(anyio.sleep_forever)

    assert caught.value is outer.err
    assert group is not None
    assert group.errors == ()


async def test_end_of_a_parent_raises_the_contexts_error(reuse: bool) -> None:
    """A parent whose block is another task's ends the group alone, with its cause."""
    cause = ValueError("enough")
    raised: list[ContextCancelled] = []
    groups: list[ErrGroup] = []

    async def work() -> None:
        group = ErrGroup(limit=None, reuse=reuse)
        groups.append(group)
        try:
            async with group:
                await group.go(anyio.sleep_forever)
                await anyio.sleep_forever()
        except ContextCancelled as exc:
            raised.append(exc)

    async with anyio.create_task_group() as outside:
        async with Context() as parent:
            outside.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            parent.cancel(cause)

    assert raised == [groups[0].context.err]
    assert raised[0].__cause__ is cause


async def test_refusal_that_leaves_the_body_tells_of_the_parents_end(
    reuse: bool,
) -> None:
    """Who did not wait, and so was refused before being cancelled, hears the same."""
    raised: list[ContextCancelled] = []

    async def work(parent: Context) -> None:
        try:
            async with ErrGroup(limit=None, reuse=reuse) as group:
                parent.cancel()
                group.go_nowait(anyio.sleep_forever)
        except ContextCancelled as exc:
            raised.append(exc)

    async with anyio.create_task_group() as outside:
        async with Context() as parent:
            outside.start_soon(work, parent)
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()

    assert len(raised) == 1


async def test_refusal_that_leaves_the_body_is_quiet_after_cancel(reuse: bool) -> None:
    """The end that the group itself asked for is no error, told this way either."""
    async with ErrGroup(limit=None, reuse=reuse) as group:
        group.cancel()
        group.go_nowait(anyio.sleep_forever)

    assert group.errors == ()


async def test_parents_end_counts_also_in_a_finished_body(reuse: bool) -> None:
    """A block that waits for its children when the parent ends was cut short."""
    parent = Context()

    async def stop() -> None:
        await anyio.sleep(0.01)
        parent.cancel()

    with pytest.raises(ContextCancelled):
        async with Context(parent):
            async with ErrGroup(limit=None, reuse=reuse) as group:
                await group.go(anyio.sleep_forever)
                await group.go(stop)


# Cancellation from outside


async def test_outer_cancellation_passes_through(reuse: bool) -> None:
    """It stops everybody and goes on to who asked for it."""
    tasks: list[Task[None]] = []

    group = ErrGroup(limit=None, reuse=reuse)
    with anyio.move_on_after(0.01) as scope:
        async with group:
            tasks.append(await group.go(anyio.sleep_forever))
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert _outcome(tasks[0]) == "cancelled"
    assert group.errors == ()


@on_asyncio
async def test_native_cancellation_passes_through(reuse: bool) -> None:
    """What asyncio itself cancels stops everybody and keeps its message."""
    children: list[Task[None]] = []

    async def own() -> None:
        async with ErrGroup(limit=None, reuse=reuse) as group:
            children.append(await group.go(anyio.sleep_forever))
            await anyio.sleep_forever()

    owner = asyncio.create_task(own())
    await anyio.wait_all_tasks_blocked()
    owner.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await owner

    assert owner.cancelled()
    assert _outcome(children[0]) == "cancelled"


async def test_error_beats_a_cancellation(reuse: bool) -> None:
    """An error is raised also when the owner is being cancelled."""
    with anyio.CancelScope() as scope:
        group = ErrGroup(limit=None, reuse=reuse)
        with pytest.raises(ValueError, match="no"):
            async with group:
                await group.go(fail_when_stopped, ValueError("no"))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await anyio.sleep_forever()
        await checkpoint()
        pytest.fail("the cancellation did not come after the error")

    assert scope.cancelled_caught


@on_asyncio
@pytest.mark.parametrize("where", ["body", "join"])
async def test_beaten_native_cancellation_comes_next(reuse: bool, where: str) -> None:
    """Natively, too, it arrives at the next checkpoint: an error does not eat it."""
    log: list[str] = []

    async def own() -> None:
        try:
            async with ErrGroup(limit=None, reuse=reuse) as group:
                await group.go(fail_when_stopped, ValueError("no"))
                if where == "body":
                    await anyio.sleep_forever()
        except ValueError:
            log.append("error")
        try:
            await checkpoint()
            log.append("went on")
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    owner = asyncio.create_task(own())
    await anyio.wait_all_tasks_blocked()
    owner.cancel()
    await asyncio.wait([owner])

    assert log == ["error", "cancelled"]
    assert owner.cancelled()


# Cancellation that nobody of us asked for


async def _cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


@on_asyncio
@pytest.mark.parametrize("method", ["go", "go_background"])
async def test_foreign_cancellation_of_a_child_is_a_failure(
    reuse: bool, method: str
) -> None:
    """It is told as an ordinary error, with the cancellation as its cause."""
    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(anyio.TaskCancelled, match="neither the block") as caught:
        async with group:
            await getattr(group, method)(_cancel_own_task)
            await anyio.sleep_forever()

    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_raising_a_cancellation_is_a_failure(reuse: bool) -> None:
    """A child that ends by a cancellation of its own making has not finished."""

    async def pretend() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except anyio.get_cancelled_exc_class() as exc:
                caught.append(exc)
                raise
        raise caught[0]

    caught: list[BaseException] = []

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(anyio.TaskCancelled, match="neither the block"):
        async with group:
            await group.go(pretend)
            await anyio.sleep_forever()


@on_asyncio
async def test_foreign_cancellation_in_an_owner_that_was_cancelled_before(
    reuse: bool,
) -> None:
    """A block that cleans up after a cancellation is judged like any other."""
    with pytest.raises(anyio.TaskCancelled, match="neither the block"):
        await _clean_up(reuse)


async def _clean_up(reuse: bool) -> None:
    owner = asyncio.current_task()
    assert owner is not None
    owner.cancel()
    try:
        await checkpoint()
    except asyncio.CancelledError:
        try:
            async with ErrGroup(limit=None, reuse=reuse) as group:
                await group.go(_cancel_own_task)
                await anyio.sleep_forever()
        finally:
            owner.uncancel()


@on_asyncio
async def test_child_whose_task_was_cancelled_before_it_began(reuse: bool) -> None:
    """Who cancels all tasks of a loop makes the group fail, not hang or go quiet."""
    before = asyncio.all_tasks()
    tasks: list[Task[None]] = []

    group = ErrGroup(limit=1, reuse=reuse)
    with pytest.raises(anyio.TaskCancelled, match="neither the block"):
        async with group:
            tasks.append(group.go_nowait(anyio.sleep_forever))
            for each in asyncio.all_tasks() - before:
                each.cancel()
            await anyio.sleep_forever()

    gc.collect()  # so that a coroutine which was never awaited is heard of here
    assert tasks[0].done
    assert group.statistics().running == 0


@on_asyncio
async def test_idle_workers_may_be_cancelled(reuse: bool) -> None:
    """A worker without a job has nothing to fail with; the next child has another."""
    before = asyncio.all_tasks()
    async with ErrGroup(limit=None, reuse=reuse) as group:
        await group.go(checkpoint)
        await anyio.wait_all_tasks_blocked()
        for each in asyncio.all_tasks() - before:
            each.cancel()
        task = await group.go(checkpoint)
        await anyio.wait_all_tasks_blocked()

    assert task.exception() is None


# Orders to the whole program


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("errors", ["first", "group"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("method", ["go", "go_background"])
def test_order_from_a_child_stays_bare(
    reuse: bool,
    order: type[BaseException],
    errors: Any,
    backend: str,
    method: str,
) -> None:
    """It ends the program as itself, in no group, though a sibling had failed."""

    async def main() -> None:
        async with ErrGroup(limit=None, reuse=reuse, errors=errors) as group:
            await group.go(fail_when_stopped, ValueError("later"))
            await anyio.wait_all_tasks_blocked()
            await getattr(group, method)(fail, order("now"), 0)
            await anyio.sleep_forever()

    ends_by(order, main, (backend, {}))


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("errors", ["first", "group"])
async def test_order_from_the_body_stays_bare(
    reuse: bool, order: type[BaseException], errors: Any
) -> None:
    """Siblings are stopped, what they raise is kept, and the order goes out itself."""
    exc = order("now")

    group = ErrGroup(limit=None, reuse=reuse, errors=errors)
    with pytest.raises(order) as caught:
        async with group:
            await group.go(fail_when_stopped, ValueError("later"))
            await anyio.wait_all_tasks_blocked()
            raise exc

    assert caught.value is exc


async def test_order_outranks_an_earlier_error(reuse: bool) -> None:
    """An order that comes while the group is failing is the one that goes out."""
    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(SystemExit):
        async with group:
            await group.go(fail, ValueError("first"))
            try:
                await anyio.sleep_forever()
            finally:
                raise SystemExit

    assert [type(error) for error in group.errors] == [ValueError, SystemExit]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_order_is_not_parked_until_a_join(reuse: bool, backend: str) -> None:
    """A child that takes its time to stop does not keep the order from the others."""
    stopped: list[str] = []

    async def tidy(group: ErrGroup) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(repr(group.errors))

    async def main() -> None:
        async with ErrGroup(limit=None, reuse=reuse) as group:
            await group.go(tidy, group)
            await anyio.wait_all_tasks_blocked()
            await group.go(fail, SystemExit(3), 0)
            await anyio.sleep_forever()

    ends_by(SystemExit, main, (backend, {}))

    assert stopped == ["(SystemExit(3),)"]


# Tracebacks


async def test_traceback_shows_the_childs_frames(reuse: bool) -> None:
    """Who reads the error sees where the child was."""
    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            await group.go(fail, ValueError("no"))

    names = [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert names[0] == "test_traceback_shows_the_childs_frames"
    assert names[-1] == "fail"


async def test_error_of_a_child_has_no_context_of_ours(reuse: bool) -> None:
    """Nothing that we caught on the way is shown as "during the handling of"."""
    error = ValueError("no")

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no"):
        async with group:
            await group.go(fail, error)
            await anyio.sleep_forever()

    assert error.__context__ is None
    assert error.__cause__ is None


async def test_error_of_the_body_has_no_context_of_ours(reuse: bool) -> None:
    """Neither does the body's own error get one."""
    error = ValueError("no")

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no"):
        async with group:
            await group.go(anyio.sleep_forever)
            raise error

    assert error.__context__ is None


async def test_own_context_of_an_error_is_kept(reuse: bool) -> None:
    """What the child was handling when it failed still explains its error."""

    async def handle() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            await checkpoint()
            raise ValueError("second")  # noqa: B904

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="second") as caught:
        async with group:
            await group.go(handle)

    assert repr(caught.value.__context__) == "KeyError('first')"


async def test_error_raised_after_a_thrown_one_has_no_context(reuse: bool) -> None:
    """A child that handled an error and went on fails later with a clean one."""

    async def handle() -> None:
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
        await checkpoint()
        raise ValueError("no")

    group = ErrGroup(limit=None, reuse=reuse)
    with pytest.raises(ValueError, match="no") as caught:
        async with group:
            await group.go(handle)

    assert caught.value.__context__ is None


# A group of errors that are all cancellations


async def _fail_by_cancellations() -> NoReturn:
    """Raise what ``gather(return_exceptions=True)`` gives for cancelled tasks."""
    error = anyio.get_cancelled_exc_class()
    await checkpoint()
    raise BaseExceptionGroup("some failed", [_made(error)])


def _made(error: type[BaseException]) -> BaseException:
    return error.__new__(error)  # trio's has no public constructor


@pytest.mark.parametrize("where", ["child", "reused", "body", "item", "job", "visit"])
async def test_nobody_asked_for_a_group_of_cancellations(where: str) -> None:
    """A member that fails with it has failed; it is no result, and no end."""

    async def fail(_: object) -> None:
        await _fail_by_cancellations()

    async def job(_: Job[int]) -> None:
        await _fail_by_cancellations()

    with anyio.fail_after(5), pytest.raises(anyio.TaskCancelled):
        if where in ("child", "reused"):
            async with ErrGroup(limit=None, reuse=where == "reused") as group:
                await group.go(_fail_by_cancellations)
        elif where == "body":
            async with ErrGroup(limit=None) as group:
                await group.go_background(anyio.sleep_forever)
                await _fail_by_cancellations()
        elif where == "item":
            await fan_out(fail, range(3), limit=2)
        elif where == "job":
            await crawl(job, range(3), max_depth=1, limit=2)
        else:
            async with DepthPool(job, max_depth=1, limit=2) as pool:
                pool.submit(0)
                async for _ in pool:
                    pass


@on_asyncio
async def test_group_of_the_owners_own_cancellation_ends_the_services() -> None:
    """A body that wraps it does not keep the block open."""

    async def own() -> None:
        async with ErrGroup(limit=None) as group:
            await group.go_background(anyio.sleep_forever)
            try:
                await anyio.sleep_forever()
            except BaseException as exc:
                raise BaseExceptionGroup("all that failed", [exc]) from None

    task = asyncio.ensure_future(own())
    await checkpoint()
    await checkpoint()
    task.cancel()
    await asyncio.wait([task], timeout=5)

    assert task.done()
