"""The report for people, drawn by rich; a pipe gets it without colours."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from textwrap import fill
from typing import final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from safeconc._demo._chart import ink_for
from safeconc._demo._model import Backend, Pair, Reading, amount
from safeconc._demo._scenarios import SCENARIOS

BESIDE = 39
"""Characters of a row beside its chart."""

WIDEST = 100
"""Characters beyond which a row is no easier to read."""


@final
class Screen:
    """A report on standard output that grows with each pair."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._aside = Console(stderr=True, highlight=False, markup=False)
        self._ink = ink_for(self._console.encoding)
        self._width = min(self._console.width, WIDEST)
        chart = max(self._width - BESIDE, 10)
        self._after = chart // 4
        self._before = chart - self._after

    def working(self, label: str) -> AbstractContextManager[object]:
        """Say on standard error what is being done, if that is a terminal."""
        if not self._aside.is_terminal:
            return nullcontext()
        # The one spinner that every encoding has.
        return self._aside.status(label, spinner="line")

    def begin(self, backend: Backend) -> None:
        """Say what is going to be seen."""
        self._say(
            f"Each vice and its cure, in fresh processes on {backend}: callers come "
            "and go, one after the other. The charts show the live tasks, or threads, "
            f"over time; right of the bar ({self._ink.bar}) all callers have returned. "
            "Memory is what Python had allocated in the meantime and still holds at "
            "the end (tracemalloc)."
        )

    def show(self, pair: Pair) -> None:
        """Show a pair."""
        top = max(pair.leaky.peak, pair.safe.peak)
        live = f"live {SCENARIOS[pair.name].kind}"
        rows = Table.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "left", "right", "right", "right"):
            rows.add_column(justify=justify, no_wrap=True)
        rows.add_row(
            "",
            f"{live:{self._before}}{self._ink.bar}{'after':{self._after}}",
            "peak",
            "left",
            "memory",
            style="dim",
        )
        rows.add_row(*self._row("leaky", pair.leaky, top))
        rows.add_row(*self._row("safe", pair.safe, top))
        self._say("")
        self._say(f"{pair.name}: {SCENARIOS[pair.name].title}", "bold")
        self._console.print(Padding(rows, (0, 0, 0, 2), expand=False))
        self._say(pair.verdict, indent="  ")

    def end(self, pairs: Sequence[Pair], seconds: float) -> None:
        """Sum up."""
        vices = sum(pair.leaky.left > 0 for pair in pairs)
        cures = sum(pair.safe.left > 0 for pair in pairs)
        self._say("")
        self._say(
            f"{vices} of {len(pairs)} vices leaked, {cures} of {len(pairs)} cures did. "
            f"{seconds:.1f} s",
            "bold",
        )

    def _row(self, label: str, reading: Reading, top: int) -> tuple[str | Text, ...]:
        style = "red" if reading.left else "green"
        before = reading.samples[: reading.returned]
        after = reading.samples[reading.returned :]
        chart = Text.assemble(
            (self._ink.draw(before, self._before, top), style),
            (self._ink.bar, "dim"),
            (self._ink.draw(after, self._after, top), style),
        )
        left = Text(f"{reading.left:,}", f"bold {style}")
        return label, chart, f"{reading.peak:,}", left, amount(reading.memory_left)

    def _say(self, text: str, style: str = "", indent: str = "") -> None:
        # rich would wrap it, too, and leave blanks at the ends of the lines.
        filled = fill(
            text, self._width, initial_indent=indent, subsequent_indent=indent
        )
        self._console.print(Text(filled, style))
