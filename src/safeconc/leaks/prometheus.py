"""What a monitor sees, for Prometheus; needs the extra ``prometheus``.

A scrape takes no look: it gets the figures of the monitor's last one, so a thousand of
them cost the service no more than their text.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias, final

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector as _Collector
except ImportError as _missing:
    raise ImportError(
        "safeconc.leaks.prometheus needs prometheus_client: "
        "pip install 'safeconc[prometheus]'"
    ) from _missing

from safeconc.leaks._figures import OTHER, Figures
from safeconc.leaks._metrics import METRICS, Metric
from safeconc.leaks._monitor import Monitor

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily

KEPT = 1000
"""Values of labels for which a process keeps plain gauges: they cannot be given up."""


@final
class Collector(_Collector):
    """The metrics of a monitor, for a registry.

    ::

        monitor = Monitor()
        prometheus_client.REGISTRY.register(Collector(monitor))

    They have no values before the first look and after the block of the monitor. A
    registry takes one of them: a second one would have metrics of the same names.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def describe(self) -> Iterator[_Family]:
        """Yield the metrics without values, so that a registry knows their names."""
        return map(_family, METRICS)

    def collect(self) -> Iterator[_Family]:
        """Yield the figures of the last look."""
        figures = self._monitor.latest
        if figures is None:
            return
        for metric in METRICS:
            family = _family(metric)
            for labels, number in metric.read(figures).items():
                family.add_metric(labels, number)
            yield family


def _family(metric: Metric) -> _Family:
    kind = CounterMetricFamily if metric.grows else GaugeMetricFamily
    return kind(_name(metric), metric.meaning, labels=metric.labels)


def _name(metric: Metric) -> str:
    return f"safeconc_{metric.name}"


def gauges(registry: CollectorRegistry = REGISTRY) -> Callable[[Figures], None]:
    """Make plain gauges and counters; return what sets them, for ``on_sample``.

    For services of several processes, in which prometheus_client has no collectors::

        Monitor(on_sample=gauges())

    Counts are summed over the processes, times are those of the worst one. What is
    gone stays as a zero. A process names 1000 things in one metric at most, as they
    come; what comes later is called "other".
    """
    kept = [
        (_Counts if metric.grows else _Levels)(metric, registry) for metric in METRICS
    ]

    def put(figures: Figures) -> None:
        for each in kept:
            each.put(figures)

    return put


@final
class _Levels:
    """A gauge, and for what it has a value."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._known: set[tuple[str, ...]] = set()
        self._gauge = Gauge(
            _name(metric),
            metric.meaning,
            metric.labels,
            registry=registry,
            multiprocess_mode="livemax" if metric.in_seconds else "livesum",
        )

    def put(self, figures: Figures) -> None:
        now: dict[tuple[str, ...], float] = dict.fromkeys(self._known, 0)
        for labels, number in self._metric.read(figures).items():
            named = labels in now or len(now) < KEPT
            key = labels if named else (OTHER,) * len(labels)
            now[key] = now.get(key, 0) + number
        self._known.update(now)
        for labels, number in now.items():
            (self._gauge.labels(*labels) if labels else self._gauge).set(number)


@final
class _Counts:
    """A counter, and how far it has been told."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._told: dict[tuple[str, ...], float] = {}
        self._counter = Counter(
            _name(metric), metric.meaning, metric.labels, registry=registry
        )

    def put(self, figures: Figures) -> None:
        for labels, number in self._metric.read(figures).items():
            self._counter.labels(*labels).inc(number - self._told.get(labels, 0))
            self._told[labels] = number
