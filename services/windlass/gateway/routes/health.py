"""Health, as load balancers ask for it."""

import asyncio

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Response

from windlass.bus.connection import Bus
from windlass.errors import Unavailable
from windlass.eventlog.read import Reader

ANSWER_S = 2.0


class HealthView(msgspec.Struct, frozen=True):
    """Whether database and broker answer."""

    status: str
    version: str


@get("/health", tags=["health"], responses={503: ResponseSpec(HealthView, description="One of them does not answer")})
async def get_health(
    reader: NamedDependency[Reader], bus: NamedDependency[Bus], version: NamedDependency[str]
) -> Response[HealthView]:
    """Whether database and broker answer."""
    well = bus.connected
    try:
        async with asyncio.timeout(ANSWER_S):
            await reader.installation()
    except (Unavailable, TimeoutError):
        well = False
    return Response(HealthView("UP" if well else "DOWN", version), status_code=200 if well else 503)
