"""Find what outlived its owner: tasks, threads, timers and all else that goes on.

Layers, lowest first; a module imports only what stands before it::

    _model                          what was seen alive
    _own  _private  _processes      where it is to be found
    _stacks  _origins               where it waits, and who made it
    _census                         all of it, one by one
"""

from safeconc.leaks._census import snapshot
from safeconc.leaks._model import Entry, Kind, RawFrame, Snapshot
from safeconc.leaks._origins import Installed, install

__all__ = (
    "Entry",
    "Installed",
    "Kind",
    "RawFrame",
    "Snapshot",
    "install",
    "snapshot",
)
