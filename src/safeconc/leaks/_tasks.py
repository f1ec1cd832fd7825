"""The tasks of all event loops: which of them are alike, and what they are doing."""

import asyncio
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any, TypeAlias, final
from weakref import ref

from safeconc.leaks import _private
from safeconc.leaks._crowd import Crowd
from safeconc.leaks._lost import lost_entry
from safeconc.leaks._model import Entry, RawFrame, Stack
from safeconc.leaks._origins import contextvars_of, owner
from safeconc.leaks._own import own
from safeconc.leaks._spawned import spawned
from safeconc.leaks._stacks import Stacks, trace, with_callers

Mark: TypeAlias = ref[Any]
"""By what a task is known again."""

_ONE_FRAME = 2
"""How many items of a place tell of one frame."""


@final
class Tasks:
    """Looks at tasks, and tells which are alike by what costs least to ask.

    That is how far each function has come in which a task waits. Lines, stacks and
    states are worked out once for each crowd.

    :param stacks: who works out stacks.
    :param frames: the innermost frame of each thread: somewhere above is a task that
        runs.
    :param made: where members of blocks of ours were asked for.
    """

    def __init__(
        self,
        stacks: Stacks,
        frames: dict[int, FrameType],
        made: Mapping[Mark, Stack],
    ) -> None:
        self._stacks = stacks
        self._made = made
        self._frames = frames
        self._samples: dict[tuple[Any, ...], Entry] = {}
        self.lost: list[Entry] = []
        """Tasks that were met, and that have failed unseen."""

    def asyncio(self, marks: Iterable[Mark]) -> Iterable[Crowd]:
        """Return the living ones among tasks of asyncio, like with like."""
        # A hundred thousand may come by here, hence no call that is not needed.
        crowds: dict[tuple[Any, ...], Crowd] = {}
        owned, watched, made = owner.used, bool(own), self._made
        noted = spawned.of
        task: asyncio.Task[Any] | None
        for mark in marks:
            task = mark()
            if task is None or (watched and task in own):
                continue
            if task.done():
                if (error := _private.lost_error(task)) is not None:
                    self.lost.append(lost_entry(task, error))
                continue
            coroutine: Any = task.get_coro()
            place = trace(
                coroutine,
                (
                    task.cancelling(),
                    noted(mark) or getattr(coroutine, "cr_origin", None),
                    made.get(mark) if made else None,
                    owner.of(contextvars_of(task)) if owned else None,
                    task.get_loop(),
                ),
            )
            crowd = crowds.get(place)
            if crowd is None:
                crowds[place] = crowd = self._crowd(place, coroutine)
            crowd.names.append(task.get_name())
            crowd.refs.append(mark)
        return crowds.values()

    def trio(self, marks: Iterable[Mark]) -> Iterable[Crowd]:
        """Return the living ones among tasks of trio, like with like."""
        crowds: dict[tuple[Any, ...], Crowd] = {}
        for mark in marks:
            task = mark()
            if task is None or task in own:
                continue
            coroutine = task.coro
            place = trace(
                coroutine,
                (
                    _private.is_cancelled(task),
                    getattr(coroutine, "cr_origin", None),
                    self._made.get(mark),
                    owner.of(task.context),
                    None,
                ),
            )
            crowd = crowds.get(place)
            if crowd is None:
                crowds[place] = crowd = self._crowd(place, coroutine)
            crowd.names.append(task.name)
            crowd.refs.append(mark)
        return crowds.values()

    def _crowd(self, place: tuple[Any, ...], coroutine: Any) -> Crowd:
        """Begin a crowd, with the first task that was seen there."""
        sample = self._samples.get(place)
        if sample is None:
            sample = self._sample(place, coroutine)
            if sample.state != "running":  # of which there is one
                self._samples[place] = sample
        return Crowd(sample)

    def _sample(self, place: tuple[Any, ...], coroutine: Any) -> Entry:
        """Work out what all have in common who are at a place."""
        cancelled, origin, site, owner, loop, *frames = place
        state, stack = "waiting", self._stacks.of(coroutine)
        if len(frames) <= _ONE_FRAME and getattr(coroutine, "cr_running", False):
            state, stack = "running", self._running(coroutine)
        elif loop is not None and loop.is_closed():
            state = "left in a closed loop"
        elif cancelled:
            state = "cancelling"
        elif getattr(coroutine, "cr_await", coroutine) is None:
            state = "not started"
        created = with_callers(site, self._stacks.of_origin(origin))
        return Entry("task", "", state, stack, created, owner)

    def _running(self, coroutine: Any) -> Stack:
        """Return where a task is that runs: on top of its thread's stack."""
        outermost = coroutine.cr_frame
        for inner in self._frames.values():
            calls: list[RawFrame] = []
            frame: FrameType | None = inner
            while frame is not None:
                calls.append(RawFrame(frame.f_code, frame.f_lineno or 0))
                if frame is outermost:
                    return Stack(calls)
                frame = frame.f_back
        return self._stacks.of(coroutine)  # it has gone on since
