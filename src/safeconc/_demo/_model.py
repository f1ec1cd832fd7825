"""What a run of the demo yields."""

from dataclasses import dataclass
from typing import Literal, final

from safeconc._demo._scenarios import SCENARIOS

Backend = Literal["asyncio", "trio"]
Variant = Literal["leaky", "safe"]

KB, MB = 1_000, 1_000_000


class DemoError(Exception):
    """The demo cannot go on; the command ends with *code*."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """What one process measured."""

    calls: int
    """Calls made, one after the other; each of them has returned or raised."""

    period: float
    """Seconds between two samples."""

    samples: list[int]
    """What was alive that had not been there before: tasks, or threads."""

    returned: int
    """How many of the samples were taken before the last call had returned."""

    left: int
    """What was still alive at the end, after a garbage collection."""

    memory_left: int | None
    """Bytes that Python had allocated in the meantime and not freed then; None where
    the interpreter cannot tell (PyPy)."""

    memory_peak: int | None
    """The most that it held at once."""

    @property
    def peak(self) -> int:
        """The most that a sample found."""
        return max(self.samples)


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """A vice and its cure under the same load."""

    name: str
    leaky: Reading
    safe: Reading

    @property
    def passed(self) -> bool:
        """Whether the vice leaked and the cure did not."""
        return self.leaky.left > 0 and self.safe.left == 0

    @property
    def verdict(self) -> str:
        """What was seen, in a sentence."""
        if self.safe.left:
            return (
                f"The cure left {self.safe.left} {SCENARIOS[self.name].kind} behind: "
                "that is a bug in safeconc, please report it."
            )
        if not self.leaky.left:
            return "The vice left nothing behind this time, so the pair shows nothing."
        return SCENARIOS[self.name].verdict.format(
            calls=self.leaky.calls,
            left=f"{self.leaky.left:,}",
            memory=amount(self.leaky.memory_left),
        )


def amount(size: int | None) -> str:
    """Return *size*, in bytes, in a unit that a person reads."""
    if size is None:
        return "unknown"
    return f"{size / KB:.0f} kB" if size < MB else f"{size / MB:.1f} MB"
