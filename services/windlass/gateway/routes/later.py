"""Routes of the API that nothing answers yet: they say so, instead of looking like a typing error."""

from litestar import HttpMethod, route
from litestar.handlers import HTTPRouteHandler

from windlass.errors import NotFound

_ALL = [HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.DELETE]


def _later(what: str, *paths: str) -> HTTPRouteHandler:
    @route(list(paths), http_method=_ALL, include_in_schema=False, status_code=200)
    async def answer() -> None:
        raise NotFound(f"{what} not built yet")

    return answer


later = [
    _later(
        "scheduled jobs are",
        "/scheduled-jobs",
        "/scheduled-jobs/{schedule:str}",
        "/scheduled-jobs/{schedule:str}/pause",
        "/scheduled-jobs/{schedule:str}/resume",
    ),
    _later("the list of queues is", "/queues", "/queues/{queue:str}"),
    _later("users are", "/users"),
]
"""A handler for each thing that is not built yet."""
