"""The example program: whole, over real sockets, so not in virtual time."""

import importlib.util
import re
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
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
    """Serves the pages of its server; one that is "-> x" redirects to x."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
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


def test_a_missing_file_is_named_with_the_pages_that_name_it(
    check: Check, folder: Path
) -> None:
    """The reader learns where to look; many pages are counted."""
    for number in range(5):
        _write(folder / f"{number}.html", '<a href="gone.html#part">gone</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith(
        "gone.html: 404 File not found\n"
        "    named by 0.html, 1.html, 2.html and 2 more\n"
    )


def test_a_missing_anchor_is_broken(check: Check, folder: Path) -> None:
    """That the page is there is not enough."""
    _write(folder / "more.html", '<a href="guide/#nowhere">there</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith(
        "guide/: no anchor #nowhere\n    named by more.html\n"
    )


def test_a_folder_without_an_index_is_broken(check: Check, folder: Path) -> None:
    """A listing that only the loopback server would make does not count."""
    _write(folder / "pictures/one.svg", "<svg/>")
    _write(folder / "more.html", '<a href="pictures/">pictures</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("pictures/: 404 Not Found\n")


def test_an_invalid_url_is_broken(check: Check, folder: Path) -> None:
    """What no client can fetch is told, and stops nothing."""
    _write(folder / "more.html", '<a href="http://[bad">bad</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith("http://[bad: ")
    assert "named by more.html" in outcome.out


def test_a_page_that_is_no_html_stops_nothing(check: Check, folder: Path) -> None:
    """Whatever the parser makes of it, the other pages are checked."""
    _write(folder / "more.html", '<base href="http://[bad"><![broken[declaration]]>')
    _write(folder / "other.html", '<a href="gone.html">gone</a>')

    outcome = check(folder)

    assert outcome.status == 1
    assert outcome.out.startswith(
        "gone.html: 404 File not found\n    named by other.html\n"
    )


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
    assert outcome.out.startswith("more.html: no anchor #other\n")
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
    assert outcome.out.splitlines()[:4] == [
        "missing: 410 Gone",
        f"    named by {url}/",
        "page: no anchor #nowhere",
        f"    named by {url}/",
    ]


def test_a_circle_of_redirects_is_broken(check: Check, serve: Serve) -> None:
    """It is told, not walked."""
    url = serve({"/": '<a href="a">round</a>', "/a": "-> /b", "/b": "-> /a"})

    outcome = check(url)

    assert outcome.status == 1
    assert outcome.out.startswith("a: redirects in a circle\n")


def test_external_links_are_fetched_when_asked_to(check: Check, serve: Serve) -> None:
    """They are part of the check then, but not of the site."""
    elsewhere = serve({"/": '<a href="/gone">not looked for</a>'})
    url = serve(
        {"/": f'<a href="{elsewhere}/#any">a</a> <a href="{elsewhere}/b">b</a>'}
    )

    outcome = check(url, "--external")

    assert outcome.status == 1
    assert outcome.out == (
        f"{elsewhere}/b: 410 Gone\n    named by {url}/\n"
        "1 pages, 2 links to 3 URLs checked: 1 broken; 0 external links left out\n"
    )


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
