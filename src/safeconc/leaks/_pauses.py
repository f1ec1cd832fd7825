"""How long to wait before one looks again."""

from collections.abc import Iterator

FIRST = 0.001
"""Seconds of the first pause that is one."""

LONGEST = 0.1
"""Seconds of a pause at most."""


def pauses(grace: float) -> Iterator[float]:
    """Yield pauses that grow from nothing and add up to *grace* seconds.

    What is about to end mostly ends in the next turn of its loop, and a clean test is
    not to wait for the rest. Each pause is twice the one before, up to a tenth of a
    second::

        look  .  .   .     .         .          .
        grace 0  1   3     7 ms ...  127 ...    1 s
    """
    yield 0.0
    left, pause = grace, FIRST
    while left > 0:
        pause = min(pause, left)
        yield pause
        left -= pause
        pause = min(2 * pause, LONGEST)
