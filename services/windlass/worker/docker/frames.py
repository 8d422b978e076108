"""The engine's attach stream: frames of both outputs in one connection.

A frame is 8 bytes (stream, three zeros, length as 32 bits big-endian), then that many bytes. They are parsed as they lie in
what was read, and neighbours of one stream are joined: a chatty program writes a frame a line.
"""

import struct
from collections.abc import Iterator

HEADER = struct.Struct(">BxxxL")
STREAMS = {1: "out", 2: "err"}


class Frames:
    """Takes the connection's bytes in pieces of any size, gives back the streams' bytes."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._stream = 1

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The pieces of both streams in `data`, in order; what belongs to a cut frame is handed out at once as well."""
        pieces: list[bytes] = []
        current = self._stream
        at, end = 0, len(data)
        while at < end:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._stream != current and pieces:
                    yield STREAMS.get(current, "err"), b"".join(pieces)
                    pieces = []
                current = self._stream
                pieces.append(piece)
                continue
            wanted = HEADER.size - len(self._header)
            header = self._header + data[at : at + wanted]
            at += wanted
            if len(header) < HEADER.size:
                self._header = header
                break
            self._header = b""
            self._stream, self._left = HEADER.unpack(header)
        if pieces:
            yield STREAMS.get(current, "err"), b"".join(pieces)
