"""How often calls that need not wait look for a cancellation."""

from typing import final

CAREFUL = 1_000
"""The first calls, which all look."""

EVERY = 128
"""After those, one call of so many looks."""


@final
class Passes:
    """Spares the calls of a hot loop most looks, which cost more than the calls do.

    While a task does not wait, nobody else runs in its loop. So since it was last
    woken nobody can have cancelled it but the task itself, by a scope of its own
    that it goes on in. Where calls are few, each of them looks. Where there are
    thousands, a task that has cancelled itself may get through up to 127 more
    before it hears of it, as it would in plain asyncio code::

        call:   1 2 3 ... 999 1000 1001 ... 1127 1128 1129 ...
        looks:  x x x  x   x    x                  x

    A call that waits looks by waiting, but for what came together with the end of
    the wait: that is heard of by the next look. So is a cancellation that has been
    heard before, in whose cleanup the calls are made.

    What is used so much shares the passes of its loop, lest each of many objects
    grant its own before anybody gives way.
    """

    __slots__ = ("_given", "careful", "left")

    def __init__(self, careful: int = CAREFUL) -> None:
        self.careful = careful
        """Calls that are still to look, each of them."""
        self._given = 0
        self.left = 0
        """Calls that may go on before the next look; below one, the next call looks."""

    def revoke(self) -> int:
        """Have every call look, as one does now; return how many have been spared it.

        A look may yield, or be told of a cancellation, and spares no call then.
        """
        # The first of those given went to the call that looked.
        spared = max(self._given - self.left - 1, 0)
        self._give(0)
        return spared

    def renew(self) -> None:
        """Note that a look found nothing."""
        if self.careful:
            self.careful -= 1
        if not self.careful:
            self._give(EVERY)

    def pause(self) -> None:
        """Note that a call has waited."""
        if not self.careful:
            self._give(EVERY)

    def _give(self, calls: int) -> None:
        self._given = self.left = calls
