"""A monitor in a thread, which sees what loops elsewhere are doing."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import anyio
import pytest
from typing_extensions import override

from safeconc.leaks import Alert, Figures, Monitor
from safeconc.leaks._monitor_thread import Pulse
from tests.together import backends, in_thread

SOON = 0.01
"""Seconds between looks; the tests wait for what is seen, not for time."""


class Seen:
    """What came last, and a way to wait until it is as wanted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._all: list[object] = []

    def __call__(self, what: object) -> None:
        with self._changed:
            self._all.append(what)
            self._changed.notify_all()

    def wait(self, wanted: Callable[[object], bool] = bool) -> object:
        """Return the first one that is as wanted."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(wanted, self._all)))
            return next(filter(wanted, self._all))


def watchers() -> list[str]:
    """Return the names of our threads."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("safeconc")]


@pytest.mark.usefixtures("sees_loops")
def test_it_sees_the_tasks_of_loops_in_other_threads() -> None:
    """And ends its thread with the block."""
    seen = Seen()
    stop = threading.Event()

    async def main() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(5)]
        await asyncio.to_thread(stop.wait)
        for task in tasks:
            task.cancel()

    expected = {"tasks.sleep": 5, "test_leaks_monitor_thread." + main.__qualname__: 1}
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    with Monitor(interval=SOON, on_sample=seen) as monitor:
        thread.start()
        seen.wait(lambda each: isinstance(each, Figures) and each.tasks == expected)
        stop.set()
        thread.join()
        assert watchers() == ["safeconc-monitor"]

    assert watchers() == []
    assert monitor.latest is None
    assert monitor.statistics().errors == 0


@pytest.mark.usefixtures("sees_loops")
def test_a_loop_that_hangs_is_told_while_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the line at which its thread stands, long before the next look."""
    monkeypatch.setattr("safeconc.leaks._monitor_thread.BEAT", SOON)
    alerts = Seen()

    async def main() -> None:
        found.append(alerts.wait())  # a blocking call, on the loop

    found: list[object] = []
    with Monitor(interval=3600, max_lag=0.02, on_alert=alerts) as monitor:
        asyncio.run(main())

    (alert,) = found
    assert isinstance(alert, Alert)
    assert alert.rule == "hang"
    assert alert.site is not None
    assert "test_leaks_monitor_thread.py" in alert.site
    assert "has not answered for" in alert.summary
    assert monitor.statistics().errors == 0


@backends
def test_it_watches_the_loop_that_it_is_entered_in(
    backend: str, options: dict[str, bool]
) -> None:
    """Also one of trio, and one whose loop is not written in Python."""
    seen = Seen()

    def late(each: object) -> bool:
        return isinstance(each, Figures) and each.lag > 0

    async def main() -> None:
        with Monitor(interval=SOON, on_sample=seen) as monitor:
            await anyio.to_thread.run_sync(seen.wait, late)
            assert monitor.statistics().errors == 0

    anyio.run(main, backend=backend, backend_options=options)


def test_a_knock_is_not_repeated_while_it_is_not_answered() -> None:
    """A loop that hangs finds one call when it comes back, not hundreds."""
    calls: list[Callable[[], object]] = []
    pulse = Pulse()

    pulse.knock(1.0, calls.append)
    pulse.knock(2.0, calls.append)
    assert pulse.silence(5.0) == 4.0

    (answer,) = calls
    answer()
    answer()
    assert pulse.silence(6.0) == 0.0
    assert pulse.take_lag() > 0
    assert pulse.take_lag() == 0
    pulse.knock(7.0, calls.append)
    assert len(calls) == 2


def test_a_loop_that_is_closed_in_between_is_no_error() -> None:
    """There is nobody left to tell."""
    from safeconc.leaks._monitor_thread import _hop_to

    loop = asyncio.new_event_loop()
    loop.close()

    _hop_to(loop)(print)


def test_alerts_are_told_in_a_thread_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that raises is logged; one that blocks keeps nobody from looking."""
    seen, alerts = Seen(), Seen()
    go_on = threading.Event()

    def on_alert(alert: Alert) -> None:
        alerts(threading.current_thread().name)
        seen.wait(lambda each: isinstance(each, Figures))
        go_on.wait()
        raise LookupError("no such pager")

    over = threading.Event()
    extra = threading.Thread(target=over.wait)
    extra.start()
    with Monitor(
        interval=SOON, max_threads=1, on_alert=on_alert, on_sample=seen
    ) as monitor:
        assert alerts.wait() == "safeconc-monitor-alerts"
        go_on.set()
        over.set()
        extra.join()

    assert monitor.statistics().errors == 1
    assert "no such pager" in caplog.text
    assert watchers() == []


def test_alerts_that_nobody_takes_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not pile up behind a callback that blocks."""
    monkeypatch.setattr("safeconc.leaks._monitor_thread.QUEUE", 1)
    go_on = threading.Event()
    over = threading.Event()
    extra = threading.Thread(target=over.wait)
    extra.start()
    dropped = Seen()

    def on_sample(_: Figures) -> None:
        dropped(monitor.statistics().dropped)

    with Monitor(
        interval=SOON,
        max_threads=1,
        repeat=0,
        on_alert=lambda _: go_on.wait(),
        on_sample=on_sample,
    ) as monitor:
        dropped.wait()
        go_on.set()
    over.set()
    extra.join()


def test_leaving_waits_for_a_callback_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of ours runs after the block."""
    monkeypatch.setattr("safeconc.leaks._monitor_thread.PATIENCE", SOON)
    called, go_on = threading.Event(), threading.Event()

    class Reported(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            go_on.set()

    def on_alert(_: Alert) -> None:
        called.set()
        go_on.wait()

    over = threading.Event()
    extra = threading.Thread(target=over.wait)
    extra.start()
    handler = Reported()
    logging.getLogger("safeconc").addHandler(handler)
    try:
        with Monitor(interval=SOON, max_threads=1, on_alert=on_alert):
            called.wait()
    finally:
        logging.getLogger("safeconc").removeHandler(handler)
        over.set()
        extra.join()

    assert "waits for its on_alert" in caplog.text
    assert watchers() == []


def test_a_look_that_fails_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the thread goes on."""
    seen = Seen()
    with Monitor(interval=SOON, on_sample=seen) as monitor:
        seen.wait()
        with monkeypatch.context() as broken:
            broken.setattr("safeconc.leaks._sample.Census", None)
            while not monitor.statistics().errors:
                threading.Event().wait(SOON)

    assert "a sample of a Monitor failed" in caplog.text


def test_a_coroutine_function_needs_a_loop() -> None:
    """The error says what to write instead."""

    async def on_alert(_: Alert) -> None: ...

    with pytest.raises(TypeError, match="async with Monitor"):
        with Monitor(on_alert=on_alert):
            pass
    assert watchers() == []


FORKS = """
import os, warnings
from safeconc.leaks import Monitor

warnings.simplefilter("ignore")  # of a fork beside threads, which is the point
for _ in range(10):  # with the monitor at this and that
    with Monitor(interval=0.001) as monitor:
        while not monitor.statistics().samples:
            pass
        pid = os.fork()
        samples = monitor.statistics().samples
    if not pid:
        os._exit(samples != monitor.statistics().samples)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_is_forked_leaves_the_block_and_has_no_monitor() -> None:
    """Threads are not forked; nobody waits for one that is not there."""
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (10 * "0\n", "")


def test_it_can_be_left_at_once() -> None:
    """Also from another thread than the main one."""

    def run() -> None:
        with Monitor():
            pass

    in_thread(run)

    assert watchers() == []
