"""A monitor in the loop that it watches, in virtual time."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import ref

import anyio
import pytest

from safeconc import to_thread
from safeconc._frames import can_walk
from safeconc._loop import running_loop
from safeconc.leaks import Alert, Figures, Monitor, _sample
from safeconc.leaks._alerts import BURST
from tests.conftest import VirtualClockEventLoop
from tests.harness import (
    ATTACKS,
    NATIVE_ATTACKS,
    NO_ATTACK,
    UNIT,
    Attack,
    Stage,
    cancel_everywhere,
    on_asyncio,
)
from tests.together import collect, hold_the_clock

pytestmark = pytest.mark.virtual_clock

HERE = "test_leaks_monitor.py"


@pytest.fixture(autouse=True)
def others_are_over() -> None:
    """Threads that another test has given up are not to be told here."""
    while _sample._count_abandoned():
        time.sleep(0)


async def leak() -> None:
    """Wait for what never comes."""
    await anyio.Event().wait()


async def swallow() -> None:
    """Take a cancellation for any other error."""
    for _ in range(2):
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: S110 - the vice
            pass
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1000)


def line_of(fn: Callable[..., Any], text: str) -> str:
    """Return where *text* stands in *fn*, as alerts tell it."""
    import inspect

    lines, first = inspect.getsourcelines(fn)
    number = next(index for index, line in enumerate(lines) if text in line)
    return f"{HERE}:{first + number}"


@asynccontextmanager
async def service() -> AsyncGenerator[Any]:
    """Have tasks that end with the block."""
    async with anyio.create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


def stall(seconds: float) -> None:
    """Let time pass while the loop does nothing."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)
    else:
        assert isinstance(loop, VirtualClockEventLoop)
        loop._virtual.now += seconds


async def told(alerts: list[Alert], count: int) -> list[Alert]:
    """Wait, without letting time pass, until so many alerts have come."""
    await hold_the_clock(lambda: len(alerts) >= count)
    return alerts


async def test_growth_at_one_line_is_told_with_the_line() -> None:
    """After ten looks in a row that found more; then not again for an hour."""
    alerts: list[Alert] = []
    async with service() as tasks, Monitor(interval=1, on_alert=alerts.append):
        await anyio.sleep(0.5)
        for step in range(14):
            if step == 9:
                assert alerts == []
            tasks.start_soon(leak)
            await anyio.sleep(1)
        (alert,) = await told(alerts, 1)

    assert (alert.rule, alert.values) == ("growth", tuple(range(1, 12)))
    assert alert.site is not None
    assert alert.site.endswith(line_of(leak, "await"))
    assert "11 tasks, more in each of the last 10 samples" in alert.summary
    assert "11 tasks, oldest 10.0 s" in alert.report


async def test_what_goes_up_and_down_is_fine() -> None:
    """Only growth in every one of the looks is told."""
    alerts: list[Alert] = []
    async with service() as tasks:
        async with Monitor(interval=1, growth=3, on_alert=alerts.append) as monitor:
            await anyio.sleep(0.5)
            for step in range(20):
                if step % 3:
                    tasks.start_soon(leak)
                await anyio.sleep(1)
            samples = monitor.statistics().samples

    assert samples == 21
    assert alerts == []


async def test_too_many_tasks_are_told() -> None:
    """And told again when they were fewer in between."""
    alerts: list[Alert] = []
    async with Monitor(interval=1, max_tasks=20, on_alert=alerts.append):
        for count in (1, 2):
            async with service() as tasks:
                for _ in range(30):
                    tasks.start_soon(leak)
                await anyio.sleep(3.5)
                await told(alerts, count)
            await anyio.sleep(1)

    assert [alert.rule for alert in alerts] == ["tasks", "tasks"]
    assert alerts[0].limit == 20
    assert "more than 20" in alerts[0].summary


async def test_too_many_threads_are_told() -> None:
    """A pool that is never shut down looks like this."""
    alerts: list[Alert] = []
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        async with Monitor(max_threads=2, on_alert=alerts.append):
            await anyio.sleep(1)
            (alert,) = await told(alerts, 1)
    finally:
        over.set()
        for thread in threads:
            thread.join()

    assert alert.rule == "threads"
    assert "live threads, more than 2" in alert.summary


@on_asyncio
@pytest.mark.skipif(not can_walk(), reason="only the frame of such a thread tells")
async def test_threads_whose_callers_have_given_up_are_told() -> None:
    """Those of anyio; a call by our to_thread is still waited for."""
    alerts: list[Alert] = []
    begun: list[int] = []
    go_on = threading.Event()

    def work() -> None:
        begun.append(1)
        go_on.wait()

    async def abandon() -> None:
        await anyio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def wait() -> None:
        await to_thread(work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(abandon)
        tasks.start_soon(wait)
        await hold_the_clock(lambda: len(begun) == 2)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            async with Monitor(on_alert=alerts.append):
                await anyio.sleep(1)
                await told(alerts, 1)
        go_on.set()

    assert [(alert.rule, alert.values) for alert in alerts] == [("abandoned", (1,))]


async def test_a_task_that_swallows_its_cancellation_is_told() -> None:
    """With the call that swallows it, and where."""
    alerts: list[Alert] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(swallow)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            async with Monitor(interval=10, on_alert=alerts.append):
                await anyio.sleep(45)
                await told(alerts, 1)

    assert [(alert.rule, alert.values) for alert in alerts] == [("cancelled", (40,))]
    assert "swallow swallows it" in alerts[0].advice
    assert line_of(swallow, "except") in alerts[0].advice
    assert "costs a core" in alerts[0].advice


async def test_a_late_loop_is_told() -> None:
    """However short it was late between two looks."""
    alerts: list[Alert] = []
    async with Monitor(max_lag=1, on_alert=alerts.append) as monitor:
        await anyio.sleep(10.125)
        stall(5)
        await anyio.sleep(60)
        (alert,) = await told(alerts, 1)
        latest = monitor.latest
        await anyio.sleep(60)
        later = monitor.latest

    assert alert.rule == "lag"
    assert alert.values[-1] == 4.875
    assert latest is not None
    assert latest.lag == 4.875
    assert later is not None
    assert later.lag == 0


async def test_a_coroutine_function_is_awaited_on_the_loop() -> None:
    """So it can use what belongs there."""
    here = threading.get_ident()
    seen: list[tuple[int, str]] = []

    async def on_alert(alert: Alert) -> None:
        await anyio.sleep(1)
        seen.append((threading.get_ident(), alert.rule))

    async with service() as tasks:
        tasks.start_soon(leak)
        async with Monitor(max_tasks=1, on_alert=on_alert):
            while not seen:  # noqa: ASYNC110 - time is to pass, too
                await anyio.sleep(0.125)

    assert seen == [(here, "tasks")]


async def test_another_function_is_called_in_a_thread() -> None:
    """So it may block, and the loop goes on."""
    here = threading.get_ident()
    seen: list[int] = []
    async with service() as tasks:
        tasks.start_soon(leak)
        async with Monitor(
            max_tasks=1, on_alert=lambda _: seen.append(threading.get_ident())
        ):
            await hold_the_clock(lambda: bool(seen))

    assert seen != [here]


async def test_a_callback_that_raises_hurts_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged and counted, and the next alert is told all the same."""
    alerts: list[Alert] = []

    def on_alert(alert: Alert) -> None:
        alerts.append(alert)
        raise LookupError("no such pager")

    async with service() as tasks:
        tasks.start_soon(leak)
        async with Monitor(
            interval=60, max_tasks=1, repeat=60, on_alert=on_alert
        ) as monitor:
            await told(alerts, 1)
            await anyio.sleep(61)
            await told(alerts, 2)
            await hold_the_clock(lambda: monitor.statistics().errors == 2)

    assert "on_alert of a Monitor failed" in caplog.text
    assert "no such pager" in caplog.text


async def test_a_callback_that_leaks_is_told_of_like_anybody_else() -> None:
    """With its line, to itself; and the monitor ends with its block all the same."""
    alerts: list[Alert] = []

    async with service() as tasks:

        async def on_alert(alert: Alert) -> None:
            alerts.append(alert)
            tasks.start_soon(leak)

        tasks.start_soon(leak)
        monitor = Monitor(
            interval=1,
            max_tasks=1,
            growth=3,
            cancelled=None,
            repeat=1,
            on_alert=on_alert,
        )
        async with monitor:
            await anyio.sleep(0.5)
            # One more where it is known who made the first of them: not the callback.
            for looks in range(1, 6):
                await told(alerts, looks)
                await anyio.sleep(1)
            await hold_the_clock(lambda: "growth" in {each.rule for each in alerts})

    grown = next(each for each in alerts if each.rule == "growth")
    assert grown.site is not None
    assert grown.site.endswith(line_of(leak, "await"))
    assert monitor.statistics().errors == 0


async def test_a_callback_that_blocks_keeps_nobody_from_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it is too slow for is dropped and counted; leaving waits for it."""
    monkeypatch.setattr("safeconc.leaks._monitor_task.QUEUE", 1)
    busy, go_on = threading.Event(), threading.Event()

    def on_alert(_: Alert) -> None:
        busy.set()
        go_on.wait()

    async with service() as tasks:
        tasks.start_soon(leak)
        async with Monitor(
            interval=1, max_tasks=1, repeat=0.5, on_alert=on_alert
        ) as monitor:
            await hold_the_clock(busy.is_set)
            before = monitor.statistics().samples
            await anyio.sleep(4.5)
            seen = monitor.statistics()
            go_on.set()

    assert seen.samples == before + 4
    assert seen.dropped == 3


async def test_alerts_are_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """As one warning each."""
    with caplog.at_level(logging.WARNING, "safeconc"):
        async with service() as tasks:
            tasks.start_soon(leak)
            async with Monitor(max_tasks=1):
                await hold_the_clock(lambda: bool(caplog.records))

    # Virtual time flies once there is a record, before the thread is done with it:
    # so there may be a word about the thread, too.
    (record,) = (record for record in caplog.records if record.module == "_monitor")
    first, second, *_ = record.getMessage().splitlines()
    assert first.endswith("live tasks, more than 1")
    assert second.startswith("  advice:  ")


async def test_monitors_count_neither_themselves_nor_each_other() -> None:
    """A service that is watched twice has no more tasks for it."""
    figures: list[Figures] = []
    async with (
        Monitor(interval=60, on_sample=figures.append),
        Monitor(interval=60, on_sample=figures.append),
    ):
        await anyio.sleep(1)
        alone = figures[-1]
    async with Monitor(interval=60, on_sample=figures.append):
        await anyio.sleep(1)

    assert figures[-1].tasks == alone.tasks


async def test_its_tasks_end_with_the_block() -> None:
    """And what it knew of the last look goes."""
    before = {task.id for task in anyio.get_running_tasks()}
    monitor = Monitor()
    assert monitor.latest is None

    async with monitor:
        await anyio.sleep(1)
        assert monitor.latest is not None
        assert len(anyio.get_running_tasks()) == len(before) + 3

    assert {task.id for task in anyio.get_running_tasks()} == before
    assert monitor.latest is None
    assert monitor.statistics().samples == 1


async def test_it_keeps_nothing_alive() -> None:
    """What it has seen may go."""

    class Thing:
        pass

    async def hold(thing: Thing) -> None:
        await anyio.sleep(70)
        del thing

    thing = Thing()
    gone = ref(thing)
    async with Monitor(interval=60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, thing)
            del thing
        collect(gone)

        assert gone() is None


async def test_an_error_of_the_body_is_raised_as_it_is() -> None:
    """The monitor stands in nobody's way."""
    with pytest.raises(LookupError, match="own"):
        async with Monitor():
            raise LookupError("own")


async def test_a_cancelled_body_is_cancelled() -> None:
    """Also before the first look is over."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with Monitor():
            pytest.fail("entered a cancelled block")

    assert scope.cancelled_caught


async def watched(stage: Stage) -> None:
    """Be a service with a monitor, which gives way while it is entered."""
    running_loop().left = 3
    async with Monitor(interval=UNIT):
        await anyio.sleep(3 * UNIT)


@pytest.mark.parametrize("attack", [*ATTACKS[:2], NO_ATTACK], ids=str)
async def test_it_can_be_cancelled_at_every_instant(attack: Attack) -> None:
    """Also while it is entered and left; nothing of it is left then."""
    await cancel_everywhere(watched, attack)


@on_asyncio
@pytest.mark.parametrize("attack", NATIVE_ATTACKS[:2], ids=str)
async def test_it_can_be_cancelled_natively_at_every_instant(attack: Attack) -> None:
    """With Task.cancel."""
    await cancel_everywhere(watched, attack)


async def test_a_monitor_that_cannot_begin_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its error is raised."""

    def fail(*_: object) -> None:
        raise LookupError("no tasks today")

    before = len(anyio.get_running_tasks())
    monkeypatch.setattr("safeconc._errgroup.ErrGroup.go_background", fail)

    with pytest.raises(LookupError):
        async with Monitor():
            pytest.fail("entered")
    assert len(anyio.get_running_tasks()) == before


@on_asyncio
async def test_who_cancels_all_tasks_cancels_the_monitor_and_not_the_service() -> None:
    """As many services do at shutdown."""
    before = asyncio.all_tasks()
    async with Monitor(interval=60) as monitor:
        await anyio.sleep(1)
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await anyio.sleep(200)

        assert monitor.statistics().samples == 1


async def test_a_look_that_fails_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one is taken."""
    figures: list[Figures] = []
    async with Monitor(interval=60, on_sample=figures.append) as monitor:
        await anyio.sleep(1)
        with monkeypatch.context() as broken:
            broken.setattr("safeconc.leaks._sample.Census", None)
            await anyio.sleep(60)
        await anyio.sleep(60)

        assert len(figures) == 2
        assert monitor.statistics().errors == 1
    assert "a sample of a Monitor failed" in caplog.text


async def test_a_part_that_fails_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service goes on."""
    monkeypatch.setattr("safeconc.leaks._monitor_task.Ticker", None)

    async with Monitor():
        await anyio.sleep(1)

    assert "a part of a Monitor failed" in caplog.text


async def test_on_sample_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It hurts nobody either."""

    def fail(_: Figures) -> None:
        raise LookupError("no registry")

    async with Monitor(on_sample=fail) as monitor:
        await anyio.sleep(1)

        assert monitor.statistics().errors == 1
    assert "no registry" in caplog.text


async def test_a_monitor_has_one_block() -> None:
    """A second one is refused."""
    monitor = Monitor()
    async with monitor:
        with pytest.raises(RuntimeError, match="make a new one"):
            async with monitor:
                pass


async def test_what_came_too_fast_is_mentioned_later() -> None:
    """Ten alerts may come at once."""
    alerts: list[Alert] = []
    async with service() as tasks:
        tasks.start_soon(leak)
        async with Monitor(
            interval=1, max_tasks=1, repeat=0.5, on_alert=alerts.append
        ) as monitor:
            for count in range(1, BURST + 1):
                await told(alerts, count)
                await anyio.sleep(1)
            await anyio.sleep(60)
            await told(alerts, BURST + 1)

            assert monitor.statistics().held_back >= alerts[-1].held_back > 0
    assert f"and {alerts[-1].held_back} more, held back" in str(alerts[-1])


@pytest.mark.parametrize(
    "options, error",
    [
        ({"interval": 0}, ValueError),
        ({"interval": "60"}, TypeError),
        ({"max_tasks": 0}, ValueError),
        ({"max_tasks": 1.5}, TypeError),
        ({"max_threads": True}, TypeError),
        ({"max_abandoned": -1}, ValueError),
        ({"max_lag": -1}, ValueError),
        ({"growth": 1}, ValueError),
        ({"cancelled": "30"}, TypeError),
        ({"repeat": -1}, ValueError),
        ({"on_alert": 1}, TypeError),
        ({"on_sample": 1}, TypeError),
        ({"on_sample": leak}, TypeError),
    ],
)
def test_bad_arguments_are_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """At the call."""
    with pytest.raises(error):
        Monitor(**options)


async def test_rules_can_be_switched_off() -> None:
    """None says that everything is fine."""
    alerts: list[Alert] = []
    async with service() as tasks:
        async with Monitor(
            interval=1,
            max_abandoned=None,
            max_lag=None,
            growth=None,
            cancelled=None,
            on_alert=alerts.append,
        ):
            for _ in range(20):
                tasks.start_soon(leak)
                stall(2)
                await anyio.sleep(1)

    assert alerts == []
