"""The example program: whole, over real sockets, so not in virtual time."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import pytest

PROGRAM = Path(__file__).parents[1] / "docs" / "examples" / "linkcheck.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("linkcheck", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


linkcheck = _load()


class Outcome(NamedTuple):
    """What a run of the program left on the screen."""

    status: int
    out: str
    err: str


Check = Callable[..., Outcome]


@pytest.fixture(params=["asyncio", "trio"])
def check(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the program; its clock reading is cut out of what it prints."""

    def run(*arguments: object) -> Outcome:
        argv = [*map(str, arguments), "--backend", request.param]
        status = linkcheck.main(argv)
        out, err = capsys.readouterr()
        return Outcome(status, re.sub(r"; [\d.]+ s$", "", out, flags=re.MULTILINE), err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a small site, all of whose links are good."""
    folder = tmp_path / "site"
    _write(
        folder / "index.html",
        """
        <link rel="preconnect" href="https://fonts.example">
        <a href="guide/a%20page.html#%C3%BCber">a page</a> <a href="guide">guide</a>
        <a href="#top">top</a> <a href="mailto:me@example.org">me</a>
        <a href="https://example.org/">elsewhere</a> <img src="logo.svg">
        """,
    )
    _write(folder / "guide/index.html", '<a href="../#:~:text=top">home</a>')
    _write(
        folder / "guide/a page.html", '<base href="/"><h1 id="über"><a href="guide/">'
    )
    _write(folder / "logo.svg", "<svg/>")
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<!doctype html><meta charset=utf-8>{text}", encoding="utf-8")


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that they are joined

    def __init__(self, pages: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = pages


class _Handler(BaseHTTPRequestHandler):
    """Serves the pages of its server; one that is "-> x" redirects to x.

    Who asks for ``/interrupt`` gets a Ctrl-C instead of an answer.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        if self.path == "/interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            self.rfile.read()  # until the client is gone
            return
        text = self.server.pages.get(self.path, "")
        _, redirects, target = text.partition("-> ")
        self.send_response(302 if redirects else 200 if text else 410)
        if redirects:
            self.send_header("Location", target)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


Serve = Callable[[dict[str, str]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve pages, given as path and text, at the URL that is returned."""
    servers: list[tuple[_Server, Thread]] = []

    def start(pages: dict[str, str]) -> str:
        server = _Server(pages)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_all_links_of_a_good_site_are_good(check: Check, folder: Path) -> None:
    """Anchors, folders, files, a base and quoted names are all understood."""
    outcome = check(folder)

    assert outcome == (
        0,
        "5 pages, 7 links to 7 URLs checked: 0 broken; 1 external links left out\n",
        "",
    )


def test_a_missing_file_is_told_with_the_page_that_names_it(
    check: Check, folder: Path
) -> None:
    """The reader learns where to look."""
    _write(folder / "more.html", '<a href="gone.html#part">gone</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("more.html -> gone.html: 404 File not found\n")


def test_a_problem_of_many_pages_is_told_once_and_their_names_at_the_end(
    check: Check, folder: Path
) -> None:
    """A template that is broken floods nobody."""
    for number in range(5):
        _write(folder / f"{number}.html", '<a href="gone.html#part">gone</a>')

    outcome = check(folder, "--limit", 1)

    assert outcome.out == (
        "0.html -> gone.html: 404 File not found\n"
        "gone.html: 404 File not found\n"
        "    also named by 1.html, 2.html, 3.html and 1 more\n"
        "10 pages, 8 links to 13 URLs checked: 1 broken; 1 external links left out\n"
    )


def test_a_missing_anchor_is_broken(check: Check, folder: Path) -> None:
    """That the page is there is not enough."""
    _write(folder / "more.html", '<a href="guide/#nowhere">there</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("more.html -> guide/: no anchor #nowhere\n")


def test_a_folder_without_an_index_is_broken(check: Check, folder: Path) -> None:
    """A listing that only the loopback server would make does not count."""
    _write(folder / "pictures/one.svg", "<svg/>")
    _write(folder / "more.html", '<a href="pictures/">pictures</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("more.html -> pictures/: 404 Not Found\n")


def test_an_invalid_url_is_broken(check: Check, folder: Path) -> None:
    """What no client can fetch is told, and stops nothing."""
    _write(folder / "more.html", '<a href="http://[bad">bad</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("more.html -> http://[bad: ")


def test_a_page_that_is_no_html_stops_nothing(check: Check, folder: Path) -> None:
    """Whatever the parser makes of it, the other pages are checked."""
    _write(folder / "more.html", '<base href="http://[bad"><![broken[declaration]]>')
    _write(folder / "other.html", '<a href="gone.html">gone</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("other.html -> gone.html: 404 File not found\n")


def test_only_an_element_of_its_kind_makes_an_anchor(
    check: Check, folder: Path
) -> None:
    """An ``id`` does on any element, a ``name`` on links alone."""
    _write(
        folder / "more.html",
        '<a name="old"><p id="new"><meta name="other">'
        '<a href="#old"></a><a href="#new"></a><a href="#other"></a>',
    )

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("more.html -> more.html: no anchor #other\n")
    assert " 1 broken;" in outcome.out


def test_a_url_is_crawled_below_its_folder(check: Check, serve: Serve) -> None:
    """Pages elsewhere on the host are checked and not read for links."""
    url = serve(
        {
            "/start": "-> /docs/",
            "/docs/": '<a href="sub/page">in</a> <a href="/other">out</a>',
            "/docs/sub/page": '<a href="deeper">deeper</a>',
            "/docs/sub/deeper": "the end",
            "/other": '<a href="gone">not looked for</a>',
        }
    )

    outcome = check(f"{url}/start")

    assert outcome == (
        0,
        "4 pages, 3 links to 4 URLs checked: 0 broken; 0 external links left out\n",
        "",
    )


def test_redirects_are_followed(check: Check, serve: Serve) -> None:
    """A link is as good as the page and the anchor that it ends at."""
    url = serve(
        {
            "/": '<a href="old#part"></a> <a href="older"></a> <a href="oldest"></a>',
            "/oldest": "-> /missing",
            "/older": "-> /old#nowhere",
            "/old": "-> /page",
            "/page": '<p id="part">',
        }
    )

    outcome = check(url)

    assert outcome.status == 1
    assert sorted(outcome.out.splitlines()[:2]) == [
        f"{url}/ -> missing: 410 Gone",
        f"{url}/ -> page: no anchor #nowhere",
    ]


def test_a_circle_of_redirects_is_broken(check: Check, serve: Serve) -> None:
    """It is told, not walked."""
    url = serve({"/": '<a href="a">round</a>', "/a": "-> /b", "/b": "-> /a"})

    outcome = check(url)

    assert outcome.status == 1
    assert outcome.out.startswith(f"{url}/ -> a: redirects in a circle\n")


def test_external_links_are_fetched_when_asked_to(check: Check, serve: Serve) -> None:
    """They are part of the check then, but not of the site."""
    elsewhere = serve({"/": '<a href="/gone">not looked for</a>'})
    url = serve(
        {"/": f'<a href="{elsewhere}/#any">a</a> <a href="{elsewhere}/b">b</a>'}
    )

    outcome = check(url, "--external")

    assert outcome.status == 1
    assert outcome.out == (
        f"{url}/ -> {elsewhere}/b: 410 Gone\n"
        "1 pages, 2 links to 3 URLs checked: 1 broken; 0 external links left out\n"
    )


def test_redirects_elsewhere_are_followed(check: Check, serve: Serve) -> None:
    """So a link to another host is as good as its last page, too."""
    elsewhere = serve({"/a": "-> /b", "/b": "-> /c", "/d": "-> /e", "/e": "fine"})
    url = serve(
        {"/": f'<a href="{elsewhere}/a">a</a> <a href="here">here</a>'}
        | {"/here": f"-> {elsewhere}/d"}
    )

    outcome = check(url, "--external")

    assert outcome.status == 1
    assert outcome.out.startswith(f"{url}/ -> {elsewhere}/a: 410 Gone\n")
    assert " 1 broken;" in outcome.out


def test_pages_deeper_than_asked_for_are_not_fetched(
    check: Check, serve: Serve
) -> None:
    """What leads there is counted, and is no verdict."""
    url = serve(
        {
            "/": '<a href="a">one away</a>',
            "/a": '<a href="b">two</a>',
            "/b": '<a href="gone">three</a>',
        }
    )

    outcome = check(url, "--depth", 2)

    assert outcome.status == 0
    assert outcome.out == (
        "3 pages, 2 links to 3 URLs checked: 0 broken; 0 external links left out\n"
        "1 more links were not reached\n"
    )


def test_the_shortest_way_to_a_page_counts(check: Check, serve: Serve) -> None:
    """Each of x and z is two links away, and three on the other's branch."""
    url = serve(
        {
            "/": '<a href="p">p</a> <a href="q">q</a>',
            "/p": '<a href="x">x</a> <a href="to-z">to z</a>',
            "/q": '<a href="z">z</a> <a href="to-x">to x</a>',
            "/to-x": '<a href="x">x</a>',
            "/to-z": '<a href="z">z</a>',
            "/x": '<a href="after-x">three away</a>',
            "/z": '<a href="after-z">three away</a>',
            "/after-x": "the end",
            "/after-z": "the end",
        }
    )

    outcome = check(url, "--depth", 3, "--limit", 1)

    assert outcome.out == (
        "9 pages, 8 links to 9 URLs checked: 0 broken; 0 external links left out\n"
    )


def test_a_person_at_a_terminal_sees_progress(
    check: Check, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says how far it is, and is gone at the end."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    outcome = check(folder)

    lines = outcome.err.split("\x1b[K")
    assert lines[1] == "0 URLs fetched, 0 to go\r"
    assert lines[-1] == ""


def test_ctrl_c_ends_the_check_and_no_finding_is_lost(
    check: Check, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is being printed, to a slow reader; one waits; and one is being sent."""
    interrupted = Event()
    interrupt = linkcheck.interrupt

    def note_interrupt(*arguments: object) -> None:
        interrupt(*arguments)
        interrupted.set()

    def print_slowly(*arguments: object, **options: Any) -> None:
        interrupted.wait()
        print(*arguments, **options)  # noqa: T201 - as the program does

    monkeypatch.setattr(linkcheck, "AHEAD", 1)
    monkeypatch.setattr(linkcheck, "interrupt", note_interrupt)
    monkeypatch.setattr(linkcheck, "print", print_slowly, raising=False)
    # One fetch at a time, and one more page may wait to be entered.
    url = serve(
        {
            "/": '<a href="b#x">b</a>',
            "/b": '<a href="c#x">c</a>',
            "/c": '<a href="a#x">a</a>',
            "/a": '<a href="d">d</a>',
            "/d": '<a href="interrupt">never answers</a>',
        }
    )

    outcome = check(url, "--limit", 1)

    assert outcome.status == 130
    assert outcome.out.splitlines()[:-2] == [
        f"{url}/ -> b: no anchor #x",
        "b -> c: no anchor #x",
        "c -> a: no anchor #x",
    ]
    assert " 3 broken;" in outcome.out
    assert outcome.err == "linkcheck: interrupted\n"


def test_ctrl_c_just_before_a_finding_is_printed_does_not_lose_it(
    check: Check, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left the channel, so nobody else would tell it."""
    monkeypatch.setattr(linkcheck, "clear", lambda: signal.raise_signal(signal.SIGINT))
    _write(folder / "more.html", '<a href="gone.html">gone</a>')

    outcome = check(folder)

    assert outcome.status == 130
    assert outcome.out.startswith("more.html -> gone.html: 404 File not found\n")


def test_a_second_ctrl_c_leaves_even_the_report_out(
    check: Check, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who insists gets out without another word."""

    def interrupt_twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(linkcheck, "clear", interrupt_twice)
    _write(folder / "more.html", '<a href="gone.html">gone</a>')

    outcome = check(folder)

    assert outcome == (130, "", "")


def test_a_reader_who_has_seen_enough_ends_the_check(folder: Path) -> None:
    """As with ``head``: no traceback, and nothing more is fetched."""
    _write(folder / "more.html", '<a href="gone.html">gone</a>')
    read, write = os.pipe()
    os.close(read)

    with os.fdopen(write, "wb") as pipe:
        outcome = subprocess.run(  # noqa: S603 - it is our own
            [sys.executable, PROGRAM, folder],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
            env=os.environ | {"PYTHONASYNCIODEBUG": ""},  # which tells of slow steps
        )

    assert outcome.returncode == 1
    assert outcome.stderr == b""


def test_time_that_runs_out_ends_the_check(check: Check, folder: Path) -> None:
    """A host that never answers costs the time that was given, and is no verdict."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        _write(folder / "index.html", f'<a href="{url}">?</a>')
        outcome = check(folder, "--external", "--timeout", 0.1)

    assert outcome.status == 3
    assert outcome.err == "linkcheck: the check ran past its deadline\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["ftp://example.org/"],
        [Path(__file__)],
        ["{empty}"],
        ["{empty}", "--limit", "0"],
        ["{empty}", "--timeout", "nan"],
        ["{empty}", "--depth", "-1"],
        [],
    ],
    ids=str,
)
def test_bad_input_is_an_error_of_usage(
    check: Check, arguments: list[object], tmp_path: Path
) -> None:
    """It is told in one line, before anything starts."""
    with pytest.raises(SystemExit) as info:
        check(*(str(each).format(empty=tmp_path) for each in arguments))

    assert info.value.code == 2


def test_a_start_page_that_cannot_be_read_is_bad_input(check: Check) -> None:
    """There is nothing to report about then."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"

    outcome = check(url)

    assert outcome.status == 2
    assert outcome.err.startswith(f"linkcheck: cannot read {url}: ")
