"""What people write: jobs and tasks, in the words of their files (camelCase there, as in Tork).

These classes are the language itself, so a field that is not here is refused by name. They travel inside commands and
events; a definition is kept as it was submitted, a task row as it was evaluated.
"""

import msgspec


class Retry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """How often a failed task is tried again: `limit` more times, 1–10."""

    limit: int


class Wait(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Makes `POST /jobs` answer with the ended job, after `timeout` at the latest (a Go duration)."""

    timeout: str


class Task(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """One step of a job. `timeout` is a Go duration, `priority` 0–9 with 9 first, `if_` a template: `false` skips."""

    name: str
    description: str = ""
    run: str = ""
    image: str = ""
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    queue: str = ""
    priority: int = 0
    var: str = ""
    if_: str = msgspec.field(name="if", default="")
    timeout: str = ""
    retry: Retry | None = None
    tags: tuple[str, ...] = ()


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A job as it is submitted: tasks in order, `inputs` for their templates, `output` the template of its result."""

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    inputs: dict[str, str] = {}
    output: str = ""
    tasks: tuple[Task, ...]
