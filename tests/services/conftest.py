"""What all tests with real servers use."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.processes import Tools


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Tools]:
    """Start processes that end with the test."""
    with ExitStack() as stack:
        yield Tools(tmp_path, stack)
