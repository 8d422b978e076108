"""What people write: jobs and tasks, in the words of their files (camelCase there, as in Tork).

These classes are the language itself, so a field that is not here is refused by name. They travel inside commands and
events; a definition is kept as it was submitted, a task row as it was evaluated.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

AFTERCARE_S = 60.0
"""How long a `post` that always runs may take if it names no timeout: the task's own may have passed."""


class Retry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """How often a failed task is tried again, and after which pause.

    `limit` more times, 1–10: at once, or with `delay` (a Go duration) after `delay × scalingFactor^(k-1)` before the k-th time.
    Only one of the two need be given: the other is 1 s or 2 (`scaling_factor` 0 is absent). With `on`, only what ended for one
    of these reasons is tried again: an exit code, `timeout` or `lost`.
    """

    limit: int
    delay: str = ""
    scaling_factor: int = 0
    on: tuple[str, ...] = ()

    @property
    def is_delayed(self) -> bool:
        """Whether a failed task waits before it is tried again."""
        return bool(self.delay or self.scaling_factor)


class Wait(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Makes `POST /jobs` answer with the ended job, after `timeout` at the latest (a Go duration)."""

    timeout: str


class Limits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What a task may use: `cpus` a rational number (`.5`, `1/2`), `memory` a size with binary multiples (`10m`)."""

    cpus: str = ""
    memory: str = ""


class Registry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Who asks a registry for an image."""

    username: str = ""
    password: str = ""


class Mount(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Storage at `target` in a task's container: `type` is `volume`, `bind`, `tmpfs` or what a worker has registered."""

    type: str = ""
    source: str = ""
    target: str = ""
    opts: dict[str, str] = {}


class Probe(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """How a sidecar shows that it is ready: an answer to `GET path` on `port`, within `timeout` (a Go duration, else 1 m)."""

    path: str = ""
    port: int = 0
    timeout: str = ""


class AuxTask(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What runs beside a task, on the same worker: before it (`pre`) or after it (`post`).

    A `post` that is `always` run follows a failure or timeout too, for as long as its own `timeout` says, else one minute.
    """

    name: str
    description: str = ""
    image: str = ""
    run: str = ""
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    registry: Registry | None = None
    timeout: str = ""
    always: bool = False


class SidecarTask(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What runs for as long as a task does, on the same worker, and is ready when its `probe` says so."""

    name: str
    description: str = ""
    image: str = ""
    run: str = ""
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    registry: Registry | None = None
    timeout: str = ""
    probe: Probe | None = None


class AutoDelete(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """When an ended job is deleted: `after` its completion (a Go duration)."""

    after: str = ""


class Parallel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Tasks that run side by side. The composite ends well when all do, or with `min_success` when that many did."""

    tasks: "tuple[Task, ...]"
    min_success: int = 0


class Each(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """One task for each element of `list`, an expression that gives a list or a map.

    `task` sees the element as `item` (or `var`): `item.index` from 0, `item.value`, of a map `item.key`. At most `concurrency`
    of them are at work at a time; 0 is no limit. `min_success` as in `Parallel`.
    """

    var: str = ""
    list: str
    task: "Task"
    concurrency: int = 0
    min_success: int = 0


class SubJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A job that a task starts; the task ends as it does, or at once if it is `detached`. It sees no inputs but its own."""

    name: str
    description: str = ""
    tasks: "tuple[Task, ...]"
    inputs: dict[str, str] = {}
    secrets: dict[str, str] = {}
    auto_delete: AutoDelete | None = None
    output: str = ""
    detached: bool = False
    webhooks: "tuple[Webhook, ...]" = ()


class Task(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """One step of a job. `timeout` is a Go duration, `priority` 0–9 with 9 first, `if_` a template: `false` skips.

    A task with `parallel`, `each` or `subjob` is a composite: it runs nothing itself. `on_error` says what its failure means for
    the job: `fail` (also if empty) ends it, `continue` lets it go on and fail at its end, `ignore` counts as success. It starts
    when its turn comes, or `delay` (a Go duration) later, or then and not before `run_at` (RFC 3339).
    """

    name: str
    description: str = ""
    run: str = ""
    image: str = ""
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    workdir: str = ""
    queue: str = ""
    priority: int = 0
    var: str = ""
    if_: str = msgspec.field(name="if", default="")
    timeout: str = ""
    retry: Retry | None = None
    tags: tuple[str, ...] = ()
    registry: Registry | None = None
    mounts: tuple[Mount, ...] = ()
    networks: tuple[str, ...] = ()
    pre: tuple[AuxTask, ...] = ()
    post: tuple[AuxTask, ...] = ()
    sidecars: tuple[SidecarTask, ...] = ()
    limits: Limits | None = None
    gpus: str = ""
    parallel: Parallel | None = None
    each: Each | None = None
    subjob: SubJob | None = None
    on_error: str = ""
    delay: str = ""
    run_at: str = ""

    @property
    def is_composite(self) -> bool:
        """Whether other tasks run in its place."""
        return self.parallel is not None or self.each is not None or self.subjob is not None

    def inner(self) -> "tuple[Task, ...]":
        """The tasks that run in its place."""
        if self.parallel is not None:
            return self.parallel.tasks
        if self.each is not None:
            return (self.each.task,)
        return () if self.subjob is None else self.subjob.tasks

    def passwords(self) -> "Iterator[str]":
        """Those by which registries are asked for its images."""
        programs: tuple[Task | AuxTask | SidecarTask, ...] = (self, *self.pre, *self.post, *self.sidecars)
        for program in programs:
            if program.registry is not None and program.registry.password:
                yield program.registry.password

    @property
    def is_timed(self) -> bool:
        """Whether its rows may have timers."""
        return bool(self.timeout) or self.retry_is_delayed or self.is_delayed

    @property
    def is_delayed(self) -> bool:
        """Whether it may have to wait when its turn has come."""
        return bool(self.delay or self.run_at)

    @property
    def retry_is_delayed(self) -> bool:
        """Whether it waits before it is tried again."""
        return self.retry is not None and self.retry.is_delayed


class Defaults(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What tasks of a job have where they say nothing themselves; a priority of 0 says nothing."""

    retry: Retry | None = None
    limits: Limits | None = None
    timeout: str = ""
    queue: str = ""
    priority: int = 0


class Permission(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Who may see and do something: a user or a role, by name or id."""

    user: str = ""
    role: str = ""


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
    secrets: dict[str, str] = {}
    output: str = ""
    defaults: Defaults | None = None
    webhooks: tuple[Webhook, ...] = ()
    permissions: tuple[Permission, ...] = ()
    auto_delete: AutoDelete | None = None
    delay: str = ""
    run_at: str = ""
    tasks: tuple[Task, ...]

    @property
    def is_delayed(self) -> bool:
        """Whether it may have to wait for its start."""
        return bool(self.delay or self.run_at)

    @property
    def has_secrets(self) -> bool:
        """Whether it, or a job that it may start, has secrets; passwords of registries are some, too."""
        return bool(self.secrets) or any(
            (task.subjob is not None and task.subjob.secrets) or any(task.passwords()) for task in every(self.tasks)
        )

    def secret_values(self) -> Iterator[str]:
        """The values of all these secrets, but for those that are templates still."""
        yield from self.secrets.values()
        for task in every(self.tasks):
            yield from task.passwords()
            if task.subjob is not None:
                yield from (value for value in task.subjob.secrets.values() if "{{" not in value)

    @property
    def is_hooked(self) -> bool:
        """Whether a webhook may want to hear of this job: then all events matter, since what it is told is folded from them."""
        return any((webhook.event or JOB_STATE) in HOOK_EVENTS for webhook in self.webhooks)


def every(tasks: Iterable[Task]) -> Iterator[Task]:
    """These tasks and all that are nested in them."""
    waiting = list(tasks)
    while waiting:
        task = waiting.pop()
        yield task
        waiting += task.inner()


SINCE: Mapping[str, int] = {
    "Job.webhooks": 2,
    **dict.fromkeys(("Job.delay", "Job.runAt", "Retry.delay", "Retry.scalingFactor"), 4),
    "Job.defaults": 6,
    **dict.fromkeys(("Defaults.limits", "Retry.on"), 8),
    **dict.fromkeys(
        (
            "Task.each", "Task.entrypoint", "Task.files", "Task.gpus", "Task.limits", "Task.mounts",
            "Task.networks", "Task.onError", "Task.parallel", "Task.post", "Task.pre", "Task.registry",
            "Task.sidecars", "Task.subjob", "Task.workdir",
        ),
        8,
    ),
    **dict.fromkeys(("Job.secrets", "SubJob.secrets"), 14),
    **dict.fromkeys(("Task.delay", "Task.runAt"), 16),
    **dict.fromkeys(("Job.autoDelete", "Job.permissions", "SubJob.autoDelete"), 17),
}  # fmt: skip
"""The format with which each field came that the first release did not know: an older coordinator cannot read a job that has it.
A class that came whole needs no more than the field that holds it."""


def used(value: object) -> Iterator[str]:
    """The fields that a definition, or a part of one, says something in, as `SINCE` names them."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            if part := getattr(value, field.name):
                yield f"{type(value).__name__}.{field.encode_name}"
                yield from used(part)
    elif isinstance(value, tuple):
        for part in value:
            yield from used(part)
