"""Siblings that fail together, each in a thread."""

from _thread import get_ident
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context as ContextVars
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, TypeVarTuple, final

import anyio
from typing_extensions import override

from safeconc._block import Members, without
from safeconc._callables import check_blocking, check_returned, name_of
from safeconc._child import Child, Group, circle_error
from safeconc._context import (
    Context,
    ContextCancelled,
    DeadlineExceeded,
    ambient,
    check,
)
from safeconc._limit import check_limit
from safeconc._policy._failures import Mode
from safeconc._policy._slots import Slots
from safeconc._site import caller_of
from safeconc.threads._crew import Crew
from safeconc.threads._siblings import Siblings
from safeconc.threads._waiter import ADVICE, Waiter, refuse_task
from safeconc.threads._worker import Worker

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Args = TypeVarTuple("Args")

_TAKEN, _FREE, _ENDED = object(), object(), object()
"""Handed to who waits for a slot: a worker has it and the child; it needs a worker;
there will be none any more."""


@final
class Task(Child[R_co]):
    """A child of a :class:`threads.ErrGroup`: its result, when there is one."""

    __slots__ = ("_awaiters", "_call", "_context", "_group")

    WAITING: ClassVar[str] = "call wait()"

    def __init__(
        self,
        group: "ErrGroup",
        fn: Callable[..., R_co],
        args: tuple[Any, ...],
        name: str | None,
    ) -> None:
        super().__init__(name or name_of(fn), caller_of(2))
        self._group = group
        self._context = Context(group.context, name=self._name)
        variables = copy_context()
        variables.run(ambient.set, self._context)
        self._call: _Call | None = (variables, fn, args)
        self._awaiters: dict[Waiter, None] | None = None

    def wait(self) -> R_co:
        """Block until the child has ended; return its result or raise its error.

        That very object; the group reports it once all the same. A child that was
        cancelled raises :exc:`anyio.TaskCancelled`, since the error of its context
        would look like the caller's own. The end of the ambient context ends the wait.
        """
        check()
        refuse_task()
        if self._group._current_member() is self and not self._done:
            self._refuse_own_wait()
        waiter = Waiter()
        lock = self._group._siblings.lock
        with lock:
            if self._done:
                waiter.hand()
            elif self._awaiters is None:
                self._awaiters = {waiter: None}
            else:
                self._awaiters[waiter] = None
        waiter.wait(lock, self._forget)
        if self._cancelled:
            # What cancelled the child may have cancelled the caller, too, and then
            # that, not the child's end, is what it has to hear of.
            check()
        return self.result()

    def cancel(self) -> None:
        """Have the child see its end. If it has ended, or does not look, it stays.

        From anywhere, like :meth:`Context.cancel`.
        """
        self._context.cancel()

    @override
    def _is_cancelling(self) -> bool:
        return self._context.done

    def _forget(self, waiter: Waiter) -> None:
        assert self._awaiters is not None
        del self._awaiters[waiter]

    def _run(self) -> None:
        """Be the child; in the thread of a worker."""
        call, self._call = self._call, None
        assert call is not None
        variables, fn, args = call
        group, context = self._group, self._context
        value = error = None
        cancelled = context.done  # before it began: it does not begin
        if not cancelled:
            try:
                try:
                    value = variables.run(fn, *args)
                    check_returned(value, ADVICE)
                finally:
                    context._leave()  # what it started in there ends with it
            except BaseException as exc:  # noqa: BLE001 - judged here
                error = without(exc, self._is_aftermath)
                cancelled = error is None
        if error is not None:
            # Who waits for the child is to hear this, not that the block has ended.
            with group._siblings.lock:
                self._end(None, error, cancelled=False)
            group._siblings.fail(error)
        else:
            with group._siblings.lock:
                self._end(value, None, cancelled=cancelled)

    def _is_aftermath(self, exc: BaseException) -> bool:
        return self._context._explains(exc) or self._group._siblings.is_aftermath(exc)

    def _end(self, value: Any, error: BaseException | None, *, cancelled: bool) -> None:
        """Publish how the child ended, and wake who waits; under the group's lock."""
        self._value = value
        self._error = error
        self._cancelled = cancelled
        self._done = True
        for waiter in self._awaiters or ():
            waiter.hand()
        self._awaiters = None


_Call: TypeAlias = tuple[ContextVars, Callable[..., Any], tuple[Any, ...]]
_Place: TypeAlias = tuple[Waiter, Task[Any]]


@final
class ErrGroup(Group[Siblings]):
    """Run children in threads that fail together; be over when the block is left.

    ::

        with ErrGroup(limit=10) as group:
            page = group.go(fetch, url)             # waits for a free slot
            size = group.go(measure, url)
        print(page.result(), size.result())

    The first error, of a child or of the body, ends the block at once: the context
    that siblings and body run in is cancelled, they are waited for, and that error
    itself is raised. What failed later is in :attr:`errors` and in a note on it.

    **Nothing can stop a thread.** Children and body *see* the end: the waits of this
    library raise, :func:`safeconc.check` does, ``current_context().done`` tells it.
    A child that does not look is waited for, and reported every five seconds to the
    logger ``safeconc``, by name and stack.

    Threads are started as they are needed, at most one for each child that runs,
    named after the group, and used again for the next child. All have ended when the
    block has been left.

    :param limit: children that may run at once; further calls of :meth:`go` wait.
        ``None`` says aloud that there is no bound.
    :param errors: ``"first"`` raises the first error, ``"group"`` an
        :exc:`ExceptionGroup` of all.
    :param grace: seconds that a child may go on after the block was to end; then
        :exc:`StuckThreadsError` gives up those that still run. None waits for ever.
    :param name: shown in errors, dumps, and the names of threads.
    """

    def __init__(
        self,
        *,
        limit: int | None,
        errors: Mode = "first",
        grace: float | None = None,
        name: str | None = None,
    ) -> None:
        self._slots: Slots[_Place, Task[Any]] = Slots(check_limit(limit))
        self._siblings = Siblings("ErrGroup", name, errors, grace)
        self._siblings.on_over = self._on_over
        self._siblings.is_done = self._is_done
        self._siblings.members = self._who_works
        self._siblings.dismiss = self._dismiss
        self._siblings.on_lost = self._lose
        self._crew = Crew(self._siblings, self._work, None)
        self._members: dict[int, Worker] = {}
        self._background: set[Task[Any]] = set()
        self._started = 0
        self._state = "new"

    # Starting children

    def go(
        self, fn: Callable[[*Args], R], *args: *Args, name: str | None = None
    ) -> Task[R]:
        """Start ``fn(*args)`` as a child, as soon as a slot is free.

        To be called from any thread. The child runs in a copy of the caller's
        contextvars. A child may call this, too; if all slots are held by children
        that wait here, none can ever come free, and the call that would complete the
        circle raises :exc:`RuntimeError` with their names.

        Raises the error of the ambient context if that has ended, :exc:`RuntimeError`
        after the group has failed or ended, or if the system gives no more threads;
        and :exc:`TypeError` if *fn* is a coroutine function.
        """
        self._check_call(fn)
        refuse_task()
        check()
        task: Task[R] = Task(self, fn, args, name)
        place = worker = None
        try:
            with self._siblings.lock:
                ended = self._siblings.ended
                if not ended and self._slots.take():
                    self._started += 1
                    worker = self._crew.hand(task)
                elif not ended:
                    place = Waiter(), task
                    self._join_line(place)
            if ended:
                self._siblings.refuse()
            if place is not None:
                worker = self._wait_for_slot(place)
            if worker is not None:
                self._crew.start(worker, self._undo_start)
        except BaseException:
            self._crew.take_back(worker, self._undo_start)
            raise
        return task

    def go_nowait(
        self, fn: Callable[[*Args], R], *args: *Args, name: str | None = None
    ) -> Task[R]:
        """Start a child as :meth:`go` does; :exc:`anyio.WouldBlock` if none is free."""
        self._check_call(fn)
        task: Task[R] = Task(self, fn, args, name)
        worker = None
        try:
            with self._siblings.lock:
                self._take_slot_now()
                self._started += 1
                worker = self._crew.hand(task)
            if worker is not None:
                self._crew.start(worker, self._undo_start)
        except BaseException:
            self._crew.take_back(worker, self._undo_start)
            raise
        return task

    def go_background(
        self, fn: Callable[[*Args], R], *args: *Args, name: str | None = None
    ) -> Task[R]:
        """Start a service: it takes no slot, and the block does not wait for its end.

        When the body and all other children have ended it is cancelled, and then
        waited for. If it fails, so does the group.
        """
        self._check_call(fn)
        check()
        task: Task[R] = Task(self, fn, args, name)
        undo = partial(self._undo_service, task)
        worker = None
        try:
            with self._siblings.lock:
                ended = self._siblings.ended
                if not ended:
                    self._started += 1
                    self._background.add(task)
                    worker = self._crew.hand(task)
            if ended:
                self._siblings.refuse()
            if worker is not None:
                self._crew.start(worker, undo)
        except BaseException:
            self._crew.take_back(worker, undo)
            raise
        return task

    # The block

    def __enter__(self) -> Self:
        if self._state != "new":
            self._siblings.refuse_reuse("a group has one block, make a new one")
        self._siblings.__enter__()
        self._crew.variables = self._siblings.contextvars()
        self._state = "open"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._crew.parting = True
        self._state = "joining"
        try:
            return self._siblings.__exit__(exc_type, exc, traceback)
        finally:
            self._state = "over"

    # Below: how it works

    def _check_call(self, fn: object) -> None:
        check_blocking(fn, ADVICE)
        if self._state == "new":
            self._siblings.refuse_unentered("start children")
        self._siblings.check_process()

    def _take_slot_now(self) -> None:
        """Take a slot without a wait; under the lock."""
        if self._siblings.ended:
            raise self._siblings.refusal()
        if not self._slots.take():
            raise anyio.WouldBlock

    def _join_line(self, place: _Place) -> None:
        """Take a place in the line for a slot, unless that would wait for ever."""
        holder = self._current_member()
        if holder in self._background:
            holder = None
        if holder is not None and (circle := self._slots.circle()) is not None:
            raise circle_error(self._siblings.label, (*circle, holder))
        self._slots.join(place, holder)

    def _wait_for_slot(self, place: _Place) -> Worker | None:
        """Wait until the child has a slot; return the worker to start for it."""
        siblings = self._siblings
        waiter, task = place
        try:
            handed = waiter.wait(
                siblings.lock, lambda _: self._slots.leave(place), siblings.context
            )
        except (ContextCancelled, DeadlineExceeded):
            check()
            raise siblings.refusal() from None
        except BaseException:
            self._give_up(place)
            raise
        if handed is _ENDED:
            siblings.refuse()
        worker = None
        if handed is _FREE:
            with siblings.lock:
                if siblings.over:
                    self._undo_start()
                    raise siblings.refusal()
                worker = self._crew.hand(task)
        return worker

    def _give_up(self, place: _Place) -> None:
        """See that no slot goes to a caller that will not come, after a Ctrl-C."""
        waiter, _ = place
        with self._siblings.lock:
            if not waiter._handed:
                with suppress(KeyError):  # it has left already
                    self._slots.leave(place)
            elif waiter._value is _FREE:
                self._undo_start()

    def _free_slot(self) -> _Place | None:
        """Give a slot back; return who has it now."""
        if self._slots.waiting and self._siblings.context.done:
            self._dissolve()
        place = self._slots.free()
        if place is not None:
            self._started += 1
        elif self._slots.taken == 0 and self._state == "joining":
            if self._background:
                self._siblings.look()  # the owner is to stop them
            else:
                self._siblings.shut()
                if not self._siblings.workers:  # else who goes home last wakes it
                    self._siblings.look()
        return place

    def _undo_start(self) -> None:
        """Take back a child whose thread could not be started."""
        self._started -= 1
        place = self._free_slot()
        if place is not None:
            place[0].hand(_FREE)

    def _undo_service(self, task: Task[Any]) -> None:
        self._started -= 1
        self._background.remove(task)

    def _who_works(self) -> Members:
        for worker in self._siblings.workers.copy():
            if (child := worker.job) is not None:
                yield worker.thread, child._made

    def _current_member(self) -> Task[Any] | None:
        """Return the child that the calling thread runs, if it is one of ours."""
        worker = self._members.get(get_ident())
        return None if worker is None else worker.job

    def _dissolve(self) -> None:
        for waiter, _ in self._slots.clear():
            waiter.hand(_ENDED)

    def _on_over(self) -> None:
        self._dissolve()
        self._crew.close()

    def _is_done(self) -> bool:
        return self._slots.taken == 0

    def _dismiss(self) -> None:
        for task in self._background.copy():
            task.cancel()

    # In the threads

    def _work(self, worker: Worker) -> None:
        """Be a worker: run what is handed over, and what stands in line."""
        self._members[get_ident()] = worker
        try:
            while worker.job is not None:
                worker.doing = worker.job.name
                worker.job._run()
                with self._siblings.lock:
                    self._settle(worker)
                    resting = self._crew.seek(worker)
                while resting:
                    worker.rest()
                    with self._siblings.lock:
                        resting = self._crew.seek(worker)
        finally:
            del self._members[get_ident()]

    def _settle(self, worker: Worker) -> None:
        """Note that a job has ended; who is next in line has its slot."""
        task, worker.job = worker.job, None
        if task._cancelled and self._siblings.context.done:
            self._siblings.cut_short = True
        if task in self._background:
            self._background.remove(task)
        elif (place := self._free_slot()) is not None:
            waiter, job = place
            self._crew.pass_on(job)
            waiter.hand(_TAKEN)

    def _lose(self, worker: Worker) -> None:
        """End a child whose thread never began; under the lock."""
        worker.job._end(None, None, cancelled=True)
        self._settle(worker)
