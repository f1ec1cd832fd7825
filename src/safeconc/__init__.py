"""Concurrency that ends when its block ends.

Layers, lowest first; a module imports only what stands before it::

    _policy                         decisions without waiting
    _loop  _limit  _waiter          what we need of an event loop
    _frames  _parker  _stuck        and what of a thread
    _callables                      what is to be called
    _registration  _site            what is called at an end, and who calls us
    _context                        a deadline and a cause
    _block  _child                  members that fail together
    _siblings                       the same for tasks
    _crew  _progress                who runs them, and who watches
    _fan  _run                      items in, results out
    _walk  _tree                    the same for jobs that submit jobs
    _errgroup  _fanout  _to_thread  the primitives
    _channel  _depthpool  _ticker
    threads                         the primitives again, for blocking code
    leaks                           what outlived its owner
    antipatterns                    each vice beside its cure
    pytest_plugin                   what a test left behind
    _demo                           runs them, and shows it
    __main__                        the command line
"""

from safeconc._channel import Channel, consume
from safeconc._child import ErrGroupStatistics
from safeconc._context import (
    Context,
    ContextCancelled,
    ContextStatistics,
    DeadlineExceeded,
    check,
    current_context,
)
from safeconc._depthpool import DepthPool, crawl
from safeconc._errgroup import ErrGroup, Task
from safeconc._fan import FanOutStatistics
from safeconc._fanout import FanOut, fan_out
from safeconc._policy._channel import ChannelClosed, ChannelStatistics
from safeconc._policy._frontier import FrontierFull
from safeconc._policy._ticks import Tick
from safeconc._registration import Registration
from safeconc._ticker import Ticker, every
from safeconc._to_thread import to_thread
from safeconc._walk import DepthPoolStatistics, Job, Visit

__all__ = (
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "Context",
    "ContextCancelled",
    "ContextStatistics",
    "DeadlineExceeded",
    "DepthPool",
    "DepthPoolStatistics",
    "ErrGroup",
    "ErrGroupStatistics",
    "FanOut",
    "FanOutStatistics",
    "FrontierFull",
    "Job",
    "Registration",
    "Task",
    "Tick",
    "Ticker",
    "Visit",
    "check",
    "consume",
    "crawl",
    "current_context",
    "every",
    "fan_out",
    "to_thread",
)

# Tracebacks, pickles and docs should say ``safeconc.Context``: users need not
# know which private module it lives in.
for _name in __all__:
    globals()[_name].__module__ = __name__
