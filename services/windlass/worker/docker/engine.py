"""The wire to the engine: one shared client, timeouts, and the engine's errors as two classes."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import requests
from docker import APIClient
from docker.errors import DockerException
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnectionPool
from docker.utils import parse_host
from urllib3.exceptions import HTTPError

from windlass.errors import Unavailable, WindlassError
from windlass.messages.jobs import Registry

NEWEST = "1.51"
"""The newest version of the API that the tests have seen."""
SLOW_S = 120.0
"""For what may take long on a busy engine: create, start, remove, archives."""
QUICK_S = 10.0
"""For what is answered from memory: ping, inspect, list."""

LOOK_S = 0.25
"""How often we look whether it is back."""

Value = TypeVar("Value")
Json = dict[str, Any]


class Refused(WindlassError):
    """The engine answered with an error: `status` is HTTP's, the message the engine's own sentence."""

    code = "engine_refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gone(Unavailable):
    """The engine did not answer, or stopped in the middle of its answer."""

    code = "engine_gone"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of itself."""

    architecture: str
    is_podman: bool
    is_remapped: bool
    """Whether root in a container is another user outside: rootless engines and user namespaces."""


class _OnePool(UnixHTTPAdapter):
    """The stock adapter keeps one pool of connections per URL, so that nothing is ever used again; one is enough."""

    def get_connection(self, url: str | bytes, proxies: Mapping[str, str] | None = None) -> UnixHTTPConnectionPool:
        return super().get_connection("engine", proxies)


class Engine:
    """Calls to one engine. It blocks, and may be used from several threads."""

    def __init__(self, host: str, connections: int, config: str = "") -> None:
        self.host = host
        self._connections = connections
        self._config = config
        self._client: APIClient | None = None
        self._version = NEWEST

    @property
    def socket(self) -> str | None:
        """The path of its socket file; None when it is elsewhere."""
        return _socket(self.host)

    @property
    def is_local(self) -> bool:
        """Whether it is behind a socket file, so likely on this machine."""
        return self.socket is not None

    def connect(self) -> Facts:
        """Agree on a version, and learn what engine it is.

        Raises:
            Gone, Refused: nobody answers, or nobody we understand.
        """
        client = self._client_for(NEWEST)
        with translated():
            version = client.get(f"{client.base_url}/version", timeout=QUICK_S)
        answer: Json = _checked(version).json()
        self._version = _smaller(NEWEST, answer.get("ApiVersion", NEWEST), answer.get("MinAPIVersion", "1.12"))
        client.close()
        self._client = self._client_for(self._version)
        options = self.json("GET", "/info").get("SecurityOptions") or []
        return Facts(
            architecture=str(answer.get("Arch", "")),
            is_podman=any("podman" in part.get("Name", "").lower() for part in answer.get("Components") or []),
            is_remapped=any("name=rootless" in option or "name=userns" in option for option in options),
        )

    def _client_for(self, version: str) -> APIClient:
        try:
            client = APIClient(base_url=self.host, version=version, timeout=int(SLOW_S), max_pool_size=self._connections)
        except DockerException as error:
            raise Gone(f"{self.host} is no address of an engine we can talk to: {error}") from error
        path = _socket(self.host)
        if path is not None:
            client.mount("http+docker://", _OnePool(f"http+unix://{path}", int(SLOW_S), 1, self._connections))
        if self._config:
            client.reload_config(self._config)
        return client

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Json | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = QUICK_S,
        stream: bool = False,
    ) -> requests.Response:
        """One request; `timeout_s` None waits for ever.

        Raises:
            Refused: the engine said no.
            Gone: it said nothing.
        """
        client = self._client
        if client is None:
            raise Gone("not connected")
        sent = dict(headers or {})
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        with translated():
            answer = client.request(
                method,
                f"{client.base_url}/v{self._version}{path}",
                params=params,
                data=data,
                headers=sent,
                timeout=timeout_s,
                stream=stream,
            )
            return _checked(answer)

    def json(self, method: str, path: str, **how: Any) -> Json:
        """One request, and its answer decoded (an object; a list comes as `{"items": …}`)."""
        answer = self.call(method, path, **how)
        with translated():
            decoded = answer.json() if answer.content else {}
        return decoded if isinstance(decoded, dict) else {"items": decoded}

    def pull(self, name: str, registry: Registry | None = None) -> Iterator[Json]:
        """The lines of a pull, as the user that is named, else as the engine's configuration file says for that registry."""
        client = self._client
        if client is None:
            raise Gone("not connected")
        with translated():
            auth = {"username": registry.username, "password": registry.password} if registry and registry.username else None
            yield from client.pull(name, stream=True, decode=True, auth_config=auth)

    def load(self, tar: bytes, name: str, command: str) -> None:
        """Make an image of one layer from a tar."""
        repository, _, tag = name.rpartition(":")
        params = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": f"CMD {json.dumps([command])}"}
        answer = self.call("POST", "/images/create", params=params, data=tar, timeout_s=SLOW_S)
        for line in answer.text.splitlines():
            if line.strip() and "error" in (told := json.loads(line)):
                raise Refused(500, str(told["error"]))

    def close(self) -> None:
        """Drop the connections."""
        if self._client is not None:
            self._client.close()


def patiently(act: Callable[[], Value], away_s: float, is_over: Callable[[], bool]) -> Value:
    """Do something again until the engine answers.

    Raises:
        Gone: it did not for `away_s`, or until it `is_over`.
    """
    deadline = time.monotonic() + away_s
    while True:
        try:
            return act()
        except Gone as error:
            if time.monotonic() > deadline or is_over():
                raise Gone(f"the engine did not come back within {away_s:.0f} s: {error}") from error
            time.sleep(LOOK_S)


class Attachment:
    """The outputs of a container, as the engine sends them.

    Read through the buffer that http.client filled: the first bytes may have come with the headers of the answer.
    """

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer
        self._buffer: io.BufferedReader = answer.raw._fp.fp  # type: ignore[union-attr]  # of a stream, it is there

    def read(self, size: int) -> bytes:
        """What has come, at most `size` bytes; empty at the end of the stream.

        Raises:
            Gone: the connection broke.
        """
        with translated():
            return self._buffer.read1(size)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._answer.close()


def answers(host: str, timeout_s: float = 2.0) -> bool:
    """Whether something like an engine is behind an address."""
    path = _socket(host)
    if path is not None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
                wire.settimeout(timeout_s)
                wire.connect(path)
                wire.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
                return b" 200 " in wire.recv(64)
        except OSError:
            return False
    try:
        Engine(host, 1).connect()
    except (Gone, Refused):
        return False
    return True


def _socket(host: str) -> str | None:
    """The path of an engine's socket file; None when it is elsewhere."""
    address = str(parse_host(host))
    if not address.startswith("http+unix:"):
        return None
    return "/" + address.removeprefix("http+unix://").lstrip("/")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns what client, sockets and http.client raise into `Refused` and `Gone`."""
    try:
        yield
    except DockerException as error:
        response = getattr(error, "response", None)
        if response is not None:
            raise Refused(response.status_code, str(getattr(error, "explanation", None) or error)) from error
        raise Gone(str(error)) from error
    except (requests.RequestException, HTTPError, OSError, ValueError, AttributeError) as error:
        # A connection that is closed under its reader shows as ValueError or AttributeError in http.client.
        raise Gone(f"the engine does not answer: {error}") from error


def _checked(answer: requests.Response) -> requests.Response:
    if answer.status_code < 400:
        return answer
    try:
        message = str(json.loads(answer.content).get("message", "")).strip()
    except (ValueError, AttributeError):
        message = answer.text.strip()[:1000] if answer.content else ""
    answer.close()
    raise Refused(answer.status_code, message or f"status {answer.status_code}")


def _smaller(newest: str, theirs: str, lowest: str) -> str:
    def key(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    return max(min(newest, theirs, key=key), lowest, key=key)
