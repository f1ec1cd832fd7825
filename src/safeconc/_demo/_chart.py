"""A series of counts as one line of characters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Ink:
    """The characters that a chart is made of."""

    levels: str
    """Nothing first, then the heights, lowest first."""

    bar: str
    """Between what was before and what came after."""

    def draw(self, samples: Sequence[int], width: int, top: int) -> str:
        """Draw *samples* on a scale from 0 to *top*.

        A character shows the largest of the samples it stands for, and more than
        nothing if that is more than 0. So a peak is never averaged away.
        """
        line: list[str] = []
        for column in range(width):
            start = column * len(samples) // width
            stop = max(start + 1, (column + 1) * len(samples) // width)
            line.append(self._level(max(samples[start:stop]), top))
        return "".join(line)

    def _level(self, count: int, top: int) -> str:
        heights = len(self.levels) - 1
        return self.levels[-(-count * heights // max(top, 1))]


BLOCKS = Ink("·▁▂▃▄▅▆▇█", "│")
ASCII = Ink(".:-=+*#%@", "|")


def ink_for(encoding: str) -> Ink:
    """Return block characters, or plain ones if *encoding* has no blocks."""
    try:
        (BLOCKS.levels + BLOCKS.bar).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return BLOCKS
