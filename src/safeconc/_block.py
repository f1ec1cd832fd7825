"""A block whose members fail together: what holds of tasks and of threads.

It is a context, and the errors of all that runs in it. How the members are told to
stop, and how the owner waits for them, is the affair of whoever inherits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextvars import Context as ContextVars
from contextvars import copy_context
from os import getpid
from typing import ClassVar, Final, NoReturn, TypeAlias, cast, final
from weakref import ReferenceType, ref

from safeconc._context import Context, ambient
from safeconc._policy._endings import CANCELLED, End
from safeconc._policy._failures import Failures, Mode
from safeconc._site import Site, user_of_this

Members: TypeAlias = Iterable[tuple[object, Site]]
"""Tasks or threads, and where each was asked for."""


class Block(ABC):
    """The members of one block, the block's body included."""

    OPENING: ClassVar[str]
    """How the block begins in the source."""

    def __init__(self, kind: str, name: str | None, errors: Mode) -> None:
        self.name = name or kind
        self.label = f"{kind} {name!r}" if name else f"this {kind}"
        self.failures = Failures(self.label, errors)
        self.context = Context(name=self.name)
        self.over = False
        self.on_over: Callable[[], None]  # what else to do when nothing may start
        self.members: Callable[[], Members] = tuple  # who works in it, for a census
        self._quiet: End | None = None
        self._process = 0

    made: Site
    """Where the block begins."""

    host: Callable[[], object]
    """Returns the task or the thread that has entered it, while that is kept."""

    def enter(self, host: object) -> None:
        """Have the block be known as open, until it is left or nobody keeps it."""
        self.made = user_of_this()
        self.host = ref(host)
        self._process = getpid()
        OPEN.add(ref(self, OPEN.discard))

    def left(self) -> None:
        """Have it be open no more."""
        OPEN.discard(ref(self))

    def is_inherited(self) -> bool:
        """Tell whether a fork has brought it here, without those who work in it."""
        return getpid() != self._process

    @property
    def ended(self) -> bool:
        """Whether nothing more may start. Seen before anybody has been told."""
        return self.over or self.context.done

    def contextvars(self) -> ContextVars:
        """Copy the caller's contextvars, with this block's context as the ambient one.

        The caller may stand in a narrower context; a member outlives that.
        """
        return self.adopted(copy_context())

    def adopted(self, variables: ContextVars) -> ContextVars:
        """Make this block's context the ambient one in *variables*."""
        if variables.get(ambient) is not self.context:
            variables.run(ambient.set, self.context)
        return variables

    def cancel(self, cause: BaseException | None) -> bool:
        """End the block without an error; True if this call did it."""
        if cause is not None and not isinstance(cause, BaseException):
            raise TypeError(f"cause must be an exception, not {cause!r}")
        return not self.context.done and self._finish(cause)

    def refuse_unentered(self, what: str) -> NoReturn:
        """Say that the block has not been entered, and to do *what* inside it."""
        raise RuntimeError(
            f"{self.label} has not been entered; {what} inside its "
            f"'{self.OPENING}' block"
        )

    def refuse_reuse(self, what: str) -> NoReturn:
        """Say that the block has been entered before."""
        raise RuntimeError(f"{self.label} has been entered before; {what}")

    def refusal(self) -> RuntimeError:
        """Make the error for whoever comes too late."""
        failed = self.failures.errors
        if failed:
            error = _Refusal(
                self, f"{self.label} has failed and starts nothing more: {failed[0]!r}"
            )
            error.__cause__ = failed[0]
            return error
        return _Refusal(
            self,
            f"{self.label} has ended; start work inside its '{self.OPENING}' block",
        )

    def mistake(self) -> RuntimeError:
        """Make that error for whoever could have known: no sign of a cancellation."""
        return RuntimeError(str(self.refusal()))

    @abstractmethod
    def is_cancellation(self, exc: BaseException) -> bool:
        """Tell whether *exc* is how a member shows that it was cancelled."""

    def without_cancellation(self, exc: BaseException) -> BaseException | None:
        """Drop what the cancellation of the block left in an error."""
        return without(exc, self.is_aftermath)

    def is_refusal(self, exc: BaseException | None) -> bool:
        """Tell whether this block has refused something by *exc*."""
        return isinstance(exc, _Refusal) and exc.by is self

    def is_aftermath(self, exc: BaseException) -> bool:
        """Tell whether *exc* came of the end of the block, and is no error."""
        return self.is_cancellation(exc) or self.is_refusal(exc)

    def _finish(self, cause: BaseException | None) -> bool:
        ending = (CANCELLED, cause)
        # Before it takes effect: afterwards the block may be gone already.
        self._quiet = self._quiet or ending
        return self.context._finish(ending)


OPEN: Final[set[ReferenceType[Block]]] = set()
"""The blocks that have been entered and not left."""


@final
class _Refusal(RuntimeError):  # noqa: N818 - shown as what it is to users
    """It was too late. A member that ends by it was about to be cancelled."""

    def __init__(self, by: Block, message: str) -> None:
        super().__init__(message)
        self.by = by


_Refusal.__module__ = "builtins"
_Refusal.__name__ = _Refusal.__qualname__ = "RuntimeError"


def without(
    exc: BaseException, ours: Callable[[BaseException], bool]
) -> BaseException | None:
    """Return *exc*, or what is left of a group, without what is *ours*."""
    if not isinstance(exc, BaseExceptionGroup):
        return None if ours(exc) else exc
    group = cast("BaseExceptionGroup[BaseException]", exc)

    # A function: before Python 3.13, split() takes no bound method.
    def is_ours(each: BaseException) -> bool:
        return ours(each)

    return group.split(is_ours)[1]


def raise_as_it_is(failure: BaseException) -> NoReturn:
    """Raise an error out of a block that was left for another reason.

    What the body was doing when we stopped it explains nothing.
    """
    context = failure.__context__
    try:
        raise failure
    finally:
        failure.__context__ = context
        del failure, context
