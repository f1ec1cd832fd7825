"""A look at everything once a minute, and a word when something is wrong."""

import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, final

from safeconc._callables import is_plain
from safeconc._policy._ticks import Ticks
from safeconc.leaks._alert import Alert
from safeconc.leaks._figures import Figures, figures
from safeconc.leaks._included import HasStatistics, Included
from safeconc.leaks._monitor_task import TaskRun
from safeconc.leaks._monitor_thread import ThreadRun
from safeconc.leaks._sample import Sample
from safeconc.leaks._watch import Limits, MonitorStatistics, Watch

_log = logging.getLogger("safeconc")


@final
class Monitor:
    """Look at all tasks and threads every *interval* seconds, and tell what is wrong.

    As an async block it lives in the loop that it watches, on asyncio or trio::

        async with Monitor(max_tasks=10_000):
            await serve()

    As a plain block it lives in a thread, sees the asyncio loops of all threads, and
    notices at once when one of them hangs; in a task of trio, that one::

        with Monitor(max_tasks=10_000):
            asyncio.run(main())

    What it started is over when the block is left. It keeps nothing alive and counts
    neither itself nor other monitors. In a loop a look is taken in slices of some
    milliseconds. An error in it, or in what it calls, is logged and hurts nobody.

    An :class:`Alert` is told when a rule begins to be broken, and again every *repeat*
    seconds while it is; if all is well in between, the next time counts as new. Not
    more than ten come at once, and one a minute in the long run.

    :param interval: seconds between two looks.
    :param max_tasks: live tasks that are fine.
    :param max_threads: live threads that are fine.
    :param max_abandoned: threads of anyio whose caller has given up that are fine.
    :param max_lag: seconds that a loop may be late.
    :param growth: tell when the number of tasks or threads at one line has grown in
        each of so many looks. A busy service goes up and down: that ten looks in a row
        grow by chance has odds of one to millions, of three one to six.
    :param cancelled: seconds that a task may live on after it was cancelled. The
        alert names the call that holds the cancellation up.
    :param repeat: seconds until a lasting trouble is told again.
    :param on_alert: is called with each alert; a coroutine function on the loop, any
        other function in a thread, where it may block. If None, alerts are logged as
        warnings of the logger ``safeconc``.
    :param on_sample: is called with the :class:`Figures` of each look, on the loop or
        in the thread of the monitor; it is to be quick.

    Each rule is switched off by None. Raises :exc:`ValueError` or :exc:`TypeError` for
    bad arguments.
    """

    def __init__(
        self,
        *,
        interval: float = 60.0,
        max_tasks: int | None = None,
        max_threads: int | None = None,
        max_abandoned: int | None = 0,
        max_lag: float | None = 1.0,
        growth: int | None = 10,
        cancelled: float | None = 30.0,
        repeat: float = 3600.0,
        on_alert: Callable[[Alert], Any] | None = None,
        on_sample: Callable[[Figures], object] | None = None,
    ) -> None:
        Ticks(interval)  # it says what is wrong with a period
        limits = Limits(
            max_tasks=max_tasks,
            max_threads=max_threads,
            max_abandoned=max_abandoned,
            max_lag=max_lag,
            growth=growth,
            cancelled=cancelled,
            repeat=repeat,
        )
        for name, fn in (("on_alert", on_alert), ("on_sample", on_sample)):
            if fn is not None and not callable(fn):
                raise TypeError(f"{name} must be callable or None, not {fn!r}")
        if is_plain(on_sample):
            raise TypeError("on_sample must be a plain function: it is not awaited")
        self._interval = interval
        self._watch = Watch(limits)
        self._on_alert = _log_alert if on_alert is None else on_alert
        self._on_sample = on_sample
        self._included = Included()
        self._latest: Figures | None = None
        self._run: TaskRun | ThreadRun | None = None

    @property
    def latest(self) -> Figures | None:
        """The figures of the last look; None before the first and after the block."""
        return self._latest

    def statistics(self) -> MonitorStatistics:
        """Count what it did."""
        return self._watch.statistics()

    def include(self, name: str, primitive: HasStatistics) -> None:
        """Have the statistics of a primitive in the figures, by a name of your choice.

        For a channel, a group or a pool that lives as long as the service, 50 of them
        at most; another one by the same name takes its place. The monitor does not
        keep it alive. Raises :exc:`TypeError` if it has no statistics.
        """
        self._included.add(name, primitive)

    async def __aenter__(self) -> Self:
        self._refuse_reuse()
        run = TaskRun(self._watch, self._interval, self._note, self._on_alert)
        self._run = run
        await run.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert isinstance(self._run, TaskRun)
        try:
            return await self._run.__aexit__(exc_type, exc, traceback)
        finally:
            self._latest = None

    def __enter__(self) -> Self:
        self._refuse_reuse()
        if is_plain(self._on_alert):
            raise TypeError(
                "on_alert is a coroutine function, and a Monitor in a thread has no "
                "loop for it; pass a plain function, or write 'async with Monitor(...)'"
            )
        run = ThreadRun(self._watch, self._interval, self._note, self._on_alert)
        run.start()
        self._run = run
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert isinstance(self._run, ThreadRun)
        self._run.stop()
        self._latest = None

    def _refuse_reuse(self) -> None:
        if self._run is not None:
            raise RuntimeError(
                "this Monitor has been entered before; it has one block, make a new one"
            )

    def _note(self, sample: Sample, lag: float) -> None:
        primitives: Mapping[str, Mapping[str, float]] = {}
        try:
            primitives = self._included.read()
        except Exception as exc:  # noqa: BLE001 - it is to hurt nobody
            self._watch.failed("a primitive's statistics()", exc)
        self._latest = latest = figures(
            sample, lag, self._watch.overdue, self._watch.seen, primitives
        )
        if self._on_sample is not None:
            try:
                self._on_sample(latest)
            except Exception as exc:  # noqa: BLE001 - likewise
                self._watch.failed("on_sample", exc)


def _log_alert(alert: Alert) -> None:
    _log.warning("%s", alert)
