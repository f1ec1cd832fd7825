"""Where somebody's code makes something of ours: noted always, so at the least cost.

A line number would have to be worked out each time. What is noted instead is the
function and how far it has come, and whoever wants to read of it asks
:func:`line_of`.
"""

import os
import sys
from pathlib import Path
from types import CodeType
from typing import TypeAlias

Site: TypeAlias = tuple[CodeType, int]
"""A function, and the place in its bytecode."""

_OURS = str(Path(__file__).parent) + os.sep
_EXAMPLES = str(Path(__file__).parent / "antipatterns") + os.sep


def caller_of(depth: int) -> Site:
    """Return where the function is that is *depth* calls above the caller of this."""
    try:
        frame = sys._getframe(depth + 1)
    except ValueError:  # a loop that is no Python code has called it
        frame = sys._getframe(1)
    return frame.f_code, frame.f_lasti


def user_of_this() -> Site:
    """Return the innermost call that is not of this package."""
    frame = sys._getframe(1)
    while _is_ours(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def _is_ours(file: str) -> bool:
    return file.startswith(_OURS) and not file.startswith(_EXAMPLES)


def line_of(site: Site) -> int:
    """Return the line of a site; 0 if its function does not tell."""
    code, instruction = site
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return line or 0
    return 0
