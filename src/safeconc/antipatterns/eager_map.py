"""A map that takes all there is before it gives anything.

Symptom: to find one row in a large export takes the memory of the whole export, and
if the rows come from a feed the call never returns: it swallows row after row, until
the process is killed. The caller's timeout ends the waiting, not the swallowing.

Cause: ``Executor.map`` submits every item before it yields a result. However small the
pool, each item has a future and a place in an unbounded queue. Until Python 3.14 there
was no ``buffersize`` to bound that, and it is off by default.

Cure: :class:`~safeconc.threads.FanOut` of :mod:`safeconc.threads`. It takes an item
when there is a thread for it and results are being read, and leaving its block ends it.

Linters: none sees it.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from safeconc.threads import FanOut

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 4
"""Threads of a call."""


def leaky(
    parse: Callable[[T], R], rows: Iterable[T], wanted: Callable[[R], bool]
) -> R | None:
    """Parse *rows*, some at a time, until one is *wanted*."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return next(filter(wanted, pool.map(parse, rows)), None)


def safe(
    parse: Callable[[T], R], rows: Iterable[T], wanted: Callable[[R], bool]
) -> R | None:
    """Parse as many at a time, and take no more rows than that needs."""
    with FanOut(parse, rows, limit=WORKERS) as parsed:
        return next(filter(wanted, parsed), None)
