"""The service of the example, and a page that counts what is alive in it."""

from service import app
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from safeconc import leaks


async def alive(_: Request) -> JSONResponse:
    """Count all that a census sees: tasks, threads, timers and the rest."""
    return JSONResponse(dict(leaks.snapshot().kinds()))


app.routes.append(Route("/alive", alive))
