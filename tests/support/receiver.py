"""Whoever receives webhooks: a real HTTP server on loopback that writes down what comes and answers as the test says."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request; names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Which delivery it is of."""
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        """Its body."""
        return dict(json.loads(self.body))

    @property
    def state(self) -> str:
        """Of the job or task that it tells of."""
        return str(self.json["state"])


Answer = Callable[[BaseHTTPRequestHandler], None]
"""Answers a request, or does something else to it."""


def status(code: int, **headers: str) -> Answer:
    """Answer so, with these headers (`_` for a hyphen)."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer


def raw(*parts: bytes) -> Answer:
    """Write these bytes and nothing else."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        for part in parts:
            request.wfile.write(part)

    return answer


def endless(request: BaseHTTPRequestHandler) -> None:
    """Say 200, and then more than anybody wants to hear."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(OSError):
        while True:
            request.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def reset(request: BaseHTTPRequestHandler) -> None:
    """Break the connection."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


@dataclass
class Held:
    """Requests that wait for the test: `arrived` is set by the first, and they are answered once `release` is set."""

    arrived: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        self.arrived.set()
        self.release.wait(60)
        with suppress(OSError):
            status(200)(request)


class Receiver:
    """Listens on `url`; each path answers 200 but for what `answers` says: first one of a list, the last for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, list[Answer]] = {}
        receiver, turn = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with turn:
                    receiver.calls.append(Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                    left = receiver.answers.get(self.path, [])
                    answer = (left.pop(0) if len(left) > 1 else left[0]) if left else status(200)
                answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: object) -> None:
                """A caller that has gone is no error."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def of(self, path: str) -> list[Call]:
        """What came for a path, in order."""
        return [call for call in list(self.calls) if call.path == path]

    def states(self, path: str) -> list[str]:
        """The states that were told to a path, in order."""
        return [call.state for call in self.of(path)]


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """One for the time of the block."""
    found = Receiver(tls)
    try:
        yield found
    finally:
        found.close()
