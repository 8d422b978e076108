"""Whom a webhook may reach: names are resolved once, and only what was found is connected to."""

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress

RESOLVING_MAX = 64
"""Names that are looked up at once; one that hangs holds one place."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Forbidden(Exception):
    """A name leads only to addresses that may not be called."""


def is_private(text: str) -> bool:
    """Whether an address is of this machine or a network behind it, or of nobody in particular."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_private(str(inner))
    return not address.is_global or address.is_multicast


class Resolver:
    """Looks names up, each once at a time, in threads that hold up nobody when they hang."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._asked: dict[str, asyncio.Future[list[str]]] = {}
        self._places = asyncio.Semaphore(RESOLVING_MAX)

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host that may be called, in the system's order.

        Raises:
            OSError: it has none.
            Forbidden: it has only others.
        """
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            found = await self._look_up(host)
        allowed = [address for address in found if self._allow_private or not is_private(address)]
        if not allowed:
            raise Forbidden(f"{host} is at {found[0]}, which is not public; WINDLASS_WEBHOOKS_ALLOW_PRIVATE=true permits it")
        return allowed

    async def _look_up(self, host: str) -> list[str]:
        if host not in self._asked:
            self._asked[host] = future = asyncio.ensure_future(self._ask(host))
            future.add_done_callback(lambda done: (self._asked.pop(host), done.cancelled() or done.exception()))
        return await asyncio.shield(self._asked[host])

    async def _ask(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def give(found: list[str], error: OSError | None) -> None:
            if not answer.done():
                answer.set_exception(error) if error is not None else answer.set_result(found)

        def ask() -> None:
            found, failure = [], None
            try:
                found = list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
            except OSError as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(give, found, failure)

        async with self._places:
            threading.Thread(target=ask, name="resolver", daemon=True).start()
            return await answer
