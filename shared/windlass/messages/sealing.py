"""What of a message must not be read on its way: sealed with the transport key of the service that talks to a coordinator.

The clear fields show what everybody may see; `sealed` has the rest, for that message alone.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from windlass.errors import Invalid
from windlass.messages.commands import CompleteTask, RunTask, SubmitJob
from windlass.messages.jobs import Job, Task
from windlass.secrets.keys import Keys, Unopened
from windlass.secrets.redaction import Redactor


class Sealed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker needs of a task that runs with secrets: its definition if the clear one shows less, and what to redact."""

    definition: Task | None = None
    secrets: tuple[str, ...] = ()


CLEAR_MAX = 1024 * 1024
"""Characters of a sealed task beside which its definition stands in clear as well: both must fit a message."""

_encode = msgspec.json.Encoder().encode
_jobs, _tasks = msgspec.json.Decoder(Job), msgspec.json.Decoder(Sealed)


def needed(keys: Keys | None) -> Keys:
    """The keys, for somebody who was given a job with secrets.

    Raises:
        Invalid: there are none.
    """
    if keys is None:
        raise Invalid("secrets or a password: there is no key here to seal them with; give each service its WINDLASS_SECRET_KEY")
    return keys


def _opened(keys: Keys | None, sealed: str, *place: str) -> bytes:
    if keys is None:
        raise Unopened("it is sealed, and there is no key here; give each service its WINDLASS_SECRET_KEY")
    return keys.open(sealed, *place)


def seal_submission(command: SubmitJob, keys: Keys | None) -> SubmitJob:
    """A submission as it may travel, sealed with a gateway's key if its job has secrets.

    Raises:
        Invalid: it has, and there is no key.
    """
    job = command.definition
    if not job.has_secrets:
        return command
    sealed = needed(keys).seal(_encode(job), "job.submit", command.job)
    return msgspec.structs.replace(command, definition=shown(job), sealed=sealed)


def open_submission(command: SubmitJob, keys: Keys | None) -> SubmitJob:
    """A submission with all it said.

    Raises:
        Unopened: it was sealed with another key.
    """
    if not command.sealed:
        return command
    definition = _jobs.decode(_opened(keys, command.sealed, "job.submit", command.job))
    return msgspec.structs.replace(command, definition=definition, sealed="")


def shown(job: Job) -> Job:
    """A job without its secrets."""
    return Redactor(job.secret_values()).struct(job) if job.has_secrets else job


def digest_of(body: bytes, job: Job, keys: Keys | None) -> str:
    """The hash that stands for the body that described a job; with a key if it has secrets, so that nobody can try them out.

    Raises:
        Invalid: it has, and there is no key.
    """
    return needed(keys).first.mac(body) if job.has_secrets else blake2b(body, digest_size=16).hexdigest()


def seal_task(order: RunTask, clear: Task, values: Sequence[str], keys: Keys) -> RunTask:
    """A task as it may travel, sealed with the workers' key; `clear` is its definition without the secrets in `values`."""
    within = Sealed(definition=None if clear == order.definition else order.definition, secrets=tuple(values))
    sealed = keys.seal(_encode(within), "task.run", order.job, order.task)
    if within.definition is not None and len(sealed) > CLEAR_MAX:
        clear = Task(name=clear.name)
    return msgspec.structs.replace(order, definition=clear, sealed=sealed)


def open_task(order: RunTask, keys: Keys | None) -> tuple[RunTask, tuple[str, ...]]:
    """A task with all it said, and what is to be redacted of what it says.

    Raises:
        Unopened: it was sealed with another key.
    """
    if not order.sealed:
        return order, ()
    within = _tasks.decode(_opened(keys, order.sealed, "task.run", order.job, order.task))
    return msgspec.structs.replace(order, definition=within.definition or order.definition, sealed=""), within.secrets


def seal_result(report: CompleteTask, clear: str, keys: Keys | None) -> CompleteTask:
    """A report as it may travel; `clear` is its result without secrets."""
    if clear == report.result:
        return report
    sealed = needed(keys).seal(report.result.encode(), "task.complete", report.job, report.task)
    return msgspec.structs.replace(report, result=clear, sealed=sealed)


def open_result(report: CompleteTask, keys: Keys | None) -> CompleteTask:
    """A report with all it said.

    Raises:
        Unopened: it was sealed with another key.
    """
    if not report.sealed:
        return report
    result = _opened(keys, report.sealed, "task.complete", report.job, report.task).decode()
    return msgspec.structs.replace(report, result=result, sealed="")
