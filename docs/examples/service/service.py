"""A service that cannot leak, and can be told to.

::

    uvicorn upstream:app --port 9100 &
    uvicorn service:app --port 8000

``GET /page`` fetches a few parts from the upstream, under one deadline. ``POST
/events`` puts an event into a bounded channel; a worker stores them, and on shutdown
the rest of them first. A ticker looks after the upstream. ``GET /metrics`` is for
Prometheus, ``/debug`` for people, and the monitor logs what grows.

The environment sets it up: ``UPSTREAM`` is where the parts come from, ``WATCH=0``
leaves out all that watches, and ``LEAK`` plants leaks: names from
``safeconc.antipatterns``, with commas between them.
"""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
from planted import LEAKS, Leak
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from safeconc import Channel, Context, DeadlineExceeded, ErrGroup, consume, every, fan_out

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9100")
WATCH = os.environ.get("WATCH", "1") != "0"

DEADLINE = 1.0
"""Seconds for a whole page."""

AT_ONCE = 8
"""Parts of one page that are fetched at once."""

CONNECTIONS = 100
"""Connections to the upstream that are kept open."""

BACKLOG = 1000
"""Events that may wait to be stored; one more is refused."""

DRAIN = 5.0
"""Seconds to store what waits, when the service shuts down."""


def planted() -> list[Leak]:
    """Return what the environment asks for."""
    names = os.environ.get("LEAK", "").split(",")
    return [LEAKS[name] for name in names if name]


class Service:
    """What lives as long as the service does: it is over when the block is left."""

    def __init__(self) -> None:
        self.stored = 0
        self.healthy = False
        self.events = Channel[Any](BACKLOG, name="events")
        self.leaks = planted()
        self._stack = AsyncExitStack()

    def __call__(self, _: Starlette) -> Self:
        """Be the block that the server opens when it starts: starlette asks for it."""
        return self

    async def __aenter__(self) -> None:
        enter = self._stack.enter_async_context
        # Left in the reverse order: first the group, which needs the client.
        self.client = await enter(
            httpx.AsyncClient(
                base_url=UPSTREAM,
                # The deadline is the page's, not that of each call.
                timeout=None,
                # By default only 20 connections are kept; the others are made anew.
                limits=httpx.Limits(max_keepalive_connections=CONNECTIONS),
                trust_env=False,
            )
        )
        group = await enter(ErrGroup(limit=None, name="service"))
        await group.go_background(
            partial(consume, self.events, self.store, drain=DRAIN), name="store"
        )
        await group.go_background(every, 5.0, self.look, name="look")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    async def fetch(self, number: int) -> Any:
        """Fetch one part."""
        response = await self.client.get(f"/parts/{number}")
        response.raise_for_status()
        return response.json()

    async def store(self, event: Any) -> None:
        """Store one event; a real service would talk to a database here."""
        await anyio.sleep(0)
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
        """Put a page together from ``?parts`` parts."""
        numbers = range(int(request.query_params.get("parts", "4")))
        for leak in self.leaks:
            await leak()
        try:
            async with Context(timeout=DEADLINE, name="GET /page"):
                parts = await fan_out(self.fetch, numbers, limit=AT_ONCE)
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


def make_app() -> Starlette:
    """Wire the service up."""
    service = Service()
    routes: Sequence[BaseRoute] = [
        Route("/page", service.page),
        Route("/events", service.take, methods=["POST"]),
        Route("/health", service.health),
    ]
    return Starlette(routes=routes, lifespan=service)


app = make_app()
