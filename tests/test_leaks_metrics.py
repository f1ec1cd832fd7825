"""The figures of a monitor, for Prometheus and OpenTelemetry."""

import sys
from importlib import import_module
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from safeconc.leaks import Figures, Monitor
from safeconc.leaks import otel as otel_face
from safeconc.leaks.otel import observe
from safeconc.leaks.prometheus import Collector, gauges

FIGURES = Figures(
    tasks={"app.serve": 3, "other": 1},
    threads={"MainThread": 1},
    oldest=7.5,
    abandoned=2,
    overdue=1,
    lag=0.25,
)

EXPECTED = {
    'safeconc_tasks{function="app.serve"} 3.0',
    'safeconc_tasks{function="other"} 1.0',
    'safeconc_threads{name="MainThread"} 1.0',
    "safeconc_abandoned_threads 2.0",
    "safeconc_cancelled_overdue_tasks 1.0",
    "safeconc_oldest_seconds 7.5",
    "safeconc_loop_lag_seconds 0.25",
}


def exposed(registry: CollectorRegistry) -> set[str]:
    """Return the lines that Prometheus would scrape, without comments."""
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_a_collector_has_the_last_look_of_its_monitor() -> None:
    """And nothing before the first one."""
    monitor = Monitor()
    registry = CollectorRegistry()
    registry.register(Collector(monitor))

    assert exposed(registry) == set()
    monitor._latest = FIGURES
    assert exposed(registry) == EXPECTED


def test_plain_gauges_are_set_at_each_look() -> None:
    """What has gone is zero."""
    registry = CollectorRegistry()
    put = gauges(registry)

    put(FIGURES)
    assert exposed(registry) == EXPECTED
    put(Figures({}, {"MainThread": 1}, 0, 0, 0, 0))
    assert 'safeconc_tasks{function="app.serve"} 0.0' in exposed(registry)


async def test_a_monitor_feeds_the_gauges() -> None:
    """By its on_sample."""
    registry = CollectorRegistry()
    async with Monitor(on_sample=gauges(registry)) as monitor:
        while monitor.latest is None:  # noqa: ASYNC110 - time is to pass, too
            await anyio.sleep(0.125)

    assert any(line.startswith("safeconc_tasks{") for line in exposed(registry))
    assert monitor.statistics().errors == 0


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
    assert len(seen) == 6
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
