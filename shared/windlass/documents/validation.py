"""What must hold of a job beyond its shape; every failure is one line in the words Tork's clients know, and how to mend it."""

import re
from collections.abc import Callable, Iterable, Mapping, Set
from functools import lru_cache

from windlass import expressions, grammar, urls
from windlass.documents.tree import COMPOSITES_MAX, Problem, refused
from windlass.durations import NotADuration, NotAMoment, moment, nanoseconds
from windlass.errors import Invalid
from windlass.expressions import DEFAULT, ExpressionError, Limits
from windlass.messages.jobs import (
    AuxTask,
    Defaults,
    Each,
    Job,
    Mount,
    Permission,
    Probe,
    Retry,
    SidecarTask,
    SubJob,
    Task,
    Wait,
    Webhook,
    every,
)
from windlass.messages.jobs import Limits as TaskLimits
from windlass.subjects import check_queue

NAME_MAX = 256
IMAGE_MAX = 256
VAR_MAX = 64
WORKDIR_MAX = 256
PROBE_PATH_MAX = 256
CONCURRENCY_MAX = 99_999
PRIORITY_MAX = 9
RETRY_LIMIT_MAX = 10
RETRY_DELAY_MAX_NS = 5 * 60 * 10**9
RETRY_FACTOR_MAX = 10
REMEMBERED_MAX = 256
"""Characters of an expression whose check is remembered."""
WEBHOOKS_MAX = 100
"""Of one job: each event of it may be sent to all of them."""
PATTERN_STEPS_MAX = 400_000
"""What compiling all regular expressions of a job may cost, some 0.1 s, shared evenly by its expressions."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""What may be sent as the value of a header."""
OUR_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
    | {"expect", "webhook-id", "webhook-timestamp", "webhook-signature"}
)
"""Headers that say how a call is made, or that it is ours."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PROBE_PATH = re.compile(r"/[^\s\x00-\x1f\x7f]*")
_MOUNT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
ON_ERROR = ("fail", "continue", "ignore")
REASONS = ("timeout", "lost")
"""What `retry.on` may name besides exit codes."""

Refuse = Callable[[str, str, str], None]
"""Notes one failure: field, rule, remedy."""


def check_job(job: Job, absent: Set[str] = frozenset()) -> None:
    """Accept a job or refuse it; `absent` has the paths, in lower case, of lists that the document does not speak of at all.

    Raises:
        Invalid: one line a failure, in the order of the document.
    """
    checker = _Checker(DEFAULT._replace(steps=PATTERN_STEPS_MAX // _expressions(job)), absent)
    checker.job(job)
    if checker.problems:
        raise refused(*checker.problems)


def check_wait(wait: Wait) -> None:
    """Accept how long a client wants to wait for the end of its job.

    Raises:
        Invalid: it is no duration.
    """
    try:
        nanoseconds(wait.timeout)
    except NotADuration as error:
        raise refused(Problem(f"{error} (wait.timeout); write one such as 30s or 5m", "wait.timeout")) from error


def _expressions(job: Job) -> int:
    """How many expressions a job holds, or a few more."""
    count = 1 + len(job.webhooks)
    for task in every(job.tasks):
        count += 1 + (task.each is not None)
        if task.subjob is not None:
            count += 1 + len(task.subjob.webhooks)
    return count


class _Checker:
    """Goes through a job and notes what is wrong. Paths are in Tork's words: `Job.Tasks[0].Parallel.Tasks[1].Timeout`."""

    def __init__(self, limits: Limits, absent: Set[str]) -> None:
        self.problems: list[Problem] = []
        self._limits, self._absent = limits, absent

    def _refuse(self, path: str, rule: str, remedy: str) -> None:
        failed = path.rpartition(".")[2]
        text = f"Key: '{path}' Error:Field validation for '{failed}' failed on the '{rule}' tag: {remedy}"
        self.problems.append(Problem(text, path.partition(".")[2]))

    def _try(self, path: str, rule: str, check: Callable[[str], object], text: str, remedy: str = "") -> None:
        """Refuse a text that a function does not take, with its words."""
        try:
            check(text)
        except (Invalid, NotADuration, NotAMoment) as error:
            self._refuse(path, rule, f"{error}{remedy}")

    def _duration(self, path: str, text: str) -> None:
        if text:
            self._try(path, "duration", nanoseconds, text, "; write one such as 1h30m or 10s")

    # -- jobs -------------------------------------------------------------------------------------------------------------

    def job(self, job: Job) -> None:
        """A whole job."""
        self._name(job.name, "Job", "job")
        self._some_tasks(job.tasks, "Job")
        if job.defaults is not None:
            self._running(job.defaults, "Job.Defaults")
        for index, permission in enumerate(job.permissions):
            self._permission(permission, f"Job.Permissions[{index}]")
        self._around(job, "Job")
        self._start(job, "Job")
        self._expression(job.output, "Job.Output")
        self._tasks(job.tasks, "Job", 0)

    def _subjob(self, job: SubJob, at: str, depth: int) -> None:
        self._name(job.name, at, "job")
        self._some_tasks(job.tasks, at)
        self._around(job, at)
        if expressions.has_template(job.output):  # Tork takes any other text, and so gives it as the result
            self._expression(job.output, f"{at}.Output")
        self._tasks(job.tasks, at, depth)

    def _around(self, job: Job | SubJob, at: str) -> None:
        """What jobs and sub-jobs have besides tasks."""
        for name in job.secrets:
            if not name or _CONTROL.search(name):
                self._refuse(f"{at}.Secrets", "secret", f"{name!r} cannot name a secret; use letters, digits and underscores")
        if job.auto_delete is not None:
            self._duration(f"{at}.AutoDelete.After", job.auto_delete.after)
        if len(job.webhooks) > WEBHOOKS_MAX:
            self._refuse(f"{at}.Webhooks", "max", f"there are {len(job.webhooks)}; {WEBHOOKS_MAX} are allowed")
        for index, webhook in enumerate(job.webhooks):
            self._webhook(webhook, f"{at}.Webhooks[{index}]", is_evaluated=isinstance(job, SubJob))

    def _webhook(self, webhook: Webhook, at: str, *, is_evaluated: bool) -> None:
        """`is_evaluated`: the URL may be a template, whose value is checked when it is known."""
        if not webhook.url:
            self._refuse(f"{at}.URL", "required", "give the address that is to be told, such as https://example.com/hook")
        elif not (is_evaluated and expressions.has_template(webhook.url)):
            self._try(f"{at}.URL", "url", urls.parse, webhook.url)
        for name, value in webhook.headers.items():
            if not _HEADER_NAME.fullmatch(name):
                remedy = f"{name!r} cannot name a header; use letters, digits and hyphens"
            elif name.lower() in OUR_HEADERS:
                remedy = f"{name} is set by Windlass itself; remove it"
            elif not expressions.has_template(value) and not HEADER_VALUE.fullmatch(value):  # nor is a template's value known
                remedy = f"{name} holds a line break or a control character; remove it"
            else:
                continue
            self._refuse(f"{at}.Headers", "header", remedy)
        self._expression(webhook.if_, f"{at}.If")

    def _permission(self, permission: Permission, at: str) -> None:
        if bool(permission.user) == bool(permission.role):
            self._refuse(f"{at}.perm", "roleoruser", "name a user or a role, one of the two")

    # -- tasks ------------------------------------------------------------------------------------------------------------

    def _some_tasks(self, tasks: tuple[Task, ...], at: str) -> None:
        if not tasks:
            is_absent = f"{at.partition('.')[2]}.tasks".lower().removeprefix(".") in self._absent
            rule = "required" if is_absent else "min"
            self._refuse(f"{at}.Tasks", rule, f"{at.rpartition('.')[2].lower()} is a list of tasks; give it at least one")

    def _tasks(self, tasks: Iterable[Task], at: str, depth: int) -> None:
        for index, task in enumerate(tasks):
            self._task(task, f"{at}.Tasks[{index}]", depth)

    def _task(self, task: Task, at: str, depth: int) -> None:
        """One task, `depth` composites deep."""
        self._program(task, at)
        self._running(task, at)
        if task.if_:
            self._expression(task.if_, f"{at}.If")
        if len(task.var) > VAR_MAX:
            self._refuse(f"{at}.Var", "max", f"the name has {len(task.var)} characters; {VAR_MAX} are allowed")
        if task.workdir and (len(task.workdir) > WORKDIR_MAX or _CONTROL.search(task.workdir)):
            self._refuse(
                f"{at}.Workdir", "max", f"a directory has at most {WORKDIR_MAX} characters, none of them a control character"
            )
        if task.gpus:
            self._try(f"{at}.GPUs", "gpus", grammar.gpus, task.gpus)
        if task.on_error and task.on_error not in ON_ERROR:
            self._refuse(f"{at}.OnError", "oneof", f"{task.on_error!r} is unknown; write {', '.join(ON_ERROR)}")
        if task.delay or task.run_at:
            self._start(task, at)
        for index, network in enumerate(task.networks):
            self._try(f"{at}.Networks[{index}]", "network", grammar.check_network, network)
        if task.mounts:
            self._mounts(task.mounts, at)
        if task.pre or task.post or task.sidecars:
            for field, others in _beside(task):
                for index, other in enumerate(others):
                    self._other(other, f"{at}.{field}[{index}]")
            for index, other in enumerate(task.pre):
                if other.always:
                    self._refuse(f"{at}.Pre[{index}].Always", "post", "only what comes after a task is always run; remove it")
        if task.is_composite:
            self._composite(task, at, depth + 1)

    def _composite(self, task: Task, at: str, depth: int) -> None:
        kinds = [name for name in ("each", "parallel", "subjob") if getattr(task, name) is not None]
        if depth > COMPOSITES_MAX:
            remedy = f"tasks are at most {COMPOSITES_MAX} deep within parallel, each and subjob; flatten the job"
            self._refuse(f"{at}.{kinds[0]}", "depth", remedy)
            return
        if task.parallel is not None:
            inner, path = task.parallel, f"{at}.Parallel"
            self._some_tasks(inner.tasks, path)
            self._successes(inner.min_success, len(inner.tasks), path)
            self._tasks(inner.tasks, path, depth)
        if task.each is not None:
            self._each(task.each, f"{at}.Each", depth)
        if task.subjob is not None:
            self._subjob(task.subjob, f"{at}.SubJob", depth)
        for pair, rule in _EXCLUSIVE.items():
            if set(pair) <= set(kinds):
                for name in pair:
                    self._refuse(f"{at}.{name}", rule, f"a task has one of {' and '.join(sorted(pair))}; make two tasks of it")
        for name in _NOT_OF_COMPOSITES:
            if getattr(task, name):
                remedy = f"a task with {kinds[0]} runs nothing itself; move {name} into it"
                self._refuse(f"{at}.{name}", "invalidcompositetask", remedy)

    def _each(self, each: Each, at: str, depth: int) -> None:
        if not each.list:
            self._refuse(f"{at}.List", "required", "give it a list, such as {{ sequence(1, 5) }} or [1, 2, 3]")
        self._expression(each.list, f"{at}.List")
        if not 0 <= each.concurrency <= CONCURRENCY_MAX:
            rule = "min" if each.concurrency < 0 else "max"
            self._refuse(f"{at}.Concurrency", rule, f"{each.concurrency} is not 0–{CONCURRENCY_MAX}; 0 is no limit")
        self._successes(each.min_success, None, at)
        self._task(each.task, f"{at}.Task", depth)

    def _successes(self, least: int, children: int | None, at: str) -> None:
        if least < 0:
            self._refuse(f"{at}.MinSuccess", "min", f"{least} is below 1; leave it out if all must succeed")
        elif children is not None and least > children:
            self._refuse(f"{at}.MinSuccess", "max", f"{least} cannot succeed, since there are {children} tasks")

    def _name(self, name: str, at: str, what: str) -> None:
        if not name:
            self._refuse(f"{at}.Name", "required", f"give the {what} a name")
        elif len(name) > NAME_MAX:
            self._refuse(f"{at}.Name", "max", f"the name has {len(name)} characters; {NAME_MAX} are allowed")

    def _program(self, task: Task | AuxTask | SidecarTask, at: str) -> None:
        """What is run, in a task or beside one."""
        self._name(task.name, at, "task")
        if len(task.image) > IMAGE_MAX:
            self._refuse(f"{at}.Image", "max", f"the name has {len(task.image)} characters; {IMAGE_MAX} are allowed")
        elif task.image and not expressions.has_template(task.image):
            self._try(f"{at}.Image", "image", grammar.check_image, task.image)
        for name in task.env:
            self._try(f"{at}.Env", "env", grammar.check_env_name, name)
        for name in task.files:
            self._try(f"{at}.Files", "file", lambda name: _check_file(name, task.files), name)

    def _other(self, task: AuxTask | SidecarTask, at: str) -> None:
        self._program(task, at)
        self._duration(f"{at}.Timeout", task.timeout)
        if isinstance(task, SidecarTask) and task.probe is not None:
            self._probe(task.probe, f"{at}.Probe")

    def _probe(self, probe: Probe, at: str) -> None:
        if not probe.path:
            self._refuse(f"{at}.Path", "required", "give the path that is asked for, such as /health")
        elif len(probe.path) > PROBE_PATH_MAX:
            self._refuse(f"{at}.Path", "max", f"the path has {len(probe.path)} characters; {PROBE_PATH_MAX} are allowed")
        elif not _PROBE_PATH.fullmatch(probe.path):
            self._refuse(
                f"{at}.Path", "path", f"{probe.path!r} does not begin with / or holds a blank; write one such as /health"
            )
        if not 1 <= probe.port <= 65535:
            rule = "required" if probe.port == 0 else "min" if probe.port < 0 else "max"
            self._refuse(f"{at}.Port", rule, "give the port that the sidecar listens on, 1–65535")
        self._duration(f"{at}.Timeout", probe.timeout)

    def _running(self, how: Task | Defaults, at: str) -> None:
        """What a task and a job's defaults may both say."""
        if how.queue and not expressions.has_template(how.queue):  # a template's value is checked when it is known
            self._try(f"{at}.Queue", "queue", check_queue, how.queue)
        if not 0 <= how.priority <= PRIORITY_MAX:
            rule = "min" if how.priority < 0 else "max"
            self._refuse(f"{at}.Priority", rule, f"{how.priority} is no priority; they are 0–{PRIORITY_MAX}")
        if how.retry is not None:
            self._retry(how.retry, f"{at}.Retry")
        if how.limits is not None:
            self._limits_of(how.limits, f"{at}.Limits")
        if how.timeout:
            self._duration(f"{at}.Timeout", how.timeout)

    def _limits_of(self, limits: TaskLimits, at: str) -> None:
        if limits.cpus:
            self._try(f"{at}.CPUs", "cpus", grammar.nano_cpus, limits.cpus)
        if limits.memory:
            self._try(f"{at}.Memory", "memory", grammar.memory_bytes, limits.memory)

    def _retry(self, retry: Retry, at: str) -> None:
        if not 1 <= retry.limit <= RETRY_LIMIT_MAX:
            rule = "required" if retry.limit == 0 else "min" if retry.limit < 0 else "max"
            self._refuse(f"{at}.Limit", rule, f"a task is retried 1–{RETRY_LIMIT_MAX} times")
        if retry.delay:
            self._delay(retry.delay, f"{at}.Delay", RETRY_DELAY_MAX_NS, "the pause before the first retry is 5m at most")
        if not 0 <= retry.scaling_factor <= RETRY_FACTOR_MAX:
            rule = "min" if retry.scaling_factor < 0 else "max"
            self._refuse(f"{at}.ScalingFactor", rule, f"each pause is 1–{RETRY_FACTOR_MAX} times the one before")
        for index, reason in enumerate(retry.on):
            if reason not in REASONS and not _EXIT_CODE.fullmatch(reason):
                remedy = f"{reason!r} is no reason to retry; write an exit code (1–255), {' or '.join(REASONS)}"
                self._refuse(f"{at}.On[{index}]", "oneof", remedy)

    def _start(self, what: Job | Task, at: str) -> None:
        """When a job or a task may start."""
        if what.delay and what.run_at:
            self._refuse(f"{at}.RunAt", "delayorrunat", "it waits for a delay or until runAt; remove one of them")
        if what.delay:
            self._delay(what.delay, f"{at}.Delay")
        if what.run_at:
            self._try(f"{at}.RunAt", "datetime", moment, what.run_at, "; write one such as 2026-03-01T12:00:00Z")

    def _delay(self, text: str, path: str, most_ns: int | None = None, limit: str = "") -> None:
        try:
            delay_ns = nanoseconds(text)
        except NotADuration:
            self._duration(path, text)
            return
        if delay_ns < 0:
            self._refuse(path, "min", f"{text} is in the past; nothing waits for less than no time")
        elif most_ns is not None and delay_ns > most_ns:
            self._refuse(path, "max", limit)

    def _mounts(self, mounts: tuple[Mount, ...], at: str) -> None:
        targets: set[str] = set()
        for index, mount in enumerate(mounts):
            path = f"{at}.Mounts[{index}].mount"
            self._mount(mount, path)
            target = mount.target.rstrip("/")
            if target and target in targets:
                self._refuse(path, "invalidtarget", f"{target} is mounted twice; give each mount a target of its own")
            targets.add(target)

    def _mount(self, mount: Mount, path: str) -> None:
        if not mount.type:
            self._refuse(path, "typerequired", "say what it is: volume, bind or tmpfs")
        elif not _MOUNT_TYPE.fullmatch(mount.type):
            self._refuse(path, "invalidtype", f"{mount.type!r} is no kind of mount; write volume, bind or tmpfs")
        if mount.type == "bind":
            if mount.source:
                self._try(path, "invalidsource", grammar.check_source, mount.source)
            else:
                self._refuse(path, "sourcerequired", "say which directory of the worker's machine is bound")
        elif mount.type in grammar.MOUNT_OPTIONS and mount.source:
            self._refuse(path, "sourcenotempty", f"a {mount.type} is new and has no source; remove it")
        elif mount.source:
            self._try(path, "invalidsource", grammar.check_source, mount.source)
        if mount.target:
            self._try(path, "invalidtarget", grammar.check_target, mount.target)
        elif mount.type in grammar.MOUNT_OPTIONS:
            self._refuse(path, "targetrequired", "say where in the container it is mounted")
        try:
            grammar.check_mount_options(mount.type, mount.opts)
        except Invalid as error:
            self._refuse(path, "invalidopts", str(error))

    def _expression(self, text: str, path: str) -> None:
        """A field that holds one expression, in braces or bare: what Tork's rule `expr` asks of it."""
        find = _wrong_with if len(text) > REMEMBERED_MAX else _remembered
        if wrong := find(text, self._limits):
            self._refuse(path, "expr", wrong)


_EXCLUSIVE = {
    ("each", "parallel"): "paralleloreach",
    ("subjob", "parallel"): "parallelorsubjob",
    ("subjob", "each"): "eachorsubjob",
}
"""Which kinds of composites a task cannot be at once, and the rule that says so."""
_NOT_OF_COMPOSITES = (
    "image", "cmd", "entrypoint", "run", "env", "queue", "pre", "post", "mounts", "retry", "limits", "timeout",
)  # fmt: skip
"""Fields of a task that runs something itself."""
_EXIT_CODE = re.compile(r"[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5]")


def _beside(task: Task) -> tuple[tuple[str, tuple[AuxTask | SidecarTask, ...]], ...]:
    """What runs beside a task, by field."""
    return ("Pre", task.pre), ("Post", task.post), ("Sidecars", task.sidecars)


def _check_file(name: str, others: Mapping[str, str]) -> None:
    """Whether a file may have this name, beside the others."""
    grammar.check_file(name)
    parts = name.split("/")
    for end in range(1, len(parts)):
        if (directory := "/".join(parts[:end])) in others:
            raise Invalid(f"{directory!r} cannot be a file and the directory of {name!r}")


def _wrong_with(text: str, limits: Limits) -> str:
    """What is wrong with an expression; empty if nothing is."""
    try:
        expressions.check(text, limits)
    except ExpressionError as error:
        remedy = "; hand a long list on as an input, and read it with fromJSON" if error.budget in ("source", "nodes") else ""
        return f"{error.message} (line {error.line}, column {error.column}){remedy}"
    return ""


_remembered = lru_cache(maxsize=4096)(_wrong_with)
"""Most jobs are like one that came before."""
