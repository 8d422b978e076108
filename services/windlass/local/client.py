"""A client of the API on the standard library: one request a connection, each on a thread, each with a time limit."""

import asyncio
import http.client
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from windlass.errors import Invalid, Misconfigured, NotFound, Rejected, Unavailable, WindlassError

ANSWER_S = 20.0
"""The longest that one answer may take; the gateway itself gives up on a commit earlier."""
SUBMIT_S = 10.0
"""How long submitting is tried again while nobody answers."""
AGAIN_S = 0.5
PARTS = 100
"""Parts of output in a page, the most that the API gives."""

Decoded = TypeVar("Decoded")


class Retry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How often a task may be tried again, and was."""

    limit: int = 0
    attempts: int = 0


class Task(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A task row, as far as it is shown."""

    id: str
    name: str = ""
    state: str = ""
    queue: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    redelivered: int = 0
    retry: Retry | None = None
    error: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job, as far as it is shown."""

    id: str
    name: str = ""
    state: str = ""
    created_at: datetime
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    execution: list[Task] = []
    result: str = ""
    error: str = ""


class LogPart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A numbered part of a task's output."""

    task_id: str
    number: int
    attempt: int = 0
    contents: str = ""


class LogPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of output, newest part first."""

    items: list[LogPart] = []
    total_items: int = 0


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A worker or coordinator."""

    id: str
    status: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""


_KINDS: dict[int, type[WindlassError]] = {404: NotFound, 409: Rejected, 429: Unavailable}


class Client:
    """Asks the API at `url`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misconfigured(f"the API's address is {url!r}; write http://HOST:PORT")
        self.url = url.rstrip("/")
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._base = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")

    async def submit(self, document: bytes, key: str) -> tuple[Job, bytes]:
        """Submit a job as JSON, until somebody answers; the key makes repeating it harmless. Also the answer as it came.

        Raises:
            Invalid: it is not taken.
            Unavailable: nobody answered.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        deadline = asyncio.get_running_loop().time() + SUBMIT_S
        while True:
            try:
                body = await self._ask("POST", "/jobs", document, headers)
            except Unavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return _decode(body, Job), body

    async def job(self, job: str) -> tuple[Job, bytes]:
        """A whole job, and the answer as it came.

        Raises:
            NotFound: there is no such job.
            Unavailable: nobody answered.
        """
        body = await self._ask("GET", f"/jobs/{job}")
        return _decode(body, Job), body

    async def cancel(self, job: str) -> None:
        """End a job; one that has ended already stays as it is.

        Raises:
            NotFound: there is no such job.
            Unavailable: nobody answered; it may be cancelled.
        """
        try:
            await self._ask("PUT", f"/jobs/{job}/cancel")
        except Invalid:
            return

    async def parts_of_job(self, job: str) -> int:
        """How many parts of output are stored of a job.

        Raises:
            Unavailable: nobody answered.
        """
        return _decode(await self._ask("GET", f"/jobs/{job}/log?size=1"), LogPage).total_items

    async def output(self, task: str, page: int) -> LogPage:
        """A page of a task's output, newest part first, `PARTS` in each.

        Raises:
            NotFound: there is no such task.
            Unavailable: nobody answered.
        """
        return _decode(await self._ask("GET", f"/tasks/{task}/log?{urlencode({'page': page, 'size': PARTS})}"), LogPage)

    async def nodes(self) -> list[Node]:
        """Who is there.

        Raises:
            Unavailable: nobody answered.
        """
        return _decode(await self._ask("GET", "/nodes"), list[Node])

    async def _ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        status, answer = await asyncio.to_thread(self._exchange, method, path, body, dict(headers or {}))
        if status < 400:
            return answer
        try:
            message = msgspec.json.decode(answer, type=_Refusal).message
        except msgspec.MsgspecError:
            message = ""
        kind = _KINDS.get(status, Invalid if status < 500 else Unavailable)
        raise kind(message or f"{method} {self.url}{path} answered with status {status}")

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = self._make(self._host, timeout=ANSWER_S)
        try:
            connection.request(method, self._base + path, body, {"Connection": "close", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"no answer from {self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def _decode(body: bytes, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the API's answer is not understood ({error}); is it Windlass of another release?") from error
