"""Runs of pytest inside a test, in this very process: they take a tenth of the time."""

import gc
from asyncio import Task
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

import pytest

from safeconc.pytest_plugin._owners import owning

# What is first imported in such a run is forgotten after it, and would be there twice.
for _name in (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "pytest_asyncio.plugin",
    "pytest_trio.plugin",
    "safeconc.pytest_plugin",
    "unittest.mock",
):
    import_module(_name)

Run: TypeAlias = Callable[..., pytest.RunResult]
"""Runs pytest over a source, with options; see :func:`run`."""

OTHERS = (
    *("asyncio", "cacheprovider", "pyleak", "randomly", "repeat"),
    *("timeout", "trio", "xdist"),
)

HERE = ["-Wdefault", "--assert=plain", *(f"-pno:{each}" for each in OTHERS)]
"""Without plugins that a test is not about, and without filters of ours."""

AT_ONCE = "-o safeconc_leaks_grace=0"
"""For runs that are to leak: it is in vain to wait for what is left."""

ON_PURPOSE = pytest.mark.leakcheck("off", reason="the runs inside leak on purpose")

kept: list[Any] = []
"""What such a run is to leave, so that nothing collects it before."""

afterwards: list[Callable[[], object]] = []
"""What is to be called when such a run is over."""

HEADER = """
import asyncio, contextvars, gc, threading, unittest
import pytest
from tests.inner import afterwards, kept

async def forever():
    while True:
        await asyncio.sleep(3600)

def leak(name="left"):
    kept.append(asyncio.ensure_future(forever()))
    kept[-1].set_name(name)

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest over HEADER and a source; options are words."""

    def run(source: str, options: str = "", conftest: str = "") -> pytest.RunResult:
        pytester.makepyfile(HEADER + source)
        if conftest:
            pytester.makeconftest(conftest)
        with owning(None):  # else what is copied early would be this test's
            result = pytester.runpytest_inprocess(
                *HERE, *options.split(), no_reraise_ctrlc=True
            )
        _clear()
        return result

    return run


def _clear() -> None:
    """Leave nothing to the tests to come."""
    for end in afterwards:
        end()
    afterwards.clear()
    pending = any(isinstance(each, Task) and not each.done() for each in kept)
    kept.clear()
    if pending:  # on a loop that was closed
        gc.collect()
