"""Deadlines of a Context: exact, on the clock it was made under."""

import math

import anyio
import pytest

from safeconc import Context, ContextCancelled, DeadlineExceeded
from tests.together import ending, in_thread

# Looked at


@pytest.mark.virtual_clock
async def test_deadline_is_exact() -> None:
    """A context nobody waits on ends in the instant of its deadline."""
    ctx = Context(timeout=5)

    await anyio.sleep(4.999)
    before = ctx.done
    await anyio.sleep_until(5)

    assert not before
    assert ending(ctx) == (DeadlineExceeded, None)
    assert str(ctx.err) == "Context ran past its deadline"


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    "timeout, deadline, parent, expected",
    [
        (5, None, None, 15),
        (5, 13, None, 13),
        (5, 17, None, 15),
        (None, 13, None, 13),
        (None, 13, 2, 12),
        (5, 17, 2, 12),
        (5, 17, 30, 15),
        (None, None, 2, 12),
        (math.inf, math.inf, None, 100),
    ],
)
async def test_earliest_deadline_wins(
    timeout: float | None,
    deadline: float | None,
    parent: float | None,
    expected: float,
) -> None:
    """Of timeout, deadline, and the deadlines of the parents."""
    await anyio.sleep(10)
    parents = [Context(), Context(timeout=parent), Context(deadline=100)]

    ctx = Context(*parents, timeout=timeout, deadline=deadline)

    assert ctx.deadline == expected
    assert ctx.remaining == expected - 10


@pytest.mark.virtual_clock
async def test_remaining_is_never_negative() -> None:
    """After the deadline nothing remains."""
    ctx = Context(timeout=5)

    await anyio.sleep(100)

    assert ctx.remaining == 0


def test_deadline_in_the_past_ends_it_at_once() -> None:
    """No minimum is imposed on what a caller has computed."""
    assert Context(deadline=-1e9).done


known = pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
"""Whether the child is known to its parent, or looks at it only when asked."""


def _make_known(child: Context) -> None:
    child.after(lambda: None)


@pytest.mark.virtual_clock
@known
@pytest.mark.parametrize(
    "cancel_at, expected",
    [(3, ContextCancelled), (5, DeadlineExceeded), (7, DeadlineExceeded)],
)
async def test_first_to_end_decides_also_when_looked_at_late(
    cancel_at: float, expected: type[Exception], *, known: bool
) -> None:
    """A child's own deadline of 5 against its parent's cancel, seen at 10."""
    parent = Context()
    child = Context(parent, timeout=5)
    if known:
        _make_known(child)

    await anyio.sleep_until(cancel_at)
    parent.cancel()
    await anyio.sleep_until(10)

    assert type(child.err) is expected


@pytest.mark.virtual_clock
@known
async def test_first_to_end_decides_over_three_generations(*, known: bool) -> None:
    """A grandparent's cancel comes between the deadlines of two siblings."""
    root = Context()
    parent = Context(root)
    early, late = Context(parent, timeout=2), Context(parent, timeout=6)
    if known:
        _make_known(early)
        _make_known(late)

    await anyio.sleep(4)
    root.cancel()
    await anyio.sleep(4)

    assert type(early.err) is DeadlineExceeded
    assert type(late.err) is ContextCancelled


@pytest.mark.virtual_clock
async def test_deadline_of_the_parent_ends_the_child_by_deadline() -> None:
    """It is the time that ran out, whoever set it; so there is no cause."""
    child = Context(Context(timeout=5))

    await anyio.sleep(5)

    assert ending(child) == (DeadlineExceeded, None)


@pytest.mark.virtual_clock
async def test_parent_cancelled_before_its_deadline_cancels_the_child() -> None:
    """A deadline that both had is forgotten when the cancel came first."""
    cause = ValueError()
    parent = Context(timeout=5)
    child = Context(parent)

    await anyio.sleep(3)
    parent.cancel(cause)
    await anyio.sleep(3)

    assert ending(child) == (ContextCancelled, cause)


# Across clocks


@pytest.mark.virtual_clock
async def test_deadline_keeps_the_clock_it_was_made_under() -> None:
    """A thread that asks sees the time of the loop, not its own."""
    ctx = Context(timeout=5)
    seen: list[float] = []
    await anyio.sleep(2)

    in_thread(lambda: seen.append(ctx.remaining))

    assert seen == [3]


@pytest.mark.virtual_clock
async def test_remaining_time_is_carried_to_another_clock() -> None:
    """A child made in a thread has what its parent has left, on the thread's clock."""

    def derive() -> None:
        child = Context(parent)
        seen.append((0 < child.remaining <= 1e9 - 2, child.deadline > 1e9))

    parent = Context(timeout=1e9)
    seen: list[tuple[bool, bool]] = []
    await anyio.sleep(2)

    in_thread(derive)

    assert seen == [(True, True)]


@pytest.mark.virtual_clock
async def test_context_of_a_thread_binds_a_task_by_what_remains() -> None:
    """An hour on the clock of a thread is an hour on the clock of the loop."""
    made: list[Context] = []
    in_thread(lambda: made.append(Context(timeout=3600)))

    with pytest.raises(DeadlineExceeded):
        async with made[0]:
            await anyio.sleep_forever()
    assert 3599 < anyio.current_time() <= 3600
