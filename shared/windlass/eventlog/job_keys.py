"""The keys of jobs that have secrets, wrapped by a master key. Operational, outside a rebuild."""

from collections.abc import Collection
from uuid import UUID

import psycopg

from windlass.errors import Misconfigured
from windlass.eventlog.statements import statement
from windlass.secrets.keys import Keys, transport
from windlass.secrets.vault import Vault, unwrapped

WRAPPED_MAX = 200
"""Keys wrapped anew in one transaction."""


def check(connection: psycopg.Connection, master: Keys | None) -> None:
    """Whether these master keys are all that is needed here.

    Raises:
        Misconfigured: keys of jobs are wrapped by another.
    """
    given = [] if master is None else master.ids
    missing = [name for (name,) in connection.execute(statement("read_master_keys")) if name not in given]
    if missing:
        raise Misconfigured(
            f"WINDLASS_SECRET_KEY has {', '.join(given) or 'no key'}, and secrets of jobs here need {', '.join(missing)}: give "
            " that one, or, while keys are replaced, both with a comma between and the new one first"
        )


def wrap_anew(connection: psycopg.Connection, master: Keys) -> int:
    """Wrap some of the keys that an older master key wraps by the current one; returns how many there were.

    Raises:
        Unopened: one cannot be unwrapped.
    """
    with connection.transaction():
        old = {"others": master.ids[1:], "most": WRAPPED_MAX}
        rows = connection.execute(statement("find_old_job_keys"), old).fetchall()
        if rows:
            found = [(job, unwrapped(job, wrapped, master), hooked) for job, wrapped, hooked in rows]
            connection.execute(
                statement("wrap_job_keys"),
                {
                    "job": [UUID(job) for job, _, _ in found],
                    "master": [master.first.id for _ in found],
                    "wrapped": [vault.wrapped(master) for _, vault, _ in found],
                    "webhooks": [for_webhooks(vault, master) if hooked else "" for _, vault, hooked in found],
                },
            )
    return len(rows)


def for_webhooks(vault: Vault, master: Keys) -> str:
    """The key of a job as the webhooks service can unwrap it."""
    return vault.wrapped(transport(master, "webhooks"))


def destroy(connection: psycopg.Connection, jobs: Collection[str]) -> None:
    """Delete the keys of jobs: what they sealed is gone, in the log as well."""
    connection.execute(statement("destroy_job_keys"), {"jobs": [UUID(job) for job in jobs]})


def read_for_webhooks(connection: psycopg.Connection, jobs: Collection[str], keys: Keys | None) -> dict[str, Vault]:
    """The keys of those of some jobs that have one which the webhooks service can unwrap with these."""
    if keys is None or not jobs:
        return {}
    rows = connection.execute(statement("load_webhook_keys"), {"jobs": [UUID(job) for job in jobs]})
    return {job: unwrapped(job, wrapped, keys) for job, wrapped in rows}
