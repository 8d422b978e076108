"""Documents come in here, by HTTP or by NATS, and a job or a refusal goes out."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from windlass.documents.reading import BODY_MAX, Document, Form, TooLarge, read_job
from windlass.durations import seconds
from windlass.errors import Invalid, WindlassError
from windlass.eventlog.read import Reader
from windlass.eventlog.rows import ENDED
from windlass.gateway.commands import Commands
from windlass.gateway.replies import Reply, error_reply, refusal, render
from windlass.gateway.shapes import job_view, summary_of_commit
from windlass.gateway.waiting import Waiting
from windlass.messages.envelope import trace_of
from windlass.messages.sealing import digest_of, shown

Receive = Callable[[], Awaitable[Any]]
"""How an ASGI server hands over what a client sent."""

GUEST = "guest"
"""Who submits while there are no users."""
BODY_TIMEOUT_S = 30.0
THREADED_BYTES = 32_768
"""A larger document is read in a thread, so that it holds up nobody else."""
WAITS_MAX = 10_000
"""Clients of one gateway that wait for the end of a job."""
WAIT_MAX_S = 7 * 24 * 3600.0
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_FORMS: dict[str, Form] = {
    "application/json": "json",
    "text/yaml": "yaml",
    "text/x-yaml": "yaml",
    "application/yaml": "yaml",
    "application/x-yaml": "yaml",
}
_EXACT_FORMS = {name.encode(): form for name, form in _FORMS.items()}


class Gone(Exception):
    """The client went away before it had sent everything."""


class Intake:
    """Takes documents; `stop` is set when the service ends, which ends every wait."""

    def __init__(self, commands: Commands, waiting: Waiting, reader: Reader, stop: asyncio.Event) -> None:
        self._commands, self._waiting, self._reader, self._stop = commands, waiting, reader, stop
        self._waits = 0

    async def post(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> Reply:
        """Answer `POST /jobs`.

        Raises:
            Gone: there is nobody to answer.
        """
        try:
            form, key, trace = _read_headers(headers)
            body = await _read_body(receive)
            return await self.take(body, form, key, receive, trace)
        except WindlassError as error:
            return error_reply(error)

    async def take(
        self,
        body: bytes,
        form: Form | None,
        key: str | None = None,
        receive: Receive | None = None,
        trace: str | None = None,
    ) -> Reply:
        """Make the job that a document describes and, if it says so, wait for its end.

        Raises:
            WindlassError: nothing was made, or nobody knows.
        """
        document = read_job(body, form) if len(body) <= THREADED_BYTES else await asyncio.to_thread(read_job, body, form)
        if document.wait is not None:
            return await self._take_and_wait(document, document.wait.timeout, body, key, receive, trace)
        committed = await self._submit(document, body, key, trace)
        return Reply(200, render(summary_of_commit(committed, shown(document.job), GUEST)))

    async def _submit(self, document: Document, body: bytes, key: str | None, trace: str | None, job: Any = None) -> Any:
        digest = None if key is None else digest_of(body, document.job, self._commands.keys)
        job = job or self._commands.new_id(GUEST, key)
        return await self._commands.submit(job, document.job, GUEST, key, digest, trace)

    async def _take_and_wait(
        self, document: Document, timeout: str, body: bytes, key: str | None, receive: Receive | None, trace: str | None
    ) -> Reply:
        if self._waits >= WAITS_MAX:
            return refusal(503, f"{WAITS_MAX} clients wait for jobs here already; submit without wait, or ask again later")
        self._waits += 1
        try:
            await self._waiting.listen()
            job = self._commands.new_id(GUEST, key)
            with self._waiting.end_of(job) as end:
                committed = await self._submit(document, body, key, trace, job)
                if committed.job == job:
                    return await self._wait(committed.job, committed.state, end, timeout, receive)
            with self._waiting.end_of(committed.job) as end:
                return await self._wait(committed.job, committed.state, end, timeout, receive)
        finally:
            self._waits -= 1

    async def _wait(self, job: str, state: str, end: "asyncio.Future[None]", timeout: str, receive: Receive | None) -> Reply:
        """The answer of wait mode: the whole job once it has ended."""
        if state not in ENDED:
            stop: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
            gone: asyncio.Future[Any] = asyncio.ensure_future(_gone(receive))
            try:
                limit = min(seconds(timeout), WAIT_MAX_S)
                waited: set[asyncio.Future[Any]] = {end, stop, gone}
                done, _ = await asyncio.wait(waited, timeout=max(limit, 0), return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.cancel()
                gone.cancel()
            if end not in done:
                if stop in done:
                    return refusal(500, "server shutting down")
                return refusal(408, "request cancelled" if gone in done else "timeout waiting for job to complete")
        whole = await self._reader.job(job)
        if whole is None:
            return refusal(404, "job not found")
        return Reply(200, render(job_view(whole)))


async def _gone(receive: Receive | None) -> None:
    """Return when the client has gone; never, if that cannot be known."""
    if receive is None:
        await asyncio.Event().wait()
        return
    while (await receive())["type"] != "http.disconnect":
        pass


def _read_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Form, str | None, str | None]:
    """The form of the body, the Idempotency-Key and the trace.

    Raises:
        Invalid: a header is missing or wrong.
        TooLarge: the body says that it is.
    """
    kind = key = trace = None
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            if int(value) > BODY_MAX:
                raise TooLarge
        elif name == b"idempotency-key":
            key = _read_key(value)
        elif name == b"traceparent":
            trace = trace_of(value.decode("latin-1").strip())
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Invalid("Content-Encoding: compressed bodies are not taken; send the document as it is")
    return _read_form(kind), key, trace


def _read_form(kind: bytes | None) -> Form:
    form = _EXACT_FORMS.get(kind or b"")
    if form is not None:
        return form
    if not kind:
        raise Invalid("missing content type; send Content-Type: application/json or text/yaml")
    text = kind.decode("latin-1")
    tolerant = _FORMS.get(text.partition(";")[0].strip().lower())
    if tolerant is None:
        raise Invalid(f"unknown content type: {text[:100]}; send application/json or text/yaml")
    return tolerant


def _read_key(value: bytes) -> str:
    key = value.decode("latin-1").strip()
    if not _KEY.fullmatch(key):
        raise Invalid("Idempotency-Key: a key has 1–255 printable ASCII characters")
    return key


async def _read_body(receive: Receive) -> bytes:
    """The whole body, within its limits.

    Raises:
        TooLarge: it does not end where it must.
        Invalid: it comes too slowly.
        Gone: it never ends.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part = message.get("body", b"")
                size += len(part)
                if size > BODY_MAX:
                    raise TooLarge
                if not message.get("more_body"):
                    return part if not parts else b"".join((*parts, part))
                parts.append(part)
    except TimeoutError as error:
        raise Invalid(f"the body did not come within {BODY_TIMEOUT_S:g} s") from error


def is_cross_origin(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a page of another site made a browser send this."""
    found = {name: value for name, value in headers if name in (b"origin", b"host")}
    origin = found.get(b"origin")
    if origin is None:
        return False
    return origin.partition(b"://")[2].lower() != found.get(b"host", b"").lower()
