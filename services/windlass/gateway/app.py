"""The HTTP application: Litestar serves everything, and two requests have a shorter way through it.

Submitting a job and looking at one are the hot path, and routing, dependencies and response objects would cost more there than
the work itself. The short ways and the routes call the same code; the tests ask both and compare.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.response import Response

from windlass import log as logs
from windlass import metrics
from windlass.clock import system
from windlass.errors import WindlassError
from windlass.eventlog.read import Reader
from windlass.gateway import openapi
from windlass.gateway.intake import Gone, Intake, is_cross_origin
from windlass.gateway.replies import Reply, error_reply, refusal, render
from windlass.gateway.routes import health, jobs, later, nodes, tasks

log = logs.get()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
# Looked up once: with their locks and names, labels cost more than what they count.
_requests, _request_s = cache(metrics.REQUESTS.counter().labels), cache(metrics.REQUEST_S.histogram().labels)

_ONE_JOB = re.compile(r"/jobs/([^/]+)")
_JSON = (b"content-type", b"application/json")


class JsonResponse(Response[Any]):
    """Every answer, rendered as Tork renders."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        """The bytes of an answer."""
        return content if isinstance(content, bytes) else render(content)


class App:
    """The ASGI application."""

    def __init__(self, intake: Intake, parts: Mapping[str, Any], version: str) -> None:
        self._intake = intake
        self._reader: Reader = parts["reader"]
        self._log = log.bind()  # made for the level by now: a line that is switched off costs nothing
        self.litestar = _litestar({"intake": intake, "version": version, **parts}, version)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self.litestar(scope, receive, send)
            return
        began = system.monotonic()

        async def count(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], began)
            await send(message)

        await self._route(scope, receive, count)

    def _count(self, scope: Any, status: int, began: float) -> None:
        seconds = system.monotonic() - began
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        _requests(method, status).inc()
        _request_s(method).observe(seconds)
        self._log.debug(
            "request_answered",
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_ms=round(seconds * 1000, 1),
        )

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            if is_cross_origin(scope["headers"]):
                await _send(send, refusal(403, "a page of another site sent this; cross-origin requests are refused"))
                return
            if scope["method"] == "POST" and scope["path"] == "/jobs":
                await self._answer(send, scope, self._intake.post(scope["headers"], receive))
                return
        elif scope["method"] == "GET" and not scope["query_string"] and (one := _ONE_JOB.fullmatch(scope["path"])):
            await self._answer(send, scope, self._look(one[1]))
            return
        await self.litestar(scope, receive, send)

    async def _look(self, job: str) -> Reply:
        try:
            return Reply(200, render(await jobs.whole_job(self._reader, job)))
        except WindlassError as error:
            return error_reply(error)

    async def _answer(self, send: Any, scope: Any, answer: Awaitable[Reply]) -> None:
        try:
            reply = await answer
        except Gone:
            return
        except Exception:  # the boundary: whatever it was, it is logged and the client hears of it
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            reply = refusal(500, "Internal Server Error")
        await _send(send, reply)


async def _send(send: Any, reply: Reply) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _litestar(parts: Mapping[str, Any], version: str) -> Litestar:
    return Litestar(
        route_handlers=[
            jobs.submit_job,
            jobs.list_jobs,
            jobs.get_job,
            jobs.get_job_log,
            jobs.cancel_job,
            jobs.restart_job,
            jobs.delete_job,
            jobs.pause_job,
            jobs.resume_job,
            tasks.get_task,
            tasks.get_task_log,
            nodes.list_nodes,
            nodes.get_metrics,
            health.get_health,
            *later.later,
        ],
        dependencies={name: Provide(_always(part), sync_to_thread=False) for name, part in parts.items()},
        exception_handlers={WindlassError: _on_error, HTTPException: _on_http, Exception: _on_surprise},
        response_class=JsonResponse,
        openapi_config=openapi.config(version),
        logging_config=None,
    )


def _always(part: Any) -> Callable[[], Any]:
    def provide() -> Any:
        return part

    return provide


def _response(reply: Reply) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return JsonResponse(reply.body, status_code=reply.status, headers=headers, media_type="application/json")


def _on_error(_: Request[Any, Any, State], error: WindlassError) -> Response[bytes]:
    return _response(error_reply(error))


def _on_http(request: Request[Any, Any, State], error: HTTPException) -> Response[bytes]:
    """The framework's own refusals: 404 and 405 say no more than their name."""
    if error.status_code >= 500:
        return _on_surprise(request, error)
    message = HTTPStatus(error.status_code).phrase
    if error.status_code not in (404, 405) and error.detail:
        message = error.detail
    return _response(refusal(error.status_code, message))


def _on_surprise(request: Request[Any, Any, State], error: Exception) -> Response[bytes]:
    log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return _response(refusal(500, "Internal Server Error"))
