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


class Webhook(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Whom to tell by HTTP what happens to a job: `url` gets a POST for each `event`, if the expression `if_` says true.

    The values of `headers` are templates. An empty `event` is `job.StateChange`; one that is not in `HOOK_EVENTS` never happens.
    """

    url: str
    headers: dict[str, str] = {}
    event: str = ""
    if_: str = msgspec.field(name="if", default="")


JOB_STATE, JOB_PROGRESS, TASK_STATE, TASK_PROGRESS = "job.StateChange", "job.Progress", "task.StateChange", "task.Progress"
HOOK_EVENTS = frozenset({JOB_STATE, JOB_PROGRESS, TASK_STATE, TASK_PROGRESS})
"""What a webhook may be told of."""


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A job as it is submitted: tasks in order, `inputs` for their templates, `output` the template of its result."""

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    inputs: dict[str, str] = {}
    output: str = ""
    webhooks: tuple[Webhook, ...] = ()
    tasks: tuple[Task, ...]

    @property
    def is_hooked(self) -> bool:
        """Whether a webhook may want to hear of this job: then all events matter, since what it is told is folded from them."""
        return any((webhook.event or JOB_STATE) in HOOK_EVENTS for webhook in self.webhooks)
