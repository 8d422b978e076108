"""The rows of a job's working set: what `evolve` changes and what a commit stores.

They are mutable on purpose and live in the cache of the shard's owner, who alone writes them.
"""

from datetime import datetime
from typing import Any

import msgspec

from windlass.ids import JobId, TaskId
from windlass.messages.jobs import Job, Task
from windlass.messages.reruns import Redo


class JobRow(msgspec.Struct, kw_only=True):
    """One job, as table `jobs` holds it. Absent texts are empty; `position` is 1-based, 0 before the start."""

    id: JobId
    definition: Job
    created_by: str
    created_at: datetime
    task_count: int
    version: int = 0
    run: int = 0
    state: str = "PENDING"
    position: int = 0
    progress: float = 0.0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    result: str = ""
    error: str = ""
    restarted_by: str = ""
    """The last requests that restarted or cancelled it, with blanks between."""
    trace: str = ""
    parent: TaskId | None = None
    """The task that waits for its end, in `parent_job`."""
    parent_job: JobId | None = None
    paused_at: datetime | None = None
    redo: Redo | None = None
    """In a run that keeps what ended well before: what is still to be done, in order; the last is where it goes on as usual."""
    drive_at: datetime | None = None
    drives: int = 0
    refused: str = ""
    """The last requests that were refused, likewise; no event tells of them."""


class Composite(msgspec.Struct, kw_only=True):
    """What a row of table `composites` holds of a task that others run in place of.

    `opened` is the index of its next child; `completions` and `failures` count the ended ones. `scope` as in `task.opened`.
    """

    size: int
    opened: int = 0
    completions: int = 0
    failures: int = 0
    subjob: JobId | None = None
    scope: dict[str, Any] = {}
    again: TaskId | None = None
    """The row whose children that ended well are kept; the others are in its list."""

    @property
    def ended(self) -> int:
        """How many children have ended."""
        return self.completions + self.failures


class TaskRow(msgspec.Struct, kw_only=True):
    """One execution row, as table `tasks` holds it."""

    id: TaskId
    job: JobId
    run: int
    key: str
    position: int
    attempt: int
    definition: Task
    created_at: datetime
    state: str
    retries: int = 0
    redelivered: int = 0
    queue: str = ""
    worker: str = ""
    progress: float = 0.0
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    result: str = ""
    error: str = ""
    parent: TaskId | None = None
    composite: Composite | None = None
    drive_at: datetime | None = None
    drives: int = 0
    stopping: str = ""
    stored: bool = False
    """Whether the table has this row."""


ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
"""States of a job after which nothing of its run happens any more."""
ACTIVE = frozenset({"CREATED", "PENDING", "SCHEDULED", "RUNNING"})
"""States of a task that may still change."""
