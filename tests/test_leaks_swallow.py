"""Which call holds a cancellation up: found in the source."""

import linecache
from collections.abc import Iterator

import pytest

from safeconc.leaks._swallow import Swallower, find_swallower

FILE = "<a source>"


@pytest.fixture
def source() -> Iterator[list[str]]:
    """Give the lines of a file that is only known to linecache."""
    lines: list[str] = []
    linecache.cache[FILE] = (1, None, lines, FILE)
    yield lines
    del linecache.cache[FILE]


CASES = {
    "a handler that goes on, in a loop": (
        """
async def f():
    while True:
        try:
            await here()
        except BaseException:
            pass
""",
        (5, False),
    ),
    "one without a name": (
        """
async def f():
    for _ in x:
        try:
            await here()
        except:
            log()
""",
        (5, False),
    ),
    "one of anyio, and code after it": (
        """
async def f():
    try:
        work()
    except anyio.get_cancelled_exc_class():
        log()
    await here()
""",
        (4, False),
    ),
    "suppress": (
        """
async def f():
    with contextlib.suppress(ValueError, asyncio.CancelledError):
        work()
    await here()
""",
        (2, False),
    ),
    "a wait in a handler": (
        """
async def f():
    try:
        work()
    except asyncio.CancelledError:
        await here()
        raise
""",
        (4, True),
    ),
    "a wait in a finally": (
        """
async def f():
    try:
        work()
    finally:
        clean()
        await here()
""",
        (5, True),
    ),
    "the innermost of two": (
        """
async def f():
    try:
        try:
            work()
        finally:
            await here()
    finally:
        clean()
""",
        (6, True),
    ),
    "a handler that raises again": (
        """
async def f():
    while True:
        try:
            await here()
        except BaseException:
            log()
            raise
""",
        None,
    ),
    "a handler of something else": (
        """
async def f():
    while True:
        try:
            await here()
        except OSError:
            pass
""",
        None,
    ),
    "a block of something else": (
        """
async def f():
    with suppress(OSError), lock:
        work()
    await here()
""",
        None,
    ),
    "the body of a try that is not in a loop": (
        """
async def f():
    try:
        await here()
    except BaseException:
        pass
""",
        None,
    ),
    "a function inside": (
        """
async def f():
    def g():
        try:
            work()
        except BaseException:
            pass
    await here()
""",
        None,
    ),
    "no function at all": ("await here()", None),
    "no Python at all": ("await here() !", None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_source_tells(name: str, source: list[str]) -> None:
    """Whether a call went on after its cancellation, or cleans up, or neither."""
    text, expected = CASES[name]
    source.extend(text.lstrip("\n").splitlines(keepends=True))
    line = next(number for number, each in enumerate(source, 1) if "here()" in each)

    found = find_swallower([(FILE, line)])

    assert found == (None if expected is None else Swallower(0, *expected))


def test_the_innermost_call_counts(source: list[str]) -> None:
    """Calls within it, in files that nobody can read, tell nothing."""
    text, _ = CASES["a handler that goes on, in a loop"]
    source.extend(text.lstrip("\n").splitlines(keepends=True))

    found = find_swallower([(FILE, 4), (FILE, 4), ("<frozen>", 7)])

    assert found == Swallower(1, 5, cleans_up=False)
