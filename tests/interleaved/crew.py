"""Workers that take jobs, rest and are called, in many orders of their steps.

A job may be handed over at any step of a worker that is about to rest, or of a block
that is about to end: it runs once, or its caller is told.
"""

from contextlib import suppress

import pytest

from safeconc import Context, ContextCancelled
from safeconc.threads import Channel, ErrGroup, FanOut, fan_out
from tests.interleaved.conftest import explore, together

SHARE = 0.2
"""A block and its threads take many more steps than a lock."""


def test_job_for_a_worker_that_is_about_to_rest() -> None:
    """It does it, or another one does."""

    def model() -> None:
        ran: list[int] = []
        with ErrGroup(limit=2) as group:
            group.go(ran.append, 1)
            group.go(ran.append, 2)
            group.go(ran.append, 3)
        assert sorted(ran) == [1, 2, 3]

    explore(model, "instructions", SHARE)


def test_slot_that_comes_free_while_somebody_joins_the_line() -> None:
    """It is handed over, and nobody waits for ever."""

    def model() -> None:
        ran: list[int] = []
        with ErrGroup(limit=1) as group:
            together(lambda: group.go(ran.append, 1), lambda: group.go(ran.append, 2))
        assert sorted(ran) == [1, 2]

    explore(model, "instructions", SHARE)


def test_go_as_the_group_is_cancelled() -> None:
    """A child that was started has ended, and one that was refused never ran."""

    def model() -> None:
        ran: list[int] = []
        started: list[int] = []

        def start(number: int) -> None:
            with suppress(RuntimeError, ContextCancelled):
                group.go(ran.append, number)
                started.append(number)

        with ErrGroup(limit=1) as group:
            together(lambda: start(1), lambda: start(2), group.cancel)
        assert set(ran) <= set(started)
        assert group.statistics().running == 0

    explore(model, "instructions", SHARE)


def test_end_of_a_block_while_a_worker_goes_to_rest() -> None:
    """It is called, and the block does not wait for ever."""

    def model() -> None:
        ran: list[int] = []
        with ErrGroup(limit=None) as group:
            group.go_background(ran.append, 1)
            group.go(ran.append, 2)
        assert 2 in ran

    explore(model, "instructions", SHARE)


def test_children_that_need_each_other_are_both_called() -> None:
    """Though only one idle worker is on its way at a time."""

    def model() -> None:
        channel = Channel[int](0)
        with ErrGroup(limit=None) as group:
            group.go(abs, 1)
            group.go(abs, 1)
            group.go(channel.send, 1)
            received = group.go(channel.receive)
        assert received.result() == 1

    explore(model, "instructions", SHARE)


def fails(number: int) -> int:
    """Fail at 1."""
    if number == 1:
        raise ValueError(number)
    return number


@pytest.mark.parametrize("limit", [1, 2])
def test_workers_of_a_fan_out_share_the_items(limit: int) -> None:
    """Each is taken once, and the last one sends all of them home."""

    def model() -> None:
        assert fan_out(abs, [-1, -2, -3], limit=limit) == [1, 2, 3]

    explore(model, "instructions", SHARE)


def test_consumer_meets_the_workers() -> None:
    """A result is handed over while it joins the line, or is there, and so is room."""

    def model() -> None:
        with FanOut(abs, [-1, -2, -3], limit=2, buffer=0) as results:
            assert list(results) == [1, 2, 3]

    explore(model, "instructions", SHARE)


def test_consumer_waits_as_a_call_fails() -> None:
    """It is told, and the error is that of the call."""

    def model() -> None:
        received: list[int] = []
        with pytest.raises(ValueError, match="1"):
            with FanOut(fails, [0, 1, 2], limit=2) as results:
                received.extend(results)
        assert received in ([], [0])

    explore(model, "instructions", SHARE)


def test_two_consumers_meet_the_end() -> None:
    """Each result has one of them, and both are told of the end."""

    def model() -> None:
        received: list[int] = []

        def take() -> None:
            received.extend(results)

        with FanOut(abs, [-1, -2], limit=2) as results:
            together(take, take)
        assert sorted(received) == [1, 2]

    explore(model, "instructions", SHARE)


def test_parent_ends_while_workers_look_for_items() -> None:
    """All results, or the error of the end."""

    def model() -> None:
        with Context.root() as outer:
            got: list[list[int]] = []

            def collect() -> None:
                with suppress(ContextCancelled), Context(outer):
                    got.append(fan_out(abs, [-1, -2], limit=2))

            together(collect, outer.cancel)
        assert got in ([], [[1, 2]])

    explore(model, "instructions", SHARE)


pytestmark = pytest.mark.timeout(600)
