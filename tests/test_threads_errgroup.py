"""What a group of threads promises beyond what holds in every world."""

import os
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

import pytest

from safeconc import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    _block,
    check,
    current_context,
)
from safeconc.threads import ErrGroup, Task
from safeconc.threads._crew import Crew
from safeconc.threads._siblings import Siblings
from safeconc.threads._waiter import Waiter
from safeconc.threads._worker import StuckThread, Worker
from tests.together import in_thread

starts = pytest.mark.parametrize("method", ["go", "go_nowait", "go_background"])
"""Run a test for each way to start a child."""


def sleep_forever() -> None:
    """Wait for the end."""
    context = current_context()
    assert context is not None
    context.wait()
    context.check()


def fail(error: BaseException) -> NoReturn:
    """Raise *error*."""
    raise error


# Its threads


def test_threads_are_named_after_the_group() -> None:
    """And numbered in the order in which they were needed."""
    with ErrGroup(limit=2, name="crawl") as group:
        names = [group.go(lambda: threading.current_thread().name) for _ in range(2)]
        assert names[0].wait().startswith("crawl: worker-")

    assert {task.result() for task in names} <= {"crawl: worker-1", "crawl: worker-2"}


def test_thread_is_used_again() -> None:
    """One child after the other needs one thread."""
    with ErrGroup(limit=5) as group:
        idents: list[int] = []
        for _ in range(5):
            task = group.go(threading.get_ident)
            idents.append(task.wait())
            while group.statistics().running:
                check()

    assert len(set(idents)) == 1


def test_a_full_group_has_a_thread_for_each_child() -> None:
    """And not one more, however many children there are."""
    with ErrGroup(limit=3) as group:
        for _ in range(50):
            group.go(threading.get_ident)

        assert len(group._siblings.workers) <= 3


def test_no_thread_is_left() -> None:
    """All have ended when the block has been left, and are known to have."""
    seen: list[threading.Thread] = []

    with ErrGroup(limit=None) as group:
        for _ in range(5):
            group.go(lambda: seen.append(threading.current_thread()))
        group.go_background(sleep_forever)

    assert not any(thread.is_alive() for thread in seen)
    assert group._siblings.workers == {}


def test_child_may_end_in_any_context_of_its_caller() -> None:
    """A group can be used from threads that are not its own."""
    tasks: list[Task[int]] = []

    def use() -> None:
        for value in range(3):
            tasks.append(group.go(abs, -value))
            group.go_background(abs, -value)

    with ErrGroup(limit=1) as group:
        in_thread(use)
        in_thread(use)

    assert [task.result() for task in tasks] == [0, 1, 2, 0, 1, 2]


# Waits


def test_wait_ends_with_the_ambient_context() -> None:
    """The child goes on: it is the caller who has no more time."""
    event = Context.root()

    with ErrGroup(limit=None) as group:
        task = group.go(event.wait)
        with pytest.raises(DeadlineExceeded), Context(timeout=0.001):
            task.wait()
        assert not task.done
        event.cancel()

    assert task.result() is True


def test_wait_of_one_that_is_over_is_a_checkpoint_too() -> None:
    """A result that is there does not hide the end of the caller."""
    with ErrGroup(limit=None) as group:
        task = group.go(abs, -1)
        task.wait()
        with Context() as ctx:
            ctx.cancel()
            with pytest.raises(ContextCancelled):
                task.wait()
            with pytest.raises(ContextCancelled):
                group.go(abs, -1)
            with pytest.raises(ContextCancelled):
                group.go_background(abs, -1)

    assert group.statistics().started == 1


def test_wait_for_a_child_that_is_cancelled_with_the_caller() -> None:
    """Hears of the caller's own end, which is no error of the child's."""
    with ErrGroup(limit=None) as group:
        task = group.go(sleep_forever)
        group.go(group.cancel)
        task.wait()
        pytest.fail("the body went on")

    assert group.errors == ()


def test_waiting_outside_ends_with_the_parents_of_the_group() -> None:
    """A thread that is no member is told, also if nobody has left the block yet."""
    caught: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError) as refused:
            group.go(abs, -1)
        caught.append(str(refused.value))

    with (
        Context() as outer,
        pytest.raises(ContextCancelled),
        ErrGroup(limit=1) as group,
    ):
        group.go(sleep_forever)
        thread = threading.Thread(target=ask)
        thread.start()
        while not group.statistics().waiting:
            check()
        outer.cancel()
        thread.join()  # before the end of the block
        check()

    assert caught == ["this ErrGroup has ended; start work inside its 'with' block"]


def test_waiting_outside_ends_also_if_no_slot_comes_free() -> None:
    """A child that ignores its end keeps nobody else waiting."""
    let_go = threading.Event()
    caught: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError) as refused:
            group.go(abs, -1)
        caught.append(str(refused.value))
        let_go.set()

    thread = threading.Thread(target=ask)
    with ErrGroup(limit=1) as group:
        group.go(let_go.wait)
        thread.start()
        while not group.statistics().waiting:
            check()
        group.cancel()
        thread.join()

    assert caught == ["this ErrGroup has ended; start work inside its 'with' block"]


def test_slot_that_comes_free_after_the_end_is_nobodys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who stands in line then is refused, not given a child that never begins."""
    wait = Waiter.wait
    caught: list[str] = []

    def wait_late(self: Waiter, *args: Any) -> object:
        while group.statistics().waiting:
            time.sleep(0)
        return wait(self, *args)

    def ask() -> None:
        with pytest.raises(RuntimeError) as refused:
            group.go(abs, -1)
        caught.append(str(refused.value))

    thread = threading.Thread(target=ask)
    with ErrGroup(limit=1) as group:
        group.go(sleep_forever)
        monkeypatch.setattr(Waiter, "wait", wait_late)
        thread.start()
        while not group.statistics().waiting:
            check()
        group.cancel()
        thread.join()

    assert caught == ["this ErrGroup has ended; start work inside its 'with' block"]


@starts
async def test_a_task_is_told_to_use_tasks(method: str) -> None:
    """A block of threads would stop the event loop at its end."""
    group = ErrGroup(limit=1)
    with pytest.raises(RuntimeError, match=r"in a task use .* in safeconc, not"):
        group.__enter__()
    with pytest.raises(RuntimeError, match="has not been entered"):
        getattr(group, method)(abs, -1)


async def test_waits_in_a_task_are_refused() -> None:
    """Whoever's group it is."""
    tasks: list[Task[int]] = []
    opened, over = threading.Event(), Context.root()

    def own() -> None:
        with ErrGroup(limit=None) as group:
            groups.append(group)
            tasks.append(group.go(abs, -1))
            opened.set()
            over.wait()

    groups: list[ErrGroup] = []
    thread = threading.Thread(target=own)
    thread.start()
    opened.wait()
    try:
        with pytest.raises(RuntimeError, match="in a task use"):
            groups[0].go(abs, -1)
        with pytest.raises(RuntimeError, match="in a task use"):
            tasks[0].wait()
        groups[0].go_nowait(abs, -1)  # which does not wait
    finally:
        over.cancel()
        thread.join()


# What counts as a cancellation


def test_end_of_a_parent_raises_the_contexts_error() -> None:
    """A block that was cut short from above says so, with the cause."""
    tasks: list[Task[Any]] = []
    cause = LookupError("why")

    with Context() as outer:
        group = ErrGroup(limit=None, name="crawl")
        with pytest.raises(ContextCancelled, match="crawl was cancelled") as caught:
            with group:
                tasks.append(group.go(sleep_forever))
                outer.cancel(cause)
                check()

    assert caught.value is group.context.err
    assert caught.value.__cause__ is cause
    assert repr(tasks[0]) == "<Task sleep_forever cancelled>"


def test_parents_end_counts_also_in_a_finished_body() -> None:
    """While children are waited for, the block is not done."""
    with Context() as outer:
        with pytest.raises(ContextCancelled), ErrGroup(limit=None) as group:
            group.go(sleep_forever)
            group.go(outer.cancel)

    assert group.errors == ()


def test_end_of_a_parent_that_cut_nothing_short_is_none() -> None:
    """A body that ran to its end, with no child left, was not cut short."""
    with Context() as outer, ErrGroup(limit=None) as group:
        group.go(abs, -1).wait()
        while group.statistics().running:
            pass
        outer.cancel()

    assert group.context.done


def test_body_may_raise_the_end_of_a_context_below() -> None:
    """It ended with ours and says the same."""
    with ErrGroup(limit=None) as group, Context() as inner:
        group.cancel()
        inner.check()

    assert group.errors == ()


def test_cancellation_that_none_of_us_caused_is_a_failure() -> None:
    """A child that waited on a context of its own has not done its work."""
    other = Context.root(name="other")
    other.cancel()

    group = ErrGroup(limit=None)
    with pytest.raises(ContextCancelled, match="other was cancelled"), group:
        group.go(other.check)

    assert len(group.errors) == 1


def test_deadline_of_a_child_is_its_failure() -> None:
    """The group's context has none."""

    def hurry() -> None:
        with Context(timeout=0) as ctx:
            ctx.check()

    group = ErrGroup(limit=None)
    with pytest.raises(DeadlineExceeded), group:
        group.go(hurry)

    assert len(group.errors) == 1


def test_refusal_counts_as_cancellation_in_a_member() -> None:
    """A service that starts something at the very end was about to be stopped."""

    def serve() -> None:
        with Context.root():
            while True:
                group.go(abs, -1)

    with ErrGroup(limit=None) as group:
        service = group.go_background(serve)

    assert repr(service).endswith("serve cancelled>")


def test_what_a_child_started_in_its_context_ends_with_it() -> None:
    """Its context is over, also if it returned."""
    contexts: list[Context] = []

    def look() -> None:
        contexts.append(Context())

    with ErrGroup(limit=None) as group:
        group.go(look).wait()

        assert contexts[0].done


def in_line(group: ErrGroup) -> list[tuple[Any, Task[Any]]]:
    """Return who waits for a slot. Without the lock some may be counted, not listed."""
    with group._siblings.lock:
        return list(group._slots._line)


def test_child_cancelled_before_it_began_does_not_begin() -> None:
    """There is no thread that could not be stopped."""
    with ErrGroup(limit=1) as group:
        event = Context.root()
        holder = group.go(event.wait)
        late: list[Task[object]] = []

        def ask() -> None:
            late.append(group.go(pytest.fail))

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            while not (line := in_line(group)):
                check()
            ((_, waiting),) = line
            waiting.cancel()
        finally:
            event.cancel()
        asker.join()

    assert holder.result() is True
    assert repr(late[0]).endswith(" cancelled>")


# Orders to the program


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
def test_order_from_a_child_stays_bare(order: type[BaseException]) -> None:
    """The owner raises it as soon as it looks, and not in a group."""
    group = ErrGroup(limit=None, errors="group")
    with pytest.raises(order), group:
        group.go(fail, order())
        sleep_forever()


def test_order_outranks_an_earlier_error() -> None:
    """It is meant for the whole program."""
    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        try:
            group.go(fail, ValueError("first"))
            sleep_forever()
        finally:
            raise KeyboardInterrupt

    assert [type(error) for error in group.errors] == [ValueError, KeyboardInterrupt]


def test_order_out_of_a_registered_function_is_heard() -> None:
    """Whoever's failure it was that had it called."""
    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        group.context.after(lambda: fail(KeyboardInterrupt()))
        group.go(fail, ValueError("first"))

    assert [type(error) for error in group.errors] == [ValueError, KeyboardInterrupt]


def test_order_out_of_a_function_that_the_end_calls_is_heard() -> None:
    """Also if nothing had failed."""
    group = ErrGroup(limit=None)
    with pytest.raises(KeyboardInterrupt), group:
        group.context.after(lambda: fail(KeyboardInterrupt()))


# What is refused


def coroutine_function() -> Any:
    """Return a coroutine, without looking like it."""

    async def inner() -> None: ...

    return inner()


@starts
def test_coroutine_function_is_refused(method: str) -> None:
    """It would return at once, and its coroutine would be awaited by nobody."""

    async def fetch() -> None: ...

    with ErrGroup(limit=None) as group:
        with pytest.raises(
            TypeError, match=r"got the coroutine function .*fetch, which"
        ):
            getattr(group, method)(fetch)


def test_returned_coroutine_is_a_failure() -> None:
    """What does not look like it is found out when it has run."""
    group = ErrGroup(limit=None)
    with pytest.raises(TypeError, match="use the primitive of the same name"), group:
        group.go(coroutine_function)


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_grace_below_zero_is_refused(grace: float) -> None:
    """It is a number of seconds."""
    with pytest.raises(ValueError, match="grace"):
        ErrGroup(limit=None, grace=grace)


# Faults


def refuse_threads(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the system give *after* more threads only."""
    start = threading.Thread.start
    left = [after]

    def refuse(self: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@starts
def test_thread_that_cannot_be_started_fails_the_call(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """And with it the block; nothing is left of the child."""
    tasks: list[Task[Any]] = []
    refuse_threads(monkeypatch, after=1)

    group = ErrGroup(limit=3, name="crawl")
    with pytest.raises(RuntimeError, match="can't start") as caught, group:
        tasks.append(group.go(sleep_forever))
        getattr(group, method)(abs, -1)

    assert caught.value.__notes__ == ["ErrGroup 'crawl' had 1 threads already"]
    assert repr(tasks[0]) == "<Task sleep_forever cancelled>"
    assert group.statistics().started == 1
    assert group.statistics().running == group.statistics().background == 0


def test_call_that_found_no_thread_has_had_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who catches its error has a group that works as before."""
    with ErrGroup(limit=1) as group:
        with monkeypatch.context() as patch:
            refuse_threads(patch, after=0)
            with pytest.raises(RuntimeError, match="can't start"):
                group.go(abs, -1)

        assert group.go(abs, -1).wait() == 1


def test_slot_of_a_child_without_a_thread_goes_to_the_next_in_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which then starts a thread itself."""
    results: list[int] = []

    def ask() -> None:
        results.append(group.go(abs, -1).wait())

    def refuse(self: threading.Thread) -> None:
        monkeypatch.undo()
        asker.start()
        while not group.statistics().waiting:
            check()
        raise RuntimeError("can't start new thread")

    with ErrGroup(limit=1) as group:
        asker = threading.Thread(target=ask)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            group.go(abs, -2)
        asker.join()

    assert results == [1]
    assert group.statistics().started == 1


def test_group_may_end_before_the_next_in_line_has_started_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then there is nothing to start it for."""
    refused: list[str] = []
    wait = Waiter.wait

    def wait_on(*args: Any) -> object:
        handed = wait(*args)
        while not group._siblings.over:
            check()
        return handed

    def ask() -> None:
        with pytest.raises(RuntimeError) as caught:
            group.go(abs, -1)
        refused.append(str(caught.value))

    def refuse(self: threading.Thread) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(Waiter, "wait", wait_on)
        asker.start()
        while not group.statistics().waiting:
            check()
        raise RuntimeError("can't start new thread")

    asker = threading.Thread(target=ask)
    group = ErrGroup(limit=1)
    with pytest.raises(RuntimeError, match="can't start"), group:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        group.go(abs, -2)
    asker.join()

    assert refused[0].startswith("this ErrGroup has failed and starts nothing more")
    assert group.statistics().running == group.statistics().started == 0


@pytest.mark.parametrize("begun", [True, False])
def test_interrupt_while_a_thread_is_started(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """Whether the thread has begun or not, none is left, and none is waited for."""
    start = threading.Thread.start

    def interrupt(self: threading.Thread) -> None:
        if begun:
            start(self)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ErrGroup(limit=1) as group:
        monkeypatch.setattr(threading.Thread, "start", interrupt)
        group.go(sleep_forever)

    assert group._siblings.workers == {}
    assert group.statistics().running == 0


@starts
def test_interrupt_while_a_worker_is_chosen(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """There is one, and nobody to start it: it is not waited for."""
    hand = Crew.hand

    def interrupt(self: Crew, job: Any) -> None:
        hand(self, job)
        raise KeyboardInterrupt

    monkeypatch.setattr(Crew, "hand", interrupt)
    with pytest.raises(KeyboardInterrupt), ErrGroup(limit=1) as group:
        getattr(group, method)(sleep_forever)

    assert group._siblings.workers == {}
    assert group.statistics().running == group.statistics().background == 0


@starts
def test_thread_that_was_never_started_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A Ctrl-C may come between the choice of a worker and its start."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    group = ErrGroup(limit=1)
    with pytest.raises(KeyboardInterrupt), group:
        monkeypatch.setattr(group._crew, "start", interrupt)
        getattr(group, method)(sleep_forever)

    assert group._siblings.workers == {}
    assert group.statistics().running == group.statistics().background == 0


@starts
def test_slot_of_an_interrupted_start_is_free_again(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A body that catches the Ctrl-C may go on, with as many slots as before."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ran: list[int] = []
    with ErrGroup(limit=1) as group:
        with monkeypatch.context() as patch:
            patch.setattr(group._crew, "start", interrupt)
            with pytest.raises(KeyboardInterrupt):
                getattr(group, method)(ran.append, 1)
        assert group.statistics().running == group.statistics().background == 0
        group.go(ran.append, 2).wait()

    assert ran == [2]


@pytest.mark.parametrize("how", ["in line", "left", "handed", "dissolved"])
def test_interrupted_wait_for_a_slot_leaves_nobody_in_line(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """And a slot that it was handed is free again."""
    ran: list[int] = []

    def interrupt(waiter: Waiter, lock: Any, leave: Any, *_: object) -> None:
        with lock:
            if how == "left":
                leave(waiter)
            if how == "handed":
                group._undo_start()  # of the one who has the slot
            if how == "dissolved":
                group._dissolve()
        raise KeyboardInterrupt

    with ErrGroup(limit=1) as group:
        with group._siblings.lock:
            assert group._slots.take()
        with monkeypatch.context() as patch:
            patch.setattr(Waiter, "wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                group.go(ran.append, 1)
        assert group.statistics().waiting == 0
        with group._siblings.lock:
            if how != "handed":
                group._slots.free()
            assert group._slots.taken == 0
        group.go(ran.append, 2)

    assert ran == [2]


def test_cancel_takes_no_lock() -> None:
    """A signal handler may interrupt the thread that holds the group's."""
    with ErrGroup(limit=1) as group:
        task = group.go(sleep_forever)
        with group._siblings.lock:
            task.cancel()
            group.cancel()
            group.context.cancel()
            group.statistics()

    assert group.errors == ()


def run(script: str) -> str:
    """Run *script* in an interpreter of its own; return what it printed."""
    done = subprocess.run(  # noqa: S603 - it is our own
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        check=True,
        text=True,
        timeout=50,
    )
    assert done.stderr == ""
    return done.stdout


def test_interpreter_exits_with_a_group_open() -> None:
    """Its threads are daemons: nothing waits for a block that nobody will leave."""
    printed = run(
        "import threading\n"
        "from safeconc.threads import ErrGroup\n"
        "opened = threading.Event()\n"
        "def own():\n"
        "    with ErrGroup(limit=None) as group:\n"
        "        group.go(threading.Event().wait)\n"
        "        opened.set()\n"
        "        threading.Event().wait()\n"
        "threading.Thread(target=own, daemon=True).start()\n"
        "opened.wait()\n"
        "print('over')\n"
    )
    assert printed == "over\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_child_of_a_fork_leaves_the_block_at_once() -> None:
    """It has none of the threads, and starts none in their place."""
    printed = run(
        "import os, sys\n"
        "from safeconc.threads import ErrGroup\n"
        "from safeconc import Context, current_context\n"
        "try:\n"
        "    with ErrGroup(limit=None) as group:\n"
        "        event = Context.root()\n"
        "        group.go(event.wait)\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            try:\n"
        "                group.go(print)\n"
        "            except RuntimeError as exc:\n"
        "                print(exc, flush=True)\n"
        "            raise LookupError\n"
        "        os.waitpid(child, 0)\n"
        "        event.cancel()\n"
        "except LookupError:\n"
        "    print('child', current_context(), flush=True)\n"
        "    os._exit(0)\n"
        "print('parent')\n"
    )
    assert printed == (
        "this ErrGroup was left behind in the process that has forked this one, with "
        "its threads; make a new one\nchild None\nparent\n"
    )


def test_block_in_the_child_of_a_fork_takes_no_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that is not there may have held it."""
    workers: list[Worker] = []
    group = ErrGroup(limit=None)
    with pytest.raises(LookupError), group:
        group.go(abs, -1)
        workers.extend(group._siblings.workers)
        monkeypatch.setattr(_block, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="was left behind"):
            group.go(abs, -1)
        group._siblings.lock.acquire()
        raise LookupError
    group._siblings.lock.release()

    assert current_context() is None
    assert workers[0].thread.is_alive()
    group._siblings.close()
    workers[0].thread.join()


def test_thread_that_begins_after_it_was_given_up_does_nothing() -> None:
    """Whoever claims the start first, the thread or its owner, decides."""
    did: list[Worker] = []
    worker = Worker("late", did.append)

    assert worker.prevent()
    worker.thread.start()
    worker.thread.join()
    assert did == []
    assert worker.stuck() == StuckThread(
        "late", worker.ident, "nothing", "  not in Python code"
    )


def test_error_of_our_own_ends_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that happens in a thread is lost."""

    def settle(worker: Worker) -> NoReturn:
        raise LookupError

    group = ErrGroup(limit=None)
    with pytest.raises(LookupError), group:
        monkeypatch.setattr(group, "_settle", settle)
        group.go(abs, -1)

    assert group._siblings.workers == {}


def test_member_that_starts_another_at_the_last_moment_is_waited_for() -> None:
    """What looked done to the owner need not be when it has the lock."""
    with ErrGroup(limit=None) as group:
        task = group.go(abs, -1)
        looks = iter([False, True, False])  # with the lock, in the wait, with it
        is_done = group._siblings.is_done
        group._siblings.is_done = lambda: next(looks, is_done())

    assert task.done


def test_crew_has_no_more_workers_than_its_limit() -> None:
    """Who asks for one more gets none: there is enough."""
    block = Siblings("Block", None)
    crew = Crew(block, lambda _: None, limit=1)

    assert crew.hire() is not None
    assert crew.hire() is None


def test_jobs_are_left_to_who_is_free_first() -> None:
    """One idle worker is called for all, and it calls the next before it begins."""
    block = Siblings("Block", None)
    crew = Crew(block, lambda _: None, limit=None)
    workers = [crew.hand(0) for _ in range(3)]
    busy, second, first = (worker for worker in workers if worker is not None)
    assert crew.seek(second)
    assert crew.seek(first)

    assert crew.hand(1) is crew.hand(2) is None
    assert (first.called, second.called) == (True, False)
    assert crew.hand(3) is not None, "as many as are idle or coming"
    assert not crew.seek(first)
    assert (first.job, second.called) == (1, True)
    assert not crew.seek(busy)
    assert busy.job == 2
    assert crew.seek(second), "there is none left"


def parted(group: ErrGroup) -> None:
    """Wait until the body is over."""
    while group._state != "joining":
        check()


def test_threads_go_home_one_by_one_as_the_block_is_left() -> None:
    """None rests to be woken by the end, and none is kept for nothing."""
    last = threading.Event()

    def wait_for_the_others() -> None:
        while len(group._siblings.workers) > 1:
            check()
        last.set()

    with ErrGroup(limit=None) as group:
        for _ in range(3):
            group.go(parted, group)
        group.go(wait_for_the_others)

    assert last.is_set()


def test_children_that_start_others_as_the_block_is_left_keep_their_threads() -> None:
    """The first one that is late costs a thread, and all that follow use it again."""
    seen: set[int] = set()

    def drive() -> None:
        parted(group)
        for _ in range(50):
            seen.add(group.go(threading.get_ident).wait())
            while not group._crew._idle:  # it has ended, and may not rest yet
                check()

    with ErrGroup(limit=None) as group:
        group.go(drive)

    assert len(seen) == 1


def test_jobs_that_are_left_at_the_end_are_seen_to() -> None:
    """All are called then, and each takes one: a child is cancelled, not forgotten."""
    crew = Crew(Siblings("Block", None), lambda _: None, limit=None)
    second, first = (worker for worker in (crew.hand(0), crew.hand(0)) if worker)
    assert crew.seek(second)
    assert crew.seek(first)
    crew.hand(1)
    crew.hand(2)

    crew.close()
    assert not crew.seek(first)
    assert not crew.seek(second)
    assert (first.job, second.job) == (1, 2)


def test_call_that_a_ctrl_c_cut_short_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next child wakes the thread, which does both."""
    calls: list[Worker] = []

    def call(worker: Worker) -> None:
        calls.append(worker)
        worker.called = True
        if len(calls) == 1:
            raise KeyboardInterrupt

    crew = Crew(Siblings("Block", None), lambda _: None, limit=None)
    workers = [crew.hand(0), crew.hand(0)]
    for worker in workers:
        assert worker is not None
        assert crew.seek(worker)
    monkeypatch.setattr(Worker, "call", call)

    with pytest.raises(KeyboardInterrupt):
        crew.hand(1)
    assert crew.hand(2) is None
    assert calls == [workers[1], workers[1]]


def test_thread_is_to_be_joined_before_it_counts_as_gone() -> None:
    """The owner looks at both without the lock."""
    block = Siblings("Block", None)

    class Workers(dict[Worker, None]):
        def __delitem__(self, worker: Worker) -> None:
            assert worker.thread in block._gone
            super().__delitem__(worker)

    worker = Worker("worker", lambda _: None)
    block.workers = Workers({worker: None})
    block.leave(worker)

    assert block.workers == {}
