"""A block of tasks that fail together: what ErrGroup and FanOut have in common.

Its context is bound to the block, and inside there is a task group. That one never
sees an error: a member reports its own, so that the block can act at once, in the
right order, and raise it unwrapped.
"""

import math
from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutine
from types import CoroutineType, TracebackType
from typing import Any, ClassVar, NoReturn, Self, final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from typing_extensions import override

from safeconc._block import Block, raise_as_it_is
from safeconc._context import deliver
from safeconc._loop import Loop, running_loop
from safeconc._policy._failures import Mode
from safeconc._waiter import rearm


@final
class Siblings(Block):
    """The members of one block, tasks and the block's body."""

    OPENING: ClassVar[str] = "async with"

    def __init__(self, kind: str, name: str | None, errors: Mode = "first") -> None:
        super().__init__(kind, name, errors)
        self.find_lost: Callable[[], bool]  # whether a member's task never began
        self.is_done: Callable[[], bool]  # whether no member is left to wait for
        self.loop: Loop
        self.tasks: TaskGroup
        self._undone = False
        self._cancelling: Callable[[], int] = _never
        self._cancelling_before = 0
        self.cancelled_class: type[BaseException]

    async def __aenter__(self) -> Self:
        """Begin the block in the calling task."""
        await self.context.__aenter__()
        self.loop = running_loop()
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        self.cancelled_class = anyio.get_cancelled_exc_class()
        host = self.loop.current_task()
        self._cancelling = cancelling_of(host)
        self._cancelling_before = self._cancelling()
        self.context._on_delivery(self.close)
        self.enter(host)
        return self

    def is_stopped(self) -> bool:
        """Tell whether somebody who may has cancelled the calling member.

        A cancellation that no scope sent, and that did not hit the owner as well,
        is nobody's.
        """
        if self.over or self.context._end is not None:
            return True  # the usual case, told without asking anyio
        if anyio.current_effective_deadline() == -math.inf:
            return True
        return self._cancelling() > self._cancelling_before

    def verdict(self, exc: BaseException, *, own: bool = False) -> BaseException | None:
        """Tell what a member's exception counts as: an error, or None.

        To be called in the member's task.

        :param own: the member alone was to be cancelled. Otherwise its
            cancellation is everybody's, and nothing more may start.
        """
        if not isinstance(exc, self.cancelled_class):
            return exc
        if not self.is_stopped():
            return self.foreign(exc)
        if not own:
            self.close()
        return None

    def foreign(self, exc: BaseException | None) -> BaseException:
        """Make the error for a member that somebody else cancelled."""
        error = anyio.TaskCancelled(
            f"a member of {self.label} was cancelled, and neither the block nor its "
            "owner asked for it; did the member cancel its own task?"
        )
        error.__cause__ = exc
        return error

    async def shed(self, task: object) -> None:
        """Take the cancellation that a member may have left pending in its task.

        asyncio would end the task as cancelled, and the group with it.
        """
        if cancelling_of(task)():
            try:
                await checkpoint()
            except self.cancelled_class:
                pass

    def fail(self, exc: BaseException) -> None:
        """Take a member's error; the first one ends the block at once."""
        error = self.without_cancellation(exc)
        if error is not None and self.failures.add(error):
            self.end(error)

    def end(self, cause: BaseException | None) -> None:
        """Stop all members, the body included. To be called on the block's loop."""
        self._finish(cause)
        self.close()
        deliver(self.context)

    def close(self) -> None:
        """Let nothing more start."""
        if not self.over:
            self.over = True
            self._undone = not self.is_done()
            self.on_over()

    async def refuse(self) -> NoReturn:
        """Stop who comes too late: a member by its cancellation, others by an error.

        The members are being cancelled, also if the loop has not been told yet; an
        error of theirs now would look like a failure.
        """
        deliver(self.context)
        await checkpoint()
        raise self.refusal()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Leave the block: wait for all members, then say how it went.

        An error comes first, also when the owner is being cancelled. Then a
        cancellation from outside, then an end that the context's parents caused.
        What we stopped ourselves is quiet.
        """
        error = None if exc is None else self.without_cancellation(exc)
        if error is not None:
            self.fail(error)
        # Only a cancellation goes on through the scopes.
        passing = exc if isinstance(exc, self.cancelled_class) else None
        bare = exc is None or exc is passing or self.is_refusal(exc)
        if error is None and not bare:
            # A cancellation wrapped in a group, which the task group will not see.
            self.close()
            self.tasks.cancel_scope.cancel()
        try:
            quiet = await self._leave(passing)
        except BaseException as late:
            self.fail(late)
            if not self.failures.errors:
                raise
            rearm(late)
            quiet = False
        finally:
            self.close()
            # These lead back to us: without them the end is the end, and no
            # pass of the collector is needed.
            del self.on_over, self.find_lost, self.is_done, self.members
            self.left()
            self.context._on_delivery(None)
        failure = self.failures.outcome()
        if failure is None:
            if self.is_refusal(exc) and not quiet:
                self.context.check()
            return quiet
        if failure is exc:
            return False
        try:
            raise_as_it_is(failure)
        finally:
            del exc, error, passing, failure

    async def _leave(self, exc: BaseException | None) -> bool:
        """Wait for the members; True if the block was stopped, and quietly."""
        context = self.context
        if context.done:
            self.close()
        try:
            if await self.tasks.__aexit__(*_info(exc)):
                exc = None
            stopped = self.is_stopped()  # before it is by what is lost
            if self.find_lost() and not stopped:
                self.fail(self.foreign(None))
        except BaseException as late:  # noqa: BLE001 - raised below
            exc = late
        # What had not begun has ended without a word, perhaps before the loop was told
        # of the end; and trio tells the owner only by what its members raise.
        cut_short = self._undone and context.done
        try:
            if not await context._unbind(*_info(exc)) and not (
                cut_short and exc is None
            ):
                if exc is not None:
                    raise exc
                return self._quiet is not None
        finally:
            del exc
        if self._quiet is None or context._ending is not self._quiet:
            context._raise()
        return True

    @override
    def is_cancellation(self, exc: BaseException) -> bool:
        return isinstance(exc, self.cancelled_class)

    @override
    def without_cancellation(self, exc: BaseException) -> BaseException | None:
        error = super().without_cancellation(exc)
        if error is None and not (self.is_cancellation(exc) or self.is_stopped()):
            # A group of nothing but cancellations, and none of us has sent any.
            return None if self.is_refusal(exc) else self.foreign(exc)
        return error


def _never() -> int:
    return 0


def _info(
    exc: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    """Spell *exc* out as the arguments of an ``__exit__``."""
    return (None, None, None) if exc is None else (type(exc), exc, exc.__traceback__)


def cancelling_of(task: object) -> Callable[[], int]:
    """Return what counts the native cancellations of *task*; trio's has none."""
    cancelling: Callable[[], int] = getattr(task, "cancelling", _never)
    return cancelling


def check_function(fn: object) -> None:
    """Refuse what can never be called to get a coroutine."""
    if callable(fn):
        return
    if iscoroutine(fn):
        fn.close()
        raise TypeError(
            f"expected a coroutine function, got the coroutine {fn.__qualname__}(); "
            f"pass the function and its arguments: ({fn.__name__}, ...)"
        )
    raise TypeError(f"expected a coroutine function, not {fn!r}")


@final
class NotACoroutineFunction(TypeError):  # noqa: N818 - likewise
    """What was to be called for a coroutine makes none: a mistake, not a failure."""


NotACoroutineFunction.__module__ = "builtins"
NotACoroutineFunction.__name__ = NotACoroutineFunction.__qualname__ = "TypeError"


def raise_fatal(exc: BaseException) -> None:
    """Raise what is an order to the whole program, not a failure of a member."""
    if isinstance(exc, (KeyboardInterrupt, SystemExit)):
        raise exc


async def call(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Await ``fn(*args)``: the call itself is made by whoever awaits this."""
    return await as_coroutine(fn, fn(*args))


def as_coroutine(fn: object, made: Any) -> Coroutine[Any, Any, Any]:
    """Return what a call of *fn* made, or say that *fn* is no coroutine function."""
    if type(made) is CoroutineType or isinstance(made, Coroutine):
        return made  # pyright: ignore[reportUnknownVariableType] - as it came
    if isinstance(made, Awaitable):
        return _await(made)  # pyright: ignore[reportUnknownArgumentType] - likewise
    name = getattr(fn, "__qualname__", repr(fn))
    raise NotACoroutineFunction(
        f"{name} is not a coroutine function: calling it returned {made!r}; write "
        "'async def', or run blocking code with safeconc.to_thread"
    )


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
