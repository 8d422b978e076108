"""The schema of an installation as SQL that makes it, read from the catalog: what `schema.sql` holds, and how two are compared.

Run as a program it writes that file: `just schema`. The roles have to exist when the file is run.
"""

from pathlib import Path

import psycopg

from tests.support.stack import servers
from windlass.eventlog import migrate

FILE = Path(migrate.__file__).parent / "migrations" / "schema.sql"
HEAD = """-- What the migrations come to, for reading: written by `just schema` from a migrated database, and compared by a test.
-- Why a table or column is as it is stands in the migrations.
"""

TABLES = """
SELECT c.oid, c.relname, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid), p.relname
  FROM pg_class AS c
  LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
  LEFT JOIN pg_class AS p ON p.oid = i.inhparent
 WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p')
 ORDER BY p.relname IS NOT NULL, c.relname
"""
COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attribute AS a
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""
CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid)
  FROM pg_constraint
 WHERE conrelid = %s AND conparentid = 0 AND contype <> 'n'
 ORDER BY contype, conname
"""
INDEXES = """
SELECT pg_get_indexdef(i.indexrelid)
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE i.indrelid = %s AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
 ORDER BY c.relname
"""
FUNCTIONS = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY proname"
GRANTS = """
SELECT string_agg(DISTINCT privilege_type, ', ' ORDER BY privilege_type), kind, name,
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END AS role
  FROM (
      SELECT 'TABLE' AS kind, relname::text AS name, relowner AS owner, (aclexplode(relacl)).*
        FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p', 'S')
       UNION ALL
      SELECT 'FUNCTION', oid::regprocedure::text, proowner, (aclexplode(coalesce(proacl, acldefault('f', proowner)))).*
        FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
       UNION ALL
      SELECT 'SCHEMA', nspname::text, nspowner, (aclexplode(nspacl)).* FROM pg_namespace WHERE nspname = %(schema)s::text
  ) AS a
 WHERE grantee <> owner
 GROUP BY kind, name, role
 ORDER BY kind, name, role
"""


def describe(connection: psycopg.Connection, schema: str = migrate.SCHEMA) -> str:
    """The SQL that makes a schema as this one is, without its rows."""
    connection.execute("SELECT set_config('search_path', %s, false)", (schema,))
    parts = []
    for oid, table, key, bound, parent in connection.execute(TABLES, (schema,)).fetchall():
        if parent is None:
            lines = []
            for name, kind, needed, default in connection.execute(COLUMNS, (oid,)):
                lines.append(f"    {name} {kind}{' NOT NULL' * needed}{f' DEFAULT {default}' if default else ''}")
            made = f"CREATE TABLE {table} (\n" + ",\n".join(lines) + "\n)"
        else:
            made = f"CREATE TABLE {table} PARTITION OF {parent} {bound}"
        made += f" PARTITION BY {key};" if key else ";"
        for name, definition in connection.execute(CONSTRAINTS, (oid,)):
            made += f"\nALTER TABLE {table} ADD CONSTRAINT {name} {definition};"
        for (definition,) in connection.execute(INDEXES, (oid,)):
            made += f"\n{definition};"
        parts.append(made)
    parts += [f"{definition.rstrip()};" for (definition,) in connection.execute(FUNCTIONS, (schema,))]
    grants = [
        f"GRANT {rights} ON {kind} {name} TO {role};"
        for rights, kind, name, role in connection.execute(GRANTS, {"schema": schema})
    ]
    revoked = [
        f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC;"
        for (name,) in connection.execute(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY 1", (schema,)
        )
    ]
    parts.append("\n".join(revoked + grants))
    return HEAD + "\n" + "\n\n".join(parts).replace(f"{schema}.", "").replace(f"TO '{schema}'", "FROM CURRENT") + "\n"


def main() -> None:
    """Write the file."""
    with servers() as both:
        migrate.migrate(both.postgres.dsn)
        with psycopg.connect(both.postgres.dsn) as connection:
            FILE.write_text(describe(connection))


if __name__ == "__main__":
    main()
