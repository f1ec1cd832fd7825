"""What a monitor sees, for Prometheus; needs the extra ``prometheus``.

A scrape takes no look: it gets the figures of the monitor's last one, so it costs the
service nothing, however often it comes.
"""

from collections.abc import Callable, Iterator
from typing import final

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Gauge
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector as _Collector
except ImportError as exc:
    raise ImportError(
        "safeconc.leaks.prometheus needs prometheus_client: "
        "pip install 'safeconc[prometheus]'"
    ) from exc

from safeconc.leaks._figures import MEANINGS, Figures, labelled
from safeconc.leaks._monitor import Monitor


@final
class Collector(_Collector):
    """The gauges of a monitor, for a registry.

    ::

        monitor = Monitor()
        prometheus_client.REGISTRY.register(Collector(monitor))

    There are none before the first look and after the block of the monitor.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: a registry need not look to know the names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the figures of the last look."""
        figures = self._monitor.latest
        if figures is None:
            return
        for name, (meaning, label) in MEANINGS.items():
            family = GaugeMetricFamily(
                f"safeconc_{name}", meaning, labels=[label] if label else []
            )
            for value, number in labelled(figures, name).items():
                family.add_metric([value] if label else [], number)
            yield family


def gauges(registry: CollectorRegistry = REGISTRY) -> Callable[[Figures], None]:
    """Make plain gauges, and return what sets them, for a monitor's ``on_sample``.

    For services of several processes, in which prometheus_client has no collectors::

        Monitor(on_sample=gauges())

    Counts are summed over the live processes, seconds are those of the worst one.
    """
    made = {
        name: Gauge(
            f"safeconc_{name}",
            meaning,
            [label] if label else [],
            registry=registry,
            multiprocess_mode="livemax" if name.endswith("seconds") else "livesum",
        )
        for name, (meaning, label) in MEANINGS.items()
    }
    known: dict[str, set[str]] = {name: set() for name in made}

    def put(figures: Figures) -> None:
        for name, gauge in made.items():
            now = labelled(figures, name)
            # What has gone is zero: several processes cannot take a label back.
            for value in known[name] | set(now):
                (gauge.labels(value) if value else gauge).set(now.get(value, 0))
            known[name].update(now)

    return put
