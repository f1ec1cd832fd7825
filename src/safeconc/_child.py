"""Groups and their children: what holds of tasks and of threads."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, final

import anyio

from safeconc._block import Block
from safeconc._context import Context
from safeconc._policy._slots import Slots
from safeconc._site import Site

B = TypeVar("B", bound=Block)
R_co = TypeVar("R_co", covariant=True)


@final
@dataclass(frozen=True, slots=True)
class ErrGroupStatistics:
    """A snapshot of a group, safe to keep and to compare."""

    running: int
    """Children that hold a slot: started, or about to be."""

    background: int
    """Children of :meth:`ErrGroup.go_background` that have not ended."""

    waiting: int
    """Calls of :meth:`ErrGroup.go` that wait for a slot."""

    started: int
    """Children of both kinds, since the group was opened."""

    failed: int
    """Errors so far, the body's own included."""


class Group(ABC, Generic[B]):
    """What one can ask of a group."""

    _siblings: B
    _slots: Slots[Any, Any]
    _background: set[Any]
    _started: int

    @property
    def context(self) -> Context:
        """The context of the block. It ends with it, its cause the first error."""
        return self._siblings.context

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """All errors so far, oldest first."""
        return self._siblings.failures.errors

    @property
    def limit(self) -> int | None:
        """How many children may run at once; None if that is unlimited."""
        return self._slots.limit

    def statistics(self) -> ErrGroupStatistics:
        """Count the children and the calls that wait."""
        return ErrGroupStatistics(
            running=self._slots.taken,
            background=len(self._background),
            waiting=self._slots.waiting,
            started=self._started,
            failed=len(self.errors),
        )

    def cancel(self, cause: BaseException | None = None) -> bool:
        """End the block quietly: children and body are cancelled, nothing is raised.

        From any thread, like :meth:`Context.cancel`, and as idempotent.
        """
        return self._siblings.cancel(cause)


class Child(ABC, Generic[R_co]):
    """A child of a group: how it ended, once it has."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_done",
        "_error",
        "_made",
        "_name",
        "_value",
    )

    WAITING: ClassVar[str]
    """How one waits for its end."""

    def __init__(self, name: str, made: Site) -> None:
        self._name = name
        self._made = made  # where somebody has asked for it
        self._done = False
        self._cancelled = False
        self._value: R_co | None = None
        self._error: BaseException | None = None

    @property
    def name(self) -> str:
        """The name given to ``go``, else the function's."""
        return self._name

    @property
    def done(self) -> bool:
        """Whether the child has ended: returned, failed or been cancelled."""
        return self._done

    def result(self) -> R_co:
        """Return the child's result, or raise its error.

        Raises :exc:`anyio.TaskNotFinished` while it runs, and
        :exc:`anyio.TaskCancelled` if it was cancelled.
        """
        error = self.exception()
        if error is not None:
            raise error
        return self._value  # type: ignore[return-value]

    def exception(self) -> BaseException | None:
        """Return the child's error, or None if it has none.

        Raises what :meth:`result` raises for a child that runs or was cancelled.
        """
        if not self._done:
            raise anyio.TaskNotFinished(
                f"{self._name} has not ended; {self.WAITING} to wait for it"
            )
        if self._error is None and self._cancelled:
            raise anyio.TaskCancelled(f"{self._name} was cancelled")
        return self._error

    def __repr__(self) -> str:
        if not self._done:
            state = "cancelling" if self._is_cancelling() else "running"
        elif self._error is not None:
            state = f"failed: {self._error!r}"
        else:
            state = "cancelled" if self._cancelled else "finished"
        return f"<Task {self._name} {state}>"

    @abstractmethod
    def _is_cancelling(self) -> bool:
        """Tell whether somebody has cancelled it, while it runs."""

    def _refuse_own_wait(self) -> NoReturn:
        raise RuntimeError(f"{self._name} awaits itself, and would for ever")


def circle_error(label: str, holders: Iterable[Child[Any]]) -> RuntimeError:
    """Make the error for the call of ``go`` that would have all *holders* wait."""
    names = [holder.name for holder in holders]
    return RuntimeError(
        f"every slot of {label} (limit {len(names)}) is held by a child that waits in "
        f"go() for a slot: {', '.join(names)}; none can come free. Raise the limit, "
        "or start such children with a second group"
    )
