"""SQL by name: one statement a file, in `sql/`."""

from functools import cache
from importlib.resources import files

from psycopg import sql


@cache
def statement(name: str) -> bytes:
    """The text of `sql/<name>.sql`."""
    return (files("windlass.eventlog") / "sql" / f"{name}.sql").read_bytes()


@cache
def composed(name: str, **names: str) -> sql.Composed:
    """The text of `sql/<name>.sql` with names of tables and columns in the places that it leaves for them."""
    text = sql.SQL(statement(name).decode())
    return text.format(**{place: sql.Identifier(chosen) for place, chosen in names.items()})
