"""What usually ends a wait that nobody has ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Advice:
    """What is usually wrong where somebody waits like this, and what mends it."""

    cause: str
    cure: str
    page: str
    """Where our documentation says more."""


_SLEEP = Advice(
    "a loop that nobody stops",
    "start it with go_background() in an ErrGroup, which ends with its block, or "
    "iterate over a Ticker, behind which nothing runs",
    "docs/ticker.md",
)
_RECEIVE = Advice(
    "the end of the items was never sent",
    "have whoever sends close the queue: 'async with Channel(...)' closes on every "
    "way out, and 'async for' over it then ends",
    "docs/channel.md",
)
_SEND = Advice(
    "whoever took the items out has gone",
    "close the queue when its reader leaves: a Channel then raises ChannelClosed in "
    "everybody who still sends",
    "docs/channel.md",
)
_LOCK = Advice(
    "whoever holds it never gives it back, or waits for this one in turn",
    "hold it in a 'with' block only, and put a Context(timeout=...) around the wait",
    "docs/context.md",
)
_EVENT = Advice(
    "whoever was to set it has failed, left or forgotten",
    "set it in a 'finally', or run both sides in one ErrGroup: when one fails, the "
    "other is cancelled",
    "docs/errgroup.md",
)
_SOCKET = Advice(
    "the other side is silent, and there is no deadline",
    "put a Context(timeout=...) around the call, and close the connection in a "
    "'finally' or a 'with'",
    "docs/context.md",
)
_SERVER = Advice(
    "a server that nobody shuts down",
    "start it with go_background() in an ErrGroup, and close it when the block ends",
    "docs/errgroup.md",
)
_CHILDREN = Advice(
    "it waits for its children, and one of them does not end",
    "look at what the children wait for: they are listed here as well",
    "docs/errgroup.md",
)
_THREAD_CALL = Advice(
    "the function in the thread does not know that nobody waits for it any more",
    "call it by safeconc.to_thread, and safeconc.check() in its loops",
    "docs/to_thread.md",
)
_PROCESS = Advice(
    "a child process that nobody has told to end",
    "terminate it and wait for it in a 'finally', with a Context(timeout=...) around",
    "docs/context.md",
)

_WAITS = {
    _SLEEP: (
        "asyncio.tasks.sleep",
        "anyio._core._eventloop.sleep",
        "trio._timeouts.sleep",
        "safeconc._ticker",
        "safeconc._context.Context.sleep",
    ),
    _RECEIVE: (
        "asyncio.queues.Queue.get",
        "anyio.streams.memory.MemoryObjectReceiveStream",
        "trio._channel.MemoryReceiveChannel",
        "queue.Queue.get",
        "queue.SimpleQueue.get",
        "multiprocessing.queues.Queue.get",
        "safeconc._channel.Channel._receive",
        "safeconc._channel.Channel.receive",
    ),
    _SEND: (
        "asyncio.queues.Queue.put",
        "anyio.streams.memory.MemoryObjectSendStream",
        "trio._channel.MemorySendChannel",
        "queue.Queue.put",
        "safeconc._channel.Channel._send",
        "safeconc._channel.Channel.send",
    ),
    _LOCK: (
        "asyncio.locks.Lock",
        "asyncio.locks.Semaphore",
        "asyncio.locks._ContextManagerMixin",
        "anyio._core._synchronization.Lock",
        "anyio._core._synchronization.Semaphore",
        "anyio._core._synchronization.CapacityLimiter",
        "anyio._backends._asyncio.Lock",
        "anyio._backends._asyncio.Semaphore",
        "anyio._backends._asyncio.CapacityLimiter",
        "trio._sync._LockImpl",
        "trio._sync.Semaphore",
        "trio._sync.CapacityLimiter",
        "trio._sync.AsyncContextManagerMixin",
        "threading.Semaphore",
    ),
    _EVENT: (
        "asyncio.locks.Event",
        "asyncio.locks.Condition",
        "asyncio.locks.Barrier",
        "anyio._core._synchronization.Event",
        "anyio._core._synchronization.Condition",
        "anyio._backends._asyncio.Event",
        "trio._sync.Event",
        "trio._sync.Condition",
        "threading.Event",
        "threading.Condition",
        "threading.Barrier",
    ),
    _SOCKET: (
        "asyncio.streams.StreamReader",
        "asyncio.streams.StreamWriter",
        "asyncio.streams.open_connection",
        "asyncio.streams.open_unix_connection",
        "asyncio.selector_events",
        "asyncio.base_events.BaseEventLoop.create_connection",
        "anyio._backends._asyncio.SocketStream",
        "anyio._core._sockets",
        "trio._socket",
        "trio._highlevel_socket",
        "trio._highlevel_open_tcp_stream",
        "socket",
        "ssl",
        "http.client",
    ),
    _SERVER: ("asyncio.base_events.Server", "socketserver.BaseServer.serve_forever"),
    _CHILDREN: (
        "asyncio.taskgroups.TaskGroup.__aexit__",
        "asyncio.tasks.wait",
        "anyio._backends._asyncio.TaskGroup.__aexit__",
        "trio._core._run.NurseryManager.__aexit__",
        "threading.Thread.join",
        "safeconc._errgroup.ErrGroup.__aexit__",
    ),
    _THREAD_CALL: (
        "asyncio.threads.to_thread",
        "anyio.to_thread.run_sync",
        "trio._threads.to_thread_run_sync",
        "safeconc._to_thread",
    ),
    _PROCESS: (
        "asyncio.subprocess.Process",
        "anyio._backends._asyncio.Process",
        "trio._subprocess",
        "subprocess.Popen",
        "multiprocessing.process.BaseProcess.join",
    ),
}
"""Names of functions, and of classes and modules that stand for all of theirs."""

_BY_NAME = {name: advice for advice, names in _WAITS.items() for name in names}

_BY_KIND = {
    "task": Advice(
        "nobody awaits it and nobody cancels it",
        "start it in an ErrGroup, whose block ends only when its children have",
        "docs/errgroup.md",
    ),
    "thread": Advice(
        "nobody joins it",
        "start it in a threads.ErrGroup, whose block joins it, and have it call "
        "safeconc.check() in its loops",
        "docs/errgroup.md",
    ),
    "timer": Advice(
        "a call_later() whose handle nobody cancels",
        "cancel the handle in a 'finally'; a deadline is a Context(timeout=...), and "
        "what repeats is a Ticker",
        "docs/ticker.md",
    ),
    "asyncgen": Advice(
        "a 'break' or an error left it suspended, with its cleanup still to come",
        "iterate over it inside 'async with contextlib.aclosing(...)'",
        "docs/fanout.md",
    ),
    "executor": Advice(
        "an executor that was never shut down keeps its threads",
        "make it in a 'with' block, or use threads.fan_out, which brings its own",
        "docs/fanout.md",
    ),
    "process": _PROCESS,
    "error": Advice(
        "it failed, and nobody has asked it how it ended",
        "await it, or start it in an ErrGroup, which raises the first failure",
        "docs/errgroup.md",
    ),
    "primitive": Advice(
        "somebody has called __aenter__ or __enter__ by hand, and nobody leaves it",
        "use it as 'async with' or 'with' only, or by an AsyncExitStack that the same "
        "task closes",
        "docs/leaks.md",
    ),
}


def advice(kind: str, functions: Iterable[str]) -> Advice | None:
    """Return what to tell of a leak of this *kind*; None if nothing is known.

    :param functions: what its owner's own line calls, and what that calls, in order;
        the first that is known decides, so a queue inside ``wait_for`` is a queue.
    """
    for function in functions:
        name = function
        while name:
            if found := _BY_NAME.get(name):
                return found
            name = name.rpartition(".")[0]
    return _BY_KIND.get(kind)
