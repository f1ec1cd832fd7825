"""A monitor that lives in a thread, and so sees when a loop does nothing any more."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from types import FrameType
from typing import TypeAlias, final
from weakref import WeakKeyDictionary, ref

from safeconc._frames import can_walk, walkable
from safeconc._loop import Loop, here
from safeconc._parker import Parker
from safeconc._policy._ticks import Ticks
from safeconc.leaks import _private
from safeconc.leaks._alert import Alert
from safeconc.leaks._own import own
from safeconc.leaks._sample import Sample, in_one_go
from safeconc.leaks._watch import BEAT, QUEUE, Told, Watch

PATIENCE = 5.0
"""Seconds until a callback that stays is reported, and between the reports."""

_log = logging.getLogger("safeconc")

Hop: TypeAlias = Callable[[Callable[[], object]], object]
"""Has a loop call a function soon; from any thread."""


@final
class Pulse:
    """Knocks at a loop from outside: when it answers, it was there.

    Never more than one knock is under way, so nothing piles up in a loop that hangs.
    """

    def __init__(self) -> None:
        self._sent: float | None = None
        self._lag = 0.0

    def knock(self, now: float, hop: Hop) -> None:
        """Ask the loop to answer, unless it still owes one."""
        if self._sent is None:
            self._sent = now
            hop(self._answer)

    def silence(self, now: float) -> float:
        """Return for how many seconds it has owed an answer."""
        sent = self._sent
        return 0.0 if sent is None else now - sent

    def take_lag(self) -> float:
        """Return the longest time that an answer took since this was asked last."""
        lag, self._lag = self._lag, 0.0
        return lag

    def _answer(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            self._lag = max(self._lag, monotonic() - sent)


@final
class ThreadRun:
    """The block of a monitor in a thread of its own.

    Alerts are told by a second one, which is started by the first of them: a callback
    that blocks keeps nobody from looking.
    """

    def __init__(
        self,
        watch: Watch,
        interval: float,
        tell: Callable[[Sample, float], object],
        on_alert: Callable[[Alert], object],
    ) -> None:
        self._watch = watch
        self._interval = interval
        self._on_sample = tell
        self._on_alert = on_alert
        self._over = False
        self._hung = False
        self._parker = Parker()
        self._thread = _thread(self._serve, "safeconc-monitor")
        self._pulses: WeakKeyDictionary[object, Pulse] = WeakKeyDictionary()
        self._home: tuple[ref[Loop], int] | None = None
        self._queue: deque[Told] = deque()
        self._teller: threading.Thread | None = None
        self._told = Parker()

    def start(self) -> None:
        """Begin to watch; also the loop that the caller runs in, if it does."""
        loop = here()
        if loop is not None:
            self._home = ref(loop), threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; wait for both threads."""
        self._over = True
        self._parker.unpark()
        _join(self._thread)
        if self._teller is not None:
            self._told.unpark()
            _join(self._teller)

    # In the thread

    def _serve(self) -> None:
        samples = Ticks(self._interval)
        lag = 0.0
        now = monotonic()
        samples.ask(now)
        while not self._over:
            try:
                lag = max(lag, self._beat(now))
                if samples.due <= now:
                    samples.take(now)
                    self._look(now, lag)
                    lag = 0.0
            except Exception as exc:  # noqa: BLE001 - it is to hurt nobody
                self._watch.failed("a sample", exc)
            self._parker.park(self._is_over, (), min(now + BEAT, samples.due))
            now = monotonic()

    def _is_over(self) -> bool:
        return self._over

    def _look(self, now: float, lag: float) -> None:
        sample = in_one_go(self._watch.steps(now))
        # What was told as a hang need not be told as a lag as well.
        told = self._watch.look(sample, 0.0 if self._hung else lag)
        self._hung = False
        self._on_sample(sample, lag)
        if told is not None:
            self._tell(told)

    def _beat(self, now: float) -> float:
        """Knock at all loops; return how late the latest of them was."""
        lag, silent = 0.0, dict[int, float]()
        pulses = WeakKeyDictionary[object, Pulse]()
        for loop, ident, hop in self._loops():
            # One that has stopped and runs again owes no answer from before.
            pulses[loop] = pulse = self._pulses.get(loop) or Pulse()
            silent[ident] = pulse.silence(now)
            lag = max(lag, pulse.take_lag(), silent[ident])
            pulse.knock(now, hop)
        self._pulses = pulses
        hung = self._watch.hung(now, silent)
        if hung:
            self._hung = True
            self._tell(Told(in_one_go(self._watch.steps(now)), hung))
        return lag

    def _loops(self) -> Iterator[tuple[object, int, Hop]]:
        """Yield the loops that run, each with its thread and the way in."""
        taken = None
        if self._home is not None and (home := self._home[0]()) is not None:
            # The block is left before its loop is: so that one runs.
            taken = self._home[1]
            yield home, taken, home.hop
        for loop, ident in _running_loops():
            if ident != taken:
                yield loop, ident, _hop_to(loop)

    # Telling

    def _tell(self, told: Told) -> None:
        if len(self._queue) >= QUEUE:
            self._watch.dropped += len(told)
            return
        self._queue.append(told)
        if self._teller is None:
            self._teller = _thread(self._serve_alerts, "safeconc-monitor-alerts")
            self._teller.start()
        self._told.unpark()

    def _serve_alerts(self) -> None:
        while True:
            self._told.park(self._has_word, ())
            if self._over:
                return
            try:
                for alert in self._queue.popleft().alerts():
                    self._on_alert(alert)
            except Exception as exc:  # noqa: BLE001 - it is to hurt nobody
                self._watch.failed("on_alert", exc)

    def _has_word(self) -> bool:
        return self._over or bool(self._queue)


def _thread(serve: Callable[[], None], name: str) -> threading.Thread:
    # A daemon, lest a block that is never left keep the interpreter from its end.
    thread = threading.Thread(target=serve, name=name, daemon=True)
    own.add(thread)
    return thread


def _join(thread: threading.Thread) -> None:
    """Wait for a thread, and report it while it stays."""
    thread.join(PATIENCE)
    while thread.is_alive():
        _log.warning(
            "a Monitor waits for its on_alert, which runs in thread %r and does not "
            "return; give a timeout to whatever blocks there",
            thread.name,
        )
        thread.join(PATIENCE)


def _running_loops() -> Iterator[tuple[asyncio.AbstractEventLoop, int]]:
    """Yield the asyncio loops that run, each with its thread."""
    if not can_walk():
        for loop in _private.running_loops():
            yield loop, _private.thread_of(loop)
        return
    for ident, inner in walkable().items():
        frame: FrameType | None = inner
        while frame is not None:
            found = _private.loop_of(frame)
            if found is not None and found.is_running():
                yield found, ident
                break
            frame = frame.f_back


def _hop_to(loop: asyncio.AbstractEventLoop) -> Hop:
    def hop(fn: Callable[[], object]) -> None:
        try:
            loop.call_soon_threadsafe(fn)
        except RuntimeError:  # closed
            pass

    return hop
