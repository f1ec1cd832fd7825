"""The figures of a monitor, for Prometheus and OpenTelemetry."""

import gc
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from safeconc import Channel, DepthPool, ErrGroup
from safeconc.leaks import Figures, Monitor
from safeconc.leaks import otel as otel_face
from safeconc.leaks._included import MOST
from safeconc.leaks.otel import observe
from safeconc.leaks.prometheus import KEPT, Collector, gauges


def figures_with(tasks: dict[str, int], seen: int = 10) -> Figures:
    """Make the figures of a look."""
    return Figures(
        tasks=tasks,
        threads={"MainThread": 1},
        oldest=7.5,
        abandoned=2,
        overdue=1,
        lag=0.25,
        seen={"task": seen, "thread": 1},
        primitives={"events": {"limit": 100, "buffered": 4}},
    )


FIGURES = figures_with({"app.serve": 3, "other": 1})

EXPECTED = {
    'safeconc_tasks{function="app.serve"} 3.0',
    'safeconc_tasks{function="other"} 1.0',
    'safeconc_threads{name="MainThread"} 1.0',
    'safeconc_seen_total{kind="task"} 10.0',
    'safeconc_seen_total{kind="thread"} 1.0',
    'safeconc_gone_total{kind="task"} 6.0',
    'safeconc_gone_total{kind="thread"} 0.0',
    "safeconc_abandoned_threads 2.0",
    "safeconc_cancelled_overdue_tasks 1.0",
    "safeconc_oldest_seconds 7.5",
    "safeconc_loop_lag_seconds 0.25",
    'safeconc_primitive{name="events",statistic="limit"} 100.0',
    'safeconc_primitive{name="events",statistic="buffered"} 4.0',
}


def exposed(registry: CollectorRegistry) -> set[str]:
    """Return the lines that Prometheus would scrape, without comments."""
    lines = generate_latest(registry).decode().splitlines()
    return {
        line for line in lines if not line.startswith("#") and "_created{" not in line
    }


def test_a_collector_has_the_last_look_of_its_monitor() -> None:
    """And nothing before the first one."""
    monitor = Monitor()
    registry = CollectorRegistry()
    registry.register(Collector(monitor))

    assert exposed(registry) == set()
    monitor._latest = FIGURES
    assert exposed(registry) == EXPECTED


def test_a_registry_takes_one_monitor() -> None:
    """Two would have metrics of the same names, which Prometheus does not accept."""
    registry = CollectorRegistry()
    first = Collector(Monitor())
    registry.register(first)

    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(Monitor()))
    registry.unregister(first)
    registry.register(Collector(Monitor()))


def test_plain_gauges_are_set_at_each_look() -> None:
    """What has gone is zero; what only grows has the difference added."""
    registry = CollectorRegistry()
    put = gauges(registry)

    put(FIGURES)
    assert exposed(registry) == EXPECTED
    put(figures_with({}, seen=12))
    now = exposed(registry)

    assert 'safeconc_tasks{function="app.serve"} 0.0' in now
    assert 'safeconc_seen_total{kind="task"} 12.0' in now
    assert 'safeconc_gone_total{kind="task"} 12.0' in now


def test_plain_gauges_are_bounded() -> None:
    """However many names come in the course of time."""
    registry = CollectorRegistry()
    put = gauges(registry)

    put(figures_with({f"app.run{index}": 1 for index in range(KEPT)}, KEPT))
    put(figures_with({"app.late": 2, "app.later": 3, "app.run7": 4}, 2 * KEPT))
    now = {line for line in exposed(registry) if line.startswith("safeconc_tasks{")}

    assert len(now) == KEPT + 1
    assert 'safeconc_tasks{function="other"} 5.0' in now
    assert 'safeconc_tasks{function="app.run7"} 4.0' in now


WORKER = """
import sys
from safeconc.leaks import Figures
from safeconc.leaks.prometheus import gauges

tasks, late = int(sys.argv[1]), float(sys.argv[2])
gauges()(
    Figures({"app.serve": tasks}, {}, late, 0, 0, 0.0, {"task": tasks, "thread": 0}, {})
)
"""


def test_plain_gauges_of_several_processes_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By prometheus_client: counts are added up, of times the worst one is taken."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for worker in (["3", "7.5"], ["4", "2.5"]):
        command = [sys.executable, "-c", WORKER, *worker]
        subprocess.run(command, check=True)  # noqa: S603 - ours
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]

    assert {
        'safeconc_tasks{function="app.serve"} 7.0',
        'safeconc_seen_total{kind="task"} 7.0',
        "safeconc_oldest_seconds 7.5",
    } <= exposed(registry)


async def test_a_monitor_feeds_the_gauges() -> None:
    """By its on_sample."""
    registry = CollectorRegistry()
    async with Monitor(on_sample=gauges(registry)) as monitor:
        while monitor.latest is None:  # noqa: ASYNC110 - time is to pass, too
            await anyio.sleep(0.125)

    assert any(line.startswith("safeconc_tasks{") for line in exposed(registry))
    assert monitor.statistics().errors == 0


@pytest.mark.virtual_clock
async def test_what_a_look_has_seen_is_counted_once() -> None:
    """And, when it has ended, as gone."""
    looks: list[Figures] = []
    async with Monitor(interval=1, on_sample=looks.append):
        await anyio.sleep(0.5)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(anyio.sleep, 2)
            await anyio.sleep(2)
        await anyio.sleep(1)

    assert len(looks) == 4
    base = looks[0].seen["task"]
    assert [look.seen["task"] - base for look in looks] == [0, 3, 3, 3]
    assert [look.gone["task"] for look in looks] == [0, 0, 0, 3]


@pytest.mark.virtual_clock
async def test_a_monitor_has_the_statistics_of_what_it_is_given() -> None:
    """For as long as somebody else has it; and its bound, if it has one."""

    async def visit(_: object) -> None: ...

    looks: list[Figures] = []
    events = Channel[int](10)
    pool: DepthPool[int, None] | None = DepthPool(visit, max_depth=1, limit=2)
    assert pool is not None
    async with (
        ErrGroup(limit=3) as group,
        Monitor(interval=1, on_sample=looks.append) as monitor,
    ):
        monitor.include("events", events)
        monitor.include("group", group)
        monitor.include("pool", pool)
        monitor.include("tokens", anyio.CapacityLimiter(4))  # nobody has it
        events.send_nowait(1)
        await anyio.sleep(0.5)
        pool = None
        gc.collect()
        await anyio.sleep(1)
        events.receive_nowait()

    first, second = looks
    assert first.primitives["events"] == {
        "limit": 10,
        "buffered": 1,
        "peak": 1,
        "waiting_senders": 0,
        "waiting_receivers": 0,
        "closed": False,
    }
    assert first.primitives["group"]["limit"] == 3
    assert first.primitives["pool"]["limit"] == 2
    assert first.primitives["pool"]["accepted"] == 0
    assert "tokens" not in second.primitives
    assert set(second.primitives) == {"events", "group"}


async def test_a_limiter_has_statistics_too() -> None:
    """Who borrows is no number."""
    limiter = anyio.CapacityLimiter(4)
    monitor = Monitor()
    monitor.include("tokens", limiter)

    async with limiter:
        assert monitor._included.read() == {
            "tokens": {"borrowed_tokens": 1, "total_tokens": 4, "tasks_waiting": 0}
        }


@pytest.mark.parametrize("what", [object(), "events", lambda: None])
def test_what_has_no_statistics_is_refused(what: Any) -> None:
    """At the call."""
    with pytest.raises(TypeError, match="has no statistics"):
        Monitor().include("x", what)


def test_the_statistics_of_something_else_are_refused() -> None:
    """A dataclass is what has numbers with names."""

    class Odd:
        def statistics(self) -> object:
            return {"a": 1}

    with pytest.raises(TypeError, match="has no statistics"):
        Monitor().include("x", Odd())


def test_not_everything_can_be_included() -> None:
    """A channel per request would be a time series per request."""
    monitor = Monitor()
    channels = [Channel[int](1) for _ in range(MOST + 1)]
    for index in range(MOST):
        monitor.include(str(index), channels[index])

    with pytest.raises(ValueError, match="those that live as long"):
        monitor.include("more", channels[MOST])
    monitor.include("0", channels[MOST])
    channels.pop(1)
    gc.collect()
    monitor.include("more", channels[0])


@pytest.mark.virtual_clock
async def test_statistics_that_fail_are_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other figures are there all the same."""
    events = Channel[int](10)
    async with Monitor() as monitor:
        monitor.include("events", events)
        monkeypatch.setattr(Channel, "statistics", None)
        await anyio.sleep(1)
        figures = monitor.latest

    assert figures is not None
    assert figures.primitives == {}
    assert monitor.statistics().errors == 1
    assert "a primitive's statistics() of a Monitor failed" in caplog.text


def observed(reader: InMemoryMetricReader) -> dict[str, list[tuple[Any, Any]]]:
    """Return what OpenTelemetry would export: values by metric, with attributes."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: [
            (dict(point.attributes or {}), getattr(point, "value", None))
            for point in metric.data.data_points
        ]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.mark.parametrize("given", [True, False])
def test_opentelemetry_observes_the_last_look(
    given: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a meter, or with that of the current provider."""
    monitor = Monitor()
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(otel_face, "get_meter_provider", lambda: provider)
    observe(monitor, provider.get_meter("mine") if given else None)

    assert not any(observed(reader).values())
    monitor._latest = FIGURES
    seen = observed(reader)

    assert seen["safeconc.tasks"] == [
        ({"function": "app.serve"}, 3),
        ({"function": "other"}, 1),
    ]
    assert seen["safeconc.loop_lag_seconds"] == [({}, 0.25)]
    assert seen["safeconc.gone"] == [({"kind": "task"}, 6), ({"kind": "thread"}, 0)]
    assert len(seen) == 9
    provider.shutdown()


@pytest.mark.parametrize(
    "face, package",
    [("prometheus", "prometheus_client"), ("otel", "opentelemetry.metrics")],
)
def test_a_missing_extra_is_named(
    face: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"safeconc.leaks.{face}")

    with pytest.raises(ImportError, match=rf"pip install 'safeconc\[{face}\]'"):
        import_module(f"safeconc.leaks.{face}")
