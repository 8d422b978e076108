"""Where a gateway answers, and whom it answers there."""

import pytest

from windlass.errors import Misconfigured
from windlass.gateway.settings import read

ENVIRON = {"WINDLASS_NATS_URL": "nats://127.0.0.1:4222", "WINDLASS_POSTGRES_DSN": "postgresql://127.0.0.1/x"}


@pytest.mark.parametrize(
    ("environ", "port", "expected"),
    [
        ({}, None, ("127.0.0.1", 8000)),
        ({}, 0, ("127.0.0.1", 0)),
        ({"TORK_COORDINATOR_ADDRESS": "localhost:9000"}, None, ("localhost", 9000)),
        ({"TORK_COORDINATOR_ADDRESS": "localhost:9000", "WINDLASS_GATEWAY_ADDRESS": ":9001"}, None, ("127.0.0.1", 9001)),
        ({"WINDLASS_GATEWAY_ADDRESS": "[::1]:9001"}, 9002, ("::1", 9002)),
        ({"WINDLASS_GATEWAY_ADDRESS": "0.0.0.0:80", "WINDLASS_ALLOW_UNAUTHENTICATED": "true"}, None, ("0.0.0.0", 80)),
    ],
)
def test_the_address(environ: dict[str, str], port: int | None, expected: tuple[str, int]) -> None:
    assert read({**ENVIRON, **environ}, port).address == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.com"])
def test_an_address_that_others_reach_needs_a_word(host: str) -> None:
    with pytest.raises(Misconfigured, match="WINDLASS_ALLOW_UNAUTHENTICATED"):
        read({**ENVIRON, "WINDLASS_GATEWAY_ADDRESS": f"{host}:8000"})


@pytest.mark.parametrize("missing", list(ENVIRON))
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(Misconfigured, match=missing):
        read({name: value for name, value in ENVIRON.items() if name != missing})


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(Misconfigured, match="--port"):
        read(ENVIRON, port)
