"""The primitives for blocking code: the same names and promises, on real threads.

``with`` stands for ``async with``, and a plain call for an ``await``::

    from safeconc.threads import ErrGroup

    with ErrGroup(limit=10) as group:
        page = group.go(fetch, url)
    print(page.result())

Nothing can stop a thread: it sees the end of its block where it looks, by
:func:`safeconc.check` and in every wait of this library.

Layers, lowest first; a module imports only what stands before it::

    _waiter                         a thread's place in a line
    _worker                         a thread that takes job after job
    _siblings                       members that fail together
    _crew                           who runs them
    _pump                           who has an executor run them
    _run                            items in, results out
    _tree                           the same for jobs that submit jobs
    _errgroup  _fanout              the primitives
    _channel  _depthpool  _ticker
"""

from safeconc._child import ErrGroupStatistics
from safeconc._fan import FanOutStatistics
from safeconc._policy._channel import ChannelClosed, ChannelStatistics
from safeconc._policy._frontier import FrontierFull
from safeconc._policy._ticks import Tick
from safeconc._walk import DepthPoolStatistics, Job, Visit
from safeconc.threads._channel import Channel, consume
from safeconc.threads._depthpool import DepthPool, crawl
from safeconc.threads._errgroup import ErrGroup, Task
from safeconc.threads._fanout import FanOut, fan_out
from safeconc.threads._siblings import StuckThreadsError
from safeconc.threads._ticker import Ticker, every
from safeconc.threads._worker import StuckThread

__all__ = (
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "DepthPool",
    "DepthPoolStatistics",
    "ErrGroup",
    "ErrGroupStatistics",
    "FanOut",
    "FanOutStatistics",
    "FrontierFull",
    "Job",
    "StuckThread",
    "StuckThreadsError",
    "Task",
    "Tick",
    "Ticker",
    "Visit",
    "consume",
    "crawl",
    "every",
    "fan_out",
)

# As in the package around: what is shared with it is called by its name there.
for _name in __all__:
    if globals()[_name].__module__.startswith(f"{__name__}."):
        globals()[_name].__module__ = __name__
