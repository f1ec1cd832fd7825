"""Where tasks and threads were made, and for whom.

Of a task the interpreter itself can keep the calls that made its coroutine. That is
cheaper than any task factory, composes with all of them and with eager tasks, and
serves trio as well. Of a thread it tells, from Python 3.12 on, who watches for calls of
``Thread.start`` and nothing else. An audit hook would do on all versions. But it cannot
be taken away again, and it makes a census ten times as dear, since it is told of each
look at a frame.
"""

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context, ContextVar, Token
from gc import get_referents
from threading import Thread
from types import CodeType, TracebackType
from typing import Any, Final, Self, final
from weakref import WeakKeyDictionary

from safeconc.leaks._model import NOWHERE, RawFrame, Stack

FRAMES = 4
"""Calls that are kept, unless one asks for another number."""

MOST_FRAMES = 64
"""Calls that can be kept at most."""


@final
class _Owner:
    """For whom tasks and threads are made, a test for example. They inherit it."""

    def __init__(self) -> None:
        self._variable: ContextVar[str | None]
        self._variable = ContextVar("safeconc.leaks.owner", default=None)
        self.used = False
        """Whether anybody has ever said so; if not, nobody need be asked."""

    def get(self) -> str | None:
        """Return for whom the caller runs."""
        return self._variable.get()

    def set(self, name: str | None) -> Token[str | None]:
        """Have the caller run for *name*, and all that is made from here on."""
        self.used = True
        return self._variable.set(name)

    def reset(self, token: Token[str | None]) -> None:
        """Have things as they were before :meth:`set`."""
        self._variable.reset(token)

    def of(self, variables: Context) -> str | None:
        """Return for whom those run who have these contextvars."""
        return variables.get(self._variable)


owner: Final = _Owner()
"""The owner of what is made now."""

_TOOLS = (3, 4)
"""Numbers of tools that :mod:`sys.monitoring` leaves to whoever comes first."""


@final
class _Threads:
    """What was noted of threads when they were started."""

    def __init__(self) -> None:
        self._frames = 0
        self._tool: int | None = None
        self._made: WeakKeyDictionary[Thread, tuple[Stack, str | None]]
        self._made = WeakKeyDictionary()

    def watch(self, frames: int) -> None:
        """Note so many calls of each thread that is started; none with 0."""
        self._frames = frames
        if self._tool is None and frames:
            self._tool = self._take_tool()
        elif self._tool is not None and not frames:
            monitoring: Any = vars(sys)["monitoring"]
            monitoring.set_local_events(self._tool, Thread.start.__code__, 0)
            monitoring.free_tool_id(self._tool)
            self._tool = None

    def of(self, thread: Thread) -> tuple[Stack, str | None]:
        """Return where a thread was started, and for whom."""
        return self._made.get(thread, _UNKNOWN)

    def _take_tool(self) -> int | None:
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is None:  # before Python 3.12, and on PyPy
            return None
        for tool in _TOOLS:
            if monitoring.get_tool(tool) is None:
                monitoring.use_tool_id(tool, "safeconc.leaks")
                start = monitoring.events.PY_START
                monitoring.register_callback(tool, start, self._started)
                monitoring.set_local_events(tool, Thread.start.__code__, start)
                return tool
        return None

    def _started(self, code: CodeType, _: int) -> None:
        start = sys._getframe(1)
        thread = start.f_locals.get("self") if start.f_code is code else None
        if isinstance(thread, Thread):
            frames: list[RawFrame] = []
            frame = start.f_back
            while frame is not None and len(frames) < self._frames:
                frames.append(RawFrame(frame.f_code, frame.f_lineno or 0))
                frame = frame.f_back
            self._made[thread] = (Stack(frames), owner.get())


_UNKNOWN: Final = (NOWHERE, None)

threads: Final = _Threads()
"""The threads of this process."""


@final
class Installed:
    """What :func:`install` has switched on, until :meth:`uninstall`.

    As a block it is switched off when the block is left.
    """

    def __init__(self, before: int, frames: int) -> None:
        self._before = before
        self._frames = frames

    def uninstall(self) -> None:
        """Note nothing more; what was noted stays."""
        sys.set_coroutine_origin_tracking_depth(self._before)
        threads.watch(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstall()


def install(frames: int = FRAMES) -> Installed:
    """Have tasks and threads remember who made them, for reports to name the line.

    For tasks it holds in the calling thread, so call it where your event loop is to
    run, before or while it does: the interpreter keeps this setting per thread.
    Threads are noted whoever starts them, from Python 3.12 on.

    :param frames: how many calls to keep. One names the line that makes the coroutine.
        More lead out of a library that does so on somebody's behalf.

    Raises :exc:`ValueError` if *frames* is not between 1 and 64.
    """
    if isinstance(frames, bool) or not isinstance(frames, int):
        raise TypeError(f"frames must be a whole number, not {frames!r}")
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"frames must be between 1 and {MOST_FRAMES}, not {frames}")
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(frames)
    threads.watch(frames)
    return Installed(before, frames)


def _contextvars(task: Any) -> Context:
    """Find the contextvars of a task of asyncio among what it refers to."""
    things = get_referents(task)
    return next((thing for thing in things if type(thing) is Context), _NO_VARIABLES)


_NO_VARIABLES: Final = Context()

contextvars_of: Callable[[asyncio.Task[Any]], Context] = vars(asyncio.Task).get(
    "get_context", _contextvars
)
"""Return the contextvars of a task of asyncio. Before Python 3.12 it does not tell."""
