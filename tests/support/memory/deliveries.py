"""What the webhooks service asks of the database, in memory: what it knows of jobs, what it owes, who has which lane."""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.eventlog import deliveries
from windlass.eventlog.deliveries import Room, Settled, Taken
from windlass.eventlog.statements import statement
from windlass.ids import JobId

if TYPE_CHECKING:
    from tests.support.memory.database import Session

Parameters = Mapping[str, Any]


@dataclass(slots=True)
class Lane:
    """A row of `lanes`."""

    id: str
    host: str
    endpoint: str
    waiting: int
    due_at: datetime
    owner: int = 0


@dataclass(slots=True)
class Owed:
    """A row of `deliveries`; `headers` are JSON."""

    id: str
    lane: str
    job: str
    version: int
    hook: int
    event: str
    url: str
    headers: str
    body: bytes
    created_at: datetime
    sealed: str = ""
    state: str = "WAITING"
    attempts: int = 0


class Deliveries:
    """The statements of `deliveries.py`."""

    def __init__(self, job_keys: Mapping[JobId, tuple[str, str]]) -> None:
        self._job_keys = job_keys
        self._known: dict[str, tuple[str, str, str | None, str]] = {}
        """By job or task: the job, the state, the definition if it is a job, and what is sealed of that."""
        self._variables: dict[tuple[str, str], tuple[str, str]] = {}
        self._senders: dict[Session, int] = {}
        self._numbers = itertools.count(1)
        self.owed: dict[str, Owed] = {}
        self.forgotten: dict[str, Owed] = {}
        """Of jobs that are deleted; not there any more, but for whoever counts."""
        self.lanes: dict[str, Lane] = {}
        self.statements: dict[Any, Callable[..., Any]] = {
            deliveries.enter: self._enter,
            deliveries.step: self._step,
            deliveries.first: self._first,
            deliveries.release: self._release,
            deliveries.free: self._free,
            deliveries.oldest: self._oldest,
            deliveries.forget: lambda session, before, most: 0,  # nothing is over for so long
        }
        self.reads: dict[bytes, Callable[[Parameters], list[Any]]] = {
            statement("load_hooked"): self._load,
            statement("load_hooked_vars"): self._load_variables,
            statement("load_webhook_keys"): self._load_keys,
        }
        """Of a projection, inside its transaction."""
        self.writes: dict[bytes, Callable[[Parameters], None]] = {
            statement("keep_hooked"): self._keep,
            statement("drop_hooked"): self._drop,
            statement("keep_hooked_vars"): self._keep_variables,
            statement("clear_hooked_vars"): self._clear_variables,
            statement("forget_deleted"): self._forget_deleted,
            statement("add_deliveries"): self._add,
            statement("widen_lanes"): self._widen,
        }

    def shown(self) -> list[object]:
        """All that can be read of it without a key."""
        calls = [(one.url, one.headers, one.body) for one in (*self.owed.values(), *self.forgotten.values())]
        return [*calls, *(kept[1:3] for kept in self._known.values()), *(value for value, _ in self._variables.values())]

    # -- what is known ----------------------------------------------------------------------------------------------

    def _load(self, parameters: Parameters) -> list[Any]:
        found = [(row.hex, *self._known[row.hex]) for row in parameters["ids"] if row.hex in self._known]
        return sorted(found, key=lambda row: row[3] is None)

    def _load_variables(self, parameters: Parameters) -> list[Any]:
        jobs = {job.hex for job in parameters["jobs"]}
        return [(job, name, *values) for (job, name), values in self._variables.items() if job in jobs]

    def _load_keys(self, parameters: Parameters) -> list[Any]:
        found = [(job.hex, self._key_of(job.hex)) for job in parameters["jobs"]]
        return [(job, key) for job, key in found if key]

    def _key_of(self, job: str) -> str:
        return self._job_keys.get(JobId(job), ("", ""))[1]

    def _keep(self, parameters: Parameters) -> None:
        for row, job, state, definition, sealed in _rows(parameters, "id", "job", "state", "definition", "sealed"):
            kept = self._known.get(row.hex)
            self._known[row.hex] = (job.hex, state, definition, sealed) if kept is None else (kept[0], state, *kept[2:])

    def _drop(self, parameters: Parameters) -> None:
        for row in parameters["ids"]:
            self._known.pop(row.hex, None)

    def _keep_variables(self, parameters: Parameters) -> None:
        for job, name, value, sealed in _rows(parameters, "job", "name", "value", "sealed"):
            self._variables[job.hex, name] = value, sealed

    def _clear_variables(self, parameters: Parameters) -> None:
        jobs = {job.hex for job in parameters["jobs"]}
        self._variables = {place: values for place, values in self._variables.items() if place[0] not in jobs}

    def _forget_deleted(self, parameters: Parameters) -> None:
        jobs = {job.hex for job in parameters["jobs"]}
        over = [one for one in self.owed.values() if one.job in jobs and one.state != "WAITING"]
        self.forgotten.update((one.id, self.owed.pop(one.id)) for one in over)

    def _add(self, parameters: Parameters) -> None:
        columns = ("id", "lane", "job", "version", "hook", "event", "url", "headers", "body", "created_at", "sealed")
        for row, lane, job, *rest in _rows(parameters, *columns):
            assert row.hex not in self.owed, f"delivery {row.hex} exists"
            self.owed[row.hex] = Owed(row.hex, lane.hex, job.hex, *rest)

    def _widen(self, parameters: Parameters) -> None:
        for row, host, endpoint, waiting, due_at in _rows(parameters, "id", "host", "endpoint", "waiting", "due_at"):
            if row.hex in self.lanes:
                self.lanes[row.hex].waiting += waiting
            else:
                self.lanes[row.hex] = Lane(row.hex, host, endpoint, waiting, due_at)

    # -- sending ----------------------------------------------------------------------------------------------------

    def _enter(self, session: "Session") -> int:
        return self._senders.setdefault(session, next(self._numbers))

    def _step(
        self, session: "Session", owner: int, settled: Sequence[Settled], now: datetime, room: Room
    ) -> tuple[list[str], str]:
        for done in settled:
            self._settle(owner, done)
        if room.most <= 0:
            return [], room.after
        free = [lane for lane in self.lanes.values() if not lane.owner]
        looked = sorted({lane.endpoint for lane in free if lane.endpoint > room.after})[: room.look]
        due = []
        for endpoint in looked:
            mine = sorted((one for one in free if one.endpoint == endpoint and one.due_at <= now), key=_by_time)
            due += mine[: max(room.endpoint_max - room.endpoints.get(endpoint, 0), 0)]
        calls, chosen = Counter(room.hosts), list[Lane]()
        for lane in sorted(due, key=_by_time):
            calls[lane.host] += 1
            if calls[lane.host] <= room.host_max and len(chosen) < room.most:
                chosen.append(lane)
        for lane in chosen:
            lane.owner = owner
        return [lane.id for lane in chosen], looked[-1] if looked and len(looked) == room.look else ""

    def _settle(self, owner: int, done: Settled) -> None:
        lane, row = self.lanes.get(done.taken.lane), self.owed[done.taken.id]
        if lane is None or lane.owner != owner:
            return
        lane.owner, lane.due_at = 0, done.due_at
        row.state, row.attempts = done.state, done.taken.attempts + 1
        if done.state != "WAITING":
            lane.waiting -= 1
        if not lane.waiting:
            del self.lanes[lane.id]

    def _first(self, session: "Session", lanes: Sequence[str]) -> list[Taken]:
        return [self._first_of(self.lanes[lane]) for lane in lanes]

    def _first_of(self, lane: Lane) -> Taken:
        waiting = [row for row in self.owed.values() if row.lane == lane.id and row.state == "WAITING"]
        row = min(waiting, key=lambda row: (row.version, row.hook))
        headers = msgspec.json.decode(row.headers)
        key = self._key_of(row.job) if row.sealed else ""
        return Taken(
            lane.id,
            lane.host,
            lane.endpoint,
            row.id,
            row.job,
            row.event,
            row.url,
            headers,
            row.body,
            row.attempts,
            row.sealed,
            key,
        )

    def _release(self, session: "Session", owner: int, lane: str) -> None:
        if lane in self.lanes and self.lanes[lane].owner == owner:
            self.lanes[lane].owner = 0

    def _free(self, session: "Session") -> int:
        living = {number for one, number in self._senders.items() if one.live}
        left = [lane for lane in self.lanes.values() if lane.owner and lane.owner not in living]
        for lane in left:
            lane.owner = 0
        return len(left)

    def _oldest(self, session: "Session") -> datetime | None:
        return min((row.created_at for row in self.owed.values() if row.state == "WAITING"), default=None)


def _rows(parameters: Parameters, *columns: str) -> Collection[tuple[Any, ...]]:
    return list(zip(*(parameters[name] for name in columns), strict=True))


def _by_time(lane: Lane) -> tuple[datetime, str]:
    return lane.due_at, lane.id
