"""Where code is: raw frames, named once somebody wants to read of them."""

import linecache
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import final

from safeconc.leaks._model import RawFrame
from safeconc.leaks._text import one_line

PATH = 200
"""Characters that a path takes at most."""

OWN, INSTALLED, MACHINERY = range(3)
"""How far a function is from whoever reads the report: the nearer, the smaller."""

_MACHINERY = sys.stdlib_module_names | {
    "anyio",
    "outcome",
    "safeconc",
    "sniffio",
    "trio",
    "uvloop",
}
"""Packages that everybody waits in."""

_VICES = "safeconc.antipatterns."
_FOLDERS = {"site-packages", "dist-packages"}


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A line of a function."""

    function: str
    """Its module and its qualified name there: ``asyncio.tasks.sleep``."""

    file: str
    line: int

    @property
    def where(self) -> str:
        """File and line, in the form that terminals and editors follow."""
        return f"{one_line(_nearby(self.file), PATH)}:{self.line}"

    @property
    def source(self) -> str:
        """What stands there; empty if the file cannot be read."""
        return one_line(linecache.getline(self.file, self.line).strip())


def place(frame: RawFrame) -> Place:
    """Name a raw frame."""
    return Place(function(frame), frame.code.co_filename, frame.line)


def function(frame: RawFrame) -> str:
    """Return the module and the qualified name of the function of a raw frame."""
    code = frame.code
    return f"{module(code.co_filename)}.{code.co_qualname}"


@lru_cache(maxsize=4096)
def module(file: str) -> str:
    """Return the name of the module in *file*; a code object only knows its file."""
    for name, loaded in sys.modules.copy().items():
        if _file_of(loaded) == file:
            return name
    return PurePath(file).stem


def _file_of(loaded: object) -> object:
    """Return the file of a module, or of whatever else stands where modules do."""
    try:
        # By object's own method: a module that is loaded lazily would be loaded now.
        return object.__getattribute__(loaded, "__dict__").get("__file__")
    except AttributeError:
        return None


def innermost(stack: Sequence[RawFrame]) -> int:
    """Return the index of the innermost of the calls nearest to the reader."""
    return min(range(len(stack)), key=lambda index: distance(stack[index]))


def outermost(stack: Sequence[RawFrame]) -> int:
    """Return the index of the outermost of the calls nearest to the reader."""
    return min(range(len(stack)), key=lambda index: (distance(stack[index]), -index))


def distance(frame: RawFrame) -> int:
    """Return how far a call is from the reader's own code."""
    return _distance(frame.code.co_filename)


@lru_cache(maxsize=4096)
def _distance(file: str) -> int:
    name = module(file)
    if name.startswith(_VICES) and not name.startswith("_", len(_VICES)):
        return OWN
    if name.partition(".")[0] in _MACHINERY:
        return MACHINERY
    return INSTALLED if _FOLDERS.intersection(PurePath(file).parts) else OWN


def _nearby(file: str) -> str:
    """Return *file* as seen from the working directory, if it is below."""
    try:
        return str(PurePath(file).relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or the directory is gone
        return file
