"""Proof that a check was one: the loop on which the test ran has been looked at."""

import asyncio
from typing import Final, final

Loop = asyncio.AbstractEventLoop

_WAY_OUT: Final = """\
Or do without the check: @pytest.mark.leakcheck("off", reason="...") on the test, on
its class, or as 'pytestmark' in its module."""

_NEVER_BEGAN: Final = (
    "this async test has passed, but was never seen to run",
    """\
Have whoever runs it (a decorator, another plugin) call the function that pytest hands
out for the test, not the one that was collected.""",
)
_STRANGE: Final = (
    "this test ran on an event loop that is neither asyncio's nor trio's",
    "Run it on one of these.",
)
_UNKNOWN: Final = (
    "asyncio does not know the task of this test: its loop makes tasks of its own",
    "Have them be of asyncio.Task, or register them, as 'Extending asyncio' tells.",
)
_CLOSED: Final = (
    "the event loop of this test was closed before anybody could look at it",
    """\
Close it by asyncio.Runner, as asyncio.run, pytest-asyncio and anyio do: what is left
on it is looked at then, cancelled, and awaited.""",
)


@final
class Canary:
    """Is to be seen on every loop on which the test runs; tells where it was not."""

    def __init__(self) -> None:
        self._failure: tuple[str, str] | None = _NEVER_BEGAN
        self._unseen: set[Loop] = set()

    def on_trio(self) -> None:
        """Have the test run on trio, of which the whole tree is seen when it ends."""
        self._failure = None

    def on_asyncio(self, loop: Loop) -> None:
        """Have the test run on a loop of asyncio, which is to be looked at later."""
        known = asyncio.current_task(loop) in asyncio.all_tasks(loop)
        self._failure = None if known else _UNKNOWN
        self._unseen.add(loop)

    def nowhere(self) -> None:
        """Have the test run on a loop of which nothing is known."""
        self._failure = _STRANGE

    def looked(self, loop: Loop) -> None:
        """Have looked at what is left on a loop."""
        self._unseen.discard(loop)

    def verdict(self) -> str | None:
        """Say which look is missing, if one is."""
        failure = self._failure or (_CLOSED if self._unseen else None)
        if failure is None:
            return None
        what, cure = failure
        return (
            f"Nobody can tell whether this test leaks: {what}. So that 'no leaks' does "
            f"not mean 'not looked', that is an error.\n{cure}\n{_WAY_OUT}"
        )
