"""The blocks of ours that are open: who works in them, and which nobody can leave."""

import asyncio
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from threading import Thread
from typing import Any, TypeAlias, final
from weakref import ref

from safeconc._block import OPEN, Block
from safeconc._loop import here
from safeconc.leaks._model import NOWHERE, Entry, Stack
from safeconc.leaks._private import copied
from safeconc.leaks._stacks import Stacks

Mark: TypeAlias = ref[Any]
"""By what a task, a thread or a block is known again."""


@final
class Blocks:
    """Looks at the blocks of ours that have been entered and not left."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self.made: dict[Mark, Stack] = {}
        """Where each task or thread was asked for that works in one."""

    def look(self) -> None:
        """Note who works in them now."""
        for block in _open():
            # Another thread may end one meanwhile, which then forgets its members.
            with suppress(AttributeError):
                for member, site in block.members():
                    self.made[ref(member)] = self._stacks.of_site(site)

    def marks(self) -> set[Mark]:
        """Return marks of all."""
        return set(map(ref, _open()))

    def left_open(self, known: AbstractSet[object], *, at_end: bool) -> Iterator[Entry]:
        """Yield those that nobody will leave: whoever has entered them is gone.

        One of somebody who still runs is told by that. But who asks *at_end*, when
        nothing should be left, has left open what is his.
        """
        caller = _caller() if at_end else ()
        for block in _open():
            mark, host = ref(block), block.host()
            if mark not in known and (_has_ended(host) or host in caller):
                yield Entry(
                    "primitive",
                    block.name,
                    "open",
                    NOWHERE,
                    self._stacks.of_site(block.made),
                    ident=id(block),
                    ref=mark,
                )


def _open() -> Iterator[Block]:
    for mark in copied(OPEN):
        block = mark()
        if block is not None and not block.is_inherited():
            yield block


def _has_ended(host: Any) -> bool:
    """Tell whether a task or a thread has ended; None is one that is forgotten."""
    if isinstance(host, Thread):
        return not host.is_alive()
    if isinstance(host, asyncio.Task):
        return host.done()  # pyright: ignore[reportUnknownMemberType] - of any result
    return host is None or host.coro.cr_frame is None  # trio's


def _caller() -> tuple[object, ...]:
    """Return who asks: a thread, and perhaps a task."""
    loop = here()
    return threading.current_thread(), loop and loop.current_task()
