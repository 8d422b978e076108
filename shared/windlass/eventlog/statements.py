"""SQL by name: one statement a file, in `sql/`."""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> bytes:
    """The text of `sql/<name>.sql`."""
    return (files("windlass.eventlog") / "sql" / f"{name}.sql").read_bytes()
