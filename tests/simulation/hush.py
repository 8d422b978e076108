"""Secrets of jobs: every task is given them and prints them, and nobody but tasks and receivers of webhooks may ever see them."""

from typing import Any

import msgspec

from windlass.messages.jobs import Task
from windlass.secrets.keys import KEY_BYTES, Key, Keys

SECRET = "hush-hush"
"""Of no job but in these words is anything like it, so whoever finds it in clear has found a secret."""
SECRETIVE = 0.25
"""Of all jobs, those that have secrets."""
MASTER = Keys([Key(b"of the simulation".ljust(KEY_BYTES))])


def hushed(job: Any, secret: str = SECRET) -> Any:
    """A job or sub-job with a secret, which those below it have from it."""
    return msgspec.structs.replace(job, secrets={"S": secret}, tasks=tuple(map(_hushed, job.tasks)))


def _hushed(task: Task) -> Task:
    if task.subjob is not None:
        return msgspec.structs.replace(task, subjob=hushed(task.subjob, "{{ secrets.S }}"))
    if task.parallel is not None:
        below = tuple(map(_hushed, task.parallel.tasks))
        return msgspec.structs.replace(task, parallel=msgspec.structs.replace(task.parallel, tasks=below))
    if task.each is not None:
        return msgspec.structs.replace(task, each=msgspec.structs.replace(task.each, task=_hushed(task.each.task)))
    return msgspec.structs.replace(task, run=f"echo $S; {task.run}", env={**task.env, "S": "{{ secrets.S }}"})
