"""Free ports on loopback, reserved among stacks that start at the same time."""

import random
import socket
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from windlass.errors import Misconfigured

LOOPBACK = "127.0.0.1"
LOWEST, HIGHEST = 15000, 32000
"""Below the range from which systems give ports to outgoing connections (Linux: 32768 and up). A server that restarts must
find its port free, and a client that keeps calling a closed port of that range can end up connected to itself."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that no other stack on this machine takes while this object lives."""

    number: int
    held: socket.socket | None
    """A socket that only bears the port's name; the kernel lets go of it when we die. Linux only."""

    def release(self) -> None:
        """Let others have it."""
        if self.held is not None:
            self.held.close()


def is_free(number: int) -> bool:
    """Whether a server may listen on a port of loopback right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: not hindered by what just closed
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return False
    return True


def reserve(number: int) -> Port | None:
    """A certain port, or None if it is in use or somebody else's soon.

    The port itself stays unbound, for the child that will listen on it: what is taken is a name, in the kernel's own table
    of names (unix(7), abstract sockets), which belongs to the same network namespace as the port.
    """
    if not is_free(number):
        return None
    if sys.platform != "linux":
        return Port(number, None)
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0windlass port {number}")
    except OSError:
        held.close()
        return None
    return Port(number, held)


def pick(avoid: Collection[int] = ()) -> Port:
    """Any free port that is none of `avoid`.

    Raises:
        Misconfigured: hundreds were tried.
    """
    for _ in range(500):
        number = random.randrange(LOWEST, HIGHEST)  # noqa: S311 not a secret
        if number not in avoid and (port := reserve(number)) is not None:
            return port
    raise Misconfigured(f"no free port between {LOWEST} and {HIGHEST} on {LOOPBACK}; end programs that hold them")


def first_free(numbers: Iterable[int]) -> Port | None:
    """The first free one, if there is one."""
    return next((port for number in numbers if (port := reserve(number)) is not None), None)
