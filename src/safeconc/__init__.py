"""Concurrency that ends when its block ends.

Layers, lowest first; a module imports only what stands before it::

    _policy                         decisions without waiting
    _loop  _limit  _waiter          what we need of an event loop
    _registration                   what is called at an end
    _context                        a deadline and a cause
    _siblings                       members that fail together
    _crew  _progress                who runs them, and who watches
    _run                            items in, results out
    _errgroup  _fanout              the primitives
    antipatterns                    each vice beside its cure
    _demo                           runs them, and shows it
    __main__                        the command line
"""

from safeconc._context import (
    Context,
    ContextCancelled,
    ContextStatistics,
    DeadlineExceeded,
    check,
    current_context,
)
from safeconc._errgroup import ErrGroup, ErrGroupStatistics, Task
from safeconc._fanout import FanOut, fan_out
from safeconc._registration import Registration
from safeconc._run import FanOutStatistics

__all__ = (
    "Context",
    "ContextCancelled",
    "ContextStatistics",
    "DeadlineExceeded",
    "ErrGroup",
    "ErrGroupStatistics",
    "FanOut",
    "FanOutStatistics",
    "Registration",
    "Task",
    "check",
    "current_context",
    "fan_out",
)

# Tracebacks, pickles and docs should say ``safeconc.Context``: users need not
# know which private module it lives in.
for _name in __all__:
    globals()[_name].__module__ = __name__
