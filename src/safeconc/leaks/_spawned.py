"""Where the tasks of asyncio were made, as its own loops tell.

The interpreter can keep the calls that made a coroutine. That serves trio, uvloop,
task factories and eager tasks alike. But each call of a coroutine function pays for it,
and a request makes hundreds of those for a handful of tasks. So while a loop of asyncio
runs, its ``create_task`` is listened to, and the interpreter keeps nothing.
"""

import asyncio
import sys
from collections.abc import Iterator
from threading import local
from types import CodeType, FrameType
from typing import Any, Final, final
from weakref import ref

from safeconc.leaks._model import Named, RawFrame, Stack

CREATE: Final = asyncio.BaseEventLoop.create_task.__code__
RUN: Final = asyncio.BaseEventLoop.run_forever.__code__

PLACES = 4096
"""Places that make tasks whose stacks are kept to be shared; then it begins anew."""

_SPAWNERS: Final = frozenset(
    id(fn.__code__)
    for fn in (
        asyncio.BaseEventLoop.create_task,
        asyncio.TaskGroup.create_task,
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.gather,
        asyncio.shield,
    )
)
"""By what one makes tasks: of interest is who calls it."""


def calls(frame: FrameType | None, most: int) -> Iterator[RawFrame]:
    """Yield the innermost calls, from *frame* on."""
    while frame is not None and most:
        yield RawFrame(frame.f_code, frame.f_lineno or 0)
        frame = frame.f_back
        most -= 1


@final
class _Place:
    """Calls that make tasks."""

    def __init__(self, maker: FrameType | None, most: int) -> None:
        frames = [*calls(maker, most)]
        self.codes = [frame.code for frame in frames]
        """Kept, so that no other function can get the id of one."""

        # Named as the interpreter names who made a coroutine: rules go by that.
        self.stack = Stack(
            RawFrame(Named(code.co_filename, code.co_name), line)
            for code, line in frames
        )


class _Here(local):
    """What was done to the interpreter's tracking in the thread one is in."""

    depth = 0
    """How many calls we have it keep, if nobody else had it keep any."""

    rests = False
    """Whether it keeps none just now, because a loop tells."""


@final
class Spawned:
    """Notes who makes tasks, while :attr:`frames` says how many calls of each."""

    def __init__(self) -> None:
        self.frames = 0
        self._here = _Here()
        self._places: dict[tuple[int, ...], _Place] = {}
        self._made: dict[ref[Any], Stack] = {}
        self._forget = self._made.pop
        self.of = self._made.get
        """Returns where a task was made, given a reference to it, or None."""

    def track(self, frames: int) -> tuple[int, int]:
        """Have the interpreter keep calls in this thread; return what was before."""
        here = self._here
        before = here.depth if here.rests else sys.get_coroutine_origin_tracking_depth()
        ours = here.depth
        self._set(frames, frames if before == ours else 0)
        return before, ours

    def untrack(self, before: tuple[int, int]) -> None:
        """Have it do as before :meth:`track`."""
        self._set(*before)

    def _set(self, depth: int, ours: int) -> None:
        sys.set_coroutine_origin_tracking_depth(depth)
        self._here.depth = ours
        self._here.rests = False

    def returns(self, code: CodeType, _: int, task: Any) -> None:
        """Be told that ``create_task`` or ``run_forever`` of a loop returns."""
        # All tasks come by here, hence no call that is not needed.
        if code is RUN:
            self._stopped()
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and id(frame.f_code) in _SPAWNERS:
            frame = frame.f_back
        maker = frame
        key: tuple[int, ...] = ()
        for _ in range(self.frames):
            if frame is None:
                break
            key += (id(frame.f_code), frame.f_lasti)
            frame = frame.f_back
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= PLACES:
                self._places.clear()
            self._places[key] = place = _Place(maker, self.frames)
        try:
            self._made[ref(task, self._forget)] = place.stack
        except TypeError:  # a factory has returned what has no weak references
            return
        if sys.get_coroutine_origin_tracking_depth():
            self._rest(sys._getframe(1).f_locals["self"])

    def _rest(self, loop: asyncio.BaseEventLoop) -> None:
        """Let the interpreter rest while a loop runs that tells of all its tasks.

        With a factory there may be tasks that are made around it, or are looked at
        before they are returned. The depth is another's if, say, asyncio's debug mode
        is on.
        """
        if (
            loop.is_running()
            and loop.get_task_factory() is None
            and sys.get_coroutine_origin_tracking_depth() == self._here.depth
        ):
            self._here.rests = True
            sys.set_coroutine_origin_tracking_depth(0)

    def _stopped(self) -> None:
        """Have the interpreter go on: the next loop here may be another's."""
        if self._here.rests:
            self._set(self._here.depth, self._here.depth)


spawned: Final = Spawned()
"""The tasks of this process."""
