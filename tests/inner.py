"""Runs of pytest inside a test, in this very process: they take a tenth of the time."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

import pytest

from safeconc.pytest_plugin._owners import owning

# What is first imported in such a run is forgotten after it, and would be there twice.
for _name in ("anyio._backends._asyncio", "safeconc.pytest_plugin", "unittest.mock"):
    import_module(_name)

Run: TypeAlias = Callable[..., pytest.RunResult]
"""Runs pytest over a source, with options; see :func:`run`."""

HERE = [
    "-Wdefault",
    *(f"-pno:{each}" for each in ("cacheprovider", "randomly", "timeout", "pyleak")),
]
"""Without plugins that have nothing to do with us, and without filters of ours."""

AT_ONCE = "-o safeconc_leaks_grace=0.05"
"""For runs that are to leak: it is in vain to wait for what is left."""

ON_PURPOSE = pytest.mark.leakcheck("off", reason="the runs inside leak on purpose")

HEADER = """
import asyncio, threading, unittest
import pytest

kept = []

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
            return pytester.runpytest_inprocess(*HERE, *options.split())

    return run
