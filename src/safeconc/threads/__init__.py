"""The blocking mirror: so far how a thread waits, and nothing public yet.

Layers, lowest first; a module imports only what stands before it::

    _waiter                         a thread's place in a line
    _worker                         a thread that takes job after job
    _siblings                       members that fail together
    _crew                           who runs them
    _pump                           who has an executor run them
    _run                            items in, results out
    _errgroup  _fanout              the primitives
    _channel  _ticker
"""

from safeconc._child import ErrGroupStatistics
from safeconc._fan import FanOutStatistics
from safeconc._policy._channel import ChannelClosed, ChannelStatistics
from safeconc._policy._ticks import Tick
from safeconc.threads._channel import Channel, consume
from safeconc.threads._errgroup import ErrGroup, Task
from safeconc.threads._fanout import FanOut, fan_out
from safeconc.threads._siblings import StuckThreadsError
from safeconc.threads._ticker import Ticker, every
from safeconc.threads._worker import StuckThread

__all__ = (
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "ErrGroup",
    "ErrGroupStatistics",
    "FanOut",
    "FanOutStatistics",
    "StuckThread",
    "StuckThreadsError",
    "Task",
    "Tick",
    "Ticker",
    "consume",
    "every",
    "fan_out",
)

# As in the package around: what is shared with it is called by its name there.
for _name in __all__:
    if globals()[_name].__module__.startswith(f"{__name__}."):
        globals()[_name].__module__ = __name__
