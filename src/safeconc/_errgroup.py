"""Siblings that fail together."""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context as ContextVars
from contextvars import copy_context
from types import TracebackType
from typing import (
    Any,
    ClassVar,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    final,
)

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from safeconc._block import Members
from safeconc._callables import name_of
from safeconc._child import (
    Child,
    Group,
    circle_error,
)
from safeconc._context import spend
from safeconc._crew import Crew, Job, Worker
from safeconc._limit import check_limit
from safeconc._loop import running_loop
from safeconc._policy._failures import Mode
from safeconc._policy._slots import Slots
from safeconc._siblings import (
    Siblings,
    as_coroutine,
    cancelling_of,
    check_function,
)
from safeconc._site import Site, caller_of
from safeconc._waiter import Waiter

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Args = TypeVarTuple("Args")

_Unstarted: TypeAlias = tuple[anyio.TaskHandle[None], Coroutine[Any, Any, Any]]

_ENDED = object()
"""Handed to who waits for a slot when there will be none any more."""


class _Cancellable(Protocol):
    """What runs a child: a task of its own, or a worker."""

    def cancel(self) -> None: ...


@final
class Task(Child[R_co]):
    """A child of an :class:`ErrGroup`: its result, when there is one.

    Awaiting it waits for the child and returns its result or raises its error,
    that very object; the group reports it once all the same. A child that was
    cancelled raises :exc:`anyio.TaskCancelled`, since a bare cancellation would
    look like the awaiter's own.
    """

    __slots__ = ("_awaiters", "_group", "_runner")

    WAITING: ClassVar[str] = "'await' the task"

    def __init__(self, group: "ErrGroup", name: str, made: Site) -> None:
        super().__init__(name, made)
        self._group = group
        self._awaiters: dict[Waiter, None] | None = None
        self._runner: _Cancellable | None = None

    def cancel(self) -> None:
        """Cancel the child. A child that has ended, or does so all the same, stays."""
        if not self._done:
            self._cancelled = True
            self._group._cancel_child(self)

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self._wait().__await__()

    async def _wait(self) -> R_co:
        await spend(running_loop())
        if not self._done:
            if self._group._current_member() is self:
                self._refuse_own_wait()
            waiter = Waiter()
            if self._awaiters is None:
                self._awaiters = {}
            self._awaiters[waiter] = None
            await waiter.wait(self._awaiters.pop)
            if self._cancelled:
                # What cancelled the child may be about to cancel the awaiter, too,
                # and then that, not the child's end, is what it has to hear of.
                await checkpoint()
        return self.result()

    @override
    def _is_cancelling(self) -> bool:
        return self._cancelled

    def _end(self, value: Any, error: BaseException | None) -> None:
        """Publish how the child ended, and wake who waits for it."""
        self._value = value
        self._error = error
        self._done = True
        self._runner = None
        if self._awaiters is not None:
            for waiter in self._awaiters:
                waiter.hand()
            self._awaiters = None


@final
class ErrGroup(Group[Siblings]):
    """Run children that fail together, and be over when the block has been left.

    ::

        async with ErrGroup(limit=10) as group:
            page = await group.go(fetch, url)       # waits for a free slot
            group_size = await group.go(measure, url)
        print(page.result(), group_size.result())

    The first error, of a child or of the body, ends the block at once: the
    siblings and the body are cancelled and awaited, and that error itself is
    raised. What failed later is in :attr:`errors` and in a note on it.

    :param limit: children that may run at once; further calls of :meth:`go` wait.
        ``None`` says aloud that there is no bound.
    :param errors: ``"first"`` raises the first error, ``"group"`` an
        :exc:`ExceptionGroup` of all.
    :param reuse: run the children on parked workers, for many short ones at a
        fraction of the price. One thing shows: :func:`asyncio.current_task` is
        the worker's, so nothing may keep it, or key on it, beyond the child.
    :param name: shown in errors and dumps.
    """

    def __init__(
        self,
        *,
        limit: int | None,
        errors: Mode = "first",
        reuse: bool = False,
        name: str | None = None,
    ) -> None:
        self._slots: Slots[Waiter, Task[Any]] = Slots(check_limit(limit))
        self._siblings = Siblings("ErrGroup", name, errors)
        self._siblings.on_over = self._on_over
        self._siblings.find_lost = self._find_lost
        self._siblings.is_done = self._is_done
        self._siblings.members = self._who_works
        self._crew: Crew | None = None
        self._children = _Children(self)
        if reuse:
            self._crew = Crew(self._siblings, self._children, self._children, None)
        self._members: dict[object, Task[Any]] = {}
        self._unstarted: dict[Task[Any], _Unstarted] = {}
        self._background: set[Task[Any]] = set()
        self._started = 0
        self._state = "new"
        self._is_here: Callable[[], bool] = _nowhere

    # Starting children

    async def go(
        self,
        fn: Callable[[*Args], Awaitable[R]],
        *args: *Args,
        name: str | None = None,
    ) -> Task[R]:
        """Start ``fn(*args)`` as a child, as soon as a slot is free.

        The child runs in a copy of the caller's contextvars. A child may call
        this, too; if all slots are held by children that wait here, none can
        ever come free, and the call that would complete the circle raises
        :exc:`RuntimeError` with their names.

        Raises :exc:`RuntimeError` after the group has failed or ended, and
        :exc:`TypeError` if *fn* is no coroutine function.
        """
        self._check_call(fn)
        siblings = self._siblings
        await spend(siblings.loop)
        if siblings.ended or not (self._slots.take() or await self._wait_for_slot()):
            await siblings.refuse()
        return self._start_in_slot(fn, args, name)

    def go_nowait(
        self,
        fn: Callable[[*Args], Awaitable[R]],
        *args: *Args,
        name: str | None = None,
    ) -> Task[R]:
        """Start a child as :meth:`go` does; :exc:`anyio.WouldBlock` if none is free."""
        self._check_call(fn)
        if self._siblings.ended:
            raise self._siblings.refusal()
        if not self._slots.take():
            raise anyio.WouldBlock
        return self._start_in_slot(fn, args, name)

    async def go_background(
        self,
        fn: Callable[[*Args], Awaitable[R]],
        *args: *Args,
        name: str | None = None,
    ) -> Task[R]:
        """Start a service: it takes no slot, and the block does not wait for its end.

        When the body and all other children have ended it is cancelled, and
        awaited. If it fails, so does the group.
        """
        self._check_call(fn)
        await spend(self._siblings.loop)
        if self._siblings.ended:
            await self._siblings.refuse()
        variables = self._siblings.contextvars()
        coroutine = as_coroutine(fn, variables.run(fn, *args))
        task: Task[R] = Task(self, name or name_of(fn), caller_of(1))
        self._background.add(task)
        self._started += 1
        self._spawn(task, variables, coroutine)
        return task

    # The block

    async def __aenter__(self) -> Self:
        if self._state != "new":
            self._siblings.refuse_reuse("a group has one block, make a new one")
        await self._siblings.__aenter__()
        self._is_here = self._siblings.loop.is_here
        if self._crew is not None:
            self._crew.variables = self._siblings.contextvars()
        self._state = "open"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._state = "joining"
        if exc is None:
            self._end_if_idle()
        try:
            return await self._siblings.__aexit__(exc_type, exc, traceback)
        finally:
            self._state = "over"
            if self._crew is not None:
                self._crew.disband()

    # Below: how it works

    def _check_call(self, fn: object) -> None:
        if callable(fn) and self._is_here():
            return
        check_function(fn)
        if self._state == "new":
            self._siblings.refuse_unentered("start children")
        raise RuntimeError(
            f"{self._siblings.label} belongs to another event loop; call it from "
            "a task of that loop"
        )

    async def _wait_for_slot(self) -> bool:
        """Wait until a slot is ours; False if the group has ended instead."""
        holder = self._current_member()
        if holder in self._background:
            holder = None
        if holder is not None and (circle := self._slots.circle()) is not None:
            raise circle_error(self._siblings.label, (*circle, holder))
        waiter = Waiter(self._siblings.loop)
        self._slots.join(waiter, holder)
        if await waiter.wait(self._slots.leave) is _ENDED:
            return False
        if self._siblings.ended:
            self._free_slot()
            return False
        return True

    def _free_slot(self) -> None:
        waiter = self._slots.free()
        if waiter is not None:
            waiter.hand()

    def _current_member(self) -> Task[Any] | None:
        """Return the child that the calling task is, if it is one."""
        if self._crew is not None and (worker := self._crew.current()) is not None:
            job: Task[Any] | None = worker.job
            return job
        return self._members.get(self._siblings.loop.current_task())

    def _who_works(self) -> Members:
        if self._crew is not None:
            for task, child in self._crew.at_work():
                yield task, child._made
        for task, child in self._members.copy().items():
            yield task, child._made

    def _start_in_slot(
        self, fn: Callable[..., Awaitable[R]], args: tuple[Any, ...], name: str | None
    ) -> Task[R]:
        try:
            variables = self._siblings.adopted(copy_context())
            coroutine = as_coroutine(fn, variables.run(fn, *args))
            task: Task[R] = Task(self, name or name_of(fn), caller_of(2))
            if self._crew is None:
                self._spawn(task, variables, coroutine)
            else:
                self._children.queue.append((variables, coroutine, task))
                self._crew.call()
        except BaseException:
            self._free_slot()
            raise
        self._started += 1
        return task

    def _spawn(
        self,
        task: Task[Any],
        variables: ContextVars,
        coroutine: Coroutine[Any, Any, Any],
    ) -> None:
        handle = self._siblings.tasks.create_task(
            self._run(task, coroutine), name=task._name, context=variables
        )
        self._unstarted[task] = handle, coroutine
        task._runner = handle

    async def _run(self, task: Task[Any], coroutine: Coroutine[Any, Any, Any]) -> None:
        """Be the task of a child."""
        del self._unstarted[task]
        siblings = self._siblings
        if task._cancelled or siblings.over:
            # As on a crew: cancelled before it began, it does not begin.
            coroutine.close()
            self._children.cancelled(task)
            return
        key = siblings.loop.current_task()
        self._members[key] = task
        try:
            value = await coroutine
        except BaseException as exc:
            error = siblings.verdict(exc, own=task._cancelled)
            if error is None:
                self._children.cancelled(task)
                raise
            self._children.failed(task, error)
            if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                raise
        else:
            self._children[task] = value
        finally:
            del self._members[key]
        if cancelling_of(key)():
            await siblings.shed(key)

    def _cancel_child(self, task: Task[Any]) -> None:
        if task._runner is not None:
            task._runner.cancel()
            return
        queue = self._children.queue
        # Not queue.remove(): to compare jobs compares the users' contextvars.
        place = next(place for place, job in enumerate(queue) if job[2] is task)
        job = queue[place]
        del queue[place]
        job[1].close()
        self._children.cancelled(task)

    def _ended(self, task: Task[Any]) -> None:
        if task in self._background:
            self._background.discard(task)
            return
        waiter = self._slots.free()
        if waiter is not None:
            waiter.hand()
        elif self._state == "joining":
            self._end_if_idle()

    def _is_done(self) -> bool:
        return self._slots.taken == 0

    def _end_if_idle(self) -> None:
        """Once the body and the children are done, stop what serves them."""
        # Where the block fails, all are cancelled together. One by one before that,
        # anyio would take a native cancellation of the owner for one of its own.
        if self._is_done() and not self._siblings.over:
            self._siblings.close()
            for task in tuple(self._background):
                task.cancel()

    def _on_over(self) -> None:
        for waiter in self._slots.clear():
            waiter.hand(_ENDED)
        if self._crew is not None:
            self._crew.close()
            while self._children.queue:
                _, coroutine, task = self._children.queue.popleft()
                coroutine.close()
                self._children.cancelled(task)

    def _find_lost(self) -> bool:
        """End the children whose task was cancelled before it began; True if any was.

        Only the task itself can have been cancelled so: by who has got hold of it,
        as those have who cancel all tasks of a loop.
        """
        lost = bool(self._unstarted)
        while self._unstarted:
            task, (handle, coroutine) = self._unstarted.popitem()
            handle.coro.close()
            coroutine.close()
            self._children.cancelled(task)
        return lost or (self._crew is not None and self._crew.find_lost())


@final
class _Children:
    """What becomes of children, and the queue from which a crew takes them."""

    def __init__(self, group: ErrGroup) -> None:
        self._group = group
        self.queue: deque[tuple[ContextVars, Coroutine[Any, Any, Any], Task[Any]]]
        self.queue = deque()

    def jobs(self, worker: Worker) -> Iterator[Job]:
        queue = self.queue
        while queue:
            job = queue.popleft()
            worker.job = task = job[2]
            task._runner = worker
            yield job
        worker.job = None

    def has_jobs(self) -> int:
        return len(self.queue)

    def __setitem__(self, key: Task[Any], value: Any) -> None:
        key._cancelled = False  # if it was to be, it finished all the same
        key._end(value, None)
        self._group._ended(key)

    def failed(self, key: Task[Any], error: BaseException) -> None:
        # The awaiters first: cancelled before they are woken, they would never
        # see the error.
        key._end(None, error)
        self._group._siblings.fail(error)
        self._group._ended(key)

    def cancelled(self, key: Task[Any]) -> None:
        key._cancelled = True
        key._end(None, None)
        self._group._ended(key)


def _nowhere() -> bool:
    return False
