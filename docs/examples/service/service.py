"""A service that cannot leak, and can be told to.

::

    uvicorn upstream:app --port 9100 &
    TOKEN=$(openssl rand -hex 16) uvicorn service:app --port 8000

``GET /page`` fetches a few parts from the upstream, under one deadline. ``POST
/events`` puts an event into a bounded channel; a worker stores them, and on shutdown
the rest of them first. A ticker looks after the upstream.

A monitor watches it, and logs what grows. ``GET /metrics`` is for Prometheus,
``/debug/leaks`` for people and for pprof, and SIGUSR1 for when nothing answers.

The environment sets it up: ``UPSTREAM`` is where the parts come from, ``INTERVAL`` is
how many seconds pass between two looks of the monitor, and ``WATCH=0`` leaves out all
that watches. ``LEAK`` plants leaks: names from ``safeconc.antipatterns``, with commas
between them.
"""

import logging
import os
import signal
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
from planted import LEAKS, Leak
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from safeconc import (
    Channel,
    Context,
    DeadlineExceeded,
    ErrGroup,
    consume,
    every,
    fan_out,
)
from safeconc.leaks import Monitor, install, on_signal
from safeconc.leaks.asgi import debug_app
from safeconc.leaks.prometheus import Collector

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9100")
WATCH = os.environ.get("WATCH", "1") != "0"
INTERVAL = float(os.environ.get("INTERVAL", "60"))
TOKEN = os.environ.get("TOKEN")

DEADLINE = 1.0
"""Seconds for a whole page."""

PARTS = 4
"""Parts of a page."""

AT_ONCE = 8
"""Parts of one page that are fetched at once."""

CONNECTIONS = 100
"""Connections to the upstream that are kept open."""

BACKLOG = 1000
"""Events that may wait to be stored; one more is refused."""

DRAIN = 5.0
"""Seconds to store what waits, when the service shuts down."""

log = logging.getLogger("uvicorn.error")


class Service:
    """What lives as long as the service does: it is over when the block is left."""

    def __init__(self, monitor: Monitor | None, leaks: list[Leak]) -> None:
        self.monitor = monitor
        self.leaks = leaks
        self.stored = 0
        self.healthy = False
        self.events = Channel[Any](BACKLOG, name="events")
        self.registry = CollectorRegistry()
        self._stack = AsyncExitStack()

    def __call__(self, _: Starlette) -> Self:
        """Be the block that the server opens when it starts: starlette asks for it."""
        return self

    async def __aenter__(self) -> None:
        enter = self._stack.enter_async_context
        if self.monitor is not None:
            # Here, in the thread of the loop, and before any other task is made.
            self._stack.enter_context(install())
            self._stack.enter_context(on_signal(signal.SIGUSR1))
            await enter(self.monitor)
            self.monitor.include("events", self.events)
        # Left in the reverse order: first the group, which needs the client.
        self.client = await enter(
            httpx.AsyncClient(
                base_url=UPSTREAM,
                # The deadline is the page's, not that of each call.
                timeout=None,  # noqa: S113
                # By default only 20 connections are kept; the others are made anew.
                limits=httpx.Limits(max_keepalive_connections=CONNECTIONS),
                trust_env=False,
            )
        )
        group = await enter(ErrGroup(limit=None, name="service"))
        await group.go_background(self.store_all)
        await group.go_background(every, 5.0, self.look)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)
        log.info("stored %d events", self.stored)

    async def fetch(self, number: int) -> Any:
        """Fetch one part."""
        response = await self.client.get(f"/parts/{number}")
        response.raise_for_status()
        return response.json()

    async def store_all(self) -> None:
        """Store the events as they come; at the end, what waits."""
        await consume(self.events, self.store, drain=DRAIN)

    async def store(self, _: object) -> None:
        """Store one event; a real service would talk to a database here."""
        await anyio.sleep(0.001)
        self.stored += 1

    async def look(self) -> None:
        """See whether the upstream answers."""
        try:
            await self.fetch(0)
        except httpx.HTTPError:
            self.healthy = False
        else:
            self.healthy = True

    # What it answers

    async def page(self, request: Request) -> JSONResponse:
        """Put a page together from four parts, from number ``?first`` on."""
        first = int(request.query_params.get("first", "0"))
        for leak in self.leaks:
            await leak()
        try:
            async with Context(timeout=DEADLINE, name="GET /page"):
                parts = await fan_out(
                    self.fetch, range(first, first + PARTS), limit=AT_ONCE
                )
        except DeadlineExceeded:
            return JSONResponse({"error": "the upstream is slow"}, status_code=504)
        except httpx.HTTPError as exc:
            return JSONResponse({"error": repr(exc)}, status_code=502)
        return JSONResponse({"parts": parts})

    async def take(self, request: Request) -> JSONResponse:
        """Take an event, unless too many wait."""
        event = await request.json()
        try:
            self.events.send_nowait(event)
        except anyio.WouldBlock:
            return JSONResponse({"error": "try again later"}, status_code=503)
        return JSONResponse({}, status_code=202)

    async def health(self, _: Request) -> JSONResponse:
        """Tell how it is."""
        return JSONResponse({"upstream": self.healthy, "stored": self.stored})

    async def metrics(self, _: Request) -> Response:
        """Tell Prometheus."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


def make_app() -> Starlette:
    """Wire the service up."""
    names = filter(None, os.environ.get("LEAK", "").split(","))
    monitor = Monitor(interval=INTERVAL) if WATCH else None
    service = Service(monitor, [LEAKS[name] for name in names])
    routes: list[BaseRoute] = [
        Route("/page", service.page),
        Route("/events", service.take, methods=["POST"]),
        Route("/health", service.health),
    ]
    if monitor is not None:
        service.registry.register(Collector(monitor))
        routes += [
            Route("/metrics", service.metrics),
            Mount("/debug/leaks", debug_app(token=TOKEN)),
        ]
    return Starlette(routes=routes, lifespan=service)


app = make_app()
