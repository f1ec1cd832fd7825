"""The service of the example from its start to its end, with everything on."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.services.processes import TOKEN, Server, Tools, eventually, tool

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Have one service for all who only look."""
    with ExitStack() as stack:
        yield Tools(tmp_path_factory.mktemp("service"), stack).serve()


def test_a_shutdown_stores_what_was_taken(tools: Tools) -> None:
    """Each event that was accepted, though most of them still wait."""
    server = tools.serve()
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        codes = [client.post("/events", json={}).status_code for _ in range(300)]

    server.stop()
    assert codes == [202] * 300
    assert "stored 300 events" in server.text()


def test_a_scrape_in_a_shutdown_is_answered(tools: Tools) -> None:
    """The server waits for it, and for nothing of ours."""
    server = tools.serve()
    codes: list[int] = []

    def scrape() -> None:
        codes.append(server.look("/pprof/tasks?seconds=2").status_code)

    thread = threading.Thread(target=scrape)
    thread.start()
    eventually(
        lambda: "_profile_over" in server.look("/tasks?debug=2").text,
        what="a profile that is under way",
    )
    server.stop()
    thread.join()

    assert codes == [200]
    assert "Application shutdown complete" in server.text()
    assert "Traceback" not in server.text()


@pytest.mark.parametrize("path", ["/metrics", "/debug/leaks/", "/debug/leaks/tasks"])
def test_a_thousand_scrapes_at_once_are_answered(server: Server, path: str) -> None:
    """By a service that does its work meanwhile."""
    wrk = [tool("wrk"), "-t1", "-c1000", "-d2s", "--timeout=30s"]
    done = subprocess.run(
        [*wrk, "-H", f"Authorization: Bearer {TOKEN}", server.url + path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert server.get("/page").json() == {"parts": [{"part": at} for at in range(4)]}

    answered = re.search(r"(\d+) requests in", done.stdout)
    assert answered is not None, done.stdout
    assert int(answered[1]) >= 1000, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout


def test_who_has_no_token_sees_nothing(server: Server) -> None:
    """Neither with none nor with another one."""
    assert server.get("/debug/leaks/").status_code == 401
    assert server.get("/debug/leaks/", auth=("x", "another")).status_code == 401
    assert server.look("/").status_code == 200


def test_a_signal_brings_a_dump(server: Server) -> None:
    """Of a service that is at work."""
    server.popen.send_signal(signal.SIGUSR1)

    eventually(lambda: "Service.store_all" in server.text(), what="a dump")
    assert server.answers(f"{server.url}/health")


def test_nothing_watches_unless_it_is_to(tools: Tools) -> None:
    """Then there are no pages of it either."""
    server = tools.serve(WATCH="0")

    assert server.get("/metrics").status_code == 404
    assert server.look("/").status_code == 404
    assert server.get("/page").status_code == 200
