"""A timer that sets the next one, and that nobody cancels.

Symptom: with every client that comes there are more checks a minute, and no fewer when
it goes. Each of them is made by another thread, so that names in the log tell nothing,
and an error ends one chain without a word to anybody.

Cause: ``threading.Timer`` calls once. To be called again, the function makes the next
timer, and whoever has started the first one holds a timer that is long over:
``cancel()`` on it does nothing.

Cure: :func:`~safeconc.threads.every` of :mod:`safeconc.threads`, started with
``go_background`` in the client's own block: one thread, which is over with the block,
keeps its times, and whose error is the block's.

Linters: none sees it.
"""

from collections.abc import Callable
from threading import Timer

from safeconc.threads import ErrGroup, every


def leaky(
    check: Callable[[], object], closed: Callable[[], object], period: float
) -> None:
    """Serve a client until its connection is *closed*; *check* it every *period*."""
    _check_again(check, period)
    closed()


def safe(
    check: Callable[[], object], closed: Callable[[], object], period: float
) -> None:
    """Serve a client in the same way, and stop checking when it is gone."""
    with ErrGroup(limit=None) as group:
        group.go_background(every, period, check)
        closed()


def _check_again(check: Callable[[], object], period: float) -> None:
    check()
    timer = Timer(period, _check_again, (check, period))
    timer.daemon = True
    timer.start()
