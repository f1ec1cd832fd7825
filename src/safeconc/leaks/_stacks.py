"""Where a task waits: the whole chain of its awaits, down to the innermost one.

``Task.get_stack()`` tells of a suspended task the outermost call only. What that one
awaits hangs on it, and so on: a coroutine on a coroutine, a generator, an async
generator, until something is reached that is no Python code.
"""

import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeAlias, final

from safeconc._crew import driven
from safeconc._site import Site, line_of
from safeconc.leaks._model import NOWHERE, Named, RawFrame, Stack

DEEPEST = 200
"""Calls of one stack that are kept, of deeper ones the innermost."""

Origin: TypeAlias = tuple[tuple[str, int, str], ...]
"""What ``cr_origin`` of a coroutine is: files, lines and functions, innermost first."""

_Step: TypeAlias = tuple[FrameType | None, object]


@final
class Stacks:
    """Walks chains of awaits, and gives those that are alike one stack.

    A chain is told by its functions and how far each has come, which are cheap to ask
    for. Line numbers are not: they are worked out once for each place.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Stack] = {}
        self._origins: dict[Origin, Stack] = {}
        self._sites: dict[tuple[int, int], Stack] = {}

    def of(self, awaited: object) -> Stack:
        """Return where a coroutine is, or whatever else a task awaits."""
        frames = list(_chain(awaited))
        key: list[int] = []
        for frame in frames:
            key += (id(frame.f_code), frame.f_lasti)
        return self._shared(tuple(key), frames)

    def of_thread(self, frame: FrameType | None) -> Stack:
        """Return where a thread is, given its innermost frame."""
        key: list[int] = []
        frames: list[FrameType] = []
        while frame is not None:
            frames.append(frame)
            key.append(id(frame.f_code))
            key.append(frame.f_lasti)
            frame = frame.f_back
        frames.reverse()
        key.append(-1)  # these numbers come in the other order
        return self._shared(tuple(key), frames)

    def of_origin(self, origin: Stack | Origin | None) -> Stack:
        """Return where a task was made, given that, or a ``cr_origin``."""
        if not origin:
            return NOWHERE
        if isinstance(origin, Stack):
            return origin
        stack = self._origins.get(origin)
        if stack is None:
            stack = self._origins[origin] = Stack(
                RawFrame(Named(file, name), line) for file, line, name in origin
            )
        return stack

    def of_site(self, site: Site) -> Stack:
        """Return the one call where something of ours was asked for."""
        code, instruction = site
        key = id(code), instruction
        stack = self._sites.get(key)
        if stack is None:
            # As below, it keeps the function.
            stack = self._sites[key] = Stack([RawFrame(code, line_of(site))])
        return stack

    def _shared(self, key: tuple[int, ...], frames: list[FrameType]) -> Stack:
        stack = self._known.get(key)
        if stack is None:
            # It keeps the functions, so that no other one can get the id of one.
            stack = self._known[key] = Stack(
                RawFrame(frame.f_code, frame.f_lineno or 0)
                for frame in reversed(frames[-DEEPEST:])
            )
        return stack


def with_callers(site: Stack | None, origin: Stack) -> Stack:
    """Return where a thing was made: our own note, and who called there, if known.

    :param site: what we have noted, one call; None if the thing is not of ours.
    :param origin: what the interpreter or :func:`install` has noted.
    """
    if site is None:
        return origin
    code, line = site[0]
    for index, call in enumerate(origin):
        if (call.line, call.code.co_filename) == (line, code.co_filename):
            return Stack((*site, *origin[index + 1 :]))
    return site  # a worker, noted when it was made, for an earlier job


def trace(awaited: object, place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add to *place* what is the same for all who wait at the same lines.

    It says nothing any more once nobody waits there: it is made of addresses.
    """
    # What _chain does, without a generator: this is most of what a census costs.
    frame: Any
    try:
        while True:
            while type(awaited) is CoroutineType:
                frame = awaited.cr_frame
                place += (id(frame.f_code), frame.f_lasti)
                awaited = awaited.cr_await
            step = _STEPS.get(type(awaited))
            if step is None:
                return place
            frame, awaited = step(awaited)
            if frame is not None:
                place += (id(frame.f_code), frame.f_lasti)
    except AttributeError:  # no frame: it has ended meanwhile, in another thread
        return place


def _chain(awaited: object) -> Iterator[FrameType]:
    """Yield the frames of a chain of awaits, the outermost first."""
    step: Callable[[Any], _Step] | None
    while (step := _STEPS.get(type(awaited))) is not None:
        frame, awaited = step(awaited)
        if frame is not None:
            yield frame


def held_generators(coroutines: Iterable[object]) -> set[int]:
    """Return the ids of the async generators that *coroutines* keep, or those do.

    A task that iterates over one keeps it on its stack. PyPy does not show that of a
    task that is not just waiting for the next item. Whoever runs is not asked: it may
    be about to forget what it holds.
    """
    seen: set[int] = set()
    waiting = list(coroutines)
    while waiting:
        thing = waiting.pop()
        if type(thing) not in _STEPS or id(thing) in seen:
            continue
        if getattr(thing, "cr_running", False):
            continue
        seen.add(id(thing))
        _, awaited = _STEPS[type(thing)](thing)
        waiting.append(awaited)
        waiting += gc.get_referents(thing)
    return seen


def _coroutine(awaited: Any) -> _Step:
    return awaited.cr_frame, awaited.cr_await


def _generator(awaited: Any) -> _Step:
    coroutine = driven(awaited)
    if coroutine is not None:
        return None, coroutine  # a crew's driver is not the reader's business
    return awaited.gi_frame, awaited.gi_yieldfrom


def _async_generator(awaited: Any) -> _Step:
    return awaited.ag_frame, awaited.ag_await


def _wrapper(awaited: Any) -> _Step:
    """Look into what the interpreter wraps an awaited thing in, and hides it."""
    inside: list[Any] = gc.get_referents(awaited)
    return None, next((each for each in inside if type(each) in _STEPS), None)


def _wrappers() -> set[type]:
    """Make one of each, to learn their types, which have no names."""

    async def coroutine() -> None: ...

    async def generate() -> AsyncIterator[None]:
        yield  # pragma: no cover - made to be looked at, and never run

    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)  # a running loop need not know of these
    try:
        generators: list[Any] = [generate() for _ in range(3)]
        made: list[Any] = [
            coroutine().__await__(),
            generators[0].asend(None),
            generators[1].athrow(ValueError),
            anext(generators[2], None),
        ]
        for each in made:
            each.close()
        return set(map(type, made))
    finally:
        sys.set_asyncgen_hooks(*hooks)


_STEPS: dict[type, Callable[[Any], _Step]] = {
    **dict.fromkeys(_wrappers(), _wrapper),
    # The last word, since PyPy wraps nothing in some cases: it has a coroutine do it.
    CoroutineType: _coroutine,
    GeneratorType: _generator,
    AsyncGeneratorType: _async_generator,
}
