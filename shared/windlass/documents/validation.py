"""What must hold of a job beyond its shape; every failure is one line in the words Tork's clients know, and how to mend it."""

import re
from collections.abc import Callable
from functools import lru_cache

from windlass import expressions, urls
from windlass.documents.tree import Problem, refused
from windlass.durations import NotADuration, NotAMoment, moment, nanoseconds
from windlass.errors import Invalid
from windlass.expressions import DEFAULT, ExpressionError, Limits
from windlass.messages.jobs import Defaults, Job, Retry, Task, Wait, Webhook
from windlass.subjects import check_queue

NAME_MAX = 256
IMAGE_MAX = 256
VAR_MAX = 64
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
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""What may be sent as the value of a header."""
OUR_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
    | {"expect", "webhook-id", "webhook-timestamp", "webhook-signature"}
)
"""Headers that say how a call is made, or that it is ours."""
_ENV_NAME = re.compile(r"[^\s=\x00-\x1f\x7f-][^\s=\x00-\x1f\x7f]*")

Refuse = Callable[[str, str, str], None]
"""Notes one failure: field, rule, remedy."""


def check_job(job: Job, *, has_tasks: bool = True) -> None:
    """Accept a job or refuse it; `has_tasks` is whether the document spoke of tasks at all.

    Raises:
        Invalid: one line a failure, in the order of the document.
    """
    lines: list[Problem] = []
    if not job.name:
        lines.append(_line("Job.Name", "required", "give the job a name"))
    elif len(job.name) > NAME_MAX:
        lines.append(_line("Job.Name", "max", f"the name has {len(job.name)} characters; {NAME_MAX} are allowed"))
    if not has_tasks:
        lines.append(_line("Job.Tasks", "required", "a job is a list of tasks; give it at least one"))
    elif not job.tasks:
        lines.append(_line("Job.Tasks", "min", "a job is a list of tasks; give it at least one"))
    if job.defaults is not None:
        _check_running(job.defaults, lambda field, rule, remedy: lines.append(_line(f"Job.Defaults.{field}", rule, remedy)))
    if len(job.webhooks) > WEBHOOKS_MAX:
        lines.append(_line("Job.Webhooks", "max", f"there are {len(job.webhooks)}; {WEBHOOKS_MAX} are allowed"))
    limits = DEFAULT._replace(steps=PATTERN_STEPS_MAX // (1 + len(job.webhooks) + len(job.tasks)))
    for index, webhook in enumerate(job.webhooks):
        _check_webhook(webhook, index, lines, limits)
    _check_start(job, lambda field, rule, remedy: lines.append(_line(f"Job.{field}", rule, remedy)))
    _check_expression(job.output, lambda field, rule, remedy: lines.append(_line(f"Job.{field}", rule, remedy)), "Output", limits)
    for index, task in enumerate(job.tasks):
        _check_task(task, index, lines, limits)
    if lines:
        raise refused(*lines)


def check_wait(wait: Wait) -> None:
    """Accept how long a client wants to wait for the end of its job.

    Raises:
        Invalid: it is no duration.
    """
    try:
        nanoseconds(wait.timeout)
    except NotADuration as error:
        raise refused(Problem(f"{error} (wait.timeout); write one such as 30s or 5m", "wait.timeout")) from error


def _line(path: str, rule: str, remedy: str) -> Problem:
    text = f"Key: '{path}' Error:Field validation for '{path.rpartition('.')[2]}' failed on the '{rule}' tag: {remedy}"
    return Problem(text, path.partition(".")[2])


def _check_task(task: Task, index: int, lines: list[Problem], limits: Limits) -> None:
    def refuse(field: str, rule: str, remedy: str) -> None:
        lines.append(_line(f"Job.Tasks[{index}].{field}", rule, remedy))

    if not task.name:
        refuse("Name", "required", "give the task a name")
    elif len(task.name) > NAME_MAX:
        refuse("Name", "max", f"the name has {len(task.name)} characters; {NAME_MAX} are allowed")
    if task.image:
        _check_image(task.image, refuse)
    for name in task.env:
        if not _ENV_NAME.fullmatch(name):
            refuse("Env", "env", f"{name!r} cannot name a variable; use letters, digits and underscores")
    _check_running(task, refuse)
    _check_expression(task.if_, refuse, "If", limits)
    if len(task.var) > VAR_MAX:
        refuse("Var", "max", f"the name has {len(task.var)} characters; {VAR_MAX} are allowed")


def _check_running(how: Task | Defaults, refuse: Refuse) -> None:
    """What a task and a job's defaults may both say."""
    if how.queue and "{{" not in how.queue:  # a template's value is checked when it is known
        try:
            check_queue(how.queue)
        except Invalid as error:
            refuse("Queue", "queue", str(error))
    if how.priority < 0:
        refuse("Priority", "min", f"{how.priority} is below 0; priorities are 0–{PRIORITY_MAX}")
    elif how.priority > PRIORITY_MAX:
        refuse("Priority", "max", f"{how.priority} is above {PRIORITY_MAX}; priorities are 0–{PRIORITY_MAX}")
    if how.retry is not None:
        _check_retry(how.retry, refuse)
    if how.timeout:
        try:
            nanoseconds(how.timeout)
        except NotADuration as error:
            refuse("Timeout", "duration", f"{error}; write one such as 1h30m or 10s")


def _check_webhook(webhook: Webhook, index: int, lines: list[Problem], limits: Limits) -> None:
    def refuse(field: str, rule: str, remedy: str) -> None:
        lines.append(_line(f"Job.Webhooks[{index}].{field}", rule, remedy))

    if not webhook.url:
        refuse("URL", "required", "give the address that is to be told, such as https://example.com/hook")
    else:
        try:
            urls.parse(webhook.url)
        except Invalid as error:
            refuse("URL", "url", str(error))
    for name, value in webhook.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            refuse("Headers", "header", f"{name!r} cannot name a header; use letters, digits and hyphens")
        elif name.lower() in OUR_HEADERS:
            refuse("Headers", "header", f"{name} is set by Windlass itself; remove it")
        elif "{{" not in value and not HEADER_VALUE.fullmatch(value):  # a template's value is checked when it is known
            refuse("Headers", "header", f"{name} holds a line break or a control character; remove it")
    _check_expression(webhook.if_, refuse, "If", limits)


def _check_expression(text: str, refuse: Refuse, field: str, limits: Limits) -> None:
    """A field that holds one expression, in braces or bare: what Tork's rule `expr` asks of it."""
    wrong = _wrong_with(text, limits) if len(text) > REMEMBERED_MAX else _remembered(text, limits)
    if wrong:
        refuse(field, "expr", wrong)


def _wrong_with(text: str, limits: Limits) -> str:
    """What is wrong with an expression; empty if nothing is."""
    try:
        expressions.check(text, limits)
    except ExpressionError as error:
        return f"{error.message} (line {error.line}, column {error.column})"
    return ""


_remembered = lru_cache(maxsize=4096)(_wrong_with)
"""Most jobs are like one that came before."""


def _check_image(image: str, refuse: Refuse) -> None:
    if len(image) > IMAGE_MAX:
        refuse("Image", "max", f"the name has {len(image)} characters; {IMAGE_MAX} are allowed")
    elif not _IMAGE.fullmatch(image) and "{{" not in image:
        refuse("Image", "image", f"{image!r} is no name of an image; write one such as alpine:3.20")


def _check_retry(retry: Retry, refuse: Refuse) -> None:
    remedy = f"a task is retried 1–{RETRY_LIMIT_MAX} times"
    if retry.limit == 0:
        refuse("Retry.Limit", "required", remedy)
    elif retry.limit < 0:
        refuse("Retry.Limit", "min", remedy)
    elif retry.limit > RETRY_LIMIT_MAX:
        refuse("Retry.Limit", "max", remedy)
    if retry.delay:
        _check_delay(retry.delay, "Retry.Delay", RETRY_DELAY_MAX_NS, "the pause before the first retry is 5m at most", refuse)
    remedy = f"each pause is 1–{RETRY_FACTOR_MAX} times the one before"
    if retry.scaling_factor < 0:
        refuse("Retry.ScalingFactor", "min", remedy)
    elif retry.scaling_factor > RETRY_FACTOR_MAX:
        refuse("Retry.ScalingFactor", "max", remedy)


def _check_delay(text: str, field: str, most_ns: int | None, limit: str, refuse: Refuse) -> None:
    try:
        delay_ns = nanoseconds(text)
    except NotADuration as error:
        refuse(field, "duration", f"{error}; write one such as 1h30m or 10s")
        return
    if delay_ns < 0:
        refuse(field, "min", f"{text} is in the past; nothing waits for less than no time")
    elif most_ns is not None and delay_ns > most_ns:
        refuse(field, "max", limit)


def _check_start(job: Job, refuse: Refuse) -> None:
    if job.delay and job.run_at:
        refuse("RunAt", "delayorrunat", "a job waits for a delay or until runAt; remove one of them")
    if job.delay:
        _check_delay(job.delay, "Delay", None, "", refuse)
    if job.run_at:
        try:
            moment(job.run_at)
        except NotAMoment as error:
            refuse("RunAt", "datetime", f"{error}; write one such as 2026-03-01T12:00:00Z")
