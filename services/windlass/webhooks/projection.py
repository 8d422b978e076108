"""From events to deliveries: folds the events of jobs that have webhooks, and makes the calls that are owed for each.

Conditions and headers are evaluated here, once, on the job as it stood at the event; so what is sent depends on nothing that
came later, and a call that is repeated says the same.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import psycopg

from windlass import expressions, ids, urls
from windlass import log as logs
from windlass.clock import Clock
from windlass.documents.validation import HEADER_VALUE
from windlass.errors import Invalid
from windlass.eventlog import deliveries, job_keys
from windlass.eventlog.deliveries import HOOKED, TARGET, Delivery, Projected, Target
from windlass.eventlog.follow import Recorded
from windlass.eventlog.log import formats
from windlass.eventlog.state import JobWork, evolve
from windlass.eventlog.summaries import JobSummary, TaskSummary, job_summary, task_summary
from windlass.expressions import QUICK, Environment, ExpressionError, StringArray, StringMap, Time, Value
from windlass.expressions.tork import hook_environment, job_environment
from windlass.ids import JobId, TaskId
from windlass.messages.events import JOB_EVENTS, JobDeleted, JobEvent, JobRestarted, JobSubmitted, TaskProgressed
from windlass.messages.jobs import JOB_PROGRESS, JOB_STATE, TASK_PROGRESS, TASK_STATE, Job, Webhook
from windlass.secrets.keys import Keys
from windlass.secrets.redaction import REDACTED, Redactor
from windlass.secrets.vault import Vault

log = logs.get()

RESTARTED = "RESTART"
"""As what webhooks are told of a job that runs again."""
PING_S = 0.5
"""How long to evaluate between two words to the server, which ends a session that is silent in a transaction."""

UNREADABLE = "it holds a secret whose key is not here; give the webhooks service its WINDLASS_SECRET_KEY"

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


class Whole(msgspec.Struct, frozen=True):
    """A job with secrets as its webhooks need it: sealed, in the place of its definition in the log, which may be large."""

    definition: Job
    values: tuple[str, ...]
    """What is redacted of its texts."""


_jobs, _wholes = msgspec.json.Decoder(Job), msgspec.json.Decoder(Whole)


class Opened(NamedTuple):
    """A job whose secrets are known here."""

    vault: Vault
    whole: Whole


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


def owed(work: JobWork, happened: Happened, version: int, at: datetime, opened: Opened | None = None) -> Iterator[Delivery]:
    """The calls that are owed for what happened at `version` of a job's stream, in the order of its webhooks.

    `opened` is what is known of the job if it has secrets; without, what would hold one is left out.
    """
    job = work.job
    assert job is not None
    definition = job.definition if opened is None else opened.whole.definition
    for hook, webhook in enumerate(definition.webhooks):
        if (webhook.event or JOB_STATE) == happened.name and _is_wanted(webhook, happened, at):
            if opened is None and REDACTED in webhook.url:
                log.warning("webhook_not_called", job=job.id, error=UNREADABLE)
                continue
            url = urls.parse(webhook.url)
            target = Target(webhook.url, _headers(webhook, work, at, opened))
            shown = target if opened is None else opened.vault.redactor.struct(target)
            yield Delivery(
                id=ids.derive(at, ids.byte_of(job.id), job.id, "delivery", version, hook),
                lane=ids.derive(job.created_at, ids.byte_of(job.id), job.id, "lane", webhook.url),
                host=url.authority,
                endpoint=url.endpoint,
                job=job.id,
                version=version,
                hook=hook,
                event=happened.name,
                url=shown.url,
                headers=shown.headers,
                body=happened.body,
                created_at=at,
                sealed="" if opened is None or shown is target else opened.vault.seal(TARGET, target),
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


def _headers(webhook: Webhook, work: JobWork, at: datetime, opened: Opened | None) -> dict[str, str]:
    """The headers of a webhook with their templates evaluated; one that cannot be evaluated or sent is empty."""
    job = work.job
    assert job is not None
    found, environment = dict(webhook.headers), None
    for name, template in found.items():
        if opened is None and (REDACTED in template or (job.definition.secrets and "secrets" in template)):
            log.warning("webhook_header_failed", job=job.id, header=name, error=UNREADABLE)
            found[name] = ""
            continue
        if "{{" not in template:
            continue
        environment = environment or _environment(work, at, opened)
        try:
            value = expressions.render(template, environment, QUICK).strip()
            if not HEADER_VALUE.fullmatch(value):
                raise expressions.RunError("the value holds a line break or a control character")
        except ExpressionError as error:
            reason = str(error) if opened is None else opened.vault.redactor.text(str(error))
            log.warning("webhook_header_failed", job=job.id, header=name, error=reason)
            value = ""
        found[name] = value
    return found


def _environment(work: JobWork, at: datetime, opened: Opened | None) -> Environment:
    job = work.job
    assert job is not None
    definition, variables = job.definition, work.variables
    if opened is not None:
        definition = opened.whole.definition
        variables = variables | {
            name: msgspec.json.decode(opened.vault.open("result", sealed), type=str)
            for name in variables
            if (sealed := work.sealed.get((job.id, f"var {name}")))
        }
    return job_environment(
        inputs=definition.inputs,
        secrets={} if opened is None else definition.secrets,
        tasks=variables,
        job={"id": job.id, "name": definition.name},
        below=secrets.randbelow,
        now=lambda: at,
    )


class Projection:
    """What the follower of hooked events does with them."""

    def __init__(self, clock: Clock, keys: Keys | None = None) -> None:
        self._clock, self._keys = clock, keys

    def __call__(self, connection: psycopg.Connection, recorded: Sequence[Recorded]) -> None:
        """Keep what is known up to date, and the deliveries that it makes; inside the follower's transaction."""
        events = [(place, event) for place in recorded if (event := _decoded(place)) is not None]
        tasks = {task for _, event in events if (task := getattr(event, "task", None)) is not None}
        works = deliveries.load(connection, {place.stream for place, _ in events}, tasks)
        vaults = job_keys.read_for_webhooks(connection, _with_secrets(works, events), self._keys)
        projected, spoke_at = Projected(), self._clock.monotonic()
        for place, event in events:
            try:
                if isinstance(event, JobDeleted):
                    _forget(JobId(place.stream), projected)
                    continue
                if place.stream not in works:
                    works[place.stream] = JobWork()
                    if place.version > 1:
                        works[place.stream] = _remembered(connection, place, projected, vaults)
                _project(works[place.stream], place, event, projected, vaults)
            except Exception as error:  # whatever one event brings about, the webhooks of other jobs go on
                log.error("event_not_told", job=place.stream, version=place.version, error=repr(error), exc_info=True)
            if self._clock.monotonic() - spoke_at > PING_S:
                formats(connection)
                spoke_at = self._clock.monotonic()
        deliveries.store(connection, projected, self._clock.now())


def _forget(job: JobId, projected: Projected) -> None:
    """A job is no more: its webhooks are sent what they are owed, and nothing else is kept."""
    projected.deleted.add(job)
    projected.jobs.pop(job, None)
    projected.tasks = {name: task for name, task in projected.tasks.items() if task.job != job}
    projected.variables = {place: pair for place, pair in projected.variables.items() if place[0] != job}


def _decoded(place: Recorded) -> JobEvent | None:
    """An event that this release knows; what cannot be read is said, and is no reason to hold up the others."""
    if place.kind != "job" or place.type not in JOB_EVENTS:
        return None
    try:
        return JOB_EVENTS.decode(place.type, place.data)
    except Invalid as error:
        log.error("event_not_told", job=place.stream, version=place.version, error=str(error))
        return None


def _with_secrets(works: Mapping[str, JobWork], events: Sequence[tuple[Recorded, JobEvent]]) -> set[str]:
    """The jobs whose keys are needed, and those of which that cannot be known yet."""
    return {
        place.stream
        for place, event in events
        if (bool(event.sealed) if isinstance(event, JobSubmitted) else (work := works.get(place.stream)) is None or work.sealed)
    }


def _remembered(connection: psycopg.Connection, place: Recorded, projected: Projected, vaults: Mapping[str, Vault]) -> JobWork:
    """A job that was forgotten long after its end and goes on, as it was before an event: folded from the log."""
    work = JobWork()
    for type_, data in deliveries.history(connection, place.stream, place.version):
        if type_ in JOB_EVENTS:
            event = JOB_EVENTS.decode(type_, data)
            fold(work, event)
            _keep_whole(work, event, vaults)
    projected.tasks.update(work.tasks)
    if work.job is not None and _uses_variables(work.job.definition):
        projected.variables.update({(work.job.id, name): pair for name, pair in _pairs(work, work.variables)})
    return work


def _uses_variables(job: Job) -> bool:
    return any("{{" in value for webhook in job.webhooks for value in webhook.headers.values())


def _pairs(work: JobWork, names: Iterable[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    assert work.job is not None
    job = work.job.id
    return ((name, (work.variables[name], work.sealed.get((job, f"var {name}"), ""))) for name in names)


def _keep_whole(work: JobWork, event: JobEvent, vaults: Mapping[str, Vault]) -> None:
    """Keep of a new job's secrets what its webhooks need."""
    if isinstance(event, JobSubmitted) and event.sealed and (vault := vaults.get(event.job)) is not None:
        whole = _jobs.decode(vault.open("definition", event.sealed["definition"]))
        kept = Whole(msgspec.structs.replace(whole, tasks=()), tuple(whole.secret_values()))
        work.sealed = {(event.job, HOOKED): vault.seal(HOOKED, kept)}


def _opened(work: JobWork, vaults: Mapping[str, Vault]) -> Opened | None:
    job = work.job
    if job is None or (vault := vaults.get(job.id)) is None or not (sealed := work.sealed.get((job.id, HOOKED))):
        return None
    whole = _wholes.decode(vault.open(HOOKED, sealed))
    vault.redactor = Redactor(whole.values)
    return Opened(vault, whole)


def _project(work: JobWork, place: Recorded, event: JobEvent, projected: Projected, vaults: Mapping[str, Vault]) -> None:
    happened = fold(work, event)
    _keep_whole(work, event, vaults)
    job = work.job
    if job is None:
        return
    projected.jobs[job.id] = job
    projected.wholes[job.id] = work.sealed.get((job.id, HOOKED), "")
    projected.tasks.update(work.touched)
    if _uses_variables(job.definition):
        if work.cleared:
            projected.cleared.add(job.id)
            projected.variables = {(of, name): pair for (of, name), pair in projected.variables.items() if of != job.id}
        projected.variables.update({(job.id, name): pair for name, pair in _pairs(work, work.set_variables)})
    work.cleared = False
    opened = _opened(work, vaults) if happened else None
    for one in happened:
        projected.deliveries.extend(owed(work, one, place.version, place.at, opened))
