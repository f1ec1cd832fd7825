"""Where the threads are at one instant, each by what may be looked at of it."""

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from types import FrameType
from typing import TypeAlias, final

from safeconc._frames import Call, can_walk, walkable, written
from safeconc.leaks._model import NOWHERE, Found, RawFrame, Stack
from safeconc.leaks._places import module
from safeconc.leaks._private import Place
from safeconc.leaks._stacks import DEEPEST, Stacks

_Functions: TypeAlias = tuple[tuple[int, int, str], ...]
"""First and last lines of functions, and their names; the outer ones first."""


@final
class Whereabouts:
    """Where all threads were when this was made.

    :param stacks: who works out stacks.
    """

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self.frames: dict[int, FrameType] = {}
        """The innermost frame of each thread whose frames may be walked."""

        self._written: dict[int, list[Call]] = {}

    @property
    def others(self) -> bool:
        """Whether there are threads that may not be looked into."""
        return len(self._written) > 1

    def look(self) -> None:
        """Find out where the threads are now."""
        self.frames.update(walkable())
        if not can_walk():
            self._written = written()

    def forget(self) -> None:
        """Let go of frames, which keep whatever they have to do with."""
        self.frames.clear()

    def stack(self, ident: int) -> Stack:
        """Return where a thread is."""
        if ident in self.frames:
            return self._stacks.of_thread(self.frames[ident])
        calls = self._written.get(ident)
        if not calls:
            return NOWHERE
        return Stack(map(_raw, islice(calls, DEEPEST)))

    def places(self, ident: int) -> Iterator[Place]:
        """Yield the modules and functions that a thread is in, the innermost first."""
        frame = self.frames.get(ident)
        if frame is None:
            for call in self._written.get(ident, ()):
                yield module(call.file), call.function
        while frame is not None:
            yield frame.f_globals.get("__name__", ""), frame.f_code.co_name
            frame = frame.f_back


def _raw(call: Call) -> RawFrame:
    return RawFrame(Found(call.file, call.function, _qualified(call)), call.line)


def _qualified(call: Call) -> str:
    """Return the qualified name of a function, of which the file and a line are known.

    That is what rules go by.
    """
    name = call.function
    for first, last, qualified in _functions(call.file):
        if first <= call.line <= last and qualified.split(".")[-1] == call.function:
            name = qualified
    return name


@lru_cache(maxsize=256)
def _functions(file: str) -> _Functions:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    return tuple(_named(tree, ""))


def _named(parent: ast.AST, prefix: str) -> Iterator[tuple[int, int, str]]:
    for node in ast.iter_child_nodes(parent):
        inside = prefix
        if isinstance(node, ast.ClassDef):
            inside = f"{prefix}{node.name}."
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{prefix}{node.name}"
            yield node.lineno, node.end_lineno or node.lineno, name
            inside = f"{name}.<locals>."
        yield from _named(node, inside)
