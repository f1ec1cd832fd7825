"""Functions that a Context calls at its end."""

import asyncio
import contextvars
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import anyio
import pytest
import trio
import trio.testing

from safeconc import Context, DeadlineExceeded, Registration
from tests.together import NOTHING, collect, in_thread, on_trio, standing_still


def _clock() -> Callable[[], float]:
    """Find the clock of the running loop, to be asked where no loop is running."""
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_clock().current_time
    return asyncio.get_running_loop().time


# By whoever ends it


def test_after_runs_when_the_context_ends() -> None:
    """Once, not before, and not again."""
    ctx = Context()
    seen: list[bool] = []
    ctx.after(lambda: seen.append(ctx.done))
    before = list(seen)

    ctx.cancel()
    ctx.cancel()

    assert before == []
    assert seen == [True]


def test_after_runs_the_latest_first() -> None:
    """As nested blocks would."""
    ctx = Context()
    seen: list[int] = []
    for number in range(4):
        ctx.after(lambda number=number: seen.append(number))  # type: ignore[misc]

    ctx.cancel()

    assert seen == [3, 2, 1, 0]


def test_after_runs_at_once_on_an_ended_context() -> None:
    """It has run when after() returns."""
    ctx = Context()
    ctx.cancel()
    seen: list[str] = []

    registration = ctx.after(lambda: seen.append("ran"))

    assert seen == ["ran"]
    assert not registration.stop()


def test_after_runs_when_a_parent_ends() -> None:
    """Also when the whole chain between them is known to nobody else."""
    root = Context()
    seen: list[str] = []
    Context(Context(root)).after(lambda: seen.append("ran"))

    root.cancel()

    assert seen == ["ran"]


def test_after_finds_the_whole_tree_ended() -> None:
    """Functions run last: whatever they look at has been told."""
    root = Context()
    early, late = Context(root), Context(root)
    seen: list[bool] = []
    for ctx in (early, late):
        ctx.after(lambda: seen.append(early.done and late.done))

    root.cancel()

    assert seen == [True, True]


def test_after_runs_with_the_contextvars_of_the_registration() -> None:
    """Who ends the context does not matter to the function."""
    var = contextvars.ContextVar("var", default="default")
    ctx = Context()
    seen: list[str] = []

    def register() -> None:
        var.set("registered")
        ctx.after(lambda: seen.append(var.get()))

    contextvars.copy_context().run(register)
    ctx.cancel()

    assert seen == ["registered"]


def test_after_holds_no_lock_while_it_runs() -> None:
    """The function may use the context and its registrations as anyone may."""
    root = Context()
    seen: list[object] = []
    withdrawn = root.after(lambda: seen.append("withdrawn"))

    def everything() -> None:
        seen.append(root.cancel())
        seen.append(withdrawn.stop())
        seen.append(Context(root).done)
        root.after(lambda: seen.append("nested"))

    root.after(everything)
    root.cancel()

    assert seen == [False, True, True, "nested"]


@pytest.mark.virtual_clock
async def test_after_runs_when_a_deadline_is_noticed() -> None:
    """Outside of a block nobody waits for the deadline, so it takes a look."""
    seen: list[float] = []
    ctx = Context(timeout=5)
    ctx.after(lambda: seen.append(anyio.current_time()))

    await anyio.sleep(8)
    before = list(seen)
    looked = ctx.done

    assert looked
    assert (before, seen) == ([], [8])


def _hook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what goes to ``sys.unraisablehook``."""
    reported: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)
    return reported


def _fail() -> NoReturn:
    raise ValueError("from after")


def test_error_in_after_goes_to_the_unraisable_hook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cancel() does not raise it, and it says where it comes from."""
    reported = _hook(monkeypatch)
    ctx = Context()
    ctx.after(_fail)

    assert ctx.cancel()
    assert [each.exc_type for each in reported] == [ValueError]
    # Python 3.14 puts into the message what came as the object before.
    told = f"{reported[0].err_msg} {reported[0].object!r}"
    assert f"Context.after({_fail!r})" in told
    assert str(reported[0].exc_value) == "from after"
    assert reported[0].exc_traceback is not None


def test_error_in_after_is_printed_if_nobody_set_a_hook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The interpreter's own hook is as good as another."""
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    ctx = Context()
    ctx.after(_fail)

    assert ctx.cancel()
    printed = capsys.readouterr().err
    assert f"Context.after({_fail!r})" in printed
    assert "ValueError: from after" in printed


def test_error_in_after_is_told_at_once_without_reference_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where garbage is collected later, as by PyPy, the hook is called by hand."""

    def never_called_back(*_: object) -> None:
        return None

    monkeypatch.setattr("safeconc._registration.ref", never_called_back)
    reported = _hook(monkeypatch)
    ctx = Context()
    ctx.after(_fail)

    ctx.cancel()

    assert [each.exc_type for each in reported] == [ValueError]
    # Python 3.14 puts into the message what came as the object before.
    told = f"{reported[0].err_msg} {reported[0].object!r}"
    assert f"Context.after({_fail!r})" in told


def test_hook_that_fails_does_not_fail_the_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cancel() never raises, whoever else made a mistake."""

    def fail(unraisable: object) -> None:
        raise KeyError

    monkeypatch.setattr("sys.unraisablehook", fail)
    seen: list[str] = []
    ctx = Context()
    ctx.after(lambda: seen.append("ran"))
    ctx.after(_fail)

    assert ctx.cancel()
    assert seen == ["ran"]


def test_error_in_after_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other functions run, here and in children; each error is reported."""
    reported = _hook(monkeypatch)
    seen: list[str] = []
    root = Context()
    child = Context(root)
    for ctx in (root, child):
        ctx.after(lambda: seen.append("ran"))
        ctx.after(_fail)

    root.cancel()

    assert seen == ["ran", "ran"]
    assert len(reported) == 2


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("of", ["itself", "its child", "its parent"])
def test_interrupt_in_after_hides_no_other(of: str) -> None:
    """KeyboardInterrupt goes to who ended the context, when all have run."""
    root = Context()
    middle = Context(root)
    contexts = {"itself": middle, "its child": Context(middle), "its parent": root}
    seen: list[str] = []
    for name, ctx in contexts.items():
        ctx.after(lambda name=name: seen.append(name))  # type: ignore[misc]
    contexts[of].after(_interrupt)

    with pytest.raises(KeyboardInterrupt):
        root.cancel()
    assert sorted(seen) == sorted(contexts)
    assert root.statistics() == NOTHING


def test_interrupt_in_after_of_an_ended_context_is_raised() -> None:
    """after() runs the function itself then, so it is who gets the interrupt."""
    ctx = Context()
    ctx.cancel()

    with pytest.raises(KeyboardInterrupt):
        ctx.after(_interrupt)
    assert ctx.statistics() == NOTHING


def test_stopped_function_does_not_run() -> None:
    """stop() before the end withdraws it, and only it."""
    ctx = Context()
    seen: list[str] = []
    ctx.after(lambda: seen.append("kept"))
    registration = ctx.after(lambda: seen.append("stopped"))

    stopped = registration.stop()
    ctx.cancel()

    assert stopped
    assert seen == ["kept"]


def test_stop_tells_that_the_function_runs() -> None:
    """Inside the function, and after it, it is too late."""
    ctx = Context()
    seen: list[bool] = []
    registration = ctx.after(lambda: seen.append(registration.stop()))

    ctx.cancel()

    assert seen == [False]
    assert not registration.stop()


@pytest.mark.parametrize("how", ["run", "stopped"])
def test_join_of_what_is_over_returns(how: str) -> None:
    """There is nothing to wait for, neither once nor twice."""
    ctx = Context()
    registration = ctx.after(lambda: None)
    if how == "stopped":
        registration.stop()
    else:
        ctx.cancel()

    registration.join()
    registration.join()


def test_join_inside_the_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for itself."""
    reported = _hook(monkeypatch)
    ctx = Context()
    registration: Registration

    def fn() -> None:
        registration.join()

    registration = ctx.after(fn)
    ctx.cancel()

    assert str(reported[0].exc_value) == (
        "join() inside the registered function waits for itself"
    )


# By the loop, in the block of a task


@pytest.mark.virtual_clock
@pytest.mark.parametrize("where", ["before the block", "in the block", "in a thread"])
async def test_after_runs_exactly_at_the_deadline(where: str) -> None:
    """The loop's timer notices it, though the task is busy elsewhere."""
    seen: list[float] = []
    clock = _clock()

    def register() -> None:
        ctx.after(lambda: seen.append(clock()))

    ctx = Context(timeout=5)
    if where == "before the block":
        register()
    async with ctx:
        if where == "in the block":
            register()
        elif where == "in a thread":
            in_thread(register)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(8)

    assert seen == [5]


@pytest.mark.virtual_clock
async def test_after_runs_at_a_deadline_that_the_timer_meets_too_early() -> None:
    """A loop may fire a timer before its time, by as much as its clock is coarse."""
    await anyio.sleep_until(1.414374131302845)
    seen: list[float] = []

    async with Context(deadline=6.147231087098862) as ctx:
        ctx.after(lambda: seen.append(anyio.current_time()))
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10)

    assert [now <= ctx.deadline for now in seen] == [True]


@pytest.mark.virtual_clock
async def test_after_may_be_registered_in_the_function() -> None:
    """One timer serves all; what comes later runs at once."""
    seen: list[float] = []

    async with Context(timeout=5) as ctx:
        ctx.after(lambda: seen.append(anyio.current_time()))
        ctx.after(lambda: ctx.after(lambda: seen.append(-1)))
        with anyio.CancelScope(shield=True):
            await anyio.sleep(8)

    assert seen == [-1, 5]


@pytest.mark.virtual_clock
async def test_after_runs_when_the_block_is_left_early() -> None:
    """Once; its timer is withdrawn."""
    seen: list[float] = []

    async with Context(timeout=5) as ctx:
        ctx.after(lambda: seen.append(anyio.current_time()))
        await anyio.sleep(2)
    await anyio.sleep(8)

    assert seen == [2]


@pytest.mark.virtual_clock
async def test_stopped_function_does_not_run_at_the_deadline() -> None:
    """The timer finds nothing to do."""
    seen: list[float] = []

    with pytest.raises(DeadlineExceeded):
        async with Context(timeout=5) as ctx:
            registration = ctx.after(lambda: seen.append(anyio.current_time()))
            await anyio.sleep(2)
            registration.stop()
            await anyio.sleep_forever()
    assert seen == []


@pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="PyPy promises of no object that it is collected by now",
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
async def test_timer_is_over_when_the_block_is_left(*, at_once: bool) -> None:
    """Nothing keeps a context whose deadline is far away."""
    async with Context(timeout=1e6) as ctx:
        for _ in range(2):
            ctx.after(lambda: None)
            if not at_once:
                await anyio.wait_all_tasks_blocked()
    forgotten = weakref.ref(ctx)
    del ctx
    await anyio.wait_all_tasks_blocked()
    collect(forgotten)

    assert forgotten() is None


@on_trio
async def test_timer_of_trio_is_a_task_that_ends_with_the_block() -> None:
    """It is over when the block has been left, also in a cancelled scope."""
    living: list[int] = []

    def count() -> None:
        living.append(trio.lowlevel.current_statistics().tasks_living)

    count()
    with trio.CancelScope() as scope:
        async with Context(timeout=5) as ctx:
            ctx.after(lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            count()
            scope.cancel()
            await trio.sleep_forever()
    count()

    assert living == [living[0], living[0] + 1, living[0]]


async def test_join_is_refused_in_a_task() -> None:
    """It would stop the loop; when the function has run it need not wait."""
    ctx = Context()
    registration = ctx.after(lambda: None)

    with pytest.raises(RuntimeError, match=r"anyio\.to_thread\.run_sync"):
        registration.join()
    ctx.cancel()
    registration.join()


def _sleep(ctx: Context) -> None:
    ctx.sleep(1)


@pytest.mark.parametrize("wait", [Context.wait, _sleep])
@pytest.mark.parametrize("ended", [False, True], ids=["live", "ended"])
async def test_waits_of_threads_are_refused_in_a_task(
    wait: Callable[[Context], object], *, ended: bool
) -> None:
    """A task that blocks its thread blocks all; the message names the await."""
    ctx = Context()
    if ended:
        ctx.cancel()

    with pytest.raises(RuntimeError, match=r"await ctx.wait_cancelled\(\)"):
        wait(ctx)
    assert ctx.statistics().waiters == 0


# By a helper, in the block of a thread


def test_function_runs_in_the_thread_that_ended_it() -> None:
    """The caller of cancel() runs it."""
    ctx = Context()
    seen: list[int] = []
    ctx.after(lambda: seen.append(threading.get_ident()))

    thread = threading.Thread(target=ctx.cancel)
    thread.start()
    ident = thread.ident
    thread.join()

    assert seen == [ident]


def test_join_waits_for_the_function() -> None:
    """When it returns the function has, too, in whatever thread that was."""
    ctx = Context()
    seen: list[str] = []
    begun = threading.Event()

    def fn() -> None:
        begun.set()
        for _ in range(100):  # let the other thread come as far as it can
            time.sleep(0)
        seen.append("ran")

    registration = ctx.after(fn)
    thread = threading.Thread(target=ctx.cancel)
    thread.start()
    begun.wait()
    registration.join()

    assert seen == ["ran"]
    thread.join()


def test_join_is_released_by_stop() -> None:
    """There is no longer anything to wait for."""
    registration = Context().after(lambda: None)
    thread = threading.Thread(target=registration.join)
    thread.start()

    registration.stop()

    thread.join()


@pytest.mark.parametrize("when", ["before", "inside"])
def test_deadline_in_a_block_runs_the_function(when: str) -> None:
    """A helper thread notices it while the block's thread is busy."""
    ctx = standing_still(0.001)
    ran = threading.Event()
    seen: list[str] = []

    def fn() -> None:
        seen.append(threading.current_thread().name)
        ran.set()

    if when == "before":
        ctx.after(fn)
    with ctx:
        if when == "inside":
            ctx.after(fn)
        ran.wait()

    assert seen == ["Context: after"]
    assert type(ctx.err) is DeadlineExceeded


def _helpers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.endswith(": after")]


def test_helper_is_started_once_and_joined() -> None:
    """One thread serves all functions, and is over when the block has been left."""
    with Context(timeout=1e9) as ctx:
        without = len(_helpers())
        for _ in range(3):
            ctx.after(lambda: None)
        with_three = _helpers()

    assert (without, len(with_three)) == (0, 1)
    assert not with_three[0].is_alive()


def test_no_helper_without_a_deadline() -> None:
    """Who cancels runs the functions; there is nothing to watch."""
    with Context() as ctx:
        ctx.after(lambda: None)

        assert _helpers() == []


def test_no_helper_outside_of_the_block() -> None:
    """It would have no owner."""
    ctx = Context(timeout=1e9)
    ctx.after(lambda: None)
    outside = _helpers()
    with ctx:
        pass
    Context(ctx).after(lambda: None)

    assert outside == []
    assert _helpers() == []


def test_after_fails_if_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The function is withdrawn then, and the block can be left."""
    seen: list[str] = []

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Context(timeout=1e9) as ctx:
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", start)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                ctx.after(lambda: seen.append("refused"))
        ctx.after(lambda: seen.append("accepted"))

    assert seen == ["accepted"]


def test_block_may_be_left_while_another_thread_registers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The helper that is about to be started then is no reason to fail."""
    starting = threading.Event()
    left = threading.Event()
    original = threading.Thread.start
    seen: list[str] = []

    def start(self: threading.Thread) -> None:
        starting.set()
        left.wait(0.05)
        original(self)

    ctx = Context(timeout=1e9)
    thread = threading.Thread(target=lambda: ctx.after(lambda: seen.append("ran")))
    with ctx:
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", start)
            original(thread)
            starting.wait()
    left.set()
    thread.join()
    for helper in _helpers():
        helper.join()

    assert seen == ["ran"]
