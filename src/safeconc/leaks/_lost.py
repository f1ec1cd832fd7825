"""Tasks that failed, and that nobody has asked how they ended."""

import asyncio
from typing import Any, final

from safeconc.leaks._model import Entry, RawFrame, Stack


@final
class Lost:
    """Hears of errors that nobody takes, until closed.

    asyncio tells its exception handler when the last reference to a failed task goes,
    and not before: until then somebody could still ask. Whatever handler there was is
    told as well. trio has no such errors.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.entries: list[Entry] = []
        """Those of which it has heard."""

        self._loop = loop
        self._open = False

    def open(self) -> None:
        """Begin to listen."""
        self._before = self._loop.get_exception_handler()
        self._open = True
        self._loop.set_exception_handler(self._handle)

    def close(self) -> None:
        """Put back the handler that was there before.

        If somebody has come after us, ours stays beneath theirs and passes things on.
        """
        self._open = False
        if self._loop.get_exception_handler() == self._handle:
            self._loop.set_exception_handler(self._before)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        future, error = context.get("future"), context.get("exception")
        # Only a future that goes tells of itself so; "task" is one that goes pending.
        if self._open and isinstance(future, asyncio.Task) and error is not None:
            self.entries.append(lost_entry(future, error))  # pyright: ignore[reportUnknownArgumentType] - of any result
        if self._before is None:
            loop.default_exception_handler(context)
        else:
            self._before(loop, context)


def lost_entry(task: asyncio.Task[Any], error: BaseException) -> Entry:
    """Tell of a task that has failed, and where."""
    frames: list[RawFrame] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(RawFrame(traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    return Entry(
        "error",
        task.get_name(),
        f"failed with {type(error).__name__}",
        Stack(reversed(frames)),
        ident=id(task),
    )
