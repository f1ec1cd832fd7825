"""Find what outlived its owner: tasks, threads, timers and all else that goes on.

Layers, lowest first; a module imports only what stands before it::

    _model                          what was seen alive
    _own  _private  _processes      where it is to be found
    _stacks  _origins               where it waits, and who made it
    _census                         all of it, one by one
    _lost  _pauses                  what failed unseen; when to look again
    _check                          around a block, or right now
"""

from safeconc.leaks._census import snapshot
from safeconc.leaks._check import LeakError, check, find, verify_none
from safeconc.leaks._model import Entry, Kind, RawFrame, Snapshot
from safeconc.leaks._origins import Installed, install

__all__ = (
    "Entry",
    "Installed",
    "Kind",
    "LeakError",
    "RawFrame",
    "Snapshot",
    "check",
    "find",
    "install",
    "snapshot",
    "verify_none",
)
