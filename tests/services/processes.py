"""Real servers, each a process of its own on a port of loopback.

They take real time to start and to be scraped, so who uses them waits for what they
promise, with a bound, and never for a time.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from math import ceil
from pathlib import Path
from typing import Any, TypeVar, final

import httpx

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "docs" / "examples" / "service"

TOKEN = "a token for the tests"  # noqa: S105 - no secret

PATIENCE = 30.0
"""Seconds after which a wait is a failure."""


def eventually(
    look: Callable[[], Any], *, what: str, but: Callable[[], object] = str
) -> Any:
    """Return the first true value that *look* returns.

    :param what: what is waited for.
    :param but: returns what there is instead.
    """
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE:.0f} s for {what}: {but()}")
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
        raise AssertionError(f"{name} is not installed; .ci/run does that")
    return path


class Process:
    """A server that is stopped when the test is over."""

    def __init__(self, log: Path, *command: str, **environment: str) -> None:
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                command,
                cwd=EXAMPLE,
                env={**os.environ, "PYTHONPATH": str(HERE), **environment},
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
            raise AssertionError(f"the server has ended:\n{self.text()}")
        try:
            return httpx.get(url, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def finish(self, seconds: float) -> str:
        """Wait for its end; return what it has printed."""
        assert self.popen.wait(seconds + PATIENCE) == 0, self.text()
        return self.text()

    def end(self) -> None:
        """Stop it, unless it has ended."""
        if self.popen.poll() is None:
            self.stop()

    def stop(self, order: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit status."""
        self.popen.send_signal(order)
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise AssertionError(
                f"did not stop on {order.name}:\n{self.text()}"
            ) from None


class Server(Process):
    """An application of the example, under uvicorn."""

    def __init__(self, log: Path, app: str, **environment: str) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        options = ("--port", str(port), "--no-access-log")
        super().__init__(
            log, sys.executable, "-m", "uvicorn", app, *options, **environment
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for *path*."""
        return httpx.get(
            self.url + path,
            trust_env=False,
            timeout=PATIENCE,
            follow_redirects=True,
            **options,
        )

    def look(self, path: str) -> httpx.Response:
        """Ask for a page of the debug app."""
        return self.get(f"/debug/leaks{path}", auth=("anybody", TOKEN))

    def metrics(self) -> dict[str, float]:
        """Return what it tells Prometheus."""
        lines = self.get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line[0] != "#")
        return {name: float(value) for name, _, value in pairs}

    def rss(self) -> int:
        """Return the bytes of memory that it has now."""
        pages = Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


P = TypeVar("P", bound=Process)


@final
class Tools:
    """Starts processes, and ends them in the reverse order."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._upstream: Server | None = None

    def serve(self, app: str = "service:app", **environment: str) -> Server:
        """Start the service, with an upstream of its own."""
        if self._upstream is None:
            self._upstream = self._server("upstream:app", {})
        up = self._upstream
        server = self._server(app, {"UPSTREAM": up.url, "TOKEN": TOKEN, **environment})
        eventually(lambda: up.answers(up.url + "/parts/0"), what="the upstream")
        eventually(lambda: server.answers(server.url + "/health"), what=app)
        return server

    def load(
        self,
        server: Server,
        *,
        seconds: float,
        connections: int = 4,
        path: str | None = None,
        paced: bool = False,
    ) -> Process:
        """Have wrk ask for *path*; if that is None, for all that there is.

        :param paced: whether a client takes its time before it asks again.
        """
        script = "load.lua" if path is None else "paced.lua" if paced else None
        what = () if script is None else ("-s", str(HERE / script))
        return self._started(
            Process(
                self._folder / "wrk.log",
                tool("wrk"),
                *("-t1", f"-c{connections}", f"-d{ceil(seconds)}s", "--latency"),
                "--timeout=30s",
                *what,
                server.url + (path or ""),
            )
        )

    def prometheus(self, target: Server) -> str:
        """Start a Prometheus that scrapes the service; return its URL."""
        address = f"127.0.0.1:{free_port()}"
        config = self._folder / "prometheus.yml"
        config.write_text(
            f"""
            scrape_configs:
              - job_name: service
                scrape_interval: 250ms
                scrape_timeout: 250ms
                static_configs: [{{targets: ["{target.address}"]}}]
            """
        )
        process = self._started(
            Process(
                self._folder / "prometheus.log",
                tool("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'prometheus'}",
                f"--web.listen-address={address}",
            )
        )
        url = f"http://{address}"
        eventually(lambda: process.answers(f"{url}/-/ready"), what="prometheus")
        return url

    def _server(self, app: str, environment: dict[str, str]) -> Server:
        log = self._folder / f"{app.partition(':')[0]}.log"
        return self._started(Server(log, app, **environment))

    def _started(self, process: P) -> P:
        self._stack.callback(process.end)
        return process
