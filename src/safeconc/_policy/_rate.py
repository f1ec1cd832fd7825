"""When the next start may happen."""

import math
from typing import final


@final
class Rate:
    """The generic cell rate algorithm (GCRA): *per_second* starts, evenly spaced.

    One number is all its state: the theoretical arrival time, the moment at which
    the next start would be exactly on schedule. A start may come *burst - 1*
    intervals before it::

        rate 1, burst 1:   s----s----s----s
        rate 1, burst 3:   sss--s----s----s      (after a long pause)

    Source: ITU-T I.371, in the "virtual scheduling" form.
    """

    def __init__(self, per_second: float, burst: int = 1) -> None:
        _check_positive("rate", per_second)
        if isinstance(burst, bool) or not isinstance(burst, int):
            raise TypeError(f"burst must be a whole number, not {burst!r}")
        if burst < 1:
            raise ValueError(f"burst must be at least 1, not {burst}")
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) * self._interval
        self._due = -math.inf

    def reserve(self, now: float) -> float:
        """Reserve the next start and return its time, which is *now* or later."""
        due = max(now, self._due)
        self._due = due + self._interval
        return max(now, due - self._tolerance)

    def take(self, now: float) -> bool:
        """Take the next start if it may be *now*; else nothing is reserved."""
        if self._due - self._tolerance > now:
            return False
        self.reserve(now)
        return True


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of starts per second, not {value!r}")
    if not 0 < value < math.inf:  # also refuses NaN
        raise ValueError(f"{name} must be positive and finite, not {value}")
