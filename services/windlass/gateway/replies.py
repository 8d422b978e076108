"""Answers as bytes: JSON the way Tork's clients know it, and errors with one key, `message`."""

from typing import Any, NamedTuple

import msgspec

from windlass.errors import Unavailable, WindlassError

RETRY_AFTER_S = 2
"""What a client is told to wait before it asks again."""
Headers = list[tuple[bytes, bytes]]

_encoder = msgspec.json.Encoder()


class Message(msgspec.Struct, frozen=True):
    """An error."""

    message: str


class Status(msgspec.Struct, frozen=True):
    """A change was made."""

    status: str = "OK"


class Reply(NamedTuple):
    """Status, body and further headers of an answer."""

    status: int
    body: bytes
    headers: Headers = []  # noqa: RUF012 nobody adds to it


class Busy(Unavailable):
    """More is under way here than may be; nothing was sent."""

    code = "busy"
    http = 503


def render(content: Any) -> bytes:
    """A value as JSON with a newline; what could end a script inside a page is escaped, as Go's encoder does."""
    body = _encoder.encode(content)
    if b"<" in body or b">" in body or b"&" in body or b"\xe2\x80" in body:
        body = body.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
        body = body.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return body + b"\n"


def refusal(status: int, message: str) -> Reply:
    """An error of a status; one that may pass says when to ask again."""
    headers = [(b"retry-after", b"%d" % RETRY_AFTER_S)] if status in (429, 503) else []
    return Reply(status, render(Message(message)), headers)


def error_reply(error: WindlassError) -> Reply:
    """The answer to an error of ours, by its class."""
    return refusal(error.http, str(error))
