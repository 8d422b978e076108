"""Following one job to its end: notices and output come over NATS, and the API is read at each notice and each second.

What comes over NATS is a passing remark that may be lost; the API is the truth. So a lost notice costs at most `LOOK_S`, and
parts of output have numbers, by which those that did not come are known and fetched.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from windlass import ids, settings
from windlass import log as logs
from windlass.bus.connection import Bus, connect
from windlass.errors import NotFound, Unavailable, WindlassError
from windlass.eventlog.rows import ENDED
from windlass.local import staffing
from windlass.local.client import PARTS, Client, Job, Task
from windlass.local.display import Display
from windlass.local.transcript import Part, Transcript
from windlass.messages.envelope import open_envelope
from windlass.messages.notices import NOTICES, LogPart
from windlass.settings import SHARDS

TASK_ENDED = ENDED | {"SKIPPED", "STOPPED"}
LOOK_S = 1.0
"""From one look at the job to the next when nothing is said; half of what a person may wait for news."""
PAUSE_S = 0.05
"""The least from one look to the next, which is also twice what the last one took: thousands of tasks take a while to tell."""
QUEUED_S = 0.9
"""A task that no worker takes for this long is asked about."""
ASK_AGAIN_S = 5.0
SILENT_S = 3.0
"""How long the API may be silent until that is told."""
GIVE_UP_S = 60.0
"""How long the API may be silent until the job is left to itself."""
LAST_PARTS_S = 1.5
"""How long the end of a job waits for output that was published but is not stored yet, where it did not come over NATS."""


class Ear:
    """Takes what is said about jobs and their output; from before a job is submitted, so that nothing is missed."""

    def __init__(self, bus: Bus | None) -> None:
        self._bus = bus
        self._parts: list[LogPart] = []
        self._job = ""
        self._narrow: Callable[[], Awaitable[None]] | None = None
        self._on_part: Callable[[LogPart], None] = self._parts.append
        self._on_change: Callable[[], None] = lambda: None
        self.was_deaf = bus is None
        """Whether something may have been missed."""

    @property
    def bus(self) -> Bus | None:
        """The connection; None where there is none."""
        return self._bus

    async def open(self) -> None:
        """Hear the output of all jobs; returns once the server knows."""
        if self._bus is not None:
            everything = await self._bus.subscribe(self._bus.subjects.all_logs(), self._hear_part)
            self._narrow = partial(self._bus.unsubscribe, everything)
            self._bus.on_connected(self._hear_again)
            with suppress(nats.errors.Error, TimeoutError):
                await self._bus.client.flush(5)

    async def attend(self, job: str, on_part: Callable[[LogPart], None], on_change: Callable[[], None]) -> None:
        """From now on hear this job alone; first what was already said of it."""
        self._job, self._on_part, self._on_change = job, on_part, on_change
        early, self._parts = self._parts, []
        for part in early:
            if part.job == job:
                on_part(part)
        if self._bus is not None:
            subjects = self._bus.subjects
            await self._bus.subscribe(subjects.job_logs(ids.shard_of(job, SHARDS), job), self._hear_part)
            await self._bus.subscribe(subjects.changed("job", job), self._hear_change)
            if self._narrow is not None:
                await self._narrow()

    async def _hear_part(self, message: Msg) -> None:
        with suppress(WindlassError):
            envelope = open_envelope(message.data)
            part = NOTICES.decode(envelope.type, envelope.data)
            if isinstance(part, LogPart) and self._job in ("", part.job):
                self._on_part(part)

    async def _hear_change(self, message: Msg) -> None:
        self._on_change()

    async def _hear_again(self) -> None:
        self.was_deaf = True
        self._on_change()


@asynccontextmanager
async def listening(environ: Mapping[str, str]) -> AsyncIterator[Ear]:
    """Hear the output of all jobs, until `Ear.attend` says which one matters; where NATS cannot be reached, nothing."""
    # The connection's own remarks belong into a service's log; here the display tells what matters.
    logs.silence()
    url, prefix = settings.lookup(environ, "NATS_URL"), settings.lookup(environ, "SUBJECT_PREFIX")
    async with AsyncExitStack() as held:
        bus = None
        if url:
            with suppress(WindlassError):
                bus = await held.enter_async_context(connect(url, "operator", "run", prefix, tls=settings.nats_tls(environ)))
        ear = Ear(bus)
        await ear.open()
        yield ear


class Watch:
    """One job, from its submission to its end."""

    def __init__(self, client: Client, ear: Ear, display: Display, job: Job, join: str) -> None:
        self._client, self._ear, self._display, self._job, self._join = client, ear, display, job, join
        self._transcript = Transcript()
        self._names: dict[str, str] = {}
        self._started: dict[str, int] = {}
        self._finished: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._advised: dict[str, list[str]] = {}
        self._news = asyncio.Event()
        self._unplaced: list[Part] = []
        self._background: set[asyncio.Task[None]] = set()

    async def until_end(self, cancel: asyncio.Event) -> tuple[Job, bytes]:
        """The ended job, also as the API told it; once `cancel` is set, the job is cancelled first.

        Raises:
            NotFound: the job was deleted.
            Unavailable: nobody tells any more how it goes.
        """
        await self._ear.attend(self._job.id, self._take, self._news.set)
        canceller = asyncio.ensure_future(self._cancel(cancel))
        try:
            return await self._follow()
        finally:
            for task in (canceller, *self._background):
                task.cancel()

    async def _follow(self) -> tuple[Job, bytes]:
        loop = asyncio.get_running_loop()
        heard, told = loop.time(), False
        while True:
            self._news.clear()
            began = loop.time()
            try:
                job, raw = await self._client.job(self._job.id)
            except Unavailable as error:
                silent = loop.time() - heard
                if silent > GIVE_UP_S:
                    raise Unavailable(
                        f"{error}; job {self._job.id} goes on without being watched, if its servers live"
                    ) from error
                if silent > SILENT_S and not told:
                    told = True
                    self._display.warn(f"{error}; still trying")
                await asyncio.sleep(LOOK_S / 2)
                continue
            heard, told = loop.time(), False
            await self._show(job)
            if job.state in ENDED:
                await self._fetch_last(job)
                return job, raw
            await asyncio.sleep(max(PAUSE_S, 2 * (loop.time() - began)))
            await self._rest()

    async def _rest(self) -> None:
        """Until there is news, or it is time to look."""
        try:
            async with asyncio.timeout(LOOK_S - PAUSE_S):
                await self._news.wait()
        except TimeoutError:
            self._display.lines(self._transcript.idle(), self._names)
            running = self._started.keys() - self._finished if self._ear.was_deaf else set()
            with suppress(WindlassError):
                await self._fetch(self._transcript.with_gaps() | running)

    async def _cancel(self, asked: asyncio.Event) -> None:
        await asked.wait()
        while True:
            try:
                await self._client.cancel(self._job.id)
            except Unavailable:
                await asyncio.sleep(LOOK_S / 2)
            else:
                self._news.set()
                return

    # -- states -----------------------------------------------------------------------------------------------------

    async def _show(self, job: Job) -> None:
        now = asyncio.get_running_loop().time()
        for task in job.execution:
            if task.id in self._finished:
                continue
            self._names[task.id] = task.name
            if task.started_at is not None and self._started.get(task.id) != task.redelivered:
                self._started[task.id] = task.redelivered
                self._waiting.pop(task.id, None)
                self._display.started(task)
                self._place(task.id)
            if task.state in TASK_ENDED:
                self._finished.add(task.id)
                if self._ear.was_deaf or task.id in self._transcript.with_gaps():
                    with suppress(WindlassError):
                        await self._fetch([task.id])
                self._display.lines(self._transcript.end(task.id), self._names)
                self._display.finished(task)
            elif task.state == "SCHEDULED":
                self._queued(task, now)

    def _queued(self, task: Task, now: float) -> None:
        """A task that waits for a worker; asked about when it waits for long."""
        first = self._waiting.setdefault(task.id, now + QUEUED_S)
        if now >= first:
            self._waiting[task.id] = now + ASK_AGAIN_S
            self._spawn(self._advise(task))
        elif self._ear.bus is not None:
            asyncio.get_running_loop().call_later(first - now, self._news.set)

    async def _advise(self, task: Task) -> None:
        queue = task.queue or staffing.DEFAULT_QUEUE
        if self._ear.bus is None:
            lines = [f"waits in queue {queue}; does a worker serve it?"]
        else:
            try:
                found = await staffing.slots(self._ear.bus, self._client)
            except WindlassError:
                return
            lines = staffing.advice(queue, found.get(queue, 0), self._join)
        if self._waiting.get(task.id) is not None and self._advised.get(task.id) != lines:
            self._advised[task.id] = lines
            self._display.waiting(task, *lines)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- output -----------------------------------------------------------------------------------------------------

    def _take(self, heard: LogPart) -> None:
        part = Part(heard.task, heard.attempt, heard.number, heard.contents, heard.streams)
        if part.task in self._started:
            self._display.lines(self._transcript.take(part), self._names)
        else:  # it outran the news that its task has started
            self._unplaced.append(part)
            self._news.set()

    def _place(self, task: str) -> None:
        mine = [part for part in self._unplaced if part.task == task]
        if mine:
            self._unplaced = [part for part in self._unplaced if part.task != task]
            for part in mine:
                self._display.lines(self._transcript.take(part), self._names)

    async def _fetch(self, tasks: Collection[str]) -> None:
        """The parts of these tasks that are stored and did not come."""
        for task in tuple(tasks):
            missing: list[Part] = []
            page = 1
            while True:
                found = await self._client.output(task, page)
                fresh = [p for p in found.items if not self._transcript.has(p.task_id, p.attempt, p.number)]
                missing += [Part(p.task_id, p.attempt, p.number, p.contents) for p in fresh]
                # Newest first: behind a page that was known whole there may still be a gap, so all pages are read then.
                if page * PARTS >= found.total_items or (not fresh and task not in self._transcript.with_gaps()):
                    break
                page += 1
            for part in sorted(missing, key=lambda part: (part.attempt, part.number)):
                self._display.lines(self._transcript.take(part), self._names)

    async def _fetch_last(self, job: Job) -> None:
        """Whatever of the output did not come over NATS."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LAST_PARTS_S
        tasks = [task.id for task in job.execution if task.started_at is not None]
        with suppress(Unavailable, NotFound):
            while True:
                if await self._client.parts_of_job(job.id) > self._transcript.parts:
                    await self._fetch(tasks)
                if not self._ear.was_deaf or loop.time() > deadline:
                    break
                await asyncio.sleep(LAST_PARTS_S / 5)
        for task in tasks:
            self._display.lines(self._transcript.end(task), self._names)
