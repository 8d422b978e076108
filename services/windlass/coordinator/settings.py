"""The coordinator's settings."""

from collections.abc import Mapping

import msgspec

from windlass.settings import Node, node, postgres


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once, at start."""

    node: Node
    postgres: str

    @classmethod
    def load(cls, environ: Mapping[str, str], http: str | None, log_format: str | None) -> "Settings":
        """From flags and environment.

        Raises:
            Misconfigured: one is missing or wrong.
        """
        return cls(node=node(environ, "coordinator", http, log_format), postgres=postgres(environ))
