"""What runs in a Dask cluster; it imports little, since each worker imports it."""

import os
import time
from pathlib import Path
from typing import Any


def double(item: int) -> int:
    """Return twice *item*."""
    return 2 * item


def fail_at_three(item: int) -> int:
    """Fail at 3."""
    if item == 3:
        raise ValueError("three")
    return item


def kill_at_three(item: int) -> int:
    """End whichever worker makes the call."""
    if item == 3:
        os._exit(1)
    return item


def nap(item: int) -> int:
    """Take a moment, so that others are under way when the test strikes."""
    time.sleep(0.05)  # an event of the test's process does not reach a worker's
    return item


def hold(job: tuple[int, Path]) -> int:
    """Note that the call has begun; all but the first wait for a file."""
    item, folder = job
    (folder / str(item)).touch()
    while item and not (folder / "go").exists():
        time.sleep(0.01)  # for what happens in another process there is no event
    return item


def tasks(dask_scheduler: Any) -> dict[str, str]:
    """Return what the scheduler knows of."""
    return {key: task.state for key, task in dask_scheduler.tasks.items()}


def queue(dask_worker: Any) -> list[str]:
    """Return the calls that a worker has not begun."""
    return [
        key for key, task in dask_worker.state.tasks.items() if task.state == "ready"
    ]
