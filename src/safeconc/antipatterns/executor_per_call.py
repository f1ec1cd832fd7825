"""A pool of threads for each call, which is never shut down.

Symptom: a few threads more with every request, idle, and named after pools with ever
higher numbers; at last ``RuntimeError: can't start new thread``.

Cause: the pool is made where it is needed, and its threads wait for further work until
somebody calls ``shutdown``. A pool that nobody holds ends by itself, on CPython. But
one is held easily: by the client object that made it, by a future in a cache, or, as
here, by a list that was meant to close it when the program exits.

Cure: :func:`~safeconc.threads.fan_out` of :mod:`safeconc.threads`, whose threads are
gone when it returns; or one pool for the whole program, handed down as ``executor``.

Linters: none sees it. SIM115 of ruff, about files, is the same idea.
"""

import atexit
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from safeconc.threads import fan_out

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 4
"""Threads of a call."""

_pools: list[ThreadPoolExecutor] = []


def leaky(fetch: Callable[[T], R], urls: Iterable[T]) -> list[R]:
    """Fetch some pages at a time."""
    pool = ThreadPoolExecutor(WORKERS)
    _pools.append(pool)
    return list(pool.map(fetch, urls))


def safe(fetch: Callable[[T], R], urls: Iterable[T]) -> list[R]:
    """Fetch as many at a time, and keep no thread."""
    return fan_out(fetch, urls, limit=WORKERS)


@atexit.register
def close_all() -> None:
    """Shut down all pools that there ever were: the good intention."""
    while _pools:
        _pools.pop().shutdown()
