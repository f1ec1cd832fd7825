"""The task that nobody owns: what all the vices are made of."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVarTuple, Unpack

Args = TypeVarTuple("Args")

_tasks: set[asyncio.Task[object]] = set()


def spawn(
    fn: Callable[[Unpack[Args]], Coroutine[Any, Any, object]], *args: *Args
) -> None:
    """Start ``fn(*args)`` and forget it.

    On asyncio this is ``create_task``, with the reference that its documentation
    and ruff's RUF006 ask for. That advice keeps a task from being collected while
    it runs; it also keeps one that will never end.

    trio has no such call, since every task there is somebody's. Its leak is a
    nursery that the application holds open and hands down to whoever wants to
    start something; the run's own nursery, for system tasks, is one that is always
    at hand. What fails in there is an internal error of trio and ends the run.
    """
    if on_trio():
        import trio

        trio.lowlevel.spawn_system_task(fn, *args)
    else:
        task = asyncio.create_task(fn(*args))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def on_trio() -> bool:
    """Tell whether the caller is a task of trio, which need not be installed."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    return lowlevel is not None and bool(lowlevel.in_trio_task())
