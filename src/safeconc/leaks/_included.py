"""Primitives whose statistics somebody wants to see."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, cast, final
from weakref import ref

MOST = 50
"""Primitives that can be included at once: their names are labels of metrics."""


class HasStatistics(Protocol):
    """A channel, a group or a pool; also a limiter, a lock or a stream of anyio."""

    def statistics(self) -> Any:
        """Return a dataclass of counts."""
        ...


@final
class Included:
    """Some primitives by name; they are forgotten when nobody else has them."""

    def __init__(self) -> None:
        self._primitives: dict[str, ref[HasStatistics]] = {}

    def add(self, name: str, primitive: HasStatistics) -> None:
        """Have one more, or another one by that name."""
        statistics = getattr(primitive, "statistics", None)
        if not callable(statistics) or not is_dataclass(statistics()):
            raise TypeError(f"{primitive!r} has no statistics() to look at")
        others = {
            key: each
            for key, each in self._primitives.items()
            if key != name and each() is not None
        }
        if len(others) >= MOST:
            raise ValueError(
                f"{MOST} primitives are included already; include those that live as "
                "long as the service does, not those of a request"
            )
        self._primitives = {**others, name: ref(primitive)}

    def read(self) -> Mapping[str, Mapping[str, float]]:
        """Return the numbers among their statistics."""
        return {
            name: dict(_numbers(primitive))
            for name, each in self._primitives.items()
            if (primitive := each()) is not None
        }


def _numbers(primitive: HasStatistics) -> Iterator[tuple[str, float]]:
    bound = getattr(primitive, "limit", getattr(primitive, "capacity", None))
    if bound is not None:
        yield "limit", bound
    statistics = primitive.statistics()
    for field in fields(statistics):
        value: Any = getattr(statistics, field.name)
        if isinstance(value, tuple):
            parts = cast("Sequence[object]", value)
            counts = [part for part in parts if isinstance(part, int)]
            if len(counts) == len(parts):  # they are given by depth
                value = sum(counts)
        if isinstance(value, int | float):
            yield field.name, value
