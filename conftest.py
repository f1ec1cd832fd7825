"""The code blocks of the documentation are tests; a page is one namespace."""

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_plugins = ["pytester"]

# They need programs that a developer may not have.
SERVICES = {"past-one-machine.md"}

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/howto/*.md"],
).pytest()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have -m services run the pages that need them, and nothing else."""
    if isinstance(item, SybilItem) and item.path.name in SERVICES:
        item.add_marker("services")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the blocks of a page back in order, after whoever shuffles the tests."""
    blocks = [item for item in items if isinstance(item, SybilItem)]
    blocks.sort(key=lambda block: (block.path, block.example.line))
    in_order = iter(blocks)
    items[:] = [
        next(in_order) if isinstance(item, SybilItem) else item for item in items
    ]
