"""The bar behind ``progress=True``, drawn by rich."""

import time
from typing import Protocol, final

REFRESH = 0.1
"""Seconds between two drawings; in between, a report costs a look at the clock."""


class Counts(Protocol):
    """What a bar shows."""

    @property
    def total(self) -> int | None: ...
    @property
    def finished(self) -> int: ...


@final
class Bar:
    """A progress bar on standard error, drawn when reported to and by nobody else."""

    def __init__(self, label: str) -> None:
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )
        except ImportError as exc:
            raise ImportError(
                "progress=True draws with rich: pip install 'safeconc[progress]', or "
                "pass a callable, which gets the statistics"
            ) from exc
        # rich would start a thread that refreshes; ours is refreshed by reports.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task(label, total=None)
        self._drawn = -REFRESH

    def start(self) -> None:
        """Put the bar on the screen."""
        self._progress.start()

    def __call__(self, counts: Counts) -> None:
        """Show *counts*, unless something was drawn a moment ago."""
        now = time.monotonic()
        if now - self._drawn >= REFRESH:
            self._drawn = now
            self._draw(counts)

    def close(self, counts: Counts) -> None:
        """Draw the last state and leave it on the screen."""
        self._draw(counts)
        self._progress.stop()

    def _draw(self, counts: Counts) -> None:
        self._progress.update(
            self._task, completed=counts.finished, total=counts.total, refresh=True
        )
