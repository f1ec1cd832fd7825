"""Which error comes first, and what is said of the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeconc._policy._failures import SHOWN, Failures

ORDERS = (KeyboardInterrupt, SystemExit)

errors_of_a_block = st.lists(
    st.sampled_from([ValueError, KeyError, *ORDERS]), max_size=12
).flatmap(
    lambda kinds: st.lists(
        st.sampled_from([kind(str(i)) for i, kind in enumerate(kinds)] or [OSError()]),
        max_size=20,
    )
)
"""Error objects, some of them several times, and some orders among them."""


def _distinct(errors: list[BaseException]) -> list[BaseException]:
    seen: list[BaseException] = []
    for error in errors:
        if not any(error is other for other in seen):
            seen.append(error)
    return seen


@given(errors_of_a_block)
def test_errors_are_kept_once_and_in_order(errors: list[BaseException]) -> None:
    """Each object counts once, by identity, and only the first one says True."""
    failures = Failures("a block")
    said = [failures.add(error) for error in errors]

    kept = _distinct(errors)
    assert len(failures.errors) == len(kept)
    assert all(a is b for a, b in zip(failures.errors, kept, strict=True))
    assert said == [True] + [False] * (len(errors) - 1) if errors else said == []


@given(errors_of_a_block, st.sampled_from(["first", "group"]))
def test_outcome(errors: list[BaseException], mode: Any) -> None:
    """An order to the program goes first and bare, then the mode decides."""
    failures = Failures("a block", mode)
    for error in errors:
        failures.add(error)
    kept = _distinct(errors)
    orders = [error for error in kept if isinstance(error, ORDERS)]

    outcome = failures.outcome()

    if not kept:
        assert outcome is None
    elif orders:
        assert outcome is orders[0]
    elif mode == "first":
        assert outcome is kept[0]
    else:
        grouped: Any = outcome
        assert type(grouped) is ExceptionGroup
        assert grouped.message == "errors in a block"
        assert list(grouped.exceptions) == kept


@given(st.integers(1, 3 * SHOWN))
def test_note_counts_all_and_spells_out_some(count: int) -> None:
    """The raised error tells of the later ones, in bounded space."""
    failures = Failures("a block")
    first = ValueError("first")
    failures.add(first)
    for number in range(count):
        failures.add(KeyError(number))

    failures.outcome()

    (note,) = first.__notes__
    plural = "s" * (count > 1)
    assert note.startswith(f"a block: {count} later error{plural}: KeyError(0)")
    assert note.count("KeyError") == min(count, SHOWN)
    assert note.endswith(f" and {count - SHOWN} more") == (count > SHOWN)


def test_error_that_fails_alone_gets_no_note() -> None:
    """There is nothing to tell."""
    failures = Failures("a block")
    error = ValueError()
    failures.add(error)

    assert failures.outcome() is error
    assert not hasattr(error, "__notes__")


def test_equal_errors_are_different_errors() -> None:
    """Two objects are two errors, though they compare equal."""

    class Same(Exception):  # noqa: N818, PLW1641 - equal to any other, never hashed
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Same)

    failures = Failures("a block")

    assert failures.add(Same())
    assert not failures.add(Same())
    assert len(failures.errors) == 2


def test_group_of_base_errors_is_a_base_group() -> None:
    """What is no Exception is grouped as what it is."""
    failures = Failures("a block", "group")
    failures.add(GeneratorExit())
    outcome = failures.outcome()

    assert isinstance(outcome, BaseExceptionGroup)
    assert not isinstance(outcome, ExceptionGroup)


def test_unknown_mode_is_refused() -> None:
    """The message names the two that there are."""
    with pytest.raises(ValueError, match='"first" or "group"'):
        Failures("a block", "all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
