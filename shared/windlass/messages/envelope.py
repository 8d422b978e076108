"""The envelope that every message between services travels in.

`type` is a tag such as `task.claim`, written out by hand beside its class: it is storage format, so renaming a
class changes no byte. `data` is decoded by type, after the envelope, so that nobody meets a body of a type they do not know.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from windlass.errors import Invalid

TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""A traceparent of W3C Trace Context, version 00."""
VERSION = 1

Tagged = TypeVar("Tagged", bound=msgspec.Struct)


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message. `reply` is the inbox that an answer goes to; `trace` a W3C traceparent; `v` is 0 if it was left out."""

    v: int = 0
    id: str
    type: str
    at: datetime
    reply: str | None = None
    trace: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


_encoder = msgspec.json.Encoder()
_messages = msgspec.json.Decoder(Message)


def trace_of(text: str | None) -> str | None:
    """A traceparent that somebody sent, if it is one; what is none starts no trace and is no error."""
    return text if text is not None and TRACE.fullmatch(text) else None


def tag_of(body: type[msgspec.Struct] | msgspec.Struct) -> str:
    """The tag of a message's class."""
    tag = body.__struct_config__.tag
    assert isinstance(tag, str), body
    return tag


def encode(body: msgspec.Struct, *, id: str, at: datetime, reply: str | None = None, trace: str | None = None) -> bytes:  # noqa: A002 the envelope's word
    """A message as JSON bytes; `body` is an instance of a tagged class of this package."""
    return _encoder.encode(
        Message(v=VERSION, id=id, type=tag_of(body), at=at, reply=reply, trace=trace, data=msgspec.Raw(_encoder.encode(body)))
    )


def open_envelope(payload: bytes) -> Message:
    """Decode the envelope alone.

    Raises:
        Invalid: the bytes are not an envelope of a version this release knows.
    """
    try:
        message = _messages.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(
            f"not a message: {error}; between services a message is an envelope with v, id, type, at and data"
        ) from error
    if message.v not in (0, VERSION):
        raise Invalid(f"message {message.id} has version {message.v}; this release reads version {VERSION}")
    return message


class Vocabulary(Generic[Tagged]):
    """The bodies that one reader understands, by tag."""

    def __init__(self, *kinds: type[Tagged]) -> None:
        self._decoders: Mapping[str, msgspec.json.Decoder[Any]] = {tag_of(kind): msgspec.json.Decoder(kind) for kind in kinds}

    def __contains__(self, tag: str) -> bool:
        return tag in self._decoders

    def decode(self, tag: str, data: msgspec.Raw | bytes | str) -> Tagged:
        """The body of a message.

        Raises:
            Invalid: the tag is unknown here or the body does not fit it.
        """
        decoder = self._decoders.get(tag)
        if decoder is None:
            raise Invalid(f"nobody here takes {tag!r}; known: {', '.join(sorted(self._decoders))}")
        try:
            return decoder.decode(data)  # type: ignore[no-any-return]  # the decoder is of that tag's class
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise Invalid(f"{tag}: {error}") from error
