"""The shell around the rules: takes what waits for its shards in batches, decides, commits, then tells.

One batch at a time: decode, load the working sets that are not in memory, decide each message in order, store everything in
one transaction, and only then answer, publish and acknowledge. Memory is a cache of the rows of owned shards; on any doubt it is
thrown away.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec

from windlass import log as logs
from windlass import metrics
from windlass.bus.connection import ALREADY_QUEUED, Bus, NotStored
from windlass.bus.consume import Jetstream
from windlass.bus.streams import ACK_WAIT_S
from windlass.clock import Clock
from windlass.coordinator.job import pasts
from windlass.coordinator.job.decide import ITEMS_MAX, OPENED_MAX, Fold, Step, run_to_end
from windlass.coordinator.job.evaluation import Render
from windlass.coordinator.job.outgoing import Redrive, again, outgoing, summary
from windlass.coordinator.template import Costly, Rendered, Settle, recalling
from windlass.coordinator.tickets import Tickets
from windlass.coordinator.vaults import Vaults, opened_part, shown, shown_job, shown_part, shown_text
from windlass.errors import Conflict, Corrupt, Invalid, Rejected, Stale, Unavailable, WindlassError
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.log import Appended, Batch, Overtaken, Taken, Unfit
from windlass.eventlog.rows import ACTIVE, ENDED, TaskRow
from windlass.eventlog.state import Items, JobWork, evolve, is_timed, remembered
from windlass.ids import JobId, TaskId, is_id, issued_of, shard_of
from windlass.messages.commands import (
    JOB_COMMANDS,
    AdvanceJob,
    Answer,
    CancelJob,
    ClaimTask,
    CompleteTask,
    DeleteJob,
    ExpandTask,
    ExpireTask,
    FailTask,
    Fence,
    GrantTask,
    JobCommand,
    LoseTask,
    PauseJob,
    QueueTask,
    RefuseTask,
    ReportProgress,
    Request,
    RestartJob,
    ResumeJob,
    RunTask,
    StartJob,
    SubmitJob,
)
from windlass.messages.envelope import Message, encode, open_envelope, tag_of, trace_of
from windlass.messages.events import JobEvent, JobSubmitted
from windlass.messages.notices import HeadMoved, StreamChanged
from windlass.settings import Times

log = logs.get()

BATCH_MAX = 500
"""Messages decided together."""
CACHE_MAX = 20_000
"""Jobs kept in memory; beyond it the oldest are loaded again when they are needed."""
UNTOLD_MAX = 4
"""Batches whose messages may still be on their way to the broker while the next is decided."""
TRIES_MAX = 3
"""How often a batch is decided anew because rows existed, before its messages are taken one by one; and an order published."""
RETRY_S = 0.2
"""Pause after a commit that failed for want of a database."""
COSTLY_MAX = 4
"""Costly templates found in one batch; the rest of it waits for the next, since finding one takes milliseconds."""

DECISIONS = metrics.DECISIONS.counter()
IGNORED = metrics.IGNORED.counter()
REDRIVES = metrics.REDRIVES.counter()
COSTLY = metrics.COSTLY.counter()
BATCH_SIZE = metrics.BATCH_SIZE.histogram()
COMMIT_S = metrics.COMMIT_S.histogram()

_encode = msgspec.json.Encoder().encode

SPOKEN: dict[str, tuple[type[JobCommand], ...]] = {
    "jobs": (SubmitJob, CancelJob, RestartJob, PauseJob, ResumeJob, DeleteJob),
    "pending": (AdvanceJob, ExpandTask, StartJob, QueueTask, ExpireTask, DeleteJob),
    "started": (ClaimTask,),
    "progress": (ReportProgress,),
    "completed": (CompleteTask,),
    "error": (FailTask,),
}
"""What may be said on which word: who may publish on a subject may say no more than that."""


class _FrozenError(Exception):
    """A job's own invariant broke in the middle of a batch: all of it is to be decided anew, without that job."""


class _CostlyError(Exception):
    """Some of a batch cannot be decided yet: the rest is to be decided anew, without these and without what comes after."""

    def __init__(self, asked: "Iterable[tuple[Item, bytes]]", rest: "Sequence[Item]" = ()) -> None:
        super().__init__()
        self.asked, self.rest = list(asked), rest


class Aside(Protocol):
    """Where messages go that can never succeed."""

    def quarantine(self, delivery: Jetstream, reason: str) -> None:
        """Keep a message with its reason, then end its delivery."""
        ...


@dataclass(slots=True)
class Item:
    """One message of a batch, or something that this service says to itself (then without message and delivery).

    `job` is the job it concerns: the command's, or the earlier one that an Idempotency-Key stands for. `answers` are to the
    costly templates that were met while deciding it.
    """

    job: JobId
    command: JobCommand | Redrive
    message: Message | None = None
    delivery: Jetstream | None = None
    error: WindlassError | None = None
    answers: dict[bytes, Rendered] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """What a batch decided: the rows to store and the words to say after that."""

    now: datetime
    batch: Batch
    before: dict[JobId, tuple[int, str]] = field(default_factory=dict)
    """Version and state of each job that changes, as stored."""
    tags: dict[JobId, list[str]] = field(default_factory=dict)
    """The types of each job's new events."""
    refused: dict[JobId, str] = field(default_factory=dict)
    """The last requests that were refused, of each job with a new one."""
    published: list[tuple[str, bytes]] = field(default_factory=list)
    """Orders: published until the broker has them."""
    said: list[tuple[str, bytes]] = field(default_factory=list)
    """Answers and notices: published once."""


class Coordinator:
    """Decides for the shards that it owns."""

    def __init__(
        self,
        *,
        name: str,
        store: Connection,
        bus: Bus,
        clock: Clock,
        shards: int,
        render: Render,
        settle: Settle,
        times: Times,
        aside: Aside,
        tickets: Tickets,
        vaults: Vaults,
    ) -> None:
        self._name, self._store, self._bus, self._clock, self._shards = name, store, bus, clock, shards
        self._render, self._settle, self._times, self._aside, self._tickets = render, settle, times, aside, tickets
        self._vaults = vaults
        self._waiting: deque[Jetstream] = deque()
        self._own: deque[Item] = deque()
        self._wake = asyncio.Event()
        self.deleted = asyncio.Event()
        """Set when jobs were deleted: what is left of them is to be swept."""
        self._cache: dict[JobId, JobWork] = {}
        self._touched: set[JobId] = set()
        """Jobs whose working sets may hold what is not stored."""
        self._frozen: dict[JobId, str] = {}
        self._telling: set[asyncio.Task[Any]] = set()
        self._asking: dict[asyncio.Task[None], JobId] = {}
        self._untold = asyncio.Semaphore(UNTOLD_MAX)
        self._numbers = 0
        self.lock = asyncio.Lock()
        """Held while a batch is decided and while shards change hands."""
        self.heads: dict[int, int] = {}
        """The shards that are owned, and where their logs end."""
        self.generation = 0
        """Of the connection whose session holds those shards."""
        self.fold: Fold = evolve
        """Refuses events that may not be written yet."""
        self.progressed: Callable[[], None] = lambda: None
        """Called after each commit."""
        self.granted: Callable[[str], None] = lambda worker: None
        """Called when a worker was granted a task."""

    # -- intake -----------------------------------------------------------------------------------------------------

    def take(self, delivery: Jetstream) -> None:
        """A message for a shard came."""
        self._waiting.append(delivery)
        self._wake.set()

    def taken(self) -> tuple[int, float]:
        """How many messages wait here to be decided, and the broker's stamp of the oldest, in seconds since 1970."""
        return len(self._waiting), self._waiting[0].stamp_ns / 1e9 if self._waiting else 0.0

    def say(self, items: Iterable[Item]) -> None:
        """Put commands of our own in the next batch."""
        self._own.extend(items)
        self._wake.set()

    def forget(self) -> None:
        """Drop all that memory holds; what was not committed comes again from the broker."""
        self._cache.clear()
        self._touched.clear()
        self._waiting.clear()
        self._own.clear()
        for asking in self._asking:
            asking.cancel()

    def forget_shard(self, shard: int) -> None:
        """Drop what memory holds of one shard."""
        self._drop([job for job in self._cache if shard_of(job, self._shards) == shard])
        for asking, job in self._asking.items():
            if shard_of(job, self._shards) == shard:
                asking.cancel()

    def _drop(self, jobs: Iterable[JobId]) -> None:
        for job in jobs:
            self._cache.pop(job, None)

    def _undo(self, items: list[Item]) -> None:
        """Drop all that deciding a batch has changed and not stored."""
        self._drop(self._touched)
        self._drop(item.job for item in items)
        self._touched.clear()

    async def serve(self, stop: asyncio.Event) -> None:
        """Decide until `stop`; what was taken by then and not decided comes again elsewhere."""
        ended = asyncio.ensure_future(stop.wait())
        ended.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                if self._waiting or self._own:
                    await self.step()
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            ended.cancel()
        for asking in self._asking:
            asking.cancel()
        if ending := [*self._telling, *self._asking]:
            await asyncio.wait(ending, timeout=5)

    async def step(self) -> None:
        """Handle one batch of whatever waits."""
        async with self.lock:
            items = self._next()
            if not items:
                return
            try:
                await self._handle(items)
            except Unavailable as error:
                log.warning("batch_postponed", error=str(error), messages=len(items))
                self.forget()
                self.heads.clear()
                await self._store.drop()  # and with it all its locks: to take one twice would be to have to let it go twice
                await asyncio.sleep(RETRY_S)

    def _next(self) -> list[Item]:
        """Decode the next batch; what cannot be decoded, or is not ours, leaves here."""
        items: list[Item] = []
        while self._own and len(items) < BATCH_MAX:
            items.append(self._own.popleft())
        while self._waiting and len(items) < BATCH_MAX:
            delivery = self._waiting.popleft()
            try:
                item = self._decode(delivery)
            except Invalid as error:
                self._aside.quarantine(delivery, str(error))
                self._spawn(self._answer(delivery, error))
                continue
            if item is not None:
                items.append(item)
        return [item for item in items if shard_of(item.job, self._shards) in self.heads]

    def _decode(self, delivery: Jetstream) -> Item | None:
        place = self._bus.subjects.place(delivery.subject)
        message = open_envelope(delivery.payload)
        command = JOB_COMMANDS.decode(message.type, message.data)
        if not isinstance(command, SPOKEN.get(place.word, ())):
            raise Invalid(f"{message.type} is not said on {place.word}")
        if not is_id(command.job):
            raise Invalid(f"job {command.job!r} is not an id: 32 hex digits")
        if shard_of(command.job, self._shards) != place.shard:
            raise Invalid(f"job {command.job} is not of the shard that {delivery.subject} names")
        if isinstance(command, Fence):
            if not is_id(command.task):
                raise Invalid(f"task {command.task!r} is not an id: 32 hex digits")
            if place.worker != issued_of(command.worker):
                IGNORED.labels("sender").inc()
                self._spawn(delivery.ack())
                return None
        if isinstance(command, SubmitJob) and (trace := trace_of(message.trace)):
            command = msgspec.structs.replace(command, trace=trace)
        return Item(job=command.job, command=self._vaults.opened(command), message=message, delivery=delivery)

    async def _answer(self, delivery: Jetstream, error: WindlassError) -> None:
        """Tell whoever waits for it that a message can never succeed."""
        with suppress(Invalid):
            reply = open_envelope(delivery.payload).reply
            if reply:
                await self._bus.tell(reply, self._message(_refusal(error), self._clock.now()))

    # -- one batch --------------------------------------------------------------------------------------------------

    async def _handle(self, items: list[Item]) -> None:
        for attempt in range(TRIES_MAX):
            draft = await self._draft(items, optimistic=attempt == 0)
            try:
                await self._commit(draft)
            except Taken as error:
                refused: WindlassError = error
                self._undo(items)
            except Overtaken as error:
                raise Unavailable(f"another coordinator took a shard: {error}") from error
            except Unfit as error:
                refused = error
                self._undo(items)
                break
            else:
                BATCH_SIZE.observe(len(items))
                await self._untold.acquire()
                self._spawn(self._tell(items, draft))
                return
        if len(items) > 1:
            for item in items:
                await self._handle([item])
            return
        (item,) = items
        log.error("message_unfit", job=item.job, error=str(refused))
        if item.message is not None and item.message.reply:
            await self._bus.tell(item.message.reply, self._message(_refusal(Invalid(str(refused))), self._clock.now()))
        if item.delivery is not None:
            self._aside.quarantine(item.delivery, str(refused))

    async def _draft(self, items: list[Item], optimistic: bool) -> _Draft:
        """Load and decide; anew, if a job had to be frozen or set aside: what was decided of it must not be stored."""
        while True:
            for item in items:
                item.error, item.job = None, item.command.job
            await self._load(items, optimistic)
            try:
                return self._decide(items)
            except _FrozenError:
                optimistic = False
                self._undo(items)
            except _CostlyError as found:
                self._undo(items)
                self._own.extendleft(reversed(found.rest))
                for item, question in found.asked:
                    asking = asyncio.get_running_loop().create_task(self._ask(item, question))
                    self._asking[asking] = item.job
                    asking.add_done_callback(self._asking.pop)
                gone = {id(item) for item in (*found.rest, *(item for item, _ in found.asked))}
                items[:] = [item for item in items if id(item) not in gone]

    async def _ask(self, item: Item, question: bytes) -> None:
        """Have a costly template evaluated while other jobs go on, then decide the command again with the answer.

        Its message stays with us so long. Should we lose the shard or our life, it comes again to whoever is next.
        """
        COSTLY.inc()
        settling = asyncio.ensure_future(self._settle(question))
        try:
            while not (await asyncio.wait([settling], timeout=ACK_WAIT_S / 3))[0]:
                if item.delivery is not None:
                    await item.delivery.working()
        finally:
            settling.cancel()
        item.answers[question] = settling.result()
        self.say([item])

    async def _load(self, items: list[Item], optimistic: bool) -> None:
        """Bring the working sets of a batch into memory: one round trip for all that is missing, more for jobs below jobs."""
        jobs: dict[JobId, None] = {}
        tasks: dict[TaskId, None] = {}
        keys: dict[tuple[str, str], None] = {}
        others = {item.job for item in items if not isinstance(item.command, SubmitJob)}
        for item in items:
            command, work = item.command, self._cache.get(item.job)
            if isinstance(command, SubmitJob) and command.key is not None:
                keys[command.user, command.key] = None
            if work is None:
                new = isinstance(command, SubmitJob) and command.key is None and item.job not in others
                if optimistic and new and item.delivery is not None and item.delivery.deliveries == 1:
                    self._cache[item.job] = JobWork()  # new, as nearly always; a row that exists refuses the commit
                else:
                    jobs[item.job] = None
            if (
                isinstance(command, Fence | Redrive)
                and command.task is not None
                and (work is None or command.task not in work.tasks)
            ):
                tasks[command.task] = None
        if jobs or tasks or keys:
            await self._find(items, await self._read(jobs, tasks, keys))
        families = {item.job for item in items if self._has_relatives(item.job)}
        while missing := {job for job in self._family(families) if job not in self._cache}:
            await self._read(missing, {}, {})
        if wanted := self._unlisted({item.job for item in items} | set(self._family(families))):
            found = await self._store.run_in(self.generation, eventlog.load_items, {t: at for t, (_, at) in wanted.items()})
            for task, part in await self._open_items(wanted, found):
                parts = wanted[task][0].lists[task]
                if all(part.first != one.first for one in parts):
                    parts.append(part)
        while wanted_pasts := self._forgotten(items):
            await self._recall(wanted_pasts)

    async def _find(self, items: list[Item], loaded: eventlog.Loaded) -> None:
        """Find the jobs that Idempotency-Keys stand for."""
        known: dict[JobId, None] = {}
        for item in items:
            if isinstance(item.command, SubmitJob) and item.command.key is not None:
                job, digest = loaded.keys.get((item.command.user, item.command.key), (None, None))
                if job is not None and digest != item.command.digest:
                    item.error = _reused(item.command.key)
                elif job is not None:
                    item.job = job
                    if job not in self._cache:
                        known[job] = None
        if known:
            await self._read(known, {}, {})

    def _has_relatives(self, job: JobId) -> bool:
        work = self._cache.get(job)
        return work is not None and (bool(work.subjobs) or (work.job is not None and work.job.parent_job is not None))

    def _family(self, jobs: Iterable[JobId]) -> Iterator[JobId]:
        """Some jobs, those above them, and those at work below all these: as far as memory knows them, and the first beyond."""
        seen, waiting = set(jobs), list(jobs)
        while waiting:
            job = waiting.pop()
            yield job
            work = self._cache.get(job)
            if work is None or work.job is None:
                continue
            near = [*work.subjobs.values(), *([work.job.parent_job] if work.job.parent_job is not None else ())]
            waiting += [one for one in near if one not in seen]
            seen.update(near)

    def _unlisted(self, jobs: Iterable[JobId]) -> dict[TaskId, tuple[JobWork, int]]:
        """Lists whose next elements are not in memory, or soon will not be; with the index of the next."""
        found = {}
        for job in jobs:
            work = self._cache[job]
            for task, parts in work.lists.items():
                row = work.tasks[task].composite
                known = max((part.next for part in parts), default=0)
                if row is not None and known < row.size and known - row.opened < ITEMS_MAX // 2:
                    found[task] = work, row.opened
        return found

    def _forgotten(self, items: Sequence[Item]) -> list[tuple[JobWork, str]]:
        """Of what runs again soon, the row or job whose past is not in memory, with the working set that it belongs to."""
        found: list[tuple[JobWork, str]] = []
        for job in dict.fromkeys(item.job for item in items):
            work = self._cache[job]
            row = work.job
            if row is None:
                continue
            soon: list[str | None] = []
            if row.state in ENDED:
                if any(isinstance(one.command, RestartJob) and one.command.how == "failed" and one.job == job for one in items):
                    soon.append(job)
            elif row.redo is not None and not work.open:
                soon.append(row.redo.again.get(row.position))
            for task in work.lists:
                composite = work.tasks[task].composite
                if composite is not None and composite.again is not None:
                    if not composite.size:  # its time has come, or will
                        soon.append(composite.again)
                    places = range(composite.opened, min(composite.opened + OPENED_MAX, composite.size))
                    soon += [element.again for at in places if (element := work.element(task, at)) is not None]
            found += [(work, one) for one in soon if one is not None and one not in work.pasts]
            for past in work.pasts.values():
                below = past.subjob if past is not None else None
                if below is not None and (below not in self._cache or below not in self._cache[below].pasts):
                    found.append((self._cache.get(below, JobWork()), below))
        return found

    async def _recall(self, wanted: Sequence[tuple[JobWork, str]]) -> None:
        """Read what became of rows and jobs that have ended."""
        if unread := [JobId(name) for work, name in wanted if work.job is None]:
            await self._read(unread, {}, {})
        wanted = [(self._cache.get(JobId(name), work), name) for work, name in wanted]
        whole = [work.job.id for work, name in wanted if work.job is not None and work.job.id == name]
        tasks = {TaskId(name): (work, 0) for work, name in wanted if name not in whole}
        jobs = [work.job.id for work, _ in wanted if work.job is not None]
        ended = await self._store.run_in(self.generation, eventlog.load_past, jobs, whole, list(tasks))
        ended.parts = list(await self._open_items(tasks, ended.parts))
        for work, name in wanted:
            if work.job is not None and work.job.id == name:
                work.pasts[name] = pasts.of_job(work.job, ended)
            else:
                work.pasts[name] = pasts.of_composite(TaskId(name), ended)

    async def _read(self, jobs: Iterable[JobId], tasks: Iterable[TaskId], keys: Iterable[tuple[str, str]]) -> eventlog.Loaded:
        wanted = list(jobs)
        loaded = await self._store.run_in(self.generation, eventlog.load, wanted, list(tasks), list(keys))
        for job in wanted:
            self._cache[job] = JobWork()
        for row in loaded.jobs:
            self._cache[row.id].job = row
        for job in loaded.deleted:
            self._cache[job].deleted = True
        late: list[tuple[JobWork, TaskRow]] = []
        for task in loaded.tasks:
            work = self._cache.get(task.job)
            if work is not None and task.id not in work.tasks:
                work.put(task)
                if work.vault is not None:
                    late.append((work, task))
        for job, name, value in loaded.variables:
            self._cache[job].set(name, value)
        await self._open([self._cache[row.id] for row in loaded.jobs if row.definition.has_secrets], late)
        return loaded

    async def _open(self, works: Sequence[JobWork], late: Sequence[tuple[JobWork, TaskRow]]) -> None:
        """Make whole what was loaded of jobs with secrets: `works`, and rows that came late to others."""
        if not works and not late:
            return
        jobs = [work.job.id for work in works if work.job is not None]
        owners: list[str] = [*jobs, *(task for work in works for task in work.tasks), *(task.id for _, task in late)]
        keys, texts = await self._store.run_in(self.generation, eventlog.load_secrets, jobs, owners)
        for job, work in zip(jobs, works, strict=True):
            try:
                self._vaults.open(work, keys.get(job), texts)
            except Invalid as error:
                self._frozen[job] = str(error)
                log.error("job_frozen", job=job, error=str(error))
        for work, task in late:
            self._vaults.open_row(work, task, texts)

    async def _open_items(
        self, wanted: Mapping[TaskId, tuple[JobWork, int]], parts: Sequence[tuple[TaskId, Items]]
    ) -> Sequence[tuple[TaskId, Items]]:
        """Parts of lists, whole."""
        sealed = [(task, f"items {part.first}") for task, part in parts if wanted[task][0].vault is not None]
        if not sealed:
            return parts
        texts = await self._store.run_in(self.generation, eventlog.load_sealed_items, sealed)
        return [(task, opened_part(wanted[task][0], part, texts.get((task, f"items {part.first}"), ""))) for task, part in parts]

    def _decide(self, items: list[Item]) -> _Draft:
        draft = _Draft(self._clock.now(), Batch(shards=self._shards))
        heads = dict(self.heads)
        costly: dict[JobId, tuple[Item, bytes]] = {}
        for at, item in enumerate(items):
            if item.job in costly:
                continue  # its working set is spoiled; it is decided in the next draft
            if item.job in self._frozen:
                item.error = Corrupt(f"job {item.job} is frozen: {self._frozen[item.job]}")
            if item.error is None:
                try:
                    self._decide_one(item, draft, heads)
                except Costly as error:
                    costly[item.job] = item, error.question
                    if len(costly) == COSTLY_MAX or self._has_relatives(item.job):
                        raise _CostlyError(costly.values(), items[at + 1 :]) from error
                    continue
                except Exception as error:  # whatever a rule raises, the other jobs go on
                    work = self._cache.get(item.job)
                    self._frozen[item.job] = shown_text(work, str(error) or repr(error))
                    silent = isinstance(error, Corrupt) or (work is not None and work.vault is not None)
                    log.error("job_frozen", job=item.job, error=shown_text(work, repr(error)), exc_info=not silent)
                    raise _FrozenError from error
            self._reply(item, draft)
        if costly:
            raise _CostlyError(costly.values())
        self._gather(draft, heads)
        return draft

    def _decide_one(self, item: Item, draft: _Draft, heads: dict[int, int]) -> None:
        command, work = item.command, self._cache[item.job]
        before = (work.job.version, work.job.state) if work.job is not None else (0, "")
        if isinstance(command, Redrive):
            draft.before.setdefault(item.job, before)
            self._touched.add(item.job)
            for subject, body in again(work, command, draft.now, self._times, self._bus.subjects, self._shards):
                draft.published.append((subject, self._order(work, body, draft.now)))
            REDRIVES.inc()
            return
        if isinstance(command, SubmitJob):
            if command.job != item.job:  # its Idempotency-Key stands for an earlier job
                if work.deleted:
                    item.error = Conflict(f"job {item.job} of this Idempotency-Key was deleted; choose another key")
                return
            for owner, key, job, digest in draft.batch.keys:
                if (owner, key) == (command.user, command.key):
                    item.job, item.error = job, None if digest == command.digest else _reused(key)
                    return
        try:
            if isinstance(command, ClaimTask) and not self._tickets.fits(command):
                raise Stale(f"the claim of task {command.task} has not the ticket of its dispatch", "ticket")
            render = recalling(item.answers, self._render) if item.answers else self._render
            steps = run_to_end(command, self._cache, draft.now, render, lambda *step: self._fold(draft, *step))
        except Corrupt:
            raise
        except WindlassError as error:
            item.error = error
            if isinstance(error, Stale):
                IGNORED.labels(error.reason).inc()
                if self._confirm(work, command):
                    draft.before.setdefault(item.job, before)
                    self._touched.add(item.job)
            elif isinstance(error, Rejected) and isinstance(command, Request):
                self._refuse(draft, work, command.key)
        else:
            if steps:
                self._append(draft, heads, item, steps)
        DECISIONS.labels(tag_of(command), item.error.code if item.error else "decided").inc()

    def _refuse(self, draft: _Draft, work: JobWork, key: str) -> None:
        """Know of a request that it was refused, lest another copy of it be carried out later: its sender was told."""
        job = work.job
        if job is not None and key and key not in job.refused.split():
            job.refused = remembered(job.refused, key)
            draft.refused[job.id] = job.refused
            self._touched.add(job.id)

    def _fold(self, draft: _Draft, work: JobWork, event: JobEvent) -> None:
        job = event.job if isinstance(event, JobSubmitted) else work.job.id if work.job is not None else JobId("")
        self._touched.add(job)
        if job not in draft.before:
            draft.before[job] = (work.job.version, work.job.state) if work.job is not None else (0, "")
        if isinstance(event, JobSubmitted) and event.definition.has_secrets:
            work.vault, row = self._vaults.new(event.job, event.definition)
            draft.batch.job_keys.append(row)
        self.fold(work, event)

    def _append(self, draft: _Draft, heads: dict[int, int], item: Item, steps: list[Step]) -> None:
        shard = shard_of(item.job, self._shards)
        metadata = _encode(_told(item.message))
        versions: dict[JobId, int] = {}
        for work, _ in steps:
            assert work.job is not None
            versions[work.job.id] = versions.get(work.job.id, work.job.version) - 1
        for work, event in steps:
            assert work.job is not None
            job = work.job
            versions[job.id] += 1
            heads[shard] += 1
            tag = tag_of(event)
            said = event
            if work.vault is not None:
                said = work.vault.shown(event)
                work.keep_sealed(said)
            draft.tags.setdefault(job.id, []).append(tag)
            draft.batch.events.append(
                Appended(
                    kind="job",
                    stream=job.id,
                    version=versions[job.id],
                    shard=shard,
                    position=heads[shard],
                    type=tag,
                    data=_encode(said),
                    metadata=metadata,
                    at=draft.now,
                    timed=is_timed(work, event),
                    hooked=job.definition.is_hooked,
                )
            )
        command = item.command
        if isinstance(command, SubmitJob) and command.key is not None:
            draft.batch.keys.append((command.user, command.key, item.job, command.digest or ""))

    @staticmethod
    def _confirm(work: JobWork, command: JobCommand) -> bool:
        """Whether a stale report is the word that a stopped task was waited for: however it ended, it is over there."""
        if not isinstance(command, CompleteTask | FailTask | LoseTask):
            return False
        task = work.tasks.get(command.task)
        if task is None or task.stopping != command.worker or task.attempt != command.attempt:
            return False
        task.stopping, task.drive_at = "", None
        work.touched[task.id] = task
        return True

    def _reply(self, item: Item, draft: _Draft) -> None:
        """What the sender of a message is told after the commit."""
        command, error, message, work = item.command, item.error, item.message, self._cache.get(item.job)
        if isinstance(command, ClaimTask):
            fence = {name: getattr(command, name) for name in ("job", "run", "task", "attempt", "worker")}
            order = GrantTask(**fence) if error is None else RefuseTask(**fence, why=shown_text(work, str(error)))
            draft.published.append((self._bus.subjects.orders(command.worker), self._message(order, draft.now)))
            if error is None:
                self.granted(command.worker)
        elif message is not None and message.reply:
            if error is not None:
                answer = Answer(code=error.code, message=shown_text(work, str(error)))
            elif isinstance(command, SubmitJob):
                assert work is not None
                answer = Answer(body=msgspec.Raw(_encode(summary(shown_job(work)))))
            else:
                answer = Answer()
            draft.said.append((message.reply, self._message(answer, draft.now)))

    def _gather(self, draft: _Draft, heads: dict[int, int]) -> None:
        """Turn the changed working sets into rows to store and words to say."""
        batch, subjects = draft.batch, self._bus.subjects
        for job_id, requests in draft.refused.items():
            shard = shard_of(job_id, self._shards)
            batch.heads[shard] = (self.heads[shard], heads[shard])
            batch.refused.append((job_id, requests))
        for job_id, (version, state) in draft.before.items():
            work = self._cache[job_id]
            job = work.job
            if job is None:
                continue
            shard = shard_of(job_id, self._shards)
            batch.heads[shard] = (self.heads[shard], heads[shard])
            if tags := draft.tags.get(job_id):
                for subject, body in outgoing(work, draft.now, self._times, subjects, self._shards):
                    draft.published.append((subject, self._order(work, body, draft.now)))
                notice = StreamChanged(
                    stream=job_id, first=version + 1, last=job.version, position=heads[shard], state=job.state, events=tuple(tags)
                )
                draft.said.append((subjects.changed("job", job_id), self._message(notice, draft.now)))
            if work.deleted:
                hooked = job.definition.is_hooked
                batch.deleted.append((job_id, shard, heads[shard], hooked, draft.now))
                if state:
                    batch.counts[shard, state] -= 1
                continue
            (batch.changed_jobs if version else batch.new_jobs).append(shown(work, job, new=not version))
            if state != job.state:
                batch.counts[shard, job.state] += 1
                if state:
                    batch.counts[shard, state] -= 1
            for task in work.touched.values():
                row = shown(work, task, new=not task.stored)
                (batch.changed_tasks if task.stored else batch.new_tasks).append(row)
                if task.composite is not None:
                    (batch.changed_composites if task.stored else batch.new_composites).append(row)
            batch.items.extend((job_id, task_id, shown_part(work, part)) for task_id, part in work.listed)
            if work.cleared:
                batch.cleared.append(job_id)
            batch.variables.extend((job_id, name, shown_text(work, value)) for name, value in work.set_variables.items())
            batch.sealed.extend((owner, name, job_id, text) for (owner, name), text in work.set_sealed.items())
        for bell, rung in (
            ("timed", {e.shard for e in batch.events if e.timed}),
            ("hooked", {e.shard for e in batch.events if e.hooked}),
        ):
            for shard in rung:
                moved = HeadMoved(shard=shard, position=heads[shard])
                draft.said.append((subjects.bell(bell, shard), self._message(moved, draft.now)))

    async def _commit(self, draft: _Draft) -> None:
        batch = draft.batch
        if not batch.heads:
            return
        started = self._clock.monotonic()
        await self._store.run_in(self.generation, eventlog.commit, batch)
        COMMIT_S.observe(self._clock.monotonic() - started)
        for shard, (_, after) in batch.heads.items():
            self.heads[shard] = after
        for job in draft.before:
            self._tidy(job)
        if batch.deleted:
            self.deleted.set()
        self._touched.clear()
        while len(self._cache) > CACHE_MAX:
            del self._cache[next(iter(self._cache))]
        self.progressed()

    def _tidy(self, job: JobId) -> None:
        """After a commit, forget of a job what cannot change any more."""
        work = self._cache.get(job)
        if work is None or work.job is None:
            return
        if work.deleted:
            del self._cache[job]
            return
        for task in list(work.touched.values()):
            task.stored = True
            if task.state not in ACTIVE and not task.stopping:
                work.tasks.pop(task.id, None)
                if work.sealed:
                    for name in ("definition", "result", "scope"):
                        work.sealed.pop((task.id, name), None)
        work.touched.clear()
        work.set_variables.clear()
        work.cleared = False
        work.set_sealed.clear()
        if work.vault is not None:
            work.vault.forget()
        work.listed.clear()
        work.to_stop.clear()
        for name, parts in list(work.lists.items()):
            row = work.tasks.get(name)
            if row is None or row.composite is None or row.state not in ACTIVE:
                del work.lists[name]
            else:
                work.lists[name] = [part for part in parts if part.next > row.composite.opened][:2]
        if work.job.state in ENDED and not work.tasks:
            del self._cache[job]

    # -- telling ----------------------------------------------------------------------------------------------------

    async def _tell(self, items: list[Item], draft: _Draft) -> None:
        """After the commit: answer, publish, and once the orders are with the broker, acknowledge."""
        try:
            for subject, payload in draft.said:
                await self._bus.tell(subject, payload)
            await self._publish(draft.published)
            for item in items:
                if item.delivery is None:
                    continue
                if isinstance(item.error, Corrupt):
                    self._aside.quarantine(item.delivery, str(item.error))
                else:
                    await item.delivery.ack()
            if log.is_enabled_for(logging.DEBUG):
                self._note(items, draft)
        finally:
            self._untold.release()

    def _note(self, items: list[Item], draft: _Draft) -> None:
        """A line for each message of a batch; `duration_ms` is that of the batch, from its decision on."""
        duration_ms = round((self._clock.now() - draft.now).total_seconds() * 1000, 1)
        for item in items:
            if item.message is not None:
                outcome = item.error.code if item.error else "decided"
                log.debug(
                    "message_handled",
                    message_id=item.message.id,
                    type=item.message.type,
                    job=item.job,
                    outcome=outcome,
                    duration_ms=duration_ms,
                )

    async def _publish(self, orders: list[tuple[str, bytes]]) -> None:
        """Publish orders, again where the broker did not confirm them; what still fails then is driven again from its row."""
        for _ in range(TRIES_MAX):
            failures = await self._bus.publish_all(orders)
            lost = {i: f for i, f in failures.items() if not (isinstance(f, NotStored) and f.number == ALREADY_QUEUED)}
            if not lost:
                return
            log.warning("publish_failed", orders=len(lost), first=orders[min(lost)][0], error=str(lost[min(lost)]))
            orders = [orders[i] for i in lost]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _order(self, work: JobWork, body: msgspec.Struct, at: datetime) -> bytes:
        """What a job has to say to others, as it may travel."""
        return self._message(self._vaults.for_worker(work, body), at, work.job.trace if work.job is not None else "")

    def _message(self, body: msgspec.Struct, at: datetime, trace: str = "") -> bytes:
        if isinstance(body, RunTask):
            body = msgspec.structs.replace(body, ticket=self._tickets.of(body))
        self._numbers += 1
        return encode(body, id=f"{self._name}-{self._numbers}", at=at, trace=trace or None)


def _told(message: Message | None) -> dict[str, str]:
    """The metadata of events: which message they come from, and the trace that it is part of."""
    if message is None:
        return {}
    return {"message": message.id, "trace": message.trace} if message.trace else {"message": message.id}


def _refusal(error: WindlassError) -> Answer:
    return Answer(code=error.code, message=str(error))


def _reused(key: str) -> Conflict:
    return Conflict(f"Idempotency-Key {key!r} was used with another body; choose another key")
