"""How a program leaves its event loops, without a change to it.

``asyncio.run`` cancels what its main coroutine has left behind, and says nothing. The
moment before is the one to look. From Python 3.12 on the interpreter tells, who asks
for it, that one function is called and no other: here ``asyncio.Runner.close``, by
which ``asyncio.run``, anyio and uvloop all end, and ``close`` of asyncio's own loops.
"""

import asyncio
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, final

from safeconc.leaks._calls import Calls
from safeconc.leaks._census import Census
from safeconc.leaks._model import Entry
from safeconc.leaks._origins import TRIO_FRAMES, Installed, install
from safeconc.leaks._sieve import Sieve

_TOOLS = (4, 3)
"""The numbers that :func:`install` leaves come first."""

_RUNNER: Final = asyncio.Runner.close.__code__
_LOOP: Final = asyncio.BaseEventLoop.close.__code__


@final
class Overseer:
    """Notes what is alive when an event loop is over, and at the end of the program."""

    def __init__(self) -> None:
        self._known = Census().marks()
        self._listening = Calls("safeconc run", _TOOLS)
        self._installed: Installed
        self._seen: dict[Callable[[], Any], Entry] = {}

    @property
    def sees_loops(self) -> bool:
        """Whether the interpreter tells when a loop ends."""
        return self._listening.heard

    def begin(self) -> None:
        """Have tasks remember who made them, and wait for loops to end."""
        self._installed = install(TRIO_FRAMES)  # trio may yet be imported
        self._listening.open({"PY_START": (self._closing, [_RUNNER, _LOOP])})

    def end(self) -> tuple[Entry, ...]:
        """Look for the last time; return all that was found."""
        self._installed.uninstall()
        self._listening.close()
        for entry in Sieve().sift(Census(self._known)).kept:
            self._seen.setdefault(entry.ref, entry)
        return tuple(self._seen.values())

    def _closing(self, _: CodeType, __: int) -> None:
        """Look at the tasks of a loop that is about to be closed."""
        here = inspect.currentframe()
        frame = None if here is None else here.f_back
        owner = None if frame is None else frame.f_locals.get("self")
        try:
            loop = owner.get_loop() if isinstance(owner, asyncio.Runner) else owner
            self._look(loop)
        except Exception:  # noqa: BLE001 - it is not to reach the program
            return

    def _look(self, loop: object) -> None:
        if not isinstance(loop, asyncio.AbstractEventLoop):
            return
        # It stands still by now, so nothing else would lead there.
        for entry in Sieve().sift(Census(self._known, [loop])).kept:
            task = entry.ref()
            if isinstance(task, asyncio.Task) and task.get_loop() is loop:
                self._seen.setdefault(entry.ref, entry)
