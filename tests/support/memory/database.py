"""The log, its projections and the operational tables in memory, and a connection with the face of `Connection`.

A statement travels to the server and its answer back; rows are copied on both ways, so nothing is shared with whoever sent
them. The functions of `eventlog.log` and `eventlog.operational` are names of statements here.
"""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tests.support.memory.deliveries import Deliveries
from tests.support.memory.following import Following
from tests.support.memory.wire import Perfect, Wire
from windlass import ids
from windlass.errors import Unavailable
from windlass.eventlog import deletions, deliveries, follow, log, operational, read
from windlass.eventlog.connection import Connection, end_silent
from windlass.eventlog.follow import Stuck
from windlass.eventlog.log import Appended, Batch, Ended, Loaded, Overtaken, Taken, Unfit, Unwell
from windlass.eventlog.migrate import newest
from windlass.eventlog.rows import ACTIVE, ENDED, JobRow, TaskRow
from windlass.eventlog.state import Items
from windlass.ids import JobId, TaskId, shard_of
from windlass.messages.notices import LogPart, NodeBeat

Row = JobRow | TaskRow
INTEGER_MAX = 2**31 - 1
WELL = frozenset({"COMPLETED", "SKIPPED"})
COMMITS = (log.commit, follow.advance, deliveries.step)
"""Work whose transaction may fail, or succeed without a word."""


class Shard:
    """A row of `shards`, and the session lock that belongs to it."""

    def __init__(self) -> None:
        self.head = 0
        self.owner = self.incarnation = ""
        self.locked_by: Session | None = None
        self.locks = 0
        """How often its session took it: so often it must be given back."""


class Session:
    """A connection as the server knows it."""

    def __init__(self, database: "Database", idle_s: float | None) -> None:
        self.live = True
        self._database, self._idle_s, self._deadline = database, idle_s, 0.0
        self.touch()

    def touch(self) -> None:
        """Something came: the session is not idle."""
        if self._idle_s is not None:
            deadline = self._deadline = self._database.time() + self._idle_s
            self._database.later(self._idle_s, lambda: self.end() if self._deadline == deadline else None)

    def end(self) -> None:
        """Its locks are free."""
        self.live = False
        for shard in self._database.shards:
            if shard.locked_by is self:
                shard.locked_by, shard.locks = None, 0


class Database:
    """The server."""

    def __init__(
        self,
        shards: int,
        wire: Wire | None = None,
        committed: Callable[[Batch], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.wire: Wire = wire or Perfect()
        self._committed = committed
        """Told of every batch that was stored."""
        self._context = contextvars.Context()
        self._loop = loop or asyncio.get_running_loop()
        self.shards = [Shard() for _ in range(shards)]
        self.events: list[list[Appended]] = [[] for _ in range(shards)]
        """Of each shard, by position."""
        self.versions: dict[str, set[int]] = {}
        self.jobs: dict[JobId, JobRow] = {}
        self.tasks: dict[TaskId, TaskRow] = {}
        self.tasks_of: dict[JobId, dict[TaskId, None]] = {}
        self.variables: dict[JobId, dict[str, str]] = {}
        self.items: dict[TaskId, list[Items]] = {}
        self.sealed: dict[tuple[str, str], str] = {}
        self.job_keys: dict[JobId, tuple[str, str]] = {}
        """By job: its key wrapped, and wrapped for webhooks."""
        self.deleted: dict[JobId, tuple[int, int, bool]] = {}
        """By job: its shard, the head of that, whether it has webhooks."""
        self.unswept: set[JobId] = set()
        self.counts: Counter[tuple[int, str]] = Counter()
        self.keys: dict[tuple[str, str], tuple[JobId, str]] = {}
        self.nodes: dict[str, NodeBeat] = {}
        self.logs: dict[tuple[str, int, int], LogPart] = {}
        self.quarantined: dict[str, tuple[str, bytes, str]] = {}
        self.sessions: list[Session] = []
        self.conflicts = self.unknown = 0
        """Commits that were refused for what was there, and those whose answer was lost."""
        self._statements: dict[Any, Callable[..., Any]] = {
            end_silent: lambda session: None,  # here a message is there as a whole or not at all
            log.commit: self._commit,
            log.load: self._load,
            log.load_items: self._load_items,
            log.load_past: self._load_past,
            deletions.unswept: self._unswept,
            deletions.below: lambda session, job, most: [row.id for row in self.jobs.values() if row.parent_job == job][:most],
            deletions.sweep: self._sweep,
            deletions.end: self._end_sweep,
            log.load_secrets: self._load_secrets,
            log.load_sealed_items: lambda session, wanted: {
                place: self.sealed[place] for place in wanted if place in self.sealed
            },
            log.take: self._take,
            log.release: self._release,
            log.formats: lambda session: (newest(), newest()),
            log.ticket_key: lambda session: b"known to coordinators",
            log.shard_count: lambda session: len(self.shards),
            log.due: self._due,
            log.drive_all: self._drive_all,
            log.rearm: self._rearm,
            log.running: self._running,
            log.ensure_partitions: lambda session, now, months=3: None,
            operational.keep_logs: self._keep_logs,
            operational.keep_node: self._keep_node,
            operational.waiting: lambda session, shards: [],
            operational.quarantine: self._quarantine,
        }
        self.deliveries = Deliveries(self.job_keys)
        self.following = Following(self)
        self._statements.update(self.following.statements)

    def time(self) -> float:
        """Of the loop."""
        return self._loop.time()

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Do something of the server's own in a while."""
        self._loop.call_later(delay_s, work, context=self._context)

    def arrive(self, when: float, work: Callable[..., None], *args: Any) -> None:
        """Something reaches the server at a moment."""
        self._loop.call_at(when, work, *args, context=self._context)

    def open(self, idle_s: float | None) -> Session:
        """A client connects."""
        session = Session(self, idle_s)
        self.sessions.append(session)
        return session

    def restart(self) -> None:
        """Every session ends; what is committed stays."""
        for session in self.sessions:
            session.end()
        self.sessions.clear()

    def execute(self, session: Session, work: Any, args: Sequence[Any]) -> Any:
        """Carry a statement out.

        Raises:
            KeyError: no double for that function was written.
        """
        session.touch()
        return self._statements[work](session, *args)

    # -- the log ----------------------------------------------------------------------------------------------------

    def _take(self, session: Session, number: int, owner: str) -> tuple[int, str] | None:
        shard = self.shards[number]
        if shard.locked_by not in (None, session):
            return None
        shard.locked_by, shard.owner = session, owner
        shard.locks += 1
        return shard.head, shard.incarnation

    def _release(self, session: Session, number: int) -> None:
        shard = self.shards[number]
        if shard.locked_by is session:
            shard.locks -= 1
            shard.locked_by = session if shard.locks else None

    def _load(self, session: Session, jobs: Sequence[JobId], tasks: Sequence[TaskId], keys: Sequence[tuple[str, str]]) -> Loaded:
        mine = [self.tasks[name] for job in jobs for name in self.tasks_of.get(job, ())]
        rows = {row.id: row for row in mine if row.state in ACTIVE or row.stopping}
        rows.update((name, self.tasks[name]) for name in tasks if name in self.tasks)
        return Loaded(
            jobs=[copy(self.jobs[job]) for job in jobs if job in self.jobs],
            tasks=[_copy(row) for row in rows.values()],
            variables=[(job, name, value) for job in jobs for name, value in self.variables.get(job, {}).items()],
            keys={key: self.keys[key] for key in keys if key in self.keys},
            deleted=[job for job in jobs if job in self.deleted],
        )

    def _load_items(self, session: Session, wanted: dict[TaskId, int]) -> list[tuple[TaskId, Items]]:
        return [
            (name, part)
            for name, index in wanted.items()
            for part in [part for part in self.items.get(name, ()) if part.next > index][:2]
        ]

    def _load_past(self, session: Session, jobs: Sequence[JobId], whole: Sequence[JobId], tasks: Sequence[TaskId]) -> Ended:
        rows = [self.tasks[name] for job in dict.fromkeys(jobs) for name in self.tasks_of.get(job, ())]
        return ended_of(rows, whole, tasks, {name: self.items.get(name, []) for name in tasks})

    def _unswept(self, session: Session, shards: Sequence[int], most: int) -> list[JobId]:
        return [job for job, (shard, _, _) in self.deleted.items() if job in self.unswept and shard in shards][:most]

    def _sweep(self, session: Session, job: JobId, most: int) -> int:
        gone = list(self.tasks_of.get(job, ()))[:most]
        for name in gone:
            del self.tasks[name], self.tasks_of[job][name]
            self.items.pop(name, None)
        self.sealed = {place: text for place, text in self.sealed.items() if place[0] not in (job, *gone)}
        self.variables.pop(job, None)
        parts = [place for place, part in self.logs.items() if part.job == job][:most]
        for place in parts:
            del self.logs[place]
        return len(gone) + len(parts)

    def _end_sweep(self, session: Session, job: JobId) -> bool:
        shard, head, hooked = self.deleted[job]
        waits = any(one.job == job and one.sealed and one.state == "WAITING" for one in self.deliveries.owed.values())
        if not hooked or (self.following.seen("webhook_cursors")[shard] >= head and not waits):
            self.job_keys.pop(job, None)
        if job in self.job_keys:
            return False
        self.unswept.discard(job)
        return True

    def _load_secrets(
        self, session: Session, jobs: Sequence[JobId], owners: Sequence[str]
    ) -> tuple[dict[JobId, str], dict[tuple[str, str], str]]:
        texts = {place: text for place, text in self.sealed.items() if place[0] in owners and not place[1].startswith("items ")}
        return {job: self.job_keys[job][0] for job in jobs if job in self.job_keys}, texts

    def _commit(self, session: Session, batch: Batch) -> None:
        self.check_heads(batch)
        self.check_new(batch)
        self._check_fit(batch)
        for number, (_, after) in batch.heads.items():
            self.shards[number].head = after
        for event in batch.events:
            self.events[event.shard].append(event)
            self.versions.setdefault(event.stream, set()).add(event.version)
        for changed in batch.changed_jobs:
            changed.definition = self.jobs[changed.id].definition  # what never changes of a row is not written again
        for row in batch.changed_tasks:
            _keep_fixed(self.tasks[row.id], row)
        for job in (*batch.new_jobs, *batch.changed_jobs):
            self.jobs[job.id] = job
        for task in (*batch.new_tasks, *batch.changed_tasks):
            task.stored = True
            self.tasks[task.id] = task
            self.tasks_of.setdefault(task.job, {})[task.id] = None
        for _, listed, part in batch.items:
            self.items.setdefault(listed, []).append(part)
        for name, number, head, is_hooked, _ in batch.deleted:
            self.jobs.pop(name, None)
            self.deleted[name] = (number, head, is_hooked)
            self.unswept.add(name)
        for cleared in batch.cleared:
            self.variables.pop(cleared, None)
        for name, variable, value in batch.variables:
            self.variables.setdefault(name, {})[variable] = value
        for whose, part_name, _, text in batch.sealed:
            self.sealed[whose, part_name] = text
        for name, _, wrapped, hooked in batch.job_keys:
            self.job_keys[name] = wrapped, hooked
        for name, requests in batch.refused:
            if name in self.jobs:
                self.jobs[name].refused = requests
        self.counts.update(batch.counts)
        for owner, key, name, digest in batch.keys:
            self.keys[owner, key] = (name, digest)
        if self._committed is not None:
            self._committed(batch)

    def check_heads(self, batch: Batch) -> None:
        """Refuse a batch whose heads have moved."""
        for number, (before, _) in batch.heads.items():
            if self.shards[number].head != before:
                self.conflicts += 1
                raise Overtaken("the head of a shard has moved")

    def check_new(self, batch: Batch) -> None:
        """Refuse a batch whose rows exist."""
        for event in batch.events:
            if event.version in self.versions.get(event.stream, ()):
                self.conflicts += 1
                raise Taken(f"a row existed already: version {event.version} of {event.stream}")
        new: list[Row] = [*batch.new_jobs, *batch.new_tasks]
        for row in new:
            if row.id in self.jobs or row.id in self.tasks:
                self.conflicts += 1
                raise Taken(f"a row existed already: {row.id}")
        for owner, key, _, _ in batch.keys:
            if (owner, key) in self.keys:
                self.conflicts += 1
                raise Taken(f"a row existed already: key {key} of {owner}")

    @staticmethod
    def _check_fit(batch: Batch) -> None:
        if any(event.version > INTEGER_MAX for event in batch.events):
            raise Unfit("PostgreSQL cannot hold a value: integer out of range")
        rows: list[Row] = [*batch.new_jobs, *batch.changed_jobs, *batch.new_tasks, *batch.changed_tasks]
        for row in rows:
            if "\0" in row.error or "\0" in row.result or "\0" in row.definition.name:
                raise Unfit("PostgreSQL cannot hold a value: a NUL")

    def _due(self, session: Session, shards: Sequence[int], now: datetime, most: int) -> list[tuple[JobId, TaskId | None]]:
        def late(rows: Sequence[Any]) -> list[Any]:
            found = [
                row
                for row in rows
                if row.drive_at is not None and row.drive_at <= now and shard_of(row.id, len(self.shards)) in shards
            ]
            return sorted(found, key=lambda row: row.drive_at)[:most]

        tasks, jobs = late(list(self.tasks.values())), late(list(self.jobs.values()))
        return [(task.job, task.id) for task in tasks] + [(job.id, None) for job in jobs]

    def _drive_all(self, session: Session, number: int, incarnation: str, now: datetime) -> None:
        rows: list[Row] = [*self.tasks.values(), *self.jobs.values()]
        for row in rows:
            if row.drive_at is not None and shard_of(row.id, len(self.shards)) == number:
                row.drive_at, row.drives = now, 0
        self.shards[number].incarnation = incarnation

    def _rearm(self, session: Session, number: int, now: datetime, first_s: float, most_s: float) -> None:
        rows: list[Row] = [*self.tasks.values(), *self.jobs.values()]
        for row in rows:
            if row.drive_at is not None and shard_of(row.id, len(self.shards)) == number:
                row.drive_at = min(row.drive_at, now + timedelta(seconds=min(first_s * 2.0 ** min(row.drives, 16), most_s)))

    def _running(self, session: Session, shards: Sequence[int]) -> list[tuple[str, JobId, TaskId, int, int]]:
        mine = [task for task in self.tasks.values() if shard_of(task.id, len(self.shards)) in shards]
        running = [(t.worker, t.job, t.id, t.run, t.attempt) for t in mine if t.state == "RUNNING" and t.worker]
        return running + [(t.stopping, t.job, t.id, t.run, t.attempt) for t in mine if t.stopping]

    # -- operational ------------------------------------------------------------------------------------------------

    def _keep_logs(self, session: Session, parts: Sequence[tuple[LogPart, datetime]]) -> None:
        if any(part.number > INTEGER_MAX or part.attempt > INTEGER_MAX for part, _ in parts):
            raise Unfit("PostgreSQL cannot hold a value: integer out of range")
        for part, _ in parts:
            if JobId(part.job) in self.deleted:
                continue
            kept = msgspec.structs.replace(part, contents=part.contents.replace("\0", ""))
            self.logs.setdefault((part.task, part.attempt, part.number), kept)

    def _keep_node(self, session: Session, beat: NodeBeat, at: datetime) -> None:
        if "\0" in beat.name:
            raise Unfit("PostgreSQL cannot hold a value: a NUL")
        self.nodes[beat.id] = beat

    def _quarantine(self, session: Session, subject: str, payload: bytes, headers: Any, reason: str, at: datetime) -> str:
        name = ids.derive(at.replace(microsecond=0), None, subject, payload.hex(), reason)
        self.quarantined.setdefault(name, (subject, payload, reason.replace("\0", "")))
        return name


def _copy(row: TaskRow) -> TaskRow:
    """A row with what is counted of it."""
    return msgspec.structs.replace(row, composite=copy(row.composite))


def _keep_fixed(stored: TaskRow, row: TaskRow) -> None:
    row.definition = stored.definition
    if row.composite is not None and stored.composite is not None:
        row.composite = msgspec.structs.replace(row.composite, scope=stored.composite.scope)


def _opened(row: TaskRow) -> TaskId:
    """The row, or the one whose place it was to take, if its time had not come."""
    waits = row.composite is not None and not row.composite.size
    return row.composite.again or row.id if waits and row.composite is not None else row.id


def ended_of(
    rows: Sequence[TaskRow], whole: Sequence[JobId], tasks: Sequence[TaskId], lists: Mapping[TaskId, Sequence[Items]]
) -> Ended:
    """What became of steps: of all `rows` of some jobs, those of the jobs `whole` and those below the composites `tasks`."""
    last: dict[tuple[str, str], TaskRow] = {}
    for row in sorted(rows, key=lambda row: (row.run, row.attempt)):
        if (row.parent is None and row.job in whole) or row.parent in tasks:
            last[row.parent or row.job, row.key] = row
    unwell = [
        Unwell(of, row.key, _opened(row), row.composite is not None) for (of, _), row in last.items() if row.state not in WELL
    ]
    composites = {row.id: copy(row.composite) for row in rows if row.id in tasks and row.composite is not None}
    return Ended(composites, unwell, [(name, part) for name in tasks for part in lists.get(name, ())])


def _copied(argument: Any) -> Any:
    """What travels: rows of a batch are copied, all else cannot change."""
    if not isinstance(argument, Batch):
        return argument
    return Batch(
        shards=argument.shards,
        heads=dict(argument.heads),
        events=list(argument.events),
        new_jobs=[copy(row) for row in argument.new_jobs],
        changed_jobs=[copy(row) for row in argument.changed_jobs],
        new_tasks=[_copy(row) for row in argument.new_tasks],
        changed_tasks=[_copy(row) for row in argument.changed_tasks],
        new_composites=list(argument.new_composites),
        changed_composites=list(argument.changed_composites),
        items=list(argument.items),
        deleted=list(argument.deleted),
        cleared=list(argument.cleared),
        refused=list(argument.refused),
        variables=list(argument.variables),
        sealed=list(argument.sealed),
        job_keys=list(argument.job_keys),
        counts=Counter(argument.counts),
        keys=list(argument.keys),
    )


class Route:
    """A process's way to the database; while it is `cut`, what is said waits on both sides."""

    def __init__(self) -> None:
        self.cut = False
        self.held: list[Callable[[], None]] = []
        self.connections: list[MemoryConnection] = []

    def heal(self) -> None:
        """What waits goes on."""
        self.cut = False
        held, self.held = self.held, []
        for go in held:
            go()

    def pass_on(self, go: Callable[[], None]) -> None:
        """Send, once the way is free."""
        if self.cut:
            self.held.append(go)
        else:
            go()


class MemoryConnection(Connection):
    """A connection that is opened again after each loss."""

    def __init__(self, database: Database, owner_s: int | None = None, route: Route | None = None) -> None:
        self._database, self._owner_s, self._route = database, owner_s, route or Route()
        self._route.connections.append(self)
        self._session: Session | None = None
        self._context = contextvars.copy_context()
        self._turn = asyncio.Lock()
        self.generation = 0

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """See `Connection`."""
        assert not kwargs
        async with self._turn:
            if self._session is None:
                await self._travel()
                self._session = self._database.open(self._owner_s)
                self.generation += 1
            return await self._ask(self._session, work, *args)

    async def run_in(self, generation: int, work: Any, *args: Any, **kwargs: Any) -> Any:
        """See `Connection`."""
        assert not kwargs
        async with self._turn:
            if self._session is None or self.generation != generation:
                raise Unavailable("the session that held the locks is gone")
            return await self._ask(self._session, work, *args)

    async def _ask(self, session: Any, work: Any, *args: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(session, work, [_copied(argument) for argument in args], answer)
        try:
            return await answer
        except Unavailable:
            if not session.live:
                self._session = None
            raise
        except asyncio.CancelledError:
            self._session = None  # an answer is still on its way
            self._route.pass_on(lambda: self._leave(session))
            raise

    async def _travel(self) -> None:
        """Wait for what a first exchange takes."""
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._back(there, None, None)
        await there

    def _send(self, session: Session, work: Any, args: Sequence[Any], answer: "asyncio.Future[Any]") -> None:
        database = self._database

        def execute() -> None:
            fate = database.wire.commit() if work in COMMITS and session.live else "done"
            if not session.live or fate == "refused":
                session.end()
                self._back(answer, None, Unavailable("PostgreSQL did not answer: the session is gone"))
                return
            result, error = None, None
            try:
                result = database.execute(session, work, args)
            except (Overtaken, Taken, Unfit, Stuck, Unavailable) as refused:
                error = refused
            if fate == "lost":
                database.unknown += 1
                session.end()
                self._back(answer, None, Unavailable("PostgreSQL did not answer: the connection was lost"))
                return
            self._back(answer, result, error)

        self._route.pass_on(lambda: database.arrive(database.time() + database.wire.delay_s(), execute))

    def _back(self, answer: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
        def settle() -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        def send() -> None:
            delay_s = self._database.wire.delay_s()
            asyncio.get_running_loop().call_later(delay_s, settle, context=self._context)

        self._route.pass_on(send)

    def vanish(self) -> None:
        """The process is dead: the server finds its connection closed."""
        if self._session is not None:
            self._leave(self._session)

    async def drop(self) -> None:
        """See `Connection`."""
        async with self._turn:
            if self._session is not None:
                session, self._session = self._session, None
                self._route.pass_on(lambda: self._leave(session))

    def _leave(self, session: Session) -> None:
        self._database.arrive(self._database.time() + self._database.wire.delay_s(), session.end)

    async def close(self) -> None:
        """See `Connection`."""
        await self.drop()


class MemoryReader(read.Reader):
    """Answers from the projections, as far as submitting, waiting and looking at a job need it."""

    def __init__(self, database: Database) -> None:
        self._database, self.shards = database, len(database.shards)

    async def _travel(self) -> None:
        await asyncio.sleep(self._database.wire.delay_s())

    async def job(self, job: str, page: int = 1) -> read.WholeJob | None:
        """See `Reader`."""
        await self._travel()
        row = self._database.jobs.get(JobId(job))
        if row is None:
            return None
        tasks = [self._database.tasks[name] for name in self._database.tasks_of.get(row.id, ())]
        never = datetime.max.replace(tzinfo=row.created_at.tzinfo)
        tasks.sort(key=lambda task: (task.position, task.started_at or never, task.id))
        return read.WholeJob(
            self._as(read.JobRow, row),
            [self._as(read.TaskRow, task) for task in tasks],
            dict(self._database.variables.get(row.id, {})),
            len(tasks),
        )

    def _as(self, kind: Any, row: Any) -> Any:
        """A row as readers see it: the definition as JSON, and the moment that it waits for."""
        timed = {"PENDING": "due_at", "COMPLETED": "delete_at"}
        fields = {name: getattr(row, name) for name in kind.__struct_fields__ if name not in ("definition", *timed.values())} | {
            name: None for name in timed.values() if name in kind.__struct_fields__
        }
        timer, name = self._database.following.timers.get(row.id), timed.get(row.state)
        if timer is not None and name in fields:
            fields[name] = timer.due_at
        return kind(**fields, definition=msgspec.Raw(msgspec.json.encode(row.definition)))

    async def ended(self, jobs: Sequence[str]) -> list[str]:
        """See `Reader`."""
        await self._travel()
        rows = self._database.jobs
        return [job for job in jobs if JobId(job) in rows and rows[JobId(job)].state in ENDED]
