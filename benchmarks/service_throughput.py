"""The example service under load: what it costs to have everything on.

The service of docs/examples/service and its upstream run under uvicorn, wrk asks for
pages. With everything on, `install()` notes who makes each task, a monitor looks every
five seconds, twelve times as often as it does by itself, and Prometheus scrapes every
fifteen, as its example of a configuration has it. The debug page is mounted, and nobody
looks at it.

`requests` keeps the service busy without a pause. Beside the time on the clock it
shows the CPU time of the service's process, which tells more on a shared machine. `p99`
asks for fewer pages than the service can answer: else it would show the length of the
queue. It needs wrk, and runs only when it is named.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._model import (
    THREAD,
    Benchmark,
    Contender,
    Metric,
    Run,
    Scenario,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OFF = "WATCH=0: nothing watches"
ON = "install(), Monitor and /metrics"

SCRAPES = 15
"""Seconds between two scrapes."""

SECONDS = 15
"""How long the load of a reading is."""

CONNECTIONS = 2
"""As many as keep the service busy: with more, the pages only wait for each other."""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def serve(run: Run, *, on: bool, latency: bool) -> None:
    """Put a service under load, once warm; measure the requests, or the slowest."""
    processes: Any = import_module("tests.services.processes")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tools = processes.Tools(folder, stack)
        server = tools.serve(WATCH=str(int(on)), INTERVAL="5")
        load = partial(
            tools.load, server, connections=CONNECTIONS, path="/page", paced=latency
        )
        load(seconds=1).finish(1)
        if on:
            stack.callback(scrape(server))
        with run.watch:
            before = cpu_of(server.popen.pid)
            text = load(seconds=SECONDS).finish(SECONDS)
            spent = cpu_of(server.popen.pid) - before
    requests, seconds, slowest = read(text)
    if "Non-2xx" in text:
        raise RuntimeError(text)
    if latency:
        run.watch.latencies.append(slowest)
    else:
        run.watch.elsewhere = requests, spent, seconds


def scrape(server: Any) -> Callable[[], None]:
    """Scrape it now and then, until what is returned is called."""
    over = threading.Event()

    def look() -> None:
        while True:
            server.get("/metrics")
            if over.wait(SCRAPES):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()

    return stop


def read(text: str) -> tuple[int, float, float]:
    """Return what wrk says: requests, the seconds they took, the 99th percentile."""
    total = re.search(r"(\d+) requests in ([\d.]+)s", text)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    if total is None or slowest is None:
        raise RuntimeError(text)
    return int(total[1]), float(total[2]), float(slowest[1]) * _UNITS[slowest[2]]


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scenario(name: str, what: str, metric: Metric, *, latency: bool) -> Scenario:
    """Compare a service that is watched with one that is not."""
    body: Callable[..., None] = partial(serve, latency=latency)
    needs = ("starlette", "uvicorn", "prometheus_client")
    return Scenario(
        name,
        what,
        (
            Contender(OFF, partial(body, on=False), needs, THREAD),
            Contender(ON, partial(body, on=True), needs, THREAD),
        ),
        OFF,
        n=1,
        quick_n=1,
        metric=metric,
        backends=("thread",),
    )


BENCHMARK = Benchmark(
    "service_throughput",
    scenarios=(
        scenario("requests", "answer a page", Metric.CPU, latency=False),
        scenario("p99", "answer all but one page in 100", Metric.WALL, latency=True),
    ),
    targets=(
        # At most 5 % fewer requests per second.
        Target(
            "requests",
            ON,
            (OFF,),
            at_most=1 / 0.95,
            metric=Metric.WALL,
            backend="thread",
        ),
        Target("requests", ON, (OFF,), at_most=1 / 0.95, backend="thread"),
    ),
    on_request=True,
)
