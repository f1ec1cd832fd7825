"""The service behind the service: mostly it answers after a moment.

::

    uvicorn upstream:app --port 9100
"""

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def part(request: Request) -> JSONResponse:
    """Answer; part 13 is broken, and part 14 takes far too long."""
    number = request.path_params["number"]
    await anyio.sleep(3 if number == 14 else 0.001)
    if number == 13:
        return JSONResponse({"error": "no such part"}, status_code=500)
    return JSONResponse({"part": number})


app = Starlette(routes=[Route("/parts/{number:int}", part)])
