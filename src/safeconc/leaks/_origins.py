"""Where tasks and threads were made, and for whom.

Of a thread the interpreter tells, from Python 3.12 on, who listens to calls of
``Thread.start`` and nothing else; of a task likewise, or by what it keeps of the calls
that made its coroutine. An audit hook would do on all versions. But it cannot be taken
away again, and it makes a census ten times as dear, since it is told of each look at a
frame.
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

from safeconc.leaks._calls import Calls
from safeconc.leaks._model import NOWHERE, Stack
from safeconc.leaks._spawned import CREATE, RUN, calls, spawned

FRAMES: Final = 4
"""Calls that are kept, unless one asks for another number.

Through three of them a task group of anyio makes a task of asyncio.
"""

TRIO_FRAMES: Final = 6
"""The same under trio: three calls of its own, and two of anyio's before them."""

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


@final
class _Threads:
    """Notes who starts threads, while :attr:`frames` says how many calls of each."""

    def __init__(self) -> None:
        self.frames = 0
        self._made: WeakKeyDictionary[Thread, tuple[Stack, str | None]]
        self._made = WeakKeyDictionary()

    def of(self, thread: Thread) -> tuple[Stack, str | None]:
        """Return where a thread was started, and for whom."""
        return self._made.get(thread, _UNKNOWN)

    def starts(self, code: CodeType, _: int) -> None:
        """Be told that ``Thread.start`` begins."""
        start = sys._getframe(1)
        thread = start.f_locals.get("self") if start.f_code is code else None
        if isinstance(thread, Thread):
            stack = Stack(calls(start.f_back, self.frames))
            self._made[thread] = (stack, owner.get())


_UNKNOWN: Final = (NOWHERE, None)

threads: Final = _Threads()
"""The threads of this process."""

_listening: Final = Calls("safeconc.leaks", tools=(3, 4))


def _note(frames: int) -> int:
    """Note so many calls of each task and thread that is made; none with 0.

    Returns how many were noted before.
    """
    before = threads.frames
    threads.frames = spawned.frames = frames
    if not frames:
        _listening.close()
    elif not _listening.heard:
        _listening.open(
            {
                "PY_START": (threads.starts, [Thread.start.__code__]),
                "PY_RETURN": (spawned.returns, [CREATE, RUN]),
            }
        )
    return before


def noted() -> bool:
    """Tell whether it is noted who makes tasks here."""
    return threads.frames > 0 or sys.get_coroutine_origin_tracking_depth() > 0


@final
class Installed:
    """What :func:`install` has switched on, until :meth:`uninstall`.

    As a block it is switched off when the block is left.
    """

    def __init__(self, frames: int) -> None:
        self._tracked = spawned.track(frames)
        self._noted = _note(frames)

    def uninstall(self) -> None:
        """Note nothing more; what was noted stays."""
        spawned.untrack(self._tracked)
        _note(self._noted)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstall()


def install(frames: int | None = None) -> Installed:
    """Have tasks and threads remember who made them, for reports to name the line.

    Call it in the thread where your event loop is to run, before or while it does: for
    tasks the interpreter keeps this setting per thread. From Python 3.12 on a loop of
    asyncio is asked about its tasks, whatever thread it runs in, and each task has a
    price. Before, and under trio, uvloop or a task factory, each call of a coroutine
    function has it. A task that is made by calling :class:`asyncio.Task`, not
    ``create_task``, is noted in the latter case only. Threads are noted whoever starts
    them, from Python 3.12 on.

    :param frames: how many calls to keep. One names the line that makes the task, or
        its coroutine. More lead out of a library that does so on somebody's behalf:
        four out of anyio on asyncio, six out of anyio on trio. None keeps as many as
        that takes: six if trio has been imported, or else four.

    Raises :exc:`ValueError` if *frames* is not between 1 and 64.
    """
    if frames is None:
        frames = TRIO_FRAMES if "trio" in sys.modules else FRAMES
    if isinstance(frames, bool) or not isinstance(frames, int):
        raise TypeError(f"frames must be a whole number, not {frames!r}")
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"frames must be between 1 and {MOST_FRAMES}, not {frames}")
    return Installed(frames)


def _contextvars(task: Any) -> Context:
    """Find the contextvars of a task of asyncio among what it refers to."""
    things = get_referents(task)
    return next((thing for thing in things if type(thing) is Context), _NO_VARIABLES)


_NO_VARIABLES: Final = Context()

contextvars_of: Callable[[asyncio.Task[Any]], Context] = vars(asyncio.Task).get(
    "get_context", _contextvars
)
"""Return the contextvars of a task of asyncio. Before Python 3.12 it does not tell."""
