"""Free ports on loopback."""

import random
import socket
from collections.abc import Collection

from windlass.errors import Misconfigured

LOOPBACK = "127.0.0.1"
LOWEST, HIGHEST = 15000, 32000
"""Below the range from which systems give ports to outgoing connections (Linux: 32768 and up). A server that restarts must
find its port free, and a client that keeps calling a closed port of that range can end up connected to itself."""


def is_free(port: int) -> bool:
    """Whether a server may listen on a port of loopback right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: not hindered by what just closed
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick(taken: Collection[int] = ()) -> int:
    """A free port that is none of `taken`.

    Raises:
        Misconfigured: hundreds were tried.
    """
    for _ in range(500):
        port = random.randrange(LOWEST, HIGHEST)  # noqa: S311 not a secret
        if port not in taken and is_free(port):
            return port
    raise Misconfigured(f"no free port between {LOWEST} and {HIGHEST} on {LOOPBACK}; end programs that hold them")


def first_free(ports: range) -> int:
    """The first free one.

    Raises:
        Misconfigured: there is none.
    """
    for port in ports:
        if is_free(port):
            return port
    raise Misconfigured(f"ports {ports[0]}–{ports[-1]} are all in use; choose one with --port, or let --port 0 pick")
