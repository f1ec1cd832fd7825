"""One thread that takes job after job: how it starts, waits for work, and is seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from traceback import StackSummary
from typing import Any, final

from safeconc._context import Context
from safeconc._parker import Parker
from safeconc._stuck import shown, stack_of

_HERE = Path(__file__).parent


@final
@dataclass(frozen=True, slots=True)
class StuckThread:
    """A thread that still ran when its block gave it up."""

    name: str
    """The thread's name."""

    ident: int
    """Its identifier, as :func:`threading.get_ident` gives it there."""

    what: str
    """The name of what runs in it."""

    stack: str
    """Where that was, most recent call last."""


@final
class Worker:
    """One thread of a crew.

    :param main: what the thread does, given this worker.
    """

    __slots__ = ("_claim", "_main", "_parker", "called", "doing", "job", "thread")

    called: bool
    """Whether it is to look up from its rest."""

    job: Any
    """The job at hand, or handed over; None while it has none."""

    doing: str | None
    """The name of what runs in it; None while it waits for work."""

    def __init__(self, name: str, main: Callable[["Worker"], object]) -> None:
        # Its block always joins it. A block that is never left, since the interpreter
        # exits or its owner is a daemon itself, would otherwise keep the interpreter
        # from exiting for ever.
        self.thread = Thread(target=self._run, name=name, daemon=True)
        self._main = main
        self._claim: dict[str, str] = {}
        self._parker = Parker()
        self.called = False
        self.job = None
        self.doing = None

    def prevent(self) -> bool:
        """Have a thread do nothing whose start has failed; False if it does already.

        A Ctrl-C may come out of the start of a thread that has begun, or will. Another
        may follow, so to say so twice is to say it once.
        """
        return self._claim.setdefault("by", "owner") == "owner"

    def call(self) -> None:
        """Have it look up from its rest, now or when it begins to rest."""
        self.called = True
        self._parker.unpark()

    def rest(self, contexts: Sequence[Context] = ()) -> None:
        """Wait to be called, or for the end of one of *contexts*."""
        self._parker.park(self._is_called, contexts)

    @property
    def ident(self) -> int:
        """The identifier of the thread; 0 before it runs."""
        return self.thread.ident or 0

    def stack(self) -> StackSummary:
        """Return where it is in what it does."""
        stack = stack_of(self.ident, _RUN) or StackSummary()
        # Ours are the first few calls, to no one's profit.
        while stack and Path(stack[0].filename).parent == _HERE:
            del stack[0]
        return stack

    def stuck(self) -> StuckThread:
        """Describe it as one that does not end."""
        what, stack = self.doing or "nothing", shown(self.stack())
        return StuckThread(self.thread.name, self.ident, what, stack)

    def _is_called(self) -> bool:
        return self.called

    def _run(self) -> None:
        if self._claim.setdefault("by", "thread") == "thread":
            self._main(self)


_RUN = Worker._run.__code__
