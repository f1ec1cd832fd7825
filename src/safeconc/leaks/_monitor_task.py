"""A monitor that lives in the loop that it watches."""

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, final

import anyio

from safeconc._callables import is_plain
from safeconc._channel import Channel
from safeconc._errgroup import ErrGroup
from safeconc._loop import Loop, running_loop
from safeconc._ticker import Ticker
from safeconc._to_thread import to_thread
from safeconc.leaks._alert import Alert
from safeconc.leaks._own import own
from safeconc.leaks._sample import Sample, in_slices
from safeconc.leaks._watch import BEAT, QUEUE, Told, Watch


@final
class TaskRun:
    """The block of a monitor in a task.

    Whatever happens to the monitor is its own affair: the block around the service
    sees no error of it. Who cancels all tasks at shutdown cancels these, too, and they
    simply end.
    """

    def __init__(
        self,
        watch: Watch,
        interval: float,
        on_sample: Callable[[Sample, float], object],
        on_alert: Callable[[Alert], Any],
    ) -> None:
        self._watch = watch
        self._interval = interval
        self._on_sample = on_sample
        self._on_alert = on_alert
        self._group = ErrGroup(limit=None, name="Monitor")
        self._queue = Channel[Told](QUEUE)
        self._lag = 0.0
        self._loop: Loop
        self._limiter: anyio.CapacityLimiter

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        try:
            self._loop = running_loop()
            # One of our own: a leak may hold all tokens of the default one.
            self._limiter = anyio.CapacityLimiter(1)
            for serve in (self._beat, self._sample, self._deliver):
                await self._group.go_background(self._guarded, serve)
        except BaseException:
            await self._group.__aexit__(*sys.exc_info())
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._group.__aexit__(exc_type, exc, traceback)

    async def _guarded(self, serve: Callable[[], Awaitable[None]]) -> None:
        own.add(self._loop.current_task())
        try:
            await serve()
        except anyio.get_cancelled_exc_class():
            return
        except Exception as exc:  # noqa: BLE001 - it is to hurt nobody
            self._watch.failed("a part", exc)

    async def _beat(self) -> None:
        """Note how late the loop is at its worst."""
        period = min(BEAT, self._interval)
        async for tick in Ticker(period):
            self._lag = max(self._lag, tick.late + tick.missed * period)

    async def _sample(self) -> None:
        async for _ in Ticker(self._interval):
            try:
                await self._look()
            except Exception as exc:  # noqa: BLE001 - likewise
                self._watch.failed("a sample", exc)

    async def _look(self) -> None:
        steps = self._watch.steps(self._loop.clock())
        sample = await in_slices(steps, self._watch.note)
        lag, self._lag = self._lag, 0.0
        told = self._watch.look(sample, lag)
        self._on_sample(sample, lag)
        if told is not None:
            try:
                self._queue.send_nowait(told)
            except anyio.WouldBlock:
                self._watch.dropped += len(told)

    async def _deliver(self) -> None:
        async for told in self._queue:
            try:
                for alert in await to_thread(told.alerts, limiter=self._limiter):
                    if is_plain(self._on_alert):
                        await self._on_alert(alert)
                    else:
                        await to_thread(self._on_alert, alert, limiter=self._limiter)
            except Exception as exc:  # noqa: BLE001 - likewise
                self._watch.failed("on_alert", exc)
