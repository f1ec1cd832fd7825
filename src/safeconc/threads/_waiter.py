"""One wait of a thread that ends by being handed what it waits for."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, final

from safeconc._context import Context, ambient
from safeconc._loop import in_task
from safeconc._parker import Parker

ADVICE = "needs no thread: use the primitive of the same name in safeconc"
"""What to do with a coroutine instead."""


@final
class Waiter:
    """A thread's place in a line that a lock guards.

    What holds of the one for tasks holds here: :meth:`hand` makes something the
    waiter's own before the waiter runs, so a wait ends in one of two ways. Either it
    was handed something, and returns, also if a context ends just then; or it was not,
    and has left the line when it raises.
    """

    __slots__ = ("_handed", "_parker", "_value")

    def __init__(self) -> None:
        self._parker = Parker()
        self._handed = False
        self._value: Any = None

    def hand(self, value: object = None) -> None:
        """Give the waiter what it waits for. To be called under the line's lock."""
        self._value = value
        self._handed = True
        self._parker.unpark()

    def wait(
        self,
        lock: Lock,
        leave: Callable[["Waiter"], object],
        owner: Context | None = None,
        look: Callable[[], object] | None = None,
    ) -> Any:
        """Return what was handed; raise the error of a context that ended before that.

        To be called without the lock.

        :param leave: takes this waiter out of its line, under the lock.
        :param owner: a context that ends the wait as the ambient one does.
        :param look: called before the wait, and when the thread was poked.
        """
        contexts = [each for each in (ambient.get(), owner) if each is not None]
        try:
            refuse_task()
            is_over = self._is_handed
            if look is not None:
                is_over = partial(self._looks, look)
            self._parker.park(is_over, contexts)
        except BaseException:
            with lock:
                if not self._handed:
                    leave(self)
            raise
        if not self._handed:  # else nobody has it any more, and the lock is not needed
            with lock:
                if not self._handed:
                    leave(self)
        if not self._handed:
            next(context for context in contexts if context.done).check()
        return self._value

    def poke(self) -> None:
        """Have the thread look around in its wait. From anywhere, under any lock."""
        self._parker.unpark()

    def _is_handed(self) -> bool:
        return self._handed

    def _looks(self, look: Callable[[], object]) -> bool:
        look()
        return self._handed


def refuse_task() -> None:
    """Refuse to block the calling thread if it runs an event loop."""
    if in_task():
        raise RuntimeError(
            "this blocks the thread and with it the event loop; in a task use "
            "the primitive of the same name in safeconc, not safeconc.threads"
        )
