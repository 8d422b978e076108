"""Ports that stay free for those who will listen on them."""

import socket
import subprocess
import sys

from windlass.local import ports


def test_picked_ports_are_below_those_that_clients_get() -> None:
    found = [ports.pick() for _ in range(50)]
    assert all(ports.LOWEST <= port.number < ports.HIGHEST for port in found)
    assert len({port.number for port in found}) == 50
    for port in found:
        port.release()


def test_a_reserved_port_is_nobody_elses_until_it_is_released_and_its_owner_may_listen() -> None:
    port = ports.pick()
    assert ports.reserve(port.number) is None
    script = f"import sys\nfrom windlass.local import ports\nsys.exit(ports.reserve({port.number}) is not None)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    socket.create_server((ports.LOOPBACK, port.number)).close()
    port.release()
    again = ports.reserve(port.number)
    assert again is not None
    again.release()


def test_a_port_that_somebody_listens_on_is_taken() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        number = server.getsockname()[1]
        assert ports.reserve(number) is None
        assert ports.first_free([number]) is None
