"""G13: what webhooks must be told, read off the log in another way than the service does, and what receivers heard."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tests.support.memory.deliveries import Deliveries, Owed
from windlass.eventlog.deliveries import Taken
from windlass.eventlog.log import Appended
from windlass.eventlog.state import JobWork
from windlass.messages.jobs import JOB_PROGRESS, JOB_STATE, TASK_PROGRESS, TASK_STATE
from windlass.webhooks.policy import AGAIN, Answer

GOOD = "good.example"
"""A host whose receivers answer at once."""
PROMPT_S = 2.0
"""From a commit until a receiver that answers at once hears of it, whatever others do, where nothing is broken."""
ATTEMPTS = 2
JOB_STATES = {
    "job.submitted": "PENDING",
    "job.restarted": "RESTART",
    "job.completed": "COMPLETED",
    "job.failed": "FAILED",
    "job.cancelled": "CANCELLED",
}
TASK_STATES = {
    "task.dispatched": "SCHEDULED",
    "task.opened": "RUNNING",
    "task.delayed": "PENDING",
    "task.queued": "SCHEDULED",
    "task.started": "RUNNING",
    "task.completed": "COMPLETED",
    "task.failed": "FAILED",
    "task.skipped": "SKIPPED",
    "task.refused": "FAILED",
    "task.redelivered": "SCHEDULED",
}
"""What is told of an event."""


class Promised(NamedTuple):
    """One call that is owed."""

    url: str
    event: str
    state: str
    variable: str
    """What its header says, if it has one."""
    at_s: float


class Telling:
    """Keeps both sides and compares; `fail` takes what is broken, `time` is the world's."""

    def __init__(self, fail: Callable[[str], None], time: Callable[[], float], rows: Callable[[], Deliveries]) -> None:
        self._fail, self._time, self._rows = fail, time, rows
        self._promised: dict[tuple[str, int, int], Promised] = {}
        """By job, version and hook."""
        self._last: dict[str, tuple[int, int]] = {}
        """By lane, the last that has arrived."""
        self._heard: dict[str, Taken] = {}
        """By id, what arrived first."""
        self._answers: dict[str, list[int | None]] = {}
        self.is_calm = False
        self.happened: Counter[str] = Counter()

    def committed(self, stored: Appended, before: tuple[str, float], work: JobWork) -> None:
        """An event was stored: `before` are state and progress of its job until then."""
        job = work.job
        assert job is not None
        told = []
        if stored.type in JOB_STATES:
            told.append((JOB_STATE, JOB_STATES[stored.type]))
        elif stored.type == "task.started" and before[0] != "RUNNING":
            told.append((JOB_STATE, "RUNNING"))
        if stored.type in TASK_STATES:
            told.append((TASK_STATE, TASK_STATES[stored.type]))
        elif stored.type == "task.progressed":
            told.append((TASK_PROGRESS, "RUNNING"))
        if job.progress != before[1]:
            told.append((JOB_PROGRESS, job.state))
        for hook, webhook in enumerate(job.definition.webhooks):
            for event, state in told:
                if event == (webhook.event or JOB_STATE) and (not webhook.if_ or state == "COMPLETED"):
                    variable = work.variables.get("a", "") if webhook.headers else ""
                    promised = Promised(webhook.url, event, state, variable, self._time())
                    self._promised[job.id, stored.version, hook] = promised

    def arrived(self, call: Taken) -> None:
        """A call reached its receiver."""
        first = self._heard.get(call.id)
        if first is not None:
            self.happened["webhook again"] += 1
            if (first.url, first.event, first.headers, first.body) != (call.url, call.event, call.headers, call.body):
                self._fail(f"G13: {call.id} says something else the second time")
            return
        self._heard[call.id] = call
        row = self._owed().get(call.id)
        if row is None:
            self._fail(f"G13: {call.url} is called with {call.id}, which nobody owes it")
            return
        place = row.version, row.hook
        if place < self._last.get(row.lane, place):
            self._fail(f"G13: {call.url} hears of {place} of job {call.job} after {self._last[row.lane]}")
        self._last[row.lane] = place
        for one in self._owed().values():
            if one.lane == row.lane and (one.version, one.hook) < place and one.state == "WAITING":
                self._fail(f"G13: {call.url} hears of {place} of job {call.job} while {one.version, one.hook} waits")
        promised = self._promised.get((row.job, *place))
        late_s = self._time() - promised.at_s if promised is not None else 0.0
        if self.is_calm and GOOD in call.url and late_s > PROMPT_S:
            self._fail(f"G13: {call.url} hears of {place} of job {call.job} after {late_s:.1f} s")

    def answered(self, call: Taken, answer: Answer) -> None:
        """Its receiver answered, whether that is heard or not."""
        self._answers.setdefault(call.id, []).append(answer.status)

    def _owed(self) -> dict[str, Owed]:
        """All that was ever owed, also of jobs that are deleted."""
        return {**self._rows().forgotten, **self._rows().owed}

    def unquiet(self) -> str | None:
        """What is still owed, if anything."""
        rows = self._rows()
        if len(self._owed()) < len(self._promised):
            return f"G13: {len(self._promised)} calls were promised, and {len(self._owed())} are owed"
        waiting = next((row for row in rows.owed.values() if row.state == "WAITING"), None) or next(
            iter(rows.lanes.values()), None
        )
        return f"G13: {waiting} waits" if waiting is not None else None

    def finished(self) -> None:
        """All is quiet: everything that was promised was done, and nothing else."""
        rows = {(row.job, row.version, row.hook): row for row in self._owed().values()}
        for key in sorted(self._promised.keys() ^ rows.keys()):
            self._fail(f"G13: {key} is promised as {self._promised.get(key)} and owed as {rows.get(key)}")
        for key, promised in self._promised.items():
            if key in rows:
                self._agrees(promised, rows[key])

    def _agrees(self, promised: Promised, row: Owed) -> None:
        variable = msgspec.json.decode(row.headers).get("x-a", "")
        said = Promised(row.url, row.event, msgspec.json.decode(row.body)["state"], variable, promised.at_s)
        if said != promised:
            self._fail(f"G13: {row.id} says {said}, and the log {promised}")
        answers = self._answers.get(row.id, [])
        self.happened[f"webhook {row.state.lower()}"] += 1
        if row.state == "DELIVERED" and 200 not in answers:
            self._fail(f"G13: {row.id} is on record as delivered, and its receiver answered {answers}")
        if row.state == "EXHAUSTED" and row.attempts < ATTEMPTS:
            self._fail(f"G13: {row.id} is on record as exhausted after {row.attempts} attempts")
        if row.state == "REFUSED" and not any(answer not in AGAIN and answer != 200 for answer in answers):
            self._fail(f"G13: {row.id} is on record as refused, and its receiver answered {answers}")
