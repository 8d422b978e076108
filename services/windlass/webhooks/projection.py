"""From events to deliveries: folds the events of jobs that have webhooks, and makes the calls that are owed for each.

Conditions and headers are evaluated here, once, on the job as it stood at the event; so what is sent depends on nothing that
came later, and a call that is repeated says the same.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import psycopg

from windlass import expressions, ids, urls
from windlass import log as logs
from windlass.clock import Clock
from windlass.documents.validation import HEADER_VALUE
from windlass.errors import Invalid
from windlass.eventlog import deliveries
from windlass.eventlog.deliveries import Delivery, Projected
from windlass.eventlog.follow import Recorded
from windlass.eventlog.log import formats
from windlass.eventlog.state import JobWork, evolve
from windlass.eventlog.summaries import JobSummary, TaskSummary, job_summary, task_summary
from windlass.expressions import QUICK, Environment, ExpressionError, StringArray, StringMap, Time, Value
from windlass.expressions.tork import hook_environment, job_environment
from windlass.ids import TaskId
from windlass.messages.events import JOB_EVENTS, JobEvent, JobRestarted, JobSubmitted, TaskProgressed
from windlass.messages.jobs import JOB_PROGRESS, JOB_STATE, TASK_PROGRESS, TASK_STATE, Job, Webhook

log = logs.get()

RESTARTED = "RESTART"
"""As what webhooks are told of a job that runs again."""
PING_S = 0.5
"""How long to evaluate between two words to the server, which ends a session that is silent in a transaction."""

_encode = msgspec.json.Encoder().encode


class Happened(NamedTuple):
    """Something that webhooks are told of: its name, and the task if it is a task's."""

    name: str
    job: JobSummary
    task: TaskSummary | None = None

    @property
    def body(self) -> bytes:
        """What is sent."""
        return _encode(self.job if self.task is None else self.task)


def fold(work: JobWork, event: JobEvent) -> list[Happened]:
    """Fold one event into what is known of a job; what happened by it, in the order in which it is told."""
    before = (work.job.state, work.job.progress) if work.job is not None else ("", 0.0)
    task_before = work.tasks.get(getattr(event, "task", TaskId("")))
    state_before = task_before.state if task_before is not None else ""
    work.touched.clear()
    work.set_variables.clear()
    evolve(work, event)
    job = work.job
    if job is None:
        return []
    if isinstance(event, JobSubmitted):
        job.definition = msgspec.structs.replace(job.definition, tasks=())
    summary = job_summary(job, job.definition)
    happened = []
    if isinstance(event, JobRestarted):
        happened.append(Happened(JOB_STATE, msgspec.structs.replace(summary, state=RESTARTED)))
    elif job.state not in (before[0], "SCHEDULED"):
        happened.append(Happened(JOB_STATE, summary))
    task = work.touched.get(getattr(event, "task", TaskId("")))  # and not the composite above, which has only counted it
    if task is not None:
        if isinstance(event, TaskProgressed):
            happened.append(Happened(TASK_PROGRESS, summary, task_summary(task)))
        elif task.state not in (state_before, "CANCELLED"):
            happened.append(Happened(TASK_STATE, summary, task_summary(task)))
    if job.progress != before[1]:
        happened.append(Happened(JOB_PROGRESS, summary))
    return happened


def owed(work: JobWork, happened: Happened, version: int, at: datetime) -> Iterator[Delivery]:
    """The calls that are owed for what happened at `version` of a job's stream, in the order of its webhooks."""
    job = work.job
    assert job is not None
    for hook, webhook in enumerate(job.definition.webhooks):
        if (webhook.event or JOB_STATE) == happened.name and _is_wanted(webhook, happened, at):
            url = urls.parse(webhook.url)
            yield Delivery(
                id=ids.derive(at, ids.byte_of(job.id), job.id, "delivery", version, hook),
                lane=ids.derive(job.created_at, ids.byte_of(job.id), job.id, "lane", webhook.url),
                host=url.authority,
                endpoint=url.endpoint,
                job=job.id,
                version=version,
                hook=hook,
                event=happened.name,
                url=webhook.url,
                headers=_headers(webhook, work, at),
                body=happened.body,
                created_at=at,
            )


def _is_wanted(webhook: Webhook, happened: Happened, at: datetime) -> bool:
    if not webhook.if_:
        return True
    task = None if happened.task is None else _members(happened.task)
    environment = hook_environment(_members(happened.job), task, secrets.randbelow, lambda: at)
    try:
        answer = expressions.evaluate_field(webhook.if_, environment, QUICK)
    except ExpressionError as error:
        log.warning("webhook_condition_failed", job=happened.job.id, condition=webhook.if_, error=str(error))
        return False
    if not isinstance(answer, bool):
        log.warning(
            "webhook_condition_failed", job=happened.job.id, condition=webhook.if_, error="it gives neither true nor false"
        )
    return answer is True


def _named(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The fields of a class by the names that conditions use: those of Go's structs."""
    special = {"id": "ID", "job_id": "JobID", "parent_id": "ParentID"}
    return {name: special.get(name) or "".join(map(str.capitalize, name.split("_"))) for name in kind.__struct_fields__}


_NAMES = {kind: _named(kind) for kind in (JobSummary, TaskSummary)}


def _members(summary: JobSummary | TaskSummary) -> Mapping[str, Value]:
    """A summary as conditions see it."""
    found: dict[str, Value] = {}
    for name, member in _NAMES[type(summary)].items():
        value = getattr(summary, name)
        if name == "created_by":
            value = {"Username": value.username}
        elif isinstance(value, datetime):
            value = Time.of(value)
        elif isinstance(value, tuple):
            value = StringArray(value)
        elif isinstance(value, dict):
            value = StringMap(value)
        found[member] = value
    return found


def _headers(webhook: Webhook, work: JobWork, at: datetime) -> dict[str, str]:
    """The headers of a webhook with their templates evaluated; one that cannot be evaluated or sent is empty."""
    job = work.job
    assert job is not None
    found, environment = dict(webhook.headers), None
    for name, template in found.items():
        if "{{" not in template:
            continue
        environment = environment or _environment(work, at)
        try:
            value = expressions.render(template, environment, QUICK).strip()
            if not HEADER_VALUE.fullmatch(value):
                raise expressions.RunError("the value holds a line break or a control character")
        except ExpressionError as error:
            log.warning("webhook_header_failed", job=job.id, header=name, error=str(error))
            value = ""
        found[name] = value
    return found


def _environment(work: JobWork, at: datetime) -> Environment:
    job = work.job
    assert job is not None
    return job_environment(
        inputs=job.definition.inputs,
        secrets={},
        tasks=work.variables,
        job={"id": job.id, "name": job.definition.name},
        below=secrets.randbelow,
        now=lambda: at,
    )


class Projection:
    """What the follower of hooked events does with them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, connection: psycopg.Connection, recorded: Sequence[Recorded]) -> None:
        """Keep what is known up to date, and the deliveries that it makes; inside the follower's transaction."""
        events = [(place, event) for place in recorded if (event := _decoded(place)) is not None]
        tasks = {task for _, event in events if (task := getattr(event, "task", None)) is not None}
        works = deliveries.load(connection, {place.stream for place, _ in events}, tasks)
        projected, spoke_at = Projected(), self._clock.monotonic()
        for place, event in events:
            try:
                if place.stream not in works:
                    works[place.stream] = JobWork()
                    if place.version > 1:
                        works[place.stream] = _remembered(connection, place, projected)
                _project(works[place.stream], place, event, projected)
            except Exception as error:  # whatever one event brings about, the webhooks of other jobs go on
                log.error("event_not_told", job=place.stream, version=place.version, error=repr(error), exc_info=True)
            if self._clock.monotonic() - spoke_at > PING_S:
                formats(connection)
                spoke_at = self._clock.monotonic()
        deliveries.store(connection, projected, self._clock.now())


def _decoded(place: Recorded) -> JobEvent | None:
    """An event that this release knows; what cannot be read is said, and is no reason to hold up the others."""
    if place.kind != "job" or place.type not in JOB_EVENTS:
        return None
    try:
        return JOB_EVENTS.decode(place.type, place.data)
    except Invalid as error:
        log.error("event_not_told", job=place.stream, version=place.version, error=str(error))
        return None


def _remembered(connection: psycopg.Connection, place: Recorded, projected: Projected) -> JobWork:
    """A job that was forgotten long after its end and goes on, as it was before an event: folded from the log."""
    work = JobWork()
    for type_, data in deliveries.history(connection, place.stream, place.version):
        if type_ in JOB_EVENTS:
            fold(work, JOB_EVENTS.decode(type_, data))
    projected.tasks.update(work.tasks)
    if work.job is not None and _uses_variables(work.job.definition):
        projected.variables.update({(work.job.id, name): value for name, value in work.variables.items()})
    return work


def _uses_variables(job: Job) -> bool:
    return any("{{" in value for webhook in job.webhooks for value in webhook.headers.values())


def _project(work: JobWork, place: Recorded, event: JobEvent, projected: Projected) -> None:
    happened = fold(work, event)
    job = work.job
    if job is None:
        return
    projected.jobs[job.id] = job
    projected.tasks.update(work.touched)
    if _uses_variables(job.definition):
        projected.variables.update({(job.id, name): value for name, value in work.set_variables.items()})
    for one in happened:
        projected.deliveries.extend(owed(work, one, place.version, place.at))
