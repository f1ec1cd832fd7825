"""Rules for what may stay, and what passes through them."""

import asyncio
import concurrent.futures.thread
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from safeconc import leaks
from safeconc.leaks import Ignore, Rule
from safeconc.leaks._builtin import BUILTIN
from safeconc.leaks._rules import Sight
from safeconc.leaks._sieve import Sieve
from tests.entries import entry

WHY = "as an example"
SLEEPER = entry(asyncio.sleep, "/app/feeds.py:Feed.refresh", name="refresh-1")
STRANGER = entry(asyncio.sleep, "/app/mail.py:send")


@contextmanager
def waiting_thread(name: str) -> Generator[None]:
    """Have a thread for the time of a block."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name=name)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def matching(rule: Rule) -> list[str]:
    """Name which of the two examples a rule is about."""
    both = {"sleeper": SLEEPER, "stranger": STRANGER}
    return [name for name, each in both.items() if rule.matches(Sight(each))]


@pytest.mark.parametrize(
    "rule, names",
    [
        (leaks.ignore_name("refresh-1", reason=WHY), ["sleeper"]),
        (leaks.ignore_name(re.compile(r"refresh-\d"), reason=WHY), ["sleeper"]),
        (leaks.ignore_name("refresh", reason=WHY), []),
        (leaks.ignore_name(re.compile("refresh"), reason=WHY), []),
        (leaks.ignore_name("refresh-1", reason=WHY, kind="thread"), []),
        (leaks.ignore_function("feeds.Feed.refresh", reason=WHY), ["sleeper"]),
        (
            leaks.ignore_function("asyncio.tasks.sleep", reason=WHY),
            ["sleeper", "stranger"],
        ),
        (leaks.ignore_any_function("feeds.Feed.refresh", reason=WHY), ["sleeper"]),
        (
            leaks.ignore_any_function(re.compile(r"feeds\..*"), reason=WHY),
            ["sleeper"],
        ),
        (leaks.ignore_module("feeds", reason=WHY), ["sleeper"]),
        (leaks.ignore_module("feed", reason=WHY), []),
        (leaks.ignore_state("waiting", reason=WHY), ["sleeper", "stranger"]),
        (leaks.ignore_state("running", reason=WHY), []),
        (leaks.ignore_created_by("main.main", reason=WHY), []),
        (
            Ignore(
                any_function=("asyncio.tasks.sleep", "feeds.Feed.refresh"), reason=WHY
            ),
            ["sleeper"],
        ),
        (Ignore(any_function=("feeds.Feed.refresh", "x"), reason=WHY), []),
    ],
)
def test_rule_is_about_what_it_names(rule: Rule, names: list[str]) -> None:
    """A string is to be equal, a pattern to match the whole."""
    assert matching(rule) == names


def test_rule_by_creator() -> None:
    """It needs to be known who made it."""
    rule = leaks.ignore_created_by("main.start", reason=WHY)

    assert rule.matches(Sight(entry(asyncio.sleep, made_by=["/app/main.py:start"])))
    assert not rule.matches(Sight(entry(asyncio.sleep)))


def test_rule_on_a_leak_without_a_stack() -> None:
    """What is nowhere is in no function and in no module."""
    nowhere = Sight(entry(kind="executor", name="pool"))

    assert not leaks.ignore_function("pool", reason=WHY).matches(nowhere)
    assert not leaks.ignore_module("pool", reason=WHY).matches(nowhere)
    assert leaks.ignore_name("pool", reason=WHY).matches(nowhere)
    assert nowhere.created_at == ""


@pytest.mark.parametrize(
    "make", [leaks.ignore_name, leaks.ignore_function, leaks.ignore_state]
)
def test_rule_needs_a_reason(make: Callable[..., Rule]) -> None:
    """Who reads it in a year wants to know."""
    with pytest.raises(ValueError, match="a rule needs a reason"):
        make("x", reason=" ")
    with pytest.raises(TypeError, match="reason must be a string"):
        make("x", reason=None)


def test_rule_needs_a_condition() -> None:
    """Without one it would hide every leak there is."""
    with pytest.raises(ValueError, match="would ignore every leak"):
        Ignore(reason=WHY)


def test_ignore_current_knows_what_was_there() -> None:
    """A thread of before is known, one of later is not."""
    with waiting_thread("old"):
        rule = leaks.ignore_current()
        with waiting_thread("new"):
            threads = {each.name: each for each in leaks.snapshot().entries}

    assert rule.reason == "it was there before"
    assert rule.matches(Sight(threads["old"]))
    assert not rule.matches(Sight(threads["new"]))


# Sieve


def test_sieve_parts_and_counts() -> None:
    """Each leak that a rule holds back is told with that rule."""
    known = leaks.ignore_name("refresh-1", reason=WHY)
    idle = leaks.ignore_name("mended", reason=WHY)
    sieve = Sieve([known, idle])

    sifted = sieve.sift([SLEEPER, STRANGER])
    sieve.sift([SLEEPER])

    assert sifted.kept == (STRANGER,)
    assert sifted.ignored == ((SLEEPER, known),)
    assert sieve.counts == {known: 2, idle: 0}
    assert sieve.unmatched == (idle,)


def test_sieve_asks_rules_of_every_sort() -> None:
    """Also those that name no function, by which they could be found."""
    with waiting_thread("old"):
        here = [each for each in leaks.snapshot().entries if each.name == "old"]
        sieve = Sieve([leaks.ignore_current()])

    assert len(here) == 1
    assert sieve.sift(here).kept == ()
    assert sieve.sift([SLEEPER]).kept == (SLEEPER,)


IDLE = entry(concurrent.futures.thread._worker, threading.Thread.run, kind="thread")


def test_sieve_knows_the_ecosystem() -> None:
    """The built-in rules apply, unless one does without them."""
    assert Sieve().sift([IDLE]).kept == ()
    assert Sieve(builtin=False).sift([IDLE]).kept == (IDLE,)


def test_sieve_takes_rules_only() -> None:
    """The usual slip is a list of them, as a baseline is."""
    several: Any = [leaks.ignore_name("x", reason=WHY)]

    with pytest.raises(TypeError, match="put a \\* before the call"):
        Sieve([several])


def test_own_rule_comes_before_a_built_in_one() -> None:
    """Else it would be called idle for saying what is known."""
    rule = leaks.ignore_function("concurrent.futures.thread._worker", reason=WHY)
    sieve = Sieve([rule])
    sieve.sift([IDLE])

    assert sieve.unmatched == ()


def test_busy_thread_of_a_pool_is_a_leak() -> None:
    """Idle is one whose innermost call is the pool's own."""
    busy = entry("/app/work.py:work", concurrent.futures.thread._worker, kind="thread")

    assert Sieve().sift([busy]).kept == (busy,)


def test_look_alike_of_a_known_thread_is_a_leak() -> None:
    """A function of that name elsewhere is another one."""
    alike = entry("/app/worker.py:_worker", threading.Thread.run, kind="thread")
    task = entry(concurrent.futures.thread._worker)

    assert Sieve().sift([alike, task]).kept == (alike, task)


def test_built_in_rules_say_why_and_are_narrow() -> None:
    """Each names a function or a thread; none is about all of a kind."""
    for rule in BUILTIN:
        conditions: list[Any] = [rule.name, rule.function, rule.any_function]

        assert rule.reason
        assert any(conditions)
        assert rule.kind
        assert not rule.matches(Sight(STRANGER))
