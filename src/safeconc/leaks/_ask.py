"""What only the thread of an event loop may do, done there."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

PATIENCE = 0.1
"""Seconds that a loop has to begin with it."""

T = TypeVar("T")


def ask(loop: AbstractEventLoop, work: Callable[[], Iterable[T]]) -> list[T] | None:
    """Have *work* done by the thread of a loop; None if it does not get to it.

    It blocks the caller until then.
    """
    answer: Future[list[T] | None] = Future()

    def do() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(list(work()))
        except Exception as exc:  # noqa: BLE001 - it is the asker's, whatever it is
            answer.set_exception(exc)
        except BaseException:  # a Ctrl-C is for whoever runs the loop
            answer.set_result(None)
            raise

    try:
        loop.call_soon_threadsafe(do)
    except RuntimeError:  # it was closed meanwhile
        return None
    try:
        return answer.result(PATIENCE)
    except TimeoutError:
        return None if answer.cancel() else answer.result()
