"""Profiles, decoded by the book and not by our own code."""

import asyncio
import gzip
from collections import Counter
from collections.abc import Iterator
from typing import Any

from safeconc import leaks
from safeconc.leaks import Diff, Snapshot
from tests.entries import alive, entry

FEED = "/app/feeds.py:refresh"


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number; return it, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Read the fields of a message, each with its number."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value: Any
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            assert tag & 7 == 2
            length, at = varint(data, at)
            value = data[at : at + length]
            at += length
        yield tag >> 3, value


def numbers(data: bytes) -> list[int]:
    """Read a packed list of numbers."""
    found: list[int] = []
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        found.append(value - (1 << 64) if value >> 63 else value)
    return found


class Profile:
    """What a profile says."""

    def __init__(self, what: Snapshot | Diff) -> None:
        message = list(fields(gzip.decompress(leaks.as_pprof(what))))
        self.strings = [value.decode() for number, value in message if number == 6]
        self.time = dict(message)[9]
        functions = {
            each[1]: self.strings[each[2]]
            for each in (dict(fields(value)) for n, value in message if n == 5)
        }
        locations: dict[int, tuple[str, int]] = {}
        for value in (value for number, value in message if number == 4):
            location = dict(fields(value))
            line = dict(fields(location[4]))
            locations[location[1]] = (functions[line[1]], line.get(2, 0))
        self.samples: Counter[tuple[tuple[str, ...], tuple[tuple[str, str], ...]]]
        self.samples = Counter()
        for value in (value for number, value in message if number == 2):
            sample = list(fields(value))
            stack = tuple(locations[each][0] for each in numbers(dict(sample)[1]))
            labels = tuple(self._label(each) for n, each in sample if n == 3)
            self.samples[stack, labels] += numbers(dict(sample)[2])[0]

    def _label(self, data: bytes) -> tuple[str, str]:
        label = dict(fields(data))
        return self.strings[label[1]], self.strings[label[2]]


def test_profile_counts_by_stack_and_labels() -> None:
    """Numbers in names do not make tasks different."""
    profile = Profile(
        alive(
            entry(asyncio.sleep, FEED, name="Task-1", made_by=["/app/main.py:start"]),
            entry(asyncio.sleep, FEED, name="Task-22", made_by=["/app/main.py:start"]),
            entry(FEED, kind="thread", name="w", state="alive", owner="test_7"),
        )
    )

    assert profile.samples == {
        (
            ("asyncio.tasks.sleep", "feeds.refresh", "main.start"),
            (("kind", "task"), ("name", "Task-#"), ("state", "waiting")),
        ): 2,
        (
            ("feeds.refresh",),
            (
                ("kind", "thread"),
                ("name", "w"),
                ("state", "alive"),
                ("owner", "test_#"),
            ),
        ): 1,
    }
    assert profile.time == 1_000_000_500_000_000
    assert profile.strings[0] == ""


def test_profile_of_a_diff_has_the_changes() -> None:
    """Below zero where there are fewer; what is as before is not in it."""
    more, fewer = entry(FEED), entry("/app/mail.py:send")
    same = entry("/app/main.py:start")
    profile = Profile(leaks.diff(alive(fewer, same), alive(more, more, same)))

    counts = {stack: count for (stack, _), count in profile.samples.items()}
    assert counts == {("feeds.refresh",): 2, ("mail.send",): -1}


def test_labels_are_bounded() -> None:
    """A thousand names are no thousand samples."""
    names = [chr(97 + n // 26) + chr(97 + n % 26) for n in range(300)]
    profile = Profile(alive(*(entry(FEED, name=name) for name in names)))

    assert len(profile.samples) == 101
    assert sum(profile.samples.values()) == 300


def test_profile_of_nothing_can_be_read() -> None:
    """It has no samples."""
    assert Profile(alive()).samples == {}


def test_profile_is_the_same_each_time() -> None:
    """For the same snapshot."""
    snapshot = alive(entry(FEED))

    assert leaks.as_pprof(snapshot) == leaks.as_pprof(snapshot)
