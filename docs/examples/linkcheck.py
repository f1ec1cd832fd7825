"""Check the links of a documentation site, anchors included.

::

    python linkcheck.py build/html              # a folder: served on loopback
    python linkcheck.py https://example.org/docs/ --depth 3 --timeout 300

Of a folder every HTML page is read; of a URL the pages below it that are at most
``--depth`` links away. What they name is fetched once, at most ``--limit`` URLs at
a time. Links to other hosts are only counted, unless ``--external`` is given.

What is broken is told as soon as it is known, with the first page that names it;
the others are listed at the end. All of it ends when ``--timeout`` seconds are over
or on Ctrl-C, and what was found by then has been told.

Exit status: 0 if all is well, 1 if links are broken, 2 for bad input, 3 if time
ran out and nothing was broken so far, 130 on Ctrl-C.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from html.parser import HTMLParser
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from pathlib import Path
from threading import Thread
from typing import NamedTuple, Self
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

import anyio
import httpx

from safeconc import (
    Channel,
    Context,
    ContextCancelled,
    DeadlineExceeded,
    DepthPool,
    ErrGroup,
    FanOut,
    Job,
    Ticker,
    consume,
    to_thread,
)

BROKEN, BAD_INPUT, UNFINISHED, INTERRUPTED = 1, 2, 3, 130

PATIENCE = 30.0
"""Seconds that one fetch may take; parsing all the others takes part of them."""

AHEAD = 100
"""Findings that may wait to be printed."""

FLUSH = 0.5
"""Seconds to print them, when the check is cut short, before the report does."""

SHOWN = 3
"""Further pages that are named beside a broken link."""

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
    """Those that are to be checked."""
    anchors: set[str] | None = None
    """None unless it is HTML of the site: then nothing is said about anchors."""


class Finding(NamedTuple):
    """Something wrong, and the page that was found to name it."""

    problem: str
    source: str


class PageParser(HTMLParser):
    """Collects the links and the anchors of a page, fed piece by piece."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._base = url
        self._targets: dict[str, Link | None] = {"": None}
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
            target = values.get(ATTRIBUTES.get(tag, ""), "")
            # At once: all those of a long page, at its end, would hold everything up.
            if target not in self._targets:
                self._targets[target] = resolve(self._base, target)

    def links(self) -> set[Link]:
        """Return what the page names and HTTP can fetch."""
        return {link for link in self._targets.values() if link is not None}


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


class Ledger:
    """Brings links and their targets together: who comes second settles the link."""

    def __init__(self) -> None:
        self.root = ""
        self.pages: dict[str, Page] = {}
        self.problems: dict[Link, str | None] = {}
        """What is wrong with each link; None for the good, and as long as it waits."""
        self.left_out: set[Link] = set()
        """Links to other hosts that nobody asked to check."""
        self.waiting: defaultdict[str, list[tuple[Link, str]]] = defaultdict(list)
        """URLs not fetched so far; for each the links there, and who names them."""
        self.named_by: defaultdict[str, set[str]] = defaultdict(set)
        """The pages that have a problem in their links."""
        self.told: dict[str, str] = {}
        """Problems that were printed, and the page that was named with each."""

    def enter(self, page: Page) -> list[Finding]:
        """Take a page that was fetched; return what is known to be wrong by it."""
        self.pages[page.url] = page._replace(links=())
        news: list[Finding] = []
        named = [(link, page.url) for link in page.links]
        for link, source in self.waiting.pop(page.url, []) + named:
            problem = self.problems[link] = self._judge(link, source)
            if problem is not None:
                if problem not in self.named_by:
                    news.append(Finding(problem, source))
                self.named_by[problem].add(source)
        return news

    def _judge(self, link: Link, source: str) -> str | None:
        """Tell what is wrong with a link, or have it wait for its target."""
        target, passed = link, set[str]()
        while (page := self.pages.get(target.url)) is not None and page.redirect:
            if target.url in passed:
                return f"{self.short(target.url)}: redirects in a circle"
            passed.add(target.url)
            target = Link(page.redirect.url, target.fragment or page.redirect.fragment)
        if page is None:
            self.waiting[target.url].append((link, source))
            return None
        if page.problem:
            return f"{self.short(target.url)}: {page.problem}"
        names = {target.fragment, unquote(target.fragment)}
        if page.anchors is None or names & TOP or names & page.anchors:
            return None
        return f"{self.short(target.url)}: no anchor #{target.fragment}"

    def line(self, finding: Finding) -> str:
        """Put a finding into words."""
        return f"{self.short(finding.source)} -> {finding.problem}"

    def short(self, url: str) -> str:
        """Leave out what all pages of the site have in common."""
        return url.removeprefix(self.root) or self.root

    def report(self, took: float) -> int:
        """Print the rest, and a summary; return how many links are broken."""
        for problem, sources in sorted(self.named_by.items()):
            if problem not in self.told:
                self.told[problem] = min(sources)
                print(self.line(Finding(problem, min(sources))))
            if others := sorted(map(self.short, sources - {self.told[problem]})):
                more = len(others) - SHOWN
                text = ", ".join(others[:SHOWN]) + f" and {more:,} more" * (more > 0)
                print(f"{problem}\n    also named by {text}")
        count = sum(problem is not None for problem in self.problems.values())
        pages = sum(page.anchors is not None for page in self.pages.values())
        checked = sum(link.url in self.pages for link in self.problems)
        print(
            f"{pages:,} pages, {checked:,} links to {len(self.pages):,} URLs checked: "
            f"{count:,} broken; {len(self.left_out):,} external links left out; "
            f"{took:.1f} s"
        )
        if missed := len(self.problems) - checked:
            print(f"{missed:,} more links were not reached")
        sys.stdout.flush()  # here, where a reader who has gone is expected
        return count


class Crawler:
    """Fetches the pages of a site, and sends what is wrong with them."""

    def __init__(
        self,
        ledger: Ledger,
        client: httpx.AsyncClient,
        findings: Channel[Finding],
        options: argparse.Namespace,
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._findings = findings
        self._options = options
        self._host = urlsplit(ledger.root).netloc

    async def run(self, start: Iterable[str]) -> None:
        """Visit *start*, then what those pages name, and so on; then other hosts."""
        # Depth-first would meet a page by a long way, and not read on from there.
        async with DepthPool(
            self._visit,
            max_depth=self._options.depth,
            limit=self._options.limit,
            key=attrgetter("url"),
            order="breadth",
        ) as pool:
            pool.submit_from(map(Link, start))
            async for visit in pool:
                await self._enter(visit.result)
        elsewhere = list(filter(self._is_external, self._ledger.waiting))
        if self._options.external:
            async with FanOut(
                self._fetch, elsewhere, limit=self._options.limit, ordered=False
            ) as pages:
                async for page in pages:
                    await self._enter(page)

    async def _enter(self, page: Page) -> None:
        for finding in self._ledger.enter(page):
            await self._findings.send(finding)

    async def _visit(self, job: Job[Link]) -> Page:
        page = await self._fetch(job.item.url)
        for link in (*page.links, page.redirect):
            if link is not None and not self._is_external(link.url):
                job.submit(link)
        return page

    async def _fetch(self, url: str) -> Page:
        try:
            # The body is read inside the deadline: it may trickle for ever.
            async with (
                Context(timeout=PATIENCE, name=url),
                self._client.stream(
                    "GET", url, follow_redirects=self._is_external(url)
                ) as response,
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
        links = parser.links() if url.startswith(self._ledger.root) else set[Link]()
        if not self._options.external:
            left_out = {link for link in links if self._is_external(link.url)}
            self._ledger.left_out |= left_out
            links -= left_out
        return Page(url, parser.problem, links=links, anchors=parser.anchors)

    def _is_external(self, url: str) -> bool:
        try:
            return urlsplit(url).netloc != self._host
        except ValueError:
            return False  # so it is fetched, and found broken


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


def clear() -> None:
    """Take the progress off the screen."""
    if sys.stderr.isatty():
        print(end="\x1b[K", file=sys.stderr, flush=True)


async def show_progress(ledger: Ledger) -> None:
    """Keep up the line that a person at a terminal sees meanwhile."""
    try:
        async for _ in Ticker(0.2):
            clear()
            fetched, waiting = len(ledger.pages), len(ledger.waiting)
            status = f"{fetched:,} URLs fetched, {waiting:,} to go"
            print(status, end="\r", file=sys.stderr, flush=True)
    finally:
        clear()


async def show(ledger: Ledger, finding: Finding) -> None:
    """Print a finding at once; in a thread, since the reader of a pipe may be slow."""
    clear()
    await to_thread(partial(print, ledger.line(finding), flush=True))
    # Cancelled before the thread began, we are not here, and the report tells it.
    ledger.told[finding.problem] = finding.source


async def check(
    options: argparse.Namespace, url: str, ledger: Ledger, context: Context
) -> None:
    """Check the folder that is served at *url*, or else what is there."""
    findings = Channel[Finding](AHEAD, name="findings")
    async with (
        context,
        # Contexts keep the time. Loopback needs no proxy.
        httpx.AsyncClient(timeout=None, trust_env=not options.pages) as client,  # noqa: S113
        ErrGroup(limit=None) as group,
        findings,
    ):
        writer = partial(consume, findings, partial(show, ledger), drain=FLUSH)
        await group.go(writer)
        if sys.stderr.isatty():
            await group.go_background(show_progress, ledger)
        start = [url + quote(page) for page in options.pages]
        ledger.root = url
        if not start:
            response = await client.get(url, follow_redirects=True)
            link = resolve(str(response.raise_for_status().url), "")
            assert link is not None
            start, ledger.root = [link.url], urljoin(link.url, ".")
        await Crawler(ledger, client, findings, options).run(start)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and find the pages if it names a folder."""
    parser = argparse.ArgumentParser(description="Check the links of a site.")
    add = parser.add_argument
    add("site", metavar="FOLDER|URL", help="a folder of HTML, or where it is served")
    add("--depth", type=int, default=20, help="links away, at most (default: 20)")
    add("--limit", type=int, default=20, help="fetches at once (default: 20)")
    add("--timeout", type=float, default=60.0, help="seconds in all (default: 60)")
    add("--external", action="store_true", help="fetch links to other hosts, too")
    add("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args(argv)
    if options.limit < 1 or not 0 < options.timeout < math.inf:
        parser.error("--limit and --timeout must be positive, and --timeout finite")
    if options.depth < 0:
        parser.error("--depth must not be negative")
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


def interrupt(context: Context, *_: object) -> None:
    """End the check on Ctrl-C; a second one need not be so kind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context.cancel()


def run(options: argparse.Namespace) -> int:
    """Check a site, report, and return the exit status."""
    ledger = Ledger()
    context = Context(timeout=options.timeout, name="the check")
    began = time.perf_counter()
    status = 0
    url = options.site
    try:
        with ExitStack() as stack:
            if options.pages:
                server = stack.enter_context(FolderServer(options.site))
                url = f"http://127.0.0.1:{server.server_port}/"
            previous = signal.signal(signal.SIGINT, partial(interrupt, context))
            stack.callback(signal.signal, signal.SIGINT, previous)
            start = partial(check, options, url, ledger, context)
            anyio.run(start, backend=options.backend)
    except DeadlineExceeded as exc:
        status = UNFINISHED
        print(f"linkcheck: {exc}", file=sys.stderr)
    except ContextCancelled:
        status = INTERRUPTED
        print("linkcheck: interrupted", file=sys.stderr)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        print(f"linkcheck: cannot read {options.site}: {exc}", file=sys.stderr)
        return BAD_INPUT
    broken = ledger.report(time.perf_counter() - began)
    return BROKEN if broken and status != INTERRUPTED else status


def main(argv: Sequence[str] | None = None) -> int:
    """Be the program; return its exit status."""
    try:
        return run(parse(argv))
    except KeyboardInterrupt:  # before the check, or the second one in it
        return INTERRUPTED
    except BrokenPipeError:  # who reads has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN


if __name__ == "__main__":
    sys.exit(main())
