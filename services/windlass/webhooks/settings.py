"""The webhooks service's settings."""

from collections.abc import Mapping

import msgspec

from windlass.durations import NotADuration, seconds
from windlass.errors import Misconfigured
from windlass.secrets import keys
from windlass.secrets.keys import Keys
from windlass.settings import Node, is_on, lookup, node, postgres
from windlass.webhooks import signing

ATTEMPTS = 5
ATTEMPTS_MAX = 100
RETENTION = "720h"
RETENTION_MIN_S = 60.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once, at start."""

    node: Node
    postgres: str
    allow_private: bool
    """Whether loopback and private networks may be called."""
    signing_keys: list[bytes]
    """That calls are signed with."""
    keys: Keys | None = None
    """What unwraps the keys of jobs that have secrets; without it, headers with secrets are empty."""
    attempts_max: int
    retention_s: float
    """How long what is over is kept."""

    @classmethod
    def load(cls, environ: Mapping[str, str], http: str | None, log_format: str | None) -> "Settings":
        """From flags and environment.

        Raises:
            Misconfigured: one is missing or wrong.
        """
        attempts = lookup(environ, "WEBHOOKS_ATTEMPTS", default=str(ATTEMPTS))
        if not attempts.isdigit() or not 1 <= int(attempts) <= ATTEMPTS_MAX:
            raise Misconfigured(f"WINDLASS_WEBHOOKS_ATTEMPTS is {attempts!r}; it is a number from 1 to {ATTEMPTS_MAX}")
        retention = lookup(environ, "WEBHOOKS_RETENTION", default=RETENTION)
        try:
            retention_s = seconds(retention)
        except NotADuration as error:
            raise Misconfigured(f"WINDLASS_WEBHOOKS_RETENTION: {error}; write hours, such as {RETENTION}") from error
        if retention_s < RETENTION_MIN_S:
            raise Misconfigured(f"WINDLASS_WEBHOOKS_RETENTION is {retention}; it is a minute (1m) or more")
        return cls(
            node=node(environ, "webhooks", http, log_format),
            postgres=postgres(environ),
            allow_private=is_on(lookup(environ, "WEBHOOKS_ALLOW_PRIVATE")),
            signing_keys=signing.keys(lookup(environ, "WEBHOOKS_SECRET")),
            keys=keys.read(lookup(environ, "SECRET_KEY"), "webhooks"),
            attempts_max=int(attempts),
            retention_s=retention_s,
        )
