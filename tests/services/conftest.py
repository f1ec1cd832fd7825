"""Real servers, each a process of its own on a port of loopback.

They take real time to start and to be scraped, so these tests wait for what they
promise, with a bound, and never for a time.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "service"

PATIENCE = 30.0
"""Seconds after which a wait is a failure."""


def eventually(look: Callable[[], Any], *, what: str) -> Any:
    """Return the first true value that *look* returns."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(0.05)  # for what happens in another process there is no event
    return found


def free_port() -> int:
    """Find a port on loopback that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tool(name: str) -> str:
    """Return the path of a program that the machine must have."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed; .ci/run does that")
    return path


class Process:
    """A server that is stopped when the test is over."""

    def __init__(self, log: Path, *command: str, **environment: str) -> None:
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                command,
                cwd=EXAMPLE,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        """Return what it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def answers(self, url: str) -> bool:
        """Tell whether it serves *url* by now."""
        if self.popen.poll() is not None:
            pytest.fail(f"the server has ended:\n{self.text()}")
        try:
            return httpx.get(url, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def stop(self, order: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit status."""
        self.popen.send_signal(order)
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            pytest.fail(f"did not stop on {order.name}:\n{self.text()}")


class Server(Process):
    """One of the two applications of the example, under uvicorn."""

    def __init__(self, log: Path, app: str, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = ("--port", str(port), "--no-access-log")
        super().__init__(
            log, sys.executable, "-m", "uvicorn", app, *options, **environment
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for *path*."""
        return httpx.get(self.url + path, trust_env=False, timeout=PATIENCE, **options)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the service, with an upstream of its own, in an environment."""
    with ExitStack() as stack:

        def run(app: str, ready: str, **environment: str) -> Server:
            log = tmp_path / f"{app.partition(':')[0]}.log"
            server = Server(log, app, **environment)
            stack.callback(_end, server)
            eventually(lambda: server.answers(server.url + ready), what=app)
            return server

        upstream = run("upstream:app", "/parts/0")

        def service(**environment: str) -> Server:
            return run("service:app", "/health", UPSTREAM=upstream.url, **environment)

        yield service


def _end(server: Process) -> None:
    if server.popen.poll() is None:
        server.stop()
