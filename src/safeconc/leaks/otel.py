"""What a monitor sees, for OpenTelemetry; needs the extra ``otel``."""

from collections.abc import Iterable
from functools import partial

try:
    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        Observation,
        get_meter_provider,
    )
except ImportError as exc:
    raise ImportError(
        "safeconc.leaks.otel needs opentelemetry-api: pip install 'safeconc[otel]'"
    ) from exc

from safeconc.leaks._figures import MEANINGS, labelled
from safeconc.leaks._monitor import Monitor


def observe(monitor: Monitor, meter: Meter | None = None) -> None:
    """Make observable gauges of the figures of a monitor's last look.

    They observe nothing before the first look and after the block of the monitor.
    OpenTelemetry cannot take an instrument back, so call it once for a monitor that
    lives as long as the process.

    :param meter: the one called ``safeconc`` of the current provider if None.
    """
    if meter is None:
        meter = get_meter_provider().get_meter("safeconc")
    for name, (meaning, _) in MEANINGS.items():
        meter.create_observable_gauge(
            f"safeconc.{name}",
            [partial(_observations, monitor, name)],
            unit="s" if name.endswith("seconds") else "1",
            description=meaning,
        )


def _observations(
    monitor: Monitor, name: str, _: CallbackOptions
) -> Iterable[Observation]:
    figures = monitor.latest
    if figures is None:
        return []
    label = MEANINGS[name][1]
    return [
        Observation(number, {label: value} if label else {})
        for value, number in labelled(figures, name).items()
    ]
