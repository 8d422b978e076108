"""What people write: jobs and tasks, in the words of their files (camelCase there, as in Tork).

These classes are the language itself, so a field that is not here is refused by name. They travel inside commands and
events; a definition is kept as it was submitted, a task row as it was evaluated.
"""

import msgspec


class Retry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """How often a failed task is tried again, and after which pause.

    `limit` more times, 1–10: at once, or with `delay` (a Go duration) after `delay × scalingFactor^(k-1)` before the k-th time.
    Only one of the two need be given: the other is 1 s or 2 (`scaling_factor` 0 is absent).
    """

    limit: int
    delay: str = ""
    scaling_factor: int = 0

    @property
    def is_delayed(self) -> bool:
        """Whether a failed task waits before it is tried again."""
        return bool(self.delay or self.scaling_factor)


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

    @property
    def is_timed(self) -> bool:
        """Whether its rows may have timers."""
        return bool(self.timeout) or self.retry_is_delayed

    @property
    def retry_is_delayed(self) -> bool:
        """Whether it waits before it is tried again."""
        return self.retry is not None and self.retry.is_delayed


class Defaults(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What tasks of a job have where they say nothing themselves; a priority of 0 says nothing."""

    retry: Retry | None = None
    timeout: str = ""
    queue: str = ""
    priority: int = 0


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
    """A job as it is submitted: tasks in order, `inputs` for their templates, `output` the template of its result.

    It starts at once, or `delay` (a Go duration) after it was accepted, or at `run_at` (RFC 3339); one of the two at most.
    """

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    inputs: dict[str, str] = {}
    output: str = ""
    defaults: Defaults | None = None
    webhooks: tuple[Webhook, ...] = ()
    delay: str = ""
    run_at: str = ""
    tasks: tuple[Task, ...]

    @property
    def is_delayed(self) -> bool:
        """Whether it may have to wait for its start."""
        return bool(self.delay or self.run_at)

    @property
    def is_hooked(self) -> bool:
        """Whether a webhook may want to hear of this job: then all events matter, since what it is told is folded from them."""
        return any((webhook.event or JOB_STATE) in HOOK_EVENTS for webhook in self.webhooks)
