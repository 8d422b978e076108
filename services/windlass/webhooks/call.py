"""One HTTP call: to an address that was checked, without redirects, with an end to everything."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpcore
import msgspec

from windlass import urls
from windlass.clock import Clock
from windlass.eventlog.deliveries import TARGET, Taken, Target
from windlass.release import RELEASE
from windlass.secrets.keys import Keys, Unopened
from windlass.secrets.vault import unwrapped
from windlass.webhooks.addresses import Forbidden, Resolver
from windlass.webhooks.policy import Answer
from windlass.webhooks.signing import sign

CALL_S = 5.0
"""From looking up the name to the status line of the answer."""
CONNECT_S = 2.0
"""For one of several addresses."""
READ_S = 1.0
"""For the rest of an answer, which tells nothing more: reading it spares the receiver an error."""
READ_MAX = 64 * 1024
"""Bytes of an answer that are read."""

_targets = msgspec.json.Decoder(Target)
_SENDING = "http11.send_request_headers.started"
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)


class TooLate(Exception):
    """The lane may be another's by now: nothing was sent."""


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the resolver allows."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver, self._inner = resolver, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolver.addresses(host)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, CONNECT_S, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)


def target_of(delivery: Taken, keys: Keys | None) -> Target:
    """Whom to call, with all that is sealed of it.

    Raises:
        Unopened: it is sealed with other keys, or the job's key is gone.
    """
    if not delivery.sealed:
        return Target(delivery.url, dict(delivery.headers))
    if keys is None or not delivery.key:
        raise Unopened("there is no key for them here" if delivery.key else "the job's key is gone, since it was deleted")
    return _targets.decode(unwrapped(delivery.job, delivery.key, keys).open(TARGET, delivery.sealed))


class Caller:
    """Makes calls; `keys` sign them, if there are any, and `secret_keys` open what of them is sealed."""

    def __init__(self, *, resolver: Resolver, keys: list[bytes], clock: Clock, secret_keys: Keys | None = None) -> None:
        self._backend, self._keys, self._clock, self._secret_keys = _Backend(resolver), keys, clock, secret_keys
        self._tls: ssl.SSLContext | None = None

    async def post(self, delivery: Taken, may_send: Callable[[], bool]) -> Answer:
        """Make a call; `may_send` is asked at the last moment before the first byte.

        Raises:
            TooLate: it said no.
        """

        async def trace(name: str, _: Mapping[str, Any]) -> None:
            if name == _SENDING and not may_send():
                raise TooLate

        try:
            target = target_of(delivery, self._secret_keys)
        except Unopened as error:
            return Answer(None, f"its secrets cannot be read: {error}", is_final=not delivery.key)
        try:
            async with asyncio.timeout(CALL_S) as limit:
                url = urls.parse(target.url)
                async with (
                    httpcore.AsyncConnectionPool(
                        ssl_context=self._context() if url.scheme == "https" else None,
                        network_backend=self._backend,
                        max_connections=1,
                    ) as connection,
                    connection.stream(
                        "POST",
                        httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
                        headers=self._headers(delivery, target.headers, url.credentials),
                        content=delivery.body,
                        extensions={"trace": trace},
                    ) as response,
                ):
                    limit.reschedule(None)  # it has answered, and that counts
                    await _read(response)
                    return Answer(response.status, "", _retry_after(response.headers))
        except TimeoutError:
            return Answer(None, f"no answer within {CALL_S:g} s")
        except Forbidden as error:
            return Answer(None, str(error), is_final=True)
        except _FAILURES as error:
            return Answer(None, str(error) or type(error).__name__)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpcore.default_ssl_context()
        return self._tls

    def _headers(self, delivery: Taken, told: Mapping[str, str], credentials: str) -> list[tuple[bytes, bytes]]:
        timestamp = int(self._clock.now().timestamp())
        found = {"content-type": "application/json; charset=UTF-8", "user-agent": f"windlass/{RELEASE}"}
        if credentials:
            found["authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
        found |= {name.lower(): value for name, value in told.items()}
        found |= {"webhook-id": delivery.id, "webhook-timestamp": str(timestamp)}
        if self._keys:
            found["webhook-signature"] = sign(self._keys, delivery.id, timestamp, delivery.body)
        return [(name.encode(), value.encode()) for name, value in found.items()]


async def _read(response: httpcore.Response) -> None:
    """Read what the receiver says besides, within limits."""
    left = READ_MAX
    try:
        async with asyncio.timeout(READ_S):
            async for part in response.aiter_stream():
                left -= len(part)
                if left <= 0:
                    return
    except (*_FAILURES, TimeoutError):
        return


def _retry_after(headers: list[tuple[bytes, bytes]]) -> float:
    """The seconds of a `Retry-After`; a date, or nonsense, counts as nothing."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() and len(value) < 10 else 0.0
