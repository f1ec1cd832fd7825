"""What a monitor sees, for OpenTelemetry; needs the extra ``otel``."""

from collections.abc import Iterator
from functools import partial

try:
    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        Observation,
        get_meter_provider,
    )
except ImportError as _missing:
    raise ImportError(
        "safeconc.leaks.otel needs opentelemetry-api: pip install 'safeconc[otel]'"
    ) from _missing

from safeconc.leaks._metrics import METRICS, Metric
from safeconc.leaks._monitor import Monitor


def observe(monitor: Monitor, meter: Meter | None = None) -> None:
    """Make observable gauges and counters of the figures of a monitor's last look.

    They observe nothing before the first look and after the block of the monitor.
    OpenTelemetry cannot take an instrument back, so call it once, for a monitor that
    lives as long as the process.

    :param meter: the one called ``safeconc`` of the current provider if None.
    """
    if meter is None:
        meter = get_meter_provider().get_meter("safeconc")
    for metric in METRICS:
        create = (
            meter.create_observable_counter
            if metric.grows
            else meter.create_observable_gauge
        )
        create(
            f"safeconc.{metric.name}",
            [partial(_observations, monitor, metric)],
            unit="s" if metric.in_seconds else "1",
            description=metric.meaning,
        )


def _observations(
    monitor: Monitor, metric: Metric, _: CallbackOptions
) -> Iterator[Observation]:
    figures = monitor.latest
    if figures is not None:
        for labels, number in metric.read(figures).items():
            yield Observation(number, dict(zip(metric.labels, labels, strict=True)))
