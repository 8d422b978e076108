"""The gateway's settings."""

from collections.abc import Mapping

import msgspec

from windlass import settings
from windlass.errors import Misconfigured
from windlass.secrets import keys
from windlass.secrets.keys import Keys

ADDRESS = "127.0.0.1:8000"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is told."""

    node: settings.Node
    postgres_dsn: str
    address: tuple[str, int]
    """Where the API answers; port 0 picks one."""
    keys: Keys | None = None
    """What secrets are sealed with on their way to the coordinators; without it, jobs with secrets are refused."""


def read(environ: Mapping[str, str], port: int | None = None, http: str | None = None, log_format: str | None = None) -> Settings:
    """Read the settings; `--port` changes only the port.

    Raises:
        Misconfigured: one is missing or wrong, or the address is open to others although nobody is asked who they are.
    """
    text = settings.lookup(environ, "GATEWAY_ADDRESS") or settings.lookup(environ, "COORDINATOR_ADDRESS", default=ADDRESS)
    host, number = settings.address(text, "WINDLASS_GATEWAY_ADDRESS")
    if port is not None:
        number = port
    if not 0 <= number <= 65535:
        raise Misconfigured(f"--port {number}: a port is 0–65535")
    told = settings.is_on(settings.lookup(environ, "ALLOW_UNAUTHENTICATED"))
    if not told and not settings.is_loopback(host):
        raise Misconfigured(
            f"the API has no authentication yet, so {host} is not bound: use 127.0.0.1, or set "
            "WINDLASS_ALLOW_UNAUTHENTICATED=true where only trusted machines can reach it"
        )
    return Settings(
        node=settings.node(environ, "gateway", http, log_format),
        postgres_dsn=settings.needed(environ, "POSTGRES_DSN", "the database, postgresql://user:password@host:5432/name"),
        address=(host, number),
        keys=keys.read(settings.lookup(environ, "SECRET_KEY"), "gateway"),
    )
