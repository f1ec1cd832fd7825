"""A service that leaks is found out, by who is woken and by who looks."""

import importlib
import inspect
import subprocess
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.services.processes import TOKEN, Server, Tools, eventually, tool

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

LEAKS = [
    "forgotten_cancellation",
    "abandoned_senders",
    "unstopped_ticker",
    "silent_producer",
    "unbounded_recursion",
]
"""The leaks of the article."""


def spawning_line(leak: str) -> str:
    """Return where an anti-pattern starts what it leaves behind."""
    module = importlib.import_module(f"safeconc.antipatterns.{leak}")
    lines = inspect.getsource(module).splitlines()
    (number,) = [at for at, line in enumerate(lines, 1) if "    spawn(" in line]
    return f"{leak}.py:{number}"


def growth_alerts(server: Server) -> list[list[str]]:
    """Return the alerts that tell of growth, each in its words."""
    text = server.text().splitlines()
    return [
        " ".join(text[at : at + 5]).split()
        for at, line in enumerate(text)
        if line.startswith("growth: ")
    ]


def slope(prometheus: str, leak: str) -> float:
    """Ask Prometheus by how many tasks a second the leak has grown of late."""
    query = f'sum(deriv(safeconc_tasks{{function=~"{leak}.*"}}[5s]))'
    answer = httpx.get(
        f"{prometheus}/api/v1/query", params={"query": query}, trust_env=False
    )
    result = answer.json()["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def top(server: Server, folder: Path) -> list[str]:
    """Have pprof fetch a profile; return what it lists, the first thing first."""
    target = f"http://anybody:{quote(TOKEN)}@{server.address}/debug/leaks/pprof/tasks"
    done = subprocess.run(
        [
            tool("go"),
            "tool",
            "pprof",
            "-top",
            r"-hide=^(asyncio|anyio)\.|\._queue\.",
            target,
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )
    _, _, rows = done.stdout.partition("cum%\n")
    return [row.split()[-1] for row in rows.splitlines()]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_in_a_running_service(
    leak: str, tools: Tools, tmp_path: Path
) -> None:
    """The monitor names its line, Prometheus shows its slope, pprof has it on top."""
    server = tools.serve(LEAK=leak, INTERVAL="0.25")
    prometheus = tools.prometheus(server)
    load = tools.load(server, seconds=60)

    alert = eventually(
        lambda: next(
            (a for a in growth_alerts(server) if any(leak in word for word in a)), None
        ),
        what="an alert",
    )
    assert any(word.endswith(spawning_line(leak)) for word in alert), alert
    eventually(lambda: slope(prometheus, leak) > 1, what="a slope in Prometheus")
    load.end()

    first = top(server, tmp_path)[0]
    assert first.startswith((f"safeconc.antipatterns.{leak}.", "planted.")), first
