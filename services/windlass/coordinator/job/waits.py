"""How long a job and its tasks wait: start time, pause before a retry, deadline. Events carry what is chosen here."""

from datetime import datetime, timedelta

from windlass.durations import NotADuration, NotAMoment, moment, seconds
from windlass.messages.jobs import AFTERCARE_S, Job, Retry, Task

DEADLINE_GRACE_S = 5.0
"""Beyond a task's timeout: its worker ends it first, kill and report included; the deadline is for one that does not."""
RETRY_DELAY_S = 1.0
RETRY_FACTOR = 2
"""Of a retry that names only the other of the two."""
RETRY_PAUSE_MAX_S = 24 * 3600.0
"""The longest pause before a retry, however often it was multiplied."""


def start_at(what: Job | Task, now: datetime) -> datetime | None:
    """When a job that was accepted just now starts, or a task whose turn has come; None for at once."""
    if not what.is_delayed:
        return None
    try:
        at = moment(what.run_at) if what.run_at else now + timedelta(seconds=_seconds(what.delay))
    except NotAMoment:
        return None  # as below
    return at if at > now else None


def delete_at(job: Job, now: datetime) -> datetime | None:
    """When a job that completes now is deleted, if it is."""
    if job.auto_delete is None or not job.auto_delete.after:
        return None
    return now + timedelta(seconds=max(_seconds(job.auto_delete.after), 0.0))


def pause_s(retry: Retry, number: int) -> float:
    """The pause before the `number`-th retry, which counts from 1, in seconds."""
    if not retry.is_delayed:
        return 0.0
    delay_s = _seconds(retry.delay) if retry.delay else RETRY_DELAY_S
    factor = max(retry.scaling_factor or RETRY_FACTOR, 1)
    return min(max(delay_s, 0.0) * float(factor) ** (number - 1), RETRY_PAUSE_MAX_S)


def deadline(task: Task, now: datetime) -> datetime | None:
    """When a task that starts now has to be over, if it has to."""
    if not task.timeout:
        return None
    aftercare_s = sum(max(_seconds(post.timeout), 0.0) if post.timeout else AFTERCARE_S for post in task.post if post.always)
    return now + timedelta(seconds=max(_seconds(task.timeout), 0.0) + aftercare_s + DEADLINE_GRACE_S)


def _seconds(text: str) -> float:
    try:
        return seconds(text) if text else 0.0
    except NotADuration:
        return 0.0  # was refused at the door; a command from elsewhere must not break a job
