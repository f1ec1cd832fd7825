"""Find what outlived its owner: tasks, threads, timers and all else that goes on.

Layers, lowest first; a module imports only what stands before it::

    _model  _text  _words  _protobuf      what was seen alive, and how to say it
    _own  _private  _processes            where it is to be found
    _stacks  _calls  _spawned  _origins   where it waits, and who made it
    _lost                                 or died unseen
    _crowd  _tasks  _blocks               what is alike, and what is open
    _census                               all of it
    _places  _advice                      lines of code, and what usually mends them
    _rules  _groups                       what is known, and what is alike
    _builtin  _baseline  _current  _diff  rules that come with us, or from a file
    _sieve  _report  _json  _pprof        what remains, for people and for programs
    _pauses                               when to look again
    _check                                around a block, or right now
    _alerts  _swallow  _alert             when to wake somebody, and what to say
    _sample  _figures  _watch             a look in slices, its numbers, its judgement
    _included  _metrics                   what else has numbers, and what all are called
    _monitor_task  _monitor_thread        once a minute, in a loop or beside it
    _monitor  _signal
    _access  _page  _looks                who may see it, how it looks, once for all
    asgi  prometheus  otel                a page of it, to mount, and its metrics
    _program  _overseer  _command         a program under watch
"""

from safeconc.leaks._alert import Alert
from safeconc.leaks._baseline import ignore_baseline, write_baseline
from safeconc.leaks._census import snapshot
from safeconc.leaks._check import LeakError, check, find, verify_none
from safeconc.leaks._current import ignore_current
from safeconc.leaks._diff import Change, Diff, diff
from safeconc.leaks._figures import Figures
from safeconc.leaks._groups import Group
from safeconc.leaks._json import as_json
from safeconc.leaks._model import Entry, Kind, RawFrame, Snapshot
from safeconc.leaks._monitor import Monitor
from safeconc.leaks._origins import Installed, install
from safeconc.leaks._pprof import as_pprof
from safeconc.leaks._report import report, show
from safeconc.leaks._rules import (
    Ignore,
    Rule,
    ignore_any_function,
    ignore_created_by,
    ignore_function,
    ignore_module,
    ignore_name,
    ignore_state,
)
from safeconc.leaks._signal import SignalDump, on_signal
from safeconc.leaks._watch import MonitorStatistics

__all__ = (
    "Alert",
    "Change",
    "Diff",
    "Entry",
    "Figures",
    "Group",
    "Ignore",
    "Installed",
    "Kind",
    "LeakError",
    "Monitor",
    "MonitorStatistics",
    "RawFrame",
    "Rule",
    "SignalDump",
    "Snapshot",
    "as_json",
    "as_pprof",
    "check",
    "diff",
    "find",
    "ignore_any_function",
    "ignore_baseline",
    "ignore_created_by",
    "ignore_current",
    "ignore_function",
    "ignore_module",
    "ignore_name",
    "ignore_state",
    "install",
    "on_signal",
    "report",
    "show",
    "snapshot",
    "verify_none",
    "write_baseline",
)

# Tracebacks, pickles and docs should say ``safeconc.leaks.Entry``: users need not
# know which private module it lives in.
for _name in __all__:
    if _name != "Kind":  # no class, but a choice of strings
        globals()[_name].__module__ = __name__
