"""Event loops between two runs: to be told when one ends, and to let time pass in it.

asyncio's runner cancels, in silence, what is left on its loop, and closes it. All that
run tests (pytest-asyncio, anyio, unittest, ``asyncio.run`` in a plain test) do so by
one method, ``asyncio.Runner.close``. Nobody can ask to be told before, so that method
is replaced here, on the class, while we watch; that is the one place where something
of another's is.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, final

from safeconc.leaks._private import loop_of_runner

Loop = asyncio.AbstractEventLoop


@final
class Closing:
    """Calls *look* with each loop that a runner is about to close, in its thread."""

    def __init__(self, look: Callable[[Loop], object]) -> None:
        self._look = look
        self._before: Any = None
        self._ours: Any = None

    def open(self) -> None:
        """Begin to tell."""
        before: Any = asyncio.Runner.close

        @wraps(before)
        def close(runner: asyncio.Runner) -> None:
            try:
                loop = loop_of_runner(runner)
                if loop is not None and not loop.is_closed():
                    self._look(loop)
            finally:  # whatever we have met: the loop is closed
                before(runner)

        self._before, self._ours = before, close
        _replace(close)

    def close(self) -> None:
        """Tell no more.

        If somebody has come after us, ours stays beneath theirs and passes things on.
        """
        self._look = _ignore
        if asyncio.Runner.close is self._ours:
            _replace(self._before)


def _replace(close: Any) -> None:
    asyncio.Runner.close = close  # type: ignore[method-assign]


def _ignore(_: Loop) -> None: ...


def pass_time(seconds: float, loops: Iterable[Loop]) -> None:
    """Let time pass, in loops that are at rest as well.

    The time is real, also where the clock of a loop is not.
    """
    until = time.monotonic() + seconds
    if not is_running():
        for loop in loops:
            _run(loop, max(0.0, until - time.monotonic()))
    time.sleep(max(0.0, until - time.monotonic()))


def is_running() -> bool:
    """Tell whether a loop runs in this thread, so that no other one could."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(loop: Loop, seconds: float) -> None:
    """Run a loop for a while, if it is at rest."""
    if loop.is_closed() or loop.is_running():
        return
    for pause in (0.0, 0.0, seconds):  # what is about to end takes some turns
        stop = loop.call_later(pause, loop.stop)
        try:
            loop.run_forever()
        finally:  # a task may raise a KeyboardInterrupt; the next run is not to stop
            stop.cancel()
