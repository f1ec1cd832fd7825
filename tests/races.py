"""Rounds of a race: the same few acts, all at once, again and again.

With many rounds, and a switch of threads after nearly every step, they find more::

    SAFECONC_TEST_RACES=10000 SAFECONC_TEST_SWITCH=1e-6 pytest tests/test_*races*.py
"""

import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

ROUNDS = int(os.environ.get("SAFECONC_TEST_RACES", "50"))
"""How many rounds a race has."""

S = TypeVar("S")


def race(
    make: Callable[[], S],
    acts: Sequence[Callable[[S], object]],
    check: Callable[[S, list[object]], None],
) -> None:
    """Make something, have each of *acts* done to it in a thread of its own, check it.

    The threads stay the same, since to start them would take longer than a round.
    The results are in the order of the acts; an exception is a result, too.
    """
    barrier = threading.Barrier(len(acts) + 1)
    subject: list[S] = []
    results: list[object] = [None] * len(acts)

    def run(index: int) -> None:
        while True:
            barrier.wait()
            if not subject:
                return
            try:
                results[index] = acts[index](subject[0])
            except BaseException as exc:
                results[index] = exc
            barrier.wait()

    threads = [
        threading.Thread(target=run, args=(index,)) for index in range(len(acts))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            subject[:] = [make()]
            barrier.wait()
            barrier.wait()
            check(subject[0], results)
    finally:
        subject.clear()
        barrier.wait()
        for thread in threads:
            thread.join()
