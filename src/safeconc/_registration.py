"""A function that is called when a context ends."""

import sys
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any, final
from weakref import ref

from safeconc._loop import in_task
from safeconc._policy._endings import Node


@final
class Registration:
    """A function that :meth:`Context.after` will call when the context ends."""

    __slots__ = ("_context", "_finished", "_fn", "_registered", "_thread")

    def __init__(self, registered: Node, fn: Callable[[], object]) -> None:
        self._registered = registered
        self._fn = fn
        self._context = copy_context()
        self._thread: int | None = None
        # A lock, not an Event: a signal handler may finish a registration while
        # the thread below it stands inside the Event's own lock.
        self._finished = allocate_lock()
        self._finished.acquire()

    def stop(self) -> bool:
        """Withdraw the function; True if this call did, False if it was too late."""
        stopped = self._registered._forget_call(self)
        if stopped:
            self._finished.release()
        return stopped

    def join(self) -> None:
        """Block the calling thread until the function has returned or was stopped.

        Raises :exc:`RuntimeError` where that could never come true or would stop
        an event loop: inside the function itself, and inside a task.
        """
        if self._thread == get_ident() and self._finished.locked():
            raise RuntimeError("join() inside the registered function waits for itself")
        if self._finished.locked() and in_task():
            raise RuntimeError(
                "join() blocks the thread; in a task use "
                "'await anyio.to_thread.run_sync(registration.join)'"
            )
        with self._finished:
            pass

    def _run(self) -> None:
        self._thread = get_ident()
        try:
            self._context.run(self._fn)
        except Exception as exc:  # noqa: BLE001 - reported; there is no caller to raise to
            _report(exc, self._fn)
        finally:
            self._finished.release()


@final
class _Unraisable:
    """A call of a registered function that failed, with nobody to raise to."""

    def __init__(self, exc: Exception, fn: object) -> None:
        self.told = False
        self._exc = exc
        self._fn = fn

    def __call__(self, _: object) -> None:
        self.told = True
        raise self._exc

    def __repr__(self) -> str:
        return f"Context.after({self._fn!r})"


@final
class _Bait:
    __slots__ = ("__weakref__",)


def _report(exc: Exception, fn: object) -> None:
    """Tell ``sys.unraisablehook`` of an error.

    Only the interpreter can make what the hook takes. It does so for an error in
    the callback of a weak reference, and prints what the hook itself raises.
    """
    unraisable = _Unraisable(exc, fn)
    bait = _Bait()
    reference = ref(bait, unraisable)
    del bait
    if not unraisable.told:  # no reference counts: the callback would come much later
        del reference
        fields: Any = SimpleNamespace(
            exc_type=type(exc),
            exc_value=exc,
            exc_traceback=exc.__traceback__,
            err_msg="",
            extra_line="",
            object=unraisable,
        )
        with suppress(Exception):
            sys.unraisablehook(fields)
