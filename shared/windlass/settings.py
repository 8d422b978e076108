"""Settings: a flag, then `WINDLASS_*`, then `TORK_*`, then the default; read once, at start, into frozen structs."""

import ipaddress
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from windlass.errors import Misconfigured

Value = TypeVar("Value")


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """The times that promises rest on, in seconds; the fast profile is for tests."""

    lease_s: float = 60.0
    """Without a heartbeat for this long, a worker is lost and kills what it runs."""
    heartbeat_s: float = 10.0
    """From one heartbeat to the next: a sixth of the lease."""
    redrive_s: float = 15.0
    """When an order that had no effect is sent again for the first time; doubles from there."""
    redrive_max_s: float = 600.0
    """The longest pause between two sendings of the same order."""
    sweep_s: float = 2.0
    """How often a coordinator looks for orders to send again."""
    commit_timeout_s: float = 10.0
    """How long the gateway waits for a commit before it answers that the outcome is unknown."""
    grace_s: float = 10.0
    """From SIGTERM to the end of a service that has not finished."""


PROFILES = {"default": Times(), "fast": Times(lease_s=3.0, heartbeat_s=1.0, redrive_s=3.0, sweep_s=0.5)}

SHARDS = 16
"""Of every installation, fixed for ever once it is made: publishers and owners must agree on it."""
LOST_ATTEMPTS_MAX = 5
"""How often a task may lose its worker; separate from `retry.limit`."""


def lookup(environ: Mapping[str, str], name: str, flag: str | None = None, default: str = "") -> str:
    """One setting by its name without prefix: `lookup(environ, "RUNTIME_TYPE")`."""
    for value in (flag, environ.get(f"WINDLASS_{name}"), environ.get(f"TORK_{name}")):
        if value is not None and value != "":
            return value
    return default


def is_on(text: str) -> bool:
    """Whether a setting that is a switch is on."""
    return text.lower() in ("1", "true", "yes", "on")


def is_loopback(host: str) -> bool:
    """Whether an address or name is only reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def times(environ: Mapping[str, str]) -> Times:
    """The times of `WINDLASS_PROFILE`.

    Raises:
        Misconfigured: there is no such profile.
    """
    profile = lookup(environ, "PROFILE", default="default")
    if profile not in PROFILES:
        raise Misconfigured(f"WINDLASS_PROFILE is {profile!r}; it is one of: {', '.join(PROFILES)}")
    return PROFILES[profile]


def address(text: str, what: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an empty host is loopback.

    Raises:
        Misconfigured: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise Misconfigured(f"{what} is {text!r}; write HOST:PORT, for example 127.0.0.1:8000")
    return host.strip("[]") or "127.0.0.1", int(port)


def needed(environ: Mapping[str, str], name: str, what: str) -> str:
    """A setting that has no default.

    Raises:
        Misconfigured: it is not set.
    """
    value = lookup(environ, name)
    if not value:
        raise Misconfigured(
            f'WINDLASS_{name} is not set: {what}. Beside a running `windlass up`, use: eval "$(windlass env SERVICE)"'
        )
    return value


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Files for the link to NATS: the authority to trust (empty: the system's), and a certificate of one's own with its key."""

    ca: str = ""
    cert: str = ""
    key: str = ""


def nats_tls(environ: Mapping[str, str]) -> Tls:
    """What `tls://` in the address of the NATS server needs."""
    return Tls(ca=lookup(environ, "NATS_CA"), cert=lookup(environ, "NATS_CERT"), key=lookup(environ, "NATS_KEY"))


def postgres(environ: Mapping[str, str]) -> str:
    """The connection string of the database.

    Raises:
        Misconfigured: it is not set.
    """
    return needed(environ, "POSTGRES_DSN", "the connection string of the database, postgresql://user:password@host/name")


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What every service is told: who it is, where the servers are, how it logs and where it answers about its health."""

    instance: str
    nats_url: str
    nats_tls: Tls = Tls()
    http: tuple[str, int]
    times: Times
    log_format: str
    log_level: str
    prefix: str = ""


def node(environ: Mapping[str, str], service: str, http: str | None = None, log_format: str | None = None) -> Node:
    """Read the settings that all services share.

    Raises:
        Misconfigured: one is missing or wrong.
    """
    chosen = lookup(environ, "LOG_FORMAT", log_format, "console")
    if chosen not in ("console", "json"):
        raise Misconfigured(f"log format {chosen!r}; it is console or json")
    level = lookup(environ, "LOG_LEVEL", default=environ.get("TORK_LOGGING_LEVEL", "info"))
    if level not in ("debug", "info", "warn", "warning", "error"):
        raise Misconfigured(f"log level {level!r}; it is debug, info, warn or error")
    return Node(
        instance=lookup(environ, "INSTANCE", default=service),
        nats_url=needed(environ, "NATS_URL", "the address of the NATS server, nats://user:password@host:4222"),
        nats_tls=nats_tls(environ),
        http=address(lookup(environ, "HTTP", http, "127.0.0.1:0"), "--http"),
        times=times(environ),
        log_format=chosen,
        log_level=level,
        prefix=lookup(environ, "SUBJECT_PREFIX"),
    )
