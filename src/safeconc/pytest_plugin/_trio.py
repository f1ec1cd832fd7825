"""The end of a run of trio, while all that is left in it can still be seen."""

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from trio.abc import Instrument
    from trio.lowlevel import Task

_watched: "WeakSet[Task]" = WeakSet()


def in_trio() -> bool:
    """Tell whether a task of trio is calling, without importing trio to ask."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    return lowlevel is not None and bool(lowlevel.in_trio_task())


def at_end(look: Callable[[], object]) -> None:
    """Have *look* called when the main task of this run ends; once for each run.

    trio cancels then what is no child of it: system tasks.
    """
    from trio.lowlevel import add_instrument, current_root_task, current_task

    main, root = current_task(), current_root_task()
    while (nursery := main.parent_nursery) and nursery.parent_task is not root:
        main = nursery.parent_task
    if main not in _watched:
        _watched.add(main)
        add_instrument(_ending()(main, look))


@lru_cache
def _ending() -> "Callable[[Task, Callable[[], object]], Instrument]":
    from trio.abc import Instrument

    class Ending(Instrument):
        def __init__(self, main: "Task", look: Callable[[], object]) -> None:
            self._main = main
            self._look = look

        def task_exited(self, task: "Task") -> None:
            if task is self._main:
                self._look()

    return Ending
