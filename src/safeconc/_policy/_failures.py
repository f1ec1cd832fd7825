"""Which error a block raises when several of its members failed."""

from typing import Literal, final

Mode = Literal["first", "group"]

SHOWN = 5
"""Later errors that the note on the raised one spells out."""


@final
class Failures:
    """The errors of one block, in the order in which they happened.

    The first one is the root cause: what fails later mostly fails because its
    siblings were stopped. :exc:`KeyboardInterrupt` and :exc:`SystemExit` are
    not failures of a member but orders to the whole program, so the first of
    them outranks every other error, and it is never wrapped.
    """

    def __init__(self, owner: str, mode: Mode = "first") -> None:
        if mode not in ("first", "group"):
            raise ValueError(f'errors must be "first" or "group", not {mode!r}')
        self._owner = owner
        self._mode = mode
        self._errors: list[BaseException] = []

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """All errors so far, oldest first, each object once."""
        return tuple(self._errors)

    def add(self, error: BaseException) -> bool:
        """Keep *error*; True if it is the first one."""
        # By identity: an awaiter that re-raises its child's error reports nothing new.
        if any(error is known for known in self._errors):
            return False
        self._errors.append(error)
        return len(self._errors) == 1

    def outcome(self) -> BaseException | None:
        """Return what the block is to raise, or None if nothing failed."""
        if not self._errors:
            return None
        for error in self._errors:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                return error
        if self._mode == "group":
            return BaseExceptionGroup(f"errors in {self._owner}", self._errors)
        first, *later = self._errors
        if later:
            first.add_note(self._note(later))
        return first

    def _note(self, later: list[BaseException]) -> str:
        shown = ", ".join(map(repr, later[:SHOWN]))
        rest = len(later) - SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        return (
            f"{self._owner}: {len(later)} later error{'s' * (len(later) > 1)}: "
            f"{shown}{more}"
        )
