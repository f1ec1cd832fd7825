"""Check the links of a documentation site, anchors included.

::

    python linkcheck.py build/html              # a folder: served on loopback
    python linkcheck.py https://example.org/docs/ --timeout 300

Of a folder every HTML page is read; of a URL the pages below it that can be
reached by links. What they name is fetched once, at most ``--limit`` URLs at a
time, and all of it ends when ``--timeout`` seconds are over or on Ctrl-C; what
was found by then is printed. Links to other hosts are only counted, unless
``--external`` is given.

Exit status: 0 if all is well, 1 if links are broken, 2 for bad input, 3 if time
ran out and nothing was broken so far, 130 on Ctrl-C.
"""

import argparse
import math
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from html.parser import HTMLParser
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple, Self
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

import anyio
import httpx

from safeconc import Context, DeadlineExceeded, FanOut

BROKEN, BAD_INPUT, UNFINISHED, INTERRUPTED = 1, 2, 3, 130

PATIENCE = 10.0
"""Seconds that one fetch may take."""

SHOWN = 3
"""Pages that are named beside a broken link."""

TOP = {"", "top"}
"""Anchors that every page has."""

ATTRIBUTES = {
    **dict.fromkeys(("a", "area", "link"), "href"),
    **dict.fromkeys(("audio", "embed", "iframe", "img", "script", "video"), "src"),
    "object": "data",
}
"""Where an element names another resource."""


class Link(NamedTuple):
    """An absolute URL, and perhaps an anchor there."""

    url: str
    fragment: str = ""


class Page(NamedTuple):
    """What is known of a URL that was fetched."""

    url: str
    problem: str | None = None
    redirect: Link | None = None
    links: Collection[Link] = ()
    anchors: set[str] | None = None
    """None unless it is HTML of the site: then nothing is said about anchors."""


class PageParser(HTMLParser):
    """Collects the links and the anchors of a page, fed piece by piece."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._base = url
        self._targets: set[str] = set()
        self.anchors: set[str] = set()
        self.problem: str | None = None

    def read(self, text: str) -> None:
        """Take the next piece, unless an earlier one could not be parsed."""
        # To raise would leave the stream's generators half read: the caller's loop
        # is to reach its end.
        if self.problem is None:
            try:
                self.feed(text)
            except AssertionError as exc:  # html.parser of Pythons before mid-2025
                self.problem = f"not HTML: {exc}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what one element says."""
        values = {name: value for name, value in attrs if value}
        self.anchors.add(values.get("id", ""))
        if tag == "a":
            self.anchors.add(values.get("name", ""))
        if tag == "base" and (base := resolve(self._base, values.get("href", ""))):
            self._base = base.url
        # A hint to connect names a host, no resource.
        elif values.get("rel") not in ("preconnect", "dns-prefetch"):
            self._targets.add(values.get(ATTRIBUTES.get(tag, ""), ""))

    def links(self) -> set[Link]:
        """Return what the page names and HTTP can fetch."""
        found = {resolve(self._base, target) for target in self._targets if target}
        return {link for link in found if link is not None}


def resolve(base: str, target: str) -> Link | None:
    """Make *target* absolute; None for what is not fetched over HTTP at all."""
    try:
        url, fragment = urldefrag(urljoin(base, target.strip()))
        parts = urlsplit(url)
    except ValueError:
        return Link(target)  # its fetch will tell what is wrong with it
    if parts.scheme not in ("http", "https"):
        return None
    # What follows ":~:" is a search in the page, no anchor of it.
    return Link(url if parts.path else urljoin(url, "/"), fragment.partition(":~:")[0])


def show(status: str) -> None:
    """Replace the line that a person at a terminal sees meanwhile."""
    if sys.stderr.isatty():
        print(f"\x1b[K{status}", end="\r", file=sys.stderr, flush=True)


class Checker:
    """Visits what a site names, and tells what is broken."""

    def __init__(self, *, limit: int, external: bool) -> None:
        self._limit = limit
        self._external = external
        self._client: httpx.AsyncClient
        self._root = self._host = ""
        self._known: set[str] = set()
        self._pages: dict[str, Page] = {}
        self._named_by: dict[Link, list[str]] = {}

    async def run(
        self, root: str, start: Iterable[str], client: httpx.AsyncClient
    ) -> None:
        """Visit *start*, then what those pages name, and so on.

        Only pages below *root* are read for links of their own.
        """
        self._root, self._host, self._client = root, urlsplit(root).netloc, client
        while urls := sorted(set(start) - self._known):
            self._known.update(urls)
            found: set[str] = set()
            async with FanOut(
                self._visit, urls, limit=self._limit, ordered=False, progress=self._show
            ) as pages:
                async for page in pages:
                    found.update(filter(self._is_checked, self._note(page)))
            start = found

    def _note(self, page: Page) -> set[str]:
        """Keep what a visit found; return the URLs that it leads to."""
        self._pages[page.url] = page._replace(links=())
        for link in page.links:
            self._named_by.setdefault(link, []).append(page.url)
        return {link.url for link in (*page.links, page.redirect) if link is not None}

    async def _visit(self, url: str) -> Page:
        try:
            # The body is read inside the deadline: it may trickle for ever.
            async with (
                Context(timeout=PATIENCE, name=url),
                self._client.stream("GET", url) as response,
            ):
                return await self._read(url, response)
        except DeadlineExceeded:
            problem = f"no answer within {PATIENCE:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            problem = str(exc) or type(exc).__name__
        return Page(url, problem)

    async def _read(self, url: str, response: httpx.Response) -> Page:
        if response.has_redirect_location:
            target = resolve(url, response.headers["location"])
            return Page(url, redirect=target)
        if response.is_error:
            return Page(url, f"{response.status_code} {response.reason_phrase}")
        kind = response.headers.get("content-type", "")
        if "html" not in kind or self._is_external(url):
            return Page(url)
        parser = PageParser(url)
        async for text in response.aiter_text():
            parser.read(text)
        links = parser.links() if url.startswith(self._root) else ()
        return Page(url, parser.problem, links=links, anchors=parser.anchors)

    def _show(self, _: object) -> None:
        show(f"{len(self._pages):,} of {len(self._known):,} URLs fetched")

    def _is_external(self, url: str) -> bool:
        try:
            return urlsplit(url).netloc != self._host
        except ValueError:
            return False  # so it is fetched, and found broken

    def _is_checked(self, url: str) -> bool:
        return self._external or not self._is_external(url)

    def problem(self, link: Link) -> str | None:
        """Tell what is wrong with a link, as far as its target was fetched."""
        passed: set[str] = set()
        while (page := self._pages.get(link.url)) is not None and page.redirect:
            if link.url in passed:
                return f"{link.url}: redirects in a circle"
            passed.add(link.url)
            link = Link(page.redirect.url, link.fragment or page.redirect.fragment)
        if page is None or page.problem:
            return page and f"{link.url}: {page.problem}"
        names = {link.fragment, unquote(link.fragment)}
        if page.anchors is None or names & TOP or names & page.anchors:
            return None
        return f"{link.url}: no anchor #{link.fragment}"

    def report(self, took: float) -> int:
        """Print what is broken, and a summary; return how many links are."""
        show("")
        broken: dict[str, list[Link]] = {}
        for link in self._named_by:
            if problem := self.problem(link):
                broken.setdefault(problem, []).append(link)
        for problem, links in sorted(broken.items()):
            print(self._short(problem))
            print(f"    named by {self._named(links)}")
        count = sum(map(len, broken.values()))
        pages = sum(page.anchors is not None for page in self._pages.values())
        checked = sum(link.url in self._pages for link in self._named_by)
        external = sum(not self._is_checked(link.url) for link in self._named_by)
        print(
            f"{pages:,} pages, {checked:,} links to {len(self._pages):,} URLs checked: "
            f"{count:,} broken; {external:,} external links left out; {took:.1f} s"
        )
        if missed := len(self._named_by) - checked - external:
            print(f"stopped before {missed:,} more links were checked")
        return count

    def _named(self, links: Iterable[Link]) -> str:
        pages = sorted({page for link in links for page in self._named_by[link]})
        more = f" and {len(pages) - SHOWN} more" if len(pages) > SHOWN else ""
        return ", ".join(map(self._short, pages[:SHOWN])) + more

    def _short(self, text: str) -> str:
        return text.removeprefix(self._root) or self._root


class FolderHandler(SimpleHTTPRequestHandler):
    """Serves files as a documentation host does: no listings, no chatter."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def list_directory(self, path: object) -> None:
        """Refuse: elsewhere a folder without an index page is a broken link."""
        del path
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


class FolderServer(ThreadingHTTPServer):
    """Serves a folder on loopback until the block is left; joins its threads."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(FolderHandler, directory=folder))
        self._thread = Thread(target=self.serve_forever, args=(0.02,))

    def handle_error(self, request: object, client_address: object) -> None:
        """Stop serving a client that has seen enough of a file, without a word."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


async def check(
    checker: Checker, url: str, pages: Sequence[str], seconds: float
) -> None:
    """Check *pages* of a folder that is served at *url*, or else what is there."""
    async with (
        Context(timeout=seconds, name="the check"),
        # Contexts keep the time. Loopback needs no proxy.
        httpx.AsyncClient(timeout=None, trust_env=not pages) as client,  # noqa: S113
    ):
        if pages:
            await checker.run(url, [url + quote(page) for page in pages], client)
        else:
            response = await client.get(url, follow_redirects=True)
            start = resolve(str(response.raise_for_status().url), "")
            assert start is not None
            await checker.run(urljoin(start.url, "."), [start.url], client)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and find the pages if it names a folder."""
    parser = argparse.ArgumentParser(description="Check the links of a site.")
    add = parser.add_argument
    add("site", metavar="FOLDER|URL", help="a folder of HTML, or where it is served")
    add("--limit", type=int, default=20, help="fetches at once (default: 20)")
    add("--timeout", type=float, default=60.0, help="seconds in all (default: 60)")
    add("--external", action="store_true", help="fetch links to other hosts, too")
    add("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args(argv)
    if options.limit < 1 or not 0 < options.timeout < math.inf:
        parser.error("--limit and --timeout must be positive, and --timeout finite")
    options.pages = []
    if not options.site.startswith(("http://", "https://")):
        folder = Path(options.site)
        if not folder.is_dir():
            parser.error(f"{options.site} is neither a folder nor an http(s) URL")
        found = (*folder.rglob("*.html"), *folder.rglob("*.htm"))
        options.pages = sorted(page.relative_to(folder).as_posix() for page in found)
        if not options.pages:
            parser.error(f"no HTML pages in {folder}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Check a site and return the exit status."""
    options = parse(argv)
    checker = Checker(limit=options.limit, external=options.external)
    began = time.perf_counter()
    status = 0
    url, pages = options.site, options.pages
    try:
        with ExitStack() as stack:
            if pages:
                server = stack.enter_context(FolderServer(options.site))
                url = f"http://127.0.0.1:{server.server_port}/"
            run = partial(anyio.run, backend=options.backend)
            run(check, checker, url, pages, options.timeout)
    except DeadlineExceeded as exc:
        status = UNFINISHED
        print(f"linkcheck: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        status = INTERRUPTED
        print("linkcheck: interrupted", file=sys.stderr)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        print(f"linkcheck: cannot read {options.site}: {exc}", file=sys.stderr)
        return BAD_INPUT
    broken = checker.report(time.perf_counter() - began)
    return BROKEN if broken and status != INTERRUPTED else status


if __name__ == "__main__":
    sys.exit(main())
