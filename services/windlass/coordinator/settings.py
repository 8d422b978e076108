"""The coordinator's settings."""

from collections.abc import Mapping

import msgspec

from windlass.secrets import keys
from windlass.secrets.keys import Keys
from windlass.settings import Node, lookup, node, postgres


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once, at start."""

    node: Node
    postgres: str
    master: Keys | None = None
    """Keys that wrap those of jobs; without any, jobs with secrets are refused."""

    @classmethod
    def load(cls, environ: Mapping[str, str], http: str | None, log_format: str | None) -> "Settings":
        """From flags and environment.

        Raises:
            Misconfigured: one is missing or wrong.
        """
        return cls(
            node=node(environ, "coordinator", http, log_format),
            postgres=postgres(environ),
            master=keys.read(lookup(environ, "SECRET_KEY"), "coordinator"),
        )
