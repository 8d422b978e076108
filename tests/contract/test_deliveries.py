"""What is owed and how it is sent, on a real PostgreSQL: in order, by whoever lives, whatever receivers do."""

import asyncio
import random
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from tests.support import scenario
from tests.support.scenario import JOB, completed, dispatched, failed, job_completed, progressed, running, started, task, task_id
from tests.support.stack import Servers
from tests.support.waiting import until
from windlass import ids
from windlass.clock import system as clock
from windlass.errors import Unavailable
from windlass.eventlog import deliveries, log
from windlass.eventlog.connection import Connection
from windlass.eventlog.deliveries import Delivery, Projected, Room, Settled, Taken
from windlass.eventlog.follow import Recorded
from windlass.eventlog.log import Appended, Batch
from windlass.eventlog.migrate import migrate
from windlass.eventlog.statements import statement
from windlass.ids import JobId
from windlass.messages.envelope import tag_of
from windlass.messages.events import JobEvent, JobRestarted
from windlass.messages.jobs import Webhook
from windlass.webhooks.call import TooLate
from windlass.webhooks.policy import Answer
from windlass.webhooks.projection import Projection
from windlass.webhooks.sender import ENDPOINT_CALLS_MAX, FENCE_S, HOST_CALLS_MAX, IDLE_S, Sender

THEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ATTEMPTS = 3
RETENTION_S = 3600.0


@pytest.fixture(scope="module")
def shared(servers: Servers) -> Iterator[str]:
    """A database for all of these tests; each has a schema of its own in it, which is made much faster."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"CREATE DATABASE {name}".encode())
        yield servers.postgres.dsn_of(name)
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Played:
    """Receivers that answer as the test says, and write down what is sent."""

    def __init__(self) -> None:
        self.sent: list[Taken] = []
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.answers: dict[str, list[int]] = {}
        """By delivery: one status after the other; 200 when there is none left."""
        self.late: list[str] = []
        """Deliveries whose next call is too late."""
        self.broken: list[str] = []
        """Deliveries whose next call breaks."""
        self.gates: dict[str, asyncio.Event] = defaultdict(_open)
        """By endpoint: answers wait for it."""
        self.may_send: list[Callable[[], bool]] = []

    async def post(self, delivery: Taken, may_send: Callable[[], bool]) -> Answer:
        """See `Sender`."""
        self.sent.append(delivery)
        self.may_send.append(may_send)
        self.under_way.update((delivery.host, delivery.endpoint))
        self.most |= self.under_way
        try:
            await asyncio.sleep(random.choice([0, 0, 0.001, 0.01]))
            await self.gates[delivery.endpoint].wait()
        finally:
            self.under_way.subtract((delivery.host, delivery.endpoint))
        if delivery.id in self.late:
            self.late.remove(delivery.id)
            raise TooLate
        if delivery.id in self.broken:
            self.broken.remove(delivery.id)
            raise KeyError("nobody thought of it", "\0\ud800")
        left = self.answers.get(delivery.id, [])
        return Answer(left.pop(0) if left else 200)

    def ids(self, host: str) -> list[str]:
        """What was sent to a host, in order."""
        return [delivery.id for delivery in self.sent if delivery.host == host]


def _open() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


class Scene:
    """An installation, with what it owes."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.schema = dsn, f"s{secrets.token_hex(6)}"
        migrate(dsn, self.schema)
        self.store = self.connect()
        self.connection = self.store._open()
        self.them = Played()
        self.owed: dict[str, list[str]] = defaultdict(list)
        """By host, the ids of the deliveries in order."""
        self._versions = 0

    def connect(self) -> Connection:
        """A connection as the service has it."""
        return Connection(self.dsn, f"sender {self.schema}", IDLE_S, self.schema)

    def owe(self, host: str, count: int = 1, lane: str = "", path: str = "/") -> list[str]:
        """Owe deliveries more to a host, in a lane of their own unless one is named."""
        job, made = JobId(ids.new(THEN)), []
        for _ in range(count):
            self._versions += 1
            made.append(
                Delivery(
                    id=ids.new(THEN),
                    lane=ids.derive(THEN, None, self.schema, host, lane or job),
                    host=host,
                    endpoint=host + path,
                    job=job,
                    version=self._versions,
                    hook=0,
                    event="job.StateChange",
                    url=f"http://{host}/",
                    headers={"a": "b"},
                    body=b"{}",
                    created_at=THEN,
                )
            )
        deliveries.store(self.connection, Projected(deliveries=made), THEN)
        self.owed[host] += [delivery.id for delivery in made]
        return [delivery.id for delivery in made]

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What the database says."""
        return self.connection.execute(query.encode(), parameters).fetchall()

    def states(self, host: str) -> list[str]:
        """Of the deliveries to a host, in order."""
        return [
            state for (state,) in self.rows("SELECT state FROM deliveries WHERE url = %s ORDER BY version", f"http://{host}/")
        ]

    async def ended(self, within_s: float = 20) -> None:
        """Wait until nothing is owed any more."""
        await until("nothing waits", lambda: not self.rows("SELECT 1 FROM deliveries WHERE state = 'WAITING'"), within_s)
        assert self.rows("SELECT * FROM lanes") == []

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Sender]:
        """One more instance."""
        store, stop = self.connect(), asyncio.Event()
        sender = Sender(store=store, post=self.them.post, clock=clock, attempts_max=ATTEMPTS, retention_s=RETENTION_S)

        async def free() -> None:
            while not stop.is_set():
                with suppress(Unavailable):
                    await sender.free()
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            group.create_task(sender.serve(stop))
            group.create_task(free())
            try:
                yield sender
            finally:
                stop.set()
        await store.close()

    async def take(self, store: Connection, most: int = 100) -> tuple[int, list[Taken]]:
        """Take what is due, by hand."""
        owner = await store.run(deliveries.enter)
        return owner, (await taking(store, owner, room(most)))[0]


@pytest.fixture
def scene(shared: str) -> Iterator[Scene]:
    """An installation of the test's own."""
    made = Scene(shared)
    yield made
    made.connection.close()


async def taking(store: Connection, owner: int, some: Room) -> tuple[list[Taken], str]:
    """What a look takes, and after which endpoint to look next."""
    lanes, after = await store.run(deliveries.step, owner, [], clock.now(), some)
    return await store.run(deliveries.first, lanes), after


def room(most: int, **fields: Any) -> Room:
    """For so many deliveries."""
    return Room(**{"most": most, "endpoint_max": 100, "host_max": 100, "endpoints": {}, "hosts": {}, "look": 100, **fields})


def settled(taken: Taken, state: str = "DELIVERED") -> Settled:
    return Settled(taken, state, THEN, 5, 200, "", THEN)


# -- sending ------------------------------------------------------------------------------------------------------------


async def test_the_deliveries_of_a_lane_go_in_order_and_once_whoever_sends(scene: Scene) -> None:
    for lane in ("a", "b", "c"):
        scene.owe(f"{lane}.example:80", 15, lane)
    async with scene.sending(), scene.sending(), scene.sending():
        for lane in ("a", "b", "c"):
            scene.owe(f"{lane}.example:80", 15, lane)
        await scene.ended()
    for host, owed in scene.owed.items():
        assert scene.them.ids(host) == owed
        assert scene.states(host) == ["DELIVERED"] * 30
    assert scene.rows("SELECT count(*), max(number), min(status) FROM delivery_attempts") == [(90, 1, 200)]
    assert {(taken.headers["a"], taken.body, taken.event) for taken in scene.them.sent} == {("b", b"{}", "job.StateChange")}


async def test_one_that_fails_is_sent_again_under_its_id_and_the_next_waits(scene: Scene) -> None:
    first, second = scene.owe("a.example:80", 2, "a")
    scene.them.answers[first] = [500]
    async with scene.sending():
        await scene.ended()
    assert scene.them.ids("a.example:80") == [first, first, second]
    attempts = "SELECT number, status FROM delivery_attempts WHERE delivery = %s::uuid ORDER BY number"
    assert scene.rows(attempts, first) == [(1, 500), (2, 200)]
    ((made, again),) = scene.rows("SELECT min(at), max(at) FROM delivery_attempts WHERE delivery = %s::uuid", first)
    assert again - made >= timedelta(seconds=2)


async def test_one_that_is_refused_or_exhausted_is_on_record_and_the_next_goes(scene: Scene) -> None:
    refused, exhausted, delivered = scene.owe("a.example:80", 3, "a")
    scene.them.answers |= {refused: [410], exhausted: [503] * ATTEMPTS}
    async with scene.sending():
        await scene.ended()
    assert scene.states("a.example:80") == ["REFUSED", "EXHAUSTED", "DELIVERED"]
    assert scene.them.ids("a.example:80") == [refused, *[exhausted] * ATTEMPTS, delivered]
    assert scene.rows("SELECT attempts, ended_at > created_at FROM deliveries WHERE id = %s::uuid", exhausted) == [
        (ATTEMPTS, True)
    ]


async def test_an_endpoint_that_hangs_holds_few_places_and_delays_no_other(scene: Scene) -> None:
    """Neither of other hosts nor of its own."""
    gate = scene.them.gates["a.example:80/slow"] = asyncio.Event()
    for _ in range(40):
        scene.owe("a.example:80", path="/slow")
    async with scene.sending():
        await until("all its places are taken", lambda: scene.them.under_way["a.example:80/slow"] == ENDPOINT_CALLS_MAX)
        quick = [scene.owe(host, path="/quick")[0] for host in ("a.example:80", "b.example:80") for _ in range(30)]
        await until("the quick ones have all", lambda: set(quick) <= {taken.id for taken in scene.them.sent})
        assert scene.them.most["a.example:80/slow"] == len(scene.them.sent) - len(quick) == ENDPOINT_CALLS_MAX
        gate.set()
        await scene.ended()
    assert scene.them.most["a.example:80/slow"] == ENDPOINT_CALLS_MAX
    assert sorted(taken.id for taken in scene.them.sent) == sorted(scene.owed["a.example:80"] + scene.owed["b.example:80"])


async def test_a_host_gets_no_more_calls_at_once_than_its_share_whatever_its_endpoints(scene: Scene) -> None:
    paths = [f"/{number}" for number in range(HOST_CALLS_MAX)]
    gates = [scene.them.gates[f"a.example:80{path}"] for path in paths]
    for gate, path in zip(gates, paths, strict=True):
        gate.clear()
        for _ in range(2):
            scene.owe("a.example:80", path=path)
    async with scene.sending():
        await until("all places of the host are taken", lambda: scene.them.under_way["a.example:80"] == HOST_CALLS_MAX)
        (other,) = scene.owe("b.example:80")
        await until("another is called", lambda: other in scene.them.ids("b.example:80"))
        for gate in gates:
            gate.set()
        await scene.ended()
    assert scene.them.most["a.example:80"] == HOST_CALLS_MAX
    assert len(scene.them.sent) == 2 * HOST_CALLS_MAX + 1


async def test_every_endpoint_gets_its_turn_however_many_there_are(scene: Scene) -> None:
    """Looks are short and go on where the last one ended, also while there is room for little."""
    for number in range(9):
        for _ in range(2):
            scene.owe("a.example:80", path=f"/{number}")
    store = scene.connect()
    owner, after = await store.run(deliveries.enter), ""
    found: list[list[str]] = []
    for _ in range(5):
        taken, after = await taking(store, owner, room(2, look=4, after=after, endpoint_max=1))
        found.append([one.endpoint[-1] for one in taken])
        await store.run(deliveries.step, owner, [settled(one, "WAITING") for one in taken], clock.now(), room(0))
    for some, group in zip(found, ("0123", "4567", "8", "0123", "4567"), strict=True):
        assert set(some) <= set(group)
    assert [len(some) for some in found] == [2, 2, 1, 2, 2]
    assert await store.run(deliveries.step, owner, [], clock.now(), room(0, after="x")) == ([], "x")
    await store.close()


async def test_a_lane_that_waits_for_its_retry_delays_no_other(scene: Scene) -> None:
    (bad,) = scene.owe("a.example:80")
    scene.them.answers[bad] = [500]
    async with scene.sending():
        await until("it failed", lambda: scene.rows("SELECT 1 FROM delivery_attempts"))
        (good,) = scene.owe("a.example:80")
        await until("the other is there", lambda: scene.them.ids("a.example:80") == [bad, good])
        await until("it is on record", lambda: scene.states("a.example:80") == ["WAITING", "DELIVERED"])
        await scene.ended()


async def test_a_lost_session_may_send_no_more_and_its_delivery_is_sent_again_in_its_place(scene: Scene) -> None:
    gate = scene.them.gates["a.example:80/"] = asyncio.Event()
    first, second = scene.owe("a.example:80", 2, "a")
    async with scene.sending():
        await until("it is under way", lambda: scene.them.sent)
        assert scene.them.may_send[0]()
        scene.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()",
            f"windlass sender {scene.schema}",
        )
        await until("it is sent again", lambda: len(scene.them.sent) == 2)
        assert [may_send() for may_send in scene.them.may_send] == [False, True]
        gate.set()
        await scene.ended()
    assert scene.them.ids("a.example:80") == [first, first, second]
    assert scene.rows("SELECT count(*) FROM delivery_attempts") == [(2,)]


async def test_who_heard_nothing_of_its_session_for_a_while_may_not_send(scene: Scene) -> None:
    gate = scene.them.gates["a.example:80/"] = asyncio.Event()
    scene.owe("a.example:80")
    assert FENCE_S < IDLE_S
    async with scene.sending() as sender:
        await until("it is under way", lambda: scene.them.sent)
        assert scene.them.may_send[0]()
        sender._heard_at -= FENCE_S
        assert not scene.them.may_send[0]()
        gate.set()
        await scene.ended()


async def test_what_was_not_sent_because_it_was_late_is_sent_after_all_and_counts_as_no_attempt(scene: Scene) -> None:
    (only,) = scene.owe("a.example:80")
    scene.them.late = [only]
    async with scene.sending():
        await scene.ended()
    assert scene.them.ids("a.example:80") == [only, only]
    assert scene.rows("SELECT count(*), max(number) FROM delivery_attempts") == [(1, 1)]


async def test_what_is_under_way_when_it_is_asked_to_stop_is_finished_and_recorded(scene: Scene) -> None:
    gate = scene.them.gates["a.example:80/"] = asyncio.Event()
    scene.owe("a.example:80", 2, "a")
    store, stop = scene.connect(), asyncio.Event()
    serving = asyncio.ensure_future(
        Sender(store=store, post=scene.them.post, clock=clock, attempts_max=1, retention_s=1).serve(stop)
    )
    await until("it is under way", lambda: scene.them.sent)
    stop.set()
    await asyncio.sleep(0.05)
    assert not serving.done()
    gate.set()
    async with asyncio.timeout(10):
        await serving
    await store.close()
    assert scene.states("a.example:80") == ["DELIVERED", "WAITING"]
    assert scene.rows("SELECT waiting, owner FROM lanes") == [(1, 0)]


async def test_a_call_that_breaks_in_a_way_nobody_thought_of_lets_its_lane_go(scene: Scene) -> None:
    (only,) = scene.owe("a.example:80")
    scene.them.broken = [only]
    async with scene.sending():
        await scene.ended()
    assert scene.rows("SELECT error FROM delivery_attempts ORDER BY number") == [
        ("KeyError('nobody thought of it', '\\x00\\ud800')",),
        ("",),
    ]


# -- lanes by hand ------------------------------------------------------------------------------------------------------


async def test_only_the_lanes_of_sessions_that_have_ended_are_freed(scene: Scene) -> None:
    scene.owe("a.example:80")
    living, other = scene.connect(), scene.connect()
    _, taken = await scene.take(living)
    assert len(taken) == 1
    assert deliveries.free(scene.connection) == 0
    assert (await scene.take(other))[1] == []
    await living.drop()
    await until("it is freed", lambda: deliveries.free(scene.connection))
    assert [again.id for again in (await scene.take(other))[1]] == [taken[0].id]
    await living.close()
    await other.close()


async def test_who_comes_back_settles_nothing_of_what_is_another_s(scene: Scene) -> None:
    scene.owe("a.example:80")
    late, other = scene.connect(), scene.connect()
    owner, (taken,) = await scene.take(late)
    await late.drop()
    await until("it is freed", lambda: deliveries.free(scene.connection))
    await scene.take(other)
    with pytest.raises(Unavailable, match="session that held the locks is gone"):
        await late.run_in(late.generation, deliveries.step, owner, [settled(taken)], clock.now(), room(1))
    owner = await late.run(deliveries.enter)
    assert await late.run(deliveries.step, owner, [settled(taken)], clock.now(), room(1)) == ([], "")
    assert scene.states("a.example:80") == ["WAITING"]
    assert scene.rows("SELECT * FROM delivery_attempts") == []
    await late.close()
    await other.close()


async def _blocked(look: psycopg.Connection) -> None:
    await until("somebody waits for a lock", lambda: look.execute(b"SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())


async def test_a_delivery_that_is_added_while_its_lane_ends_is_not_forgotten(scene: Scene) -> None:
    """Its projection waits until the lane is gone, and makes another."""
    scene.owe("a.example:80", 1, "lane")
    store = scene.connect()
    owner, (taken,) = await scene.take(store)
    with scene.store._open() as look, ThreadPoolExecutor(1) as pool:

        def settle_and_hold(connection: psycopg.Connection) -> None:
            with connection.transaction():
                deliveries.step(connection, owner, [settled(taken)], clock.now(), room(0))
                adding.append(pool.submit(scene.owe, "a.example:80", 1, "lane"))
                asyncio.run(_blocked(look))

        adding: list[Future[list[str]]] = []
        await store.run(settle_and_hold)
        (added,) = await asyncio.wrap_future(adding[0])
    assert scene.rows("SELECT waiting, owner FROM lanes") == [(1, 0)]
    assert [next_one.id for next_one in (await scene.take(store))[1]] == [added]
    await store.close()


async def test_a_lane_that_gets_a_delivery_while_it_is_about_to_end_stays(scene: Scene) -> None:
    """Who settles its last delivery waits for the projection, and sees the new one."""
    scene.owe("a.example:80", 1, "lane")
    store = scene.connect()
    owner, (taken,) = await scene.take(store)
    with scene.store._open() as look:
        with scene.connection.transaction():
            (added,) = scene.owe("a.example:80", 1, "lane")
            settling = asyncio.ensure_future(store.run(deliveries.step, owner, [settled(taken)], clock.now(), room(0)))
            await _blocked(look)
        await settling
    assert scene.rows("SELECT waiting, owner FROM lanes") == [(1, 0)]
    assert [next_one.id for next_one in (await scene.take(store))[1]] == [added]
    await store.close()


async def test_taking_costs_the_same_however_many_lanes_a_slow_endpoint_has(scene: Scene) -> None:
    """Seen in the plan: the lanes of each endpoint by their index, as many as are taken."""
    scene.rows(
        "INSERT INTO lanes (id, host, endpoint, waiting, due_at, owner)"
        " SELECT gen_random_uuid(), 'h', 'e' || n %% 3, 1, now() - interval '1 s' * n, 0"
        " FROM generate_series(1, 9000) AS n RETURNING 1"
    )
    scene.connection.execute("ANALYZE lanes")
    asked = msgspec.structs.asdict(room(5, endpoint_max=8, endpoints={"e0": 8}, hosts={"h": 8}))
    lists = {"endpoints": ["e0"], "endpoint_calls": [8], "hosts": ["h"], "host_calls": [8]}
    parameters = {"owner": 7, "now": clock.now(), **asked, **lists}
    with scene.connection.transaction(force_rollback=True):
        row = scene.connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement("take_lanes"), parameters).fetchone()
    assert row is not None
    scans = list(_scans(row[0][0]["Plan"]))
    assert {index for index, _ in scans if index} <= {"lanes_due", "lanes_pkey"}
    assert sum(rows for _, rows in scans) < 200


def _scans(plan: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Index and rows of each scan of a table."""
    if plan.get("Relation Name") == "lanes" and "Scan" in plan["Node Type"]:
        assert plan["Node Type"] != "Seq Scan"
        yield plan.get("Index Name", ""), plan["Actual Rows"] * plan["Actual Loops"]
    for inner in plan.get("Plans", []):
        yield from _scans(inner)


async def test_each_host_gets_what_it_has_places_for_and_the_longest_due_go_first(scene: Scene) -> None:
    for host in ("a", "b", "c"):
        for number in range(6):
            scene.owe(host, path=f"/{number % 2}")
    scene.rows("UPDATE lanes SET due_at = due_at - interval '1 h' WHERE host = 'c' RETURNING 1")
    scene.rows("UPDATE lanes SET due_at = now() + interval '1 h' WHERE host = 'b' RETURNING 1")
    store = scene.connect()
    owner = await store.run(deliveries.enter)
    busy = room(100, endpoint_max=2, host_max=3, endpoints={"a/0": 1, "d/0": 9}, hosts={"a": 1, "d": 9})
    taken, after = await taking(store, owner, busy)
    assert (Counter(one.host for one in taken), after) == ({"a": 2, "c": 3}, "")
    assert Counter(one.endpoint for one in taken)["a/0"] <= 1
    taken, _ = await taking(store, owner, room(4))
    assert Counter(one.host for one in taken) == {"c": 3, "a": 1}
    await store.close()


# -- forgetting ---------------------------------------------------------------------------------------------------------


def _forget(scene: Scene, before: datetime, most: int = 100) -> int:
    return deliveries.forget(scene.connection, before, most)


async def test_what_has_been_over_for_long_is_forgotten_and_nothing_else(scene: Scene) -> None:
    old, new, waiting = (scene.owe(f"{name}.example:80")[0] for name in ("a", "b", "c"))
    scene.rows("UPDATE lanes SET due_at = now() + interval '1 h' WHERE host LIKE 'c.%%' RETURNING 1")
    async with scene.sending() as sender:
        await until("two are sent", lambda: scene.states("a.example:80") + scene.states("b.example:80") == ["DELIVERED"] * 2)
        scene.rows(
            "UPDATE deliveries SET ended_at = now() - make_interval(secs => %s) WHERE id = %s::uuid RETURNING 1",
            RETENTION_S + 60,
            old,
        )
        await sender.forget()
    assert {row[0] for row in scene.rows("SELECT id FROM deliveries")} == {new, waiting}
    assert scene.rows("SELECT delivery FROM delivery_attempts") == [(new,)]


async def test_much_is_forgotten_a_little_at_a_time_and_found_by_an_index(scene: Scene) -> None:
    scene.rows(
        "WITH d AS (INSERT INTO deliveries (id, lane, job, version, hook, event, url, headers, body, state, attempts, created_at,"
        " ended_at) SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 0, 'e', 'u', '{}', '', 'DELIVERED', 1,"
        " %s, %s FROM generate_series(1, 1201) RETURNING id) INSERT INTO delivery_attempts"
        " SELECT id, 1, now(), 1, 200, '' FROM d RETURNING 1",
        THEN,
        THEN,
    )
    scene.connection.execute("ANALYZE deliveries")
    for name, index in (("forget_deliveries", "deliveries_ended"), ("forget_hooked", "hooked_ended")):
        query = b"EXPLAIN " + statement(name)
        plan = "\n".join(row[0] for row in scene.connection.execute(query, {"before": clock.now(), "most": 500}))
        assert index in plan, plan
        assert "Seq Scan" not in plan
    assert _forget(scene, clock.now()) == 100
    async with scene.sending() as sender:
        await sender.forget()
    assert scene.rows("SELECT * FROM deliveries") == scene.rows("SELECT * FROM delivery_attempts") == []


# -- projecting ---------------------------------------------------------------------------------------------------------


def history() -> list[JobEvent]:
    """A job that is told of in every way, on two lanes."""
    hooks = (
        Webhook(url="http://a/", headers={"V": "{{ tasks.v }}"}),
        Webhook(url="http://a/", event="task.StateChange", if_="job.State == 'RUNNING'"),
        Webhook(url="http://b/", event="job.Progress"),
        Webhook(url="http://b/", event="task.Progress"),
    )
    definition = scenario.job(task(var="v"), task(), webhooks=hooks, inputs={"k": "v"})
    return [
        *running(definition),
        progressed(task_id(), 50, 25),
        failed(task_id(), "once"),
        dispatched(task(var="v"), attempt=2, retries=1),
        started(task_id(attempt=2), 2),
        completed(task_id(attempt=2), "r", 2),
        dispatched(task(), 2),
        started(task_id(2)),
        completed(task_id(2)),
        job_completed("out"),
    ]


def recorded(events: Sequence[JobEvent], job: str = JOB) -> list[Recorded]:
    """Events as the log has them."""
    return [
        Recorded(10, 100 + n, job, n, "job", tag_of(event), msgspec.json.encode(event).decode(), "{}", event.at)
        for n, event in enumerate(events, 1)
    ]


def projected(scene: Scene, *pages: Sequence[Recorded], between: Callable[[], object] = lambda: None) -> list[tuple[Any, ...]]:
    """What pages of events come to, if something happens between them; nothing is kept of it."""
    project = Projection(clock)
    with scene.connection.transaction(force_rollback=True):
        for number, page in enumerate(pages):
            if number:
                between()
            with scene.connection.transaction():
                project(scene.connection, page)
        known = scene.rows("SELECT id FROM hooked ORDER BY id")
        lanes = scene.rows("SELECT id, host, waiting FROM lanes ORDER BY id")
        made = scene.rows(
            "SELECT id, lane, version, hook, event, url, headers::text, body FROM deliveries ORDER BY version, hook, id"
        )
    return [*made, *lanes, *known]


def test_events_come_to_the_same_however_they_are_paged(scene: Scene) -> None:
    events = recorded(history())
    whole = projected(scene, events)
    assert Counter(row[4] for row in whole if len(row) == 8) == {
        "job.StateChange": 3, "task.StateChange": 8, "job.Progress": 3, "task.Progress": 1,
    }  # fmt: skip
    assert [row[0] for row in whole if len(row) == 1] == [JOB]
    for place in range(1, len(events)):
        assert projected(scene, events[:place], events[place:]) == whole, place
    assert projected(scene, *[[event] for event in events]) == whole


def test_what_is_not_understood_is_passed_over_and_the_others_are_told(scene: Scene) -> None:
    events = recorded(history())
    strange = [
        Recorded(10, 1, JOB, 99, "job", "job.transcended", "{}", "{}", THEN),
        Recorded(10, 2, JOB, 99, "user", "user.made", "{}", "{}", THEN),
        Recorded(10, 3, JOB, 99, "job", "job.started", '{"type":"job.started"}', "{}", THEN),
        *recorded(history()[1:3], ids.new(THEN)),
        Recorded(10, 9, JOB, 99, "job", "task.started", _unknown_task(), "{}", THEN),
    ]
    assert projected(scene, [*events[:4], *strange, *events[4:]]) == projected(scene, events)


def test_a_job_that_was_forgotten_and_runs_again_is_told_of_as_if_it_had_not_been(scene: Scene) -> None:
    again = JobRestarted(run=2, key="0", at=THEN)
    events = recorded([*history(), again, dispatched(task(), 1, run=2), started(task_id(1, run=2))])
    log.commit(
        scene.connection,
        Batch(
            shards=16,
            heads={10: (0, len(events))},
            events=[
                Appended(
                    kind="job", stream=JOB, version=one.version, shard=10, position=one.version, type=one.type,
                    data=one.data.encode(), metadata=b"{}", at=one.at, timed=False, hooked=True,
                )
                for one in events
            ],
        ),
    )  # fmt: skip
    ended = len(history())
    assert _forget(scene, THEN) == 0

    def forget() -> None:
        assert _forget(scene, clock.now() + timedelta(seconds=1)) == 1
        assert scene.rows("SELECT * FROM hooked") == scene.rows("SELECT * FROM hooked_vars") == []

    assert projected(scene, events[:ended], events[ended:], between=forget) == projected(scene, events)
    still = projected(scene, events[:-1], events[-1:], between=lambda: _forget(scene, clock.now() + timedelta(seconds=1)))
    assert still == projected(scene, events)  # it runs, so nothing of it was forgotten


def _unknown_task() -> str:
    return msgspec.json.encode(started(task_id(77))).decode()


def test_with_its_own_rights_the_service_does_all_it_must(scene: Scene) -> None:
    with scene.store._open() as connection:
        connection.execute("SET ROLE windlass_webhooks")
        with connection.transaction():
            Projection(clock)(connection, recorded(history()))
        owner = deliveries.enter(connection)
        taken = deliveries.first(connection, deliveries.step(connection, owner, [], clock.now(), room(8))[0])
        assert len(taken) == 2
        deliveries.step(connection, owner, [settled(one) for one in taken], clock.now(), room(8))
        deliveries.free(connection)
        assert deliveries.oldest(connection) is not None
        deliveries.forget(connection, THEN, 1)
        with connection.transaction():
            assert list(deliveries.history(connection, JOB, 9)) == []
        connection.execute("UPDATE webhook_cursors SET position = 0")
        for table in ("jobs", "tasks", "events", "shards"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"DELETE FROM {table}".encode())
