"""What people do: submit jobs of all shapes, ask again when they do not know, cancel some, publish by hand, and rubbish."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.faults import CALM
from tests.simulation.hush import SECRETIVE, hushed
from tests.simulation.receivers import draw_hooks
from windlass.errors import NotFound, Rejected, Unavailable, WindlassError
from windlass.eventlog.rows import ENDED
from windlass.gateway.commands import Commands
from windlass.ids import JobId
from windlass.messages.commands import How
from windlass.messages.jobs import Each, Job, Parallel, Retry, SubJob, Task
from windlass.secrets.redaction import REDACTED

if TYPE_CHECKING:
    from tests.simulation.world import World

PAUSE_S = 1.0
"""Until somebody asks again."""
DELAY = "1500ms"
DEAF = "trap '' TERM; "
STOPPED_WITHIN_S = 5.0
"""From a cancellation until nothing runs, where nothing is broken."""
DRAIN_S = 2.0
"""How long a gateway that ends goes on with what is under way."""
PATIENCE_S = 30.0
"""How long a client waits for its answer."""
KNOWN_WITHIN_S = 20.0
"""What somebody published by hand and is no job by then was lost."""
UNEVALUATED = "{{ 1 + 1 }}"
"""A value that only looks like a template."""
LONG = "sleep 60"
"""So long that a cancellation comes before its end, though it is lost on its way and comes again only after its ack wait."""
COSTLY = "len(1..60000)"
"""An expression that is evaluated aside."""


class Shape(msgspec.Struct, frozen=True):
    """A job, the states it may end in when nobody cancels it, and its result if it completes."""

    definition: Job
    ends: tuple[str, ...]
    result: str = ""


def draw_shape(chance: Random, number: int, *, has_secrets: bool) -> Shape:
    """A job of one of the shapes; one that has secrets says them wherever it can."""

    def nap() -> str:
        return f"sleep {chance.choice((0.01, 0.2, 1.5, 6))}"

    name = f"job-{number}"
    said, shown = ('"$S"', REDACTED) if has_secrets else ("", "")
    shape = _draw(chance, name, nap, said, shown)
    return msgspec.structs.replace(shape, definition=hushed(shape.definition)) if has_secrets else shape


def _draw(chance: Random, name: str, nap: Callable[[], str], said: str, shown: str) -> Shape:
    """The shape; `said` is what tasks print of secrets, and `shown` how that may be seen."""
    tasks: tuple[Task, ...]
    match chance.randrange(11):
        case 0:
            return Shape(
                Job(name=name, tasks=(Task(name="one", run=f"{nap()}; echo hi", priority=chance.randrange(10)),)), ("COMPLETED",)
            )
        case 1:
            value = chance.choice((f"v of {name}", UNEVALUATED))
            tasks = (
                Task(name="first", run=f"{nap()}; printf {said}'{value}' > $TORK_OUTPUT", var="a"),
                Task(name="second {{ tasks.a }}", run=nap()),
                Task(name="never", run="exit 1", if_="{{ tasks.a == 'x' }}"),
                Task(name="last", run=f"printf {said}end > $TORK_OUTPUT", var="b"),
            )
            return Shape(
                Job(name=name, tasks=tasks, output="{{ tasks.a }} {{ tasks.b }}"), ("COMPLETED",), f"{shown}{value} {shown}end"
            )
        case 2:
            retry = Retry(limit=chance.randrange(1, 3), delay=chance.choice(("", "700ms")))
            return Shape(Job(name=name, tasks=(Task(name="fails", run=f"{nap()}; exit 1", retry=retry),)), ("FAILED",))
        case 3:
            tasks = (Task(name="skipped", run="exit 1", if_=f"{{{{ {COSTLY} == 0 }}}}"), Task(name="runs", run=nap()))
            return Shape(Job(name=name, tasks=tasks, output=f"{{{{ {COSTLY} }}}}"), ("COMPLETED",), "60000")
        case 4:
            return Shape(Job(name=name, tasks=(Task(name="slow", run="sleep 60", timeout="800ms"),)), ("FAILED",))
        case 5:
            run = f"echo 50 > $TORK_PROGRESS; {nap()}; echo 90 > $TORK_PROGRESS; {nap()}"
            return Shape(Job(name=name, tasks=(Task(name="tells", run=run),)), ("COMPLETED",))
        case 6:
            if chance.random() < 0.5:
                return Shape(Job(name=name, delay=DELAY, tasks=(Task(name="later", run=nap()),)), ("COMPLETED",))
            return Shape(Job(name=name, tasks=(Task(name="bad", run="true", env={"A": "{{ nothing }}"}),)), ("FAILED",))
        case 7:
            flaky = Task(name="flaky", run="exit 1", retry=Retry(limit=1), on_error="ignore")
            beside = (Task(name="left", run=nap()), Task(name="right", run=nap(), delay=chance.choice(("", "700ms"))), flaky)
            each = Each(
                list="{{ sequence(0, 3) }}", concurrency=chance.choice((0, 2)), task=Task(name="{{ item.index }}", run=nap())
            )
            tasks = (Task(name="beside", parallel=Parallel(tasks=beside)), Task(name="each", each=each))
            return Shape(Job(name=name, tasks=tasks), ("COMPLETED",))
        case 8:
            below = SubJob(
                name=f"below {name}",
                tasks=(Task(name="deep", run=f"{nap()}; printf {said}deep > $TORK_OUTPUT", var="d"),),
                output="{{ tasks.d }}",
            )
            tasks = (Task(name="starts", subjob=below, var="s"), Task(name="then", run=nap()))
            return Shape(Job(name=name, tasks=tasks, output="{{ tasks.s }}"), ("COMPLETED",), f"{shown}deep")
        case 9:
            deep = Parallel(tasks=(Task(name="well", run=nap()), Task(name="breaks", run=f"{nap()}; exit 1")))
            each = Each(list="[1, 2]", task=Task(name="{{ item.value }}", parallel=deep, on_error="continue"))
            below = SubJob(name=f"below {name}", tasks=(Task(name="of both", each=each),))
            return Shape(Job(name=name, tasks=(Task(name="starts", subjob=below),)), ("FAILED",))
        case _:
            run = f"{DEAF}{nap()}; {nap()}"
            tasks = (Task(name="deaf", run=run), Task(name="then", run=nap()))
            return Shape(Job(name=name, tasks=tasks), ("COMPLETED",))


PAUSED_S = 3.0
HOWS: tuple[How, ...] = ("", "failed", "start")


class User:
    """Submits one job and sees it through."""

    def __init__(self, world: "World", number: int) -> None:
        chance = world.chance
        self._world, self._number = world, number
        has_secrets = world.hush.random() < SECRETIVE
        self.shape = draw_shape(chance, number, has_secrets=has_secrets)
        self._starts_s = chance.uniform(0, 5) if number else 0.2
        self.key = f"key-{number}" if chance.random() < 0.7 else None
        self._cancels_s = chance.uniform(0, 3) if chance.random() < 0.25 else None
        self._restarts = chance.random() < 0.3
        self._how: How = HOWS[number % 3]
        self._pauses_s = chance.uniform(0, 2) if chance.random() < 0.25 else None
        self._waits = chance.random() < 0.2
        if self._cancels_s is not None and chance.random() < 0.5:
            run = f"{chance.choice(('', DEAF))}sleep 600"
            self.shape = Shape(Job(name=f"job-{number}", tasks=(Task(name="endless", run=run),)), ())
            self._cancels_s = chance.uniform(0, 8)
            self.key = f"key-{number}"  # it has to know its job, or nobody ever ends it
        if chance.random() < 0.4:
            hooked = msgspec.structs.replace(self.shape.definition, webhooks=draw_hooks(chance))
            self.shape = msgspec.structs.replace(self.shape, definition=hooked)
        self._deletes = chance.random() < 0.25
        self.deleted = False
        self.job: JobId | None = None
        self.cancelled = False

    async def live(self) -> None:
        """Submit until that is known; then cancel, if that was the plan."""
        world = self._world
        await asyncio.sleep(self._starts_s)
        document: dict[str, Any] = msgspec.to_builtins(self.shape.definition)
        if self._waits and self._cancels_s is None:
            document["wait"] = {"timeout": "5s"}
        body = msgspec.json.encode(document)
        headers = [(b"content-type", b"application/json")] + ([(b"idempotency-key", self.key.encode())] if self.key else [])
        while (reply := await self._ask(lambda: world.gateway.post(headers, body))) is None or reply.status == 503:
            if self.key is None:
                return  # nobody knows, and asking again might make a second one
            await asyncio.sleep(PAUSE_S)
        if reply.status == 408 or b"shutting down" in reply.body:
            return  # it is there and takes longer than somebody wanted to wait
        world.hears("an answer", reply.body)
        if reply.status != 200:
            world.fail(f"user {self._number} got {reply.status} {reply.body.decode()}")
            return
        answer = msgspec.json.decode(reply.body)
        self.job = JobId(answer["id"])
        world.say("user", f"accepted {self.job}")
        if self.job not in world.database.jobs:
            world.fail(f"G1: job {self.job} was accepted and is not on record")
        if self._pauses_s is not None:
            await asyncio.sleep(self._pauses_s)
            await self._pause(self.job, resume=False)
            await asyncio.sleep(PAUSED_S)
            await self._pause(self.job, resume=True)
        if self._cancels_s is not None:
            await asyncio.sleep(self._cancels_s)
            await self._cancel(self.job)
        if self._restarts:
            await self._restart(self.job)
            if not self.shape.ends:  # else nobody ever ends it
                await self._cancel(self.job)
        if self._deletes:
            await self._delete(self.job)

    async def _restart(self, job: JobId) -> None:
        """Go on with it once it has ended, if it may."""
        world = self._world
        while (row := world.database.jobs[job]).state not in ENDED:
            await asyncio.sleep(PAUSE_S)
        if row.state == "COMPLETED" and self._how != "start":
            return
        while True:
            said = await self._ask(lambda: world.gateway.restart(job, self._how))
            if said == "done":
                world.say("user", f"restarted {job}")
                self.cancelled = False
                if world.database.jobs[job].run == row.run:
                    world.fail(f"G1: job {job} was restarted and is at run {row.run} as before")
                return
            if isinstance(said, NotFound):
                world.fail(f"G1: job {job} was accepted, and restarting says {said}")
                return
            if isinstance(said, Rejected):  # an earlier word was heard after all, or it never began
                self.cancelled = world.database.jobs[job].run == row.run
                return
            await asyncio.sleep(PAUSE_S)

    async def _delete(self, job: JobId) -> None:
        """Once it has ended."""
        world = self._world
        while (said := await self._ask(lambda: world.gateway.delete(job))) != "done":
            if isinstance(said, NotFound):
                if job in world.database.jobs:
                    world.fail(f"G1: job {job} is there, and deleting it says {said}")
                break
            await asyncio.sleep(PAUSE_S)
        self.deleted = True
        world.say("user", f"deleted {job}")
        if job in world.database.jobs:
            world.fail(f"job {job} was deleted and is there")

    async def _pause(self, job: JobId, *, resume: bool) -> None:
        """Until that is known, or the job has ended."""
        world = self._world
        while (said := await self._ask(lambda: world.gateway.pause(job, resume=resume))) != "done":
            if isinstance(said, NotFound):
                world.fail(f"G1: job {job} was accepted, and pausing says {said}")
            if isinstance(said, NotFound | Rejected):
                return
            await asyncio.sleep(PAUSE_S)
        world.say("user", f"{'resumed' if resume else 'paused'} {job}")

    async def _cancel(self, job: JobId) -> None:
        world = self._world
        while True:
            said = await self._ask(lambda: world.gateway.cancel(job))
            row = world.database.jobs[job]
            if said == "done":
                world.say("user", f"cancelled {job}")
                self.cancelled = True
                if row.state != "CANCELLED":
                    world.fail(f"G11: job {job} was cancelled and is {row.state}")
                if world.plan == CALM:
                    await asyncio.sleep(STOPPED_WITHIN_S)
                    if any(program.task.job == job for program in world.checks.running.values()):
                        world.fail(f"G11: job {job} was cancelled, and runs {STOPPED_WITHIN_S:g} s later")
                return
            if isinstance(said, NotFound):
                world.fail(f"G1: job {job} was accepted, and cancelling says {said}")
                return
            if isinstance(said, Rejected):
                if row.state not in ("COMPLETED", "FAILED"):
                    world.fail(f"G2: cancelling job {job} was refused though it is {row.state}")
                return
            await asyncio.sleep(PAUSE_S)

    @staticmethod
    async def _ask(request: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await request()
        except TimeoutError:
            return None

    def judge(self) -> None:
        """At the end: what became of it."""
        world = self._world
        mine = [job for job in world.database.jobs.values() if job.definition.name == self.shape.definition.name]
        if self.key is not None and len(mine) > 1:
            world.fail(f"G2: key {self.key} made {len(mine)} jobs")
        if self.job is not None and self.job not in world.database.jobs and not self.deleted:
            world.fail(f"G1: job {self.job} was accepted and is lost")
        for job in mine:
            ends = ("CANCELLED",) if self.cancelled else self.shape.ends
            lost = "its worker was lost" in job.error
            if job.state not in ends and not lost and not (job.state == "CANCELLED" and self._cancels_s is not None):
                world.fail(f"job {job.id}, {self.shape.definition.name}, is {job.state} {job.error!r} and not {ends}")
            if job.state == "COMPLETED" and job.result != self.shape.result:
                world.fail(f"job {job.id} has result {job.result!r} and not {self.shape.result!r}")


class Asked(Commands):
    """The gateway's commands; what was refused is noted."""

    def __init__(self, refused: set[str], *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._refused = refused

    async def _ask(self, command: Any, job: JobId, message: str, trace: str | None = None) -> Any:
        try:
            return await super()._ask(command, job, message, trace)
        except (NotFound, Rejected):
            self._refused.add(message)
            raise


class Gateway:
    """How a user reaches the gateway's process: what it serves dies with it, and when it ends it takes nothing new."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.intake: Any = None
        self.commands: Any = None
        self.process: Any = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Take no more, and finish what is under way within the time that the HTTP server gives it."""
        self.intake = None
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_S)

    async def post(self, headers: list[tuple[bytes, bytes]], body: bytes) -> Any:
        """`POST /jobs`; None if the connection breaks."""
        sent = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if sent:
                return sent.pop()
            return await asyncio.Event().wait()

        return await self._in_there(lambda: self.intake.post(headers, receive))

    async def cancel(self, job: JobId) -> Any:
        """`PUT /jobs/{job}/cancel`: `done`, the error, or None if nobody knows."""
        return await self._command(lambda: self.commands.cancel(job))

    async def restart(self, job: JobId, how: How) -> Any:
        """`PUT /jobs/{job}/restart`, likewise."""
        return await self._command(lambda: self.commands.restart(job, how))

    async def delete(self, job: JobId) -> Any:
        """`DELETE /jobs/{job}`, likewise."""
        return await self._command(lambda: self.commands.delete(job))

    async def pause(self, job: JobId, *, resume: bool) -> Any:
        """`PUT /jobs/{job}/pause` or `resume`, likewise."""
        return await self._command(lambda: self.commands.pause(job, resume=resume))

    async def _command(self, send: Callable[[], Any]) -> Any:
        async def serve() -> Any:
            try:
                await send()
            except Unavailable:
                return None
            except WindlassError as error:
                return error
            return "done"

        return await self._in_there(serve)

    async def _in_there(self, serve: Callable[[], Any]) -> Any:
        process = self.process
        if process is None or process.dead or self.intake is None:
            return None
        loop = self._world.loop
        answer = loop.create_future()

        def settle(value: Any) -> None:
            if not answer.done():
                answer.set_result(value)

        async def answering() -> None:
            settle(await serve())

        process.on_death.append(lambda: settle(None))
        task = loop.spawn(process, answering())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard, context=contextvars.Context())
        return await answer


NAMED = ("0", "2")
"""How the names of those jobs end whose restart has a name, too."""


class Said(msgspec.Struct, frozen=True):
    """Something that is published by hand; `job` names the job that it is to become, or whose id is its payload."""

    at_s: float
    word: str
    payload: bytes = b""
    headers: dict[str, str] | None = None
    job: str = ""


class Person:
    """Somebody with the `nats` command: documents on bare words, jobs that are cancelled and restarted by id, and rubbish."""

    def __init__(self, world: "World") -> None:
        self._world, chance = world, world.chance
        subjects = world.subjects
        says: list[Said] = []
        self._stored: Counter[tuple[str, str]] = Counter()
        """By word and job, what the broker said that it has."""
        self.heard: Counter[tuple[str, bytes]] = Counter()
        """By word and payload, how often it came to the broker."""
        for number in range(chance.randrange(4)):
            says += self._draw_job(chance, f"by hand {number}")
        for _ in range(chance.randrange(3)):
            shard = chance.randrange(world.shards)
            place = chance.choice(
                (subjects.jobs(shard), subjects.pending(shard), subjects.report("completed", shard, "w"), *subjects.personal())
            )
            rubbish = chance.choice(
                (b"\xff\x00", b"{}", b'{"v":1,"id":"x","type":"job.cancel","at":"2026-01-01T00:00:00Z","data":{}}')
            )
            says.append(Said(chance.uniform(0.5, 6), place, rubbish))
        self._says = sorted(says, key=lambda said: said.at_s)

    @staticmethod
    def _draw_job(chance: Random, name: str) -> Iterator[Said]:
        """A job or a bare task; if it takes long, it is cancelled, and perhaps restarted."""
        at_s, is_long = chance.uniform(0.5, 5), chance.random() < 0.4
        task = Task(name=name, run=LONG if is_long else "echo hi")
        word, document = chance.choice((("jobs", msgspec.to_builtins(Job(name=name, tasks=(task,)))), ("pending", task)))
        key = {"Nats-Msg-Id": f"key of {name}"} if chance.random() < 0.5 else None
        for _ in range(chance.randrange(1, 3) if key else 1):
            yield Said(at_s + chance.random(), word, msgspec.json.encode(document), key, name)
        if is_long:
            yield Said(at_s + chance.uniform(1, 3), "jobs.cancel", job=name)
            if chance.random() < 0.5:
                named = {"Nats-Msg-Id": f"again {name}"} if name.endswith(NAMED) else None
                yield Said(at_s + chance.uniform(3, 5), "jobs.restart", headers=named, job=name)
                yield Said(at_s + chance.uniform(5, 7), "jobs.cancel", job=name)

    async def live(self) -> None:
        """Say it all, each once, what concerns a job as soon as there is such a job."""
        world = self._world
        async with world.connect("person") as bus:
            for said in self._says:
                await asyncio.sleep(max(0.0, said.at_s - world.loop.time()))
                while not (payload := said.payload or self._id_of(said.job)) and world.loop.time() < KNOWN_WITHIN_S:
                    await asyncio.sleep(PAUSE_S)  # it is not there yet, so nobody can know its id
                if not payload:
                    continue
                try:
                    await bus.publish(said.word, payload, said.headers)
                except WindlassError as error:
                    world.say("person", f"not stored: {error}")
                else:
                    self._stored[said.word, said.job] += 1

    def _id_of(self, name: str) -> bytes:
        return next((row.id.encode() for row in self._world.database.jobs.values() if row.definition.name == name), b"")

    def judge(self) -> None:
        """At the end: what the broker stored, and did not lose, had its effect; once where that can be told."""
        world = self._world
        jobs = Counter(row.definition.name for row in world.database.jobs.values())
        done = Counter((event.stream, event.type) for shard in world.database.events for event in shard)
        for said in self._says:
            if said.payload and said.headers is not None and jobs[said.job] > 1:
                world.fail(f"G2: {said.headers} made {jobs[said.job]} jobs")
            if not said.job or world.happened["amnesia"]:
                continue
            stored = self._stored[said.word, said.job]
            if said.payload and stored and not jobs[said.job]:
                world.fail(f"what was said of {said.job} was stored and became nothing")
            job = self._id_of(said.job).decode()
            if said.word == "jobs.cancel" and stored and not done[job, "job.cancelled"]:
                world.fail(f"G11: cancelling {said.job} was stored and had no effect")
            copies = self.heard[said.word, job.encode()] if said.headers is None else 1  # else nobody can tell them apart
            if said.word == "jobs.restart" and done[job, "job.restarted"] > copies:
                world.fail(f"G4: {said.job} was restarted {done[job, 'job.restarted']} times")
