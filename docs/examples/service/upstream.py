"""The service behind the service: answers after a moment, and now and then fails.

::

    uvicorn upstream:app --port 9100
"""

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def part(request: Request) -> JSONResponse:
    """Answer after ``?delay`` seconds; part 13 is broken."""
    number = request.path_params["number"]
    await anyio.sleep(float(request.query_params.get("delay", "0.001")))
    if number == 13:
        return JSONResponse({"error": "no such part"}, status_code=500)
    return JSONResponse({"part": number})


app = Starlette(routes=[Route("/parts/{number:int}", part)])
