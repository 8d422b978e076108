"""Following the log on a real PostgreSQL: each event once and in order, whatever dies, freezes or is slow."""

import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from tests.support.following import SHARDS, TABLES, Pen, follower, write_down
from tests.support.services import desk
from tests.support.stack import Servers
from tests.support.waiting import until
from windlass.bus import bells, streams
from windlass.clock import system as clock
from windlass.eventlog.connection import Connection
from windlass.eventlog.follow import IDLE_S, PAGE_SIZE, Follower, Project, Recorded
from windlass.eventlog.migrate import migrate
from windlass.eventlog.statements import composed
from windlass.messages.envelope import encode
from windlass.messages.notices import HeadMoved


@pytest.fixture(scope="module")
def shared(servers: Servers) -> Iterator[str]:
    """A database for all of these tests; each has a schema of its own in it, which is made much faster."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"CREATE DATABASE {name}".encode())
        yield servers.postgres.dsn_of(name)
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Scene:
    """An installation with a pen that writes its log, and followers of it."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.schema = dsn, f"s{secrets.token_hex(6)}"
        migrate(dsn, self.schema, SHARDS)
        self.look = self.session()
        self.look.execute(TABLES)
        self.pen = Pen(self.session())

    def session(self) -> psycopg.Connection:
        """A session of the tables' owner."""
        return psycopg.connect(self.dsn, autocommit=True, options=f"-c search_path={self.schema}")

    def seen(self) -> list[tuple[int, int]]:
        """What was projected, in the order of its rows."""
        return self.look.execute("SELECT shard, position FROM seen ORDER BY number").fetchall()

    def cursors(self) -> dict[int, int]:
        """How far the follower is."""
        return dict(self.look.execute("SELECT shard, position FROM seen_cursors").fetchall())

    async def caught_up(self, within_s: float = 15) -> None:
        """Wait until the cursors are at the heads; then each event must have been seen once, those of a shard in order."""
        await until(f"the cursors are at {self.pen.heads}", lambda: self.cursors() == self.pen.heads, within_s)
        for shard in range(SHARDS):
            assert [p for s, p in self.seen() if s == shard] == [p for s, p in self.pen.timed if s == shard]

    @asynccontextmanager
    async def following(self, project: Project = write_down, **options: int) -> AsyncIterator[Follower]:
        """An instance of the follower, in this process."""
        store, stop = Connection(self.dsn, "test", IDLE_S, self.schema), asyncio.Event()
        made = follower(store, project, **options)
        serving = asyncio.get_running_loop().create_task(made.serve(stop))
        try:
            yield made
        finally:
            stop.set()
            async with asyncio.timeout(20):
                await serving
            await store.close()

    @asynccontextmanager
    async def interrupted(self, signal_name: str, amid: str = "transaction") -> AsyncIterator[asyncio.subprocess.Process]:
        """An instance of its own process, once a signal has hit it between projecting an event and moving on."""
        words = "-m", "tests.support.following", self.dsn, self.schema, signal_name, amid
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            self.pen.append(1, 3)
            async with asyncio.timeout(30):
                while await process.stdout.readline() != b"projected\n":
                    assert not process.stdout.at_eof()
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
def scene(shared: str) -> Iterator[Scene]:
    """An installation of the test's own."""
    made = Scene(shared)
    yield made
    made.look.close()
    made.pen.connection.close()


async def test_what_is_wanted_is_seen_once_and_in_order(scene: Scene) -> None:
    scene.pen.append(0, 10, nth=3)
    async with scene.following():
        scene.pen.append(1, 5)
        scene.pen.append(0, 7, nth=2)
        await scene.caught_up()
    assert len(scene.seen()) == 3 + 5 + 3


async def test_the_cursor_passes_what_is_not_wanted(scene: Scene) -> None:
    async with scene.following():
        scene.pen.append(2, 5, nth=6)
        await scene.caught_up()
    assert (scene.seen(), scene.cursors()[2]) == ([], 5)


async def test_an_event_comes_as_it_was_recorded(scene: Scene) -> None:
    got: list[Recorded] = []
    async with scene.following(lambda _, events: got.extend(events)):
        scene.pen.append(3, type_="test.told", data='{"a":"ö"}'.encode())
        await until("it was seen", lambda: got)
    (event,) = got
    assert (event.shard, event.position, event.version) == (3, 1, 1)
    assert (event.kind, event.type, event.data, event.metadata) == ("test", "test.told", '{"a":"ö"}', "{}")
    assert len(event.stream) == 32
    assert event.at.tzinfo is not None


async def test_an_open_transaction_is_neither_overtaken_nor_waited_for(scene: Scene) -> None:
    """A commit to a shard is under way for long; other shards go on, and nothing of it is skipped."""
    slow = Pen(scene.session())
    async with scene.following():
        with slow.connection.transaction():
            slow.append(0, 3)
            scene.pen.append(1, 2)
            await until("the other shard is followed", lambda: scene.cursors()[1] == 2)
            assert scene.cursors()[0] == 0
        scene.pen.heads[0] = slow.heads[0]
        scene.pen.timed += slow.timed
        scene.pen.append(0, 2)
        await scene.caught_up()
    slow.connection.close()


async def test_killed_between_projecting_and_moving_on_nothing_is_lost_or_seen_twice(scene: Scene) -> None:
    async with scene.interrupted("SIGKILL") as process:
        await process.wait()
        assert scene.seen() == []
        async with scene.following():
            scene.pen.append(1, 2)
            await scene.caught_up()


@pytest.mark.parametrize("amid", ["transaction", "pipeline"])
async def test_frozen_between_projecting_and_moving_on_another_takes_over(scene: Scene, amid: str) -> None:
    """The session of the frozen one is ended, and with it its transaction and its shards."""
    async with scene.interrupted("SIGSTOP", amid) as process, scene.following() as other:
        await until("the other follows all", lambda: len(other.held) == SHARDS, 30)
        scene.pen.append(2, 2)
        await scene.caught_up()
        process.send_signal(signal.SIGCONT)
        await scene.caught_up()


async def test_instances_share_the_shards_and_take_over_from_one_that_leaves(scene: Scene) -> None:
    async with scene.following() as one:
        await until("it follows all", lambda: len(one.held) == SHARDS)
        async with scene.following() as two:
            await until("each follows half", lambda: len(one.held) == len(two.held) == SHARDS // 2)
            assert not one.held & two.held
            async with scene.following() as three:
                await until("the third has one too", lambda: len(three.held) >= 1 and not three.held & (one.held | two.held))
                for shard in range(SHARDS):
                    scene.pen.append(shard, 10)
                await scene.caught_up()
        await until("it follows all again", lambda: len(one.held) == SHARDS)
        scene.pen.append(3)
        await scene.caught_up()


async def test_a_bell_is_heard(scene: Scene, nats_url: str, prefix: str) -> None:
    """And one that is lost, or rubbish, is no loss: see above, where nobody rings."""
    async with desk(nats_url, prefix) as operator, scene.following() as made:
        await streams.ensure(operator.bus, SHARDS)
        rung: list[int] = []

        def ring(shard: int) -> None:
            rung.append(shard)
            made.ring(shard)

        await bells.listen(operator.bus, "timed", ring)
        scene.pen.append(1)
        notice = encode(HeadMoved(shard=1, position=1), id="b", at=clock.now())
        for word in ("hooked", "timed"):
            await operator.bus.publish(operator.bus.subjects.bell(word, 1), notice)
        await until("it rang", lambda: rung)
        await scene.caught_up()
        assert rung == [1]


async def test_positions_may_grow_beyond_what_two_bytes_hold_while_it_follows(scene: Scene) -> None:
    async with scene.following():
        for _ in range(12):
            scene.pen.append(0, 2)
            await scene.caught_up()
        for _ in range(12):
            scene.pen.append(0, 4000)
            await scene.caught_up()


async def test_a_hundred_thousand_events_behind_it_catches_up(scene: Scene) -> None:
    for number in range(20):
        scene.pen.append(number % SHARDS, 5000)
    started = clock.monotonic()
    async with scene.following():
        await until("it has caught up", lambda: scene.cursors() == scene.pen.heads, 60)
        print(f"caught up with {100_000 / (clock.monotonic() - started):.0f} events a second")
        await scene.caught_up()


@pytest.mark.parametrize("data", [b"{}", b'"' + b"x" * (PAGE_SIZE // 8) + b'"'], ids=["many", "large"])
async def test_a_page_is_bounded_in_events_and_in_bytes(scene: Scene, data: bytes) -> None:
    sizes: list[int] = []

    def project(connection: psycopg.Connection, events: Sequence[Recorded]) -> None:
        write_down(connection, events)
        sizes.append(sum(len(event.data) for event in events))
        assert len(events) <= 8

    scene.pen.append(0, 20, data=data)
    scene.pen.append(1, 13, nth=2, data=data)
    async with scene.following(project, page_max=8):
        await scene.caught_up()
    assert len(sizes) >= 4
    assert max(sizes) <= PAGE_SIZE + 2 * len(data)


async def test_events_that_cannot_be_projected_hold_up_their_shard_alone(scene: Scene) -> None:
    refused = {"test.poison"}

    def project(connection: psycopg.Connection, events: Sequence[Recorded]) -> None:
        write_down(connection, events)
        if refused & {event.type for event in events}:
            connection.execute("SELECT 1 / 0")

    async with scene.following(project) as made:
        scene.pen.append(0, type_="test.poison")
        scene.pen.append(1)
        await until("the other shard is followed", lambda: scene.cursors()[1] == 1)
        await until("it says what is wrong", lambda: "division by zero" in (made.trouble() or ""))
        scene.pen.append(2)
        await until("others go on", lambda: scene.cursors()[2] == 1)
        refused.clear()
        await scene.caught_up()
        await until("it is well again", lambda: made.trouble() is None)


async def test_should_a_lock_not_be_enough_the_cursor_moves_only_from_where_it_is_expected(scene: Scene) -> None:
    """Whoever was overtaken stores nothing, and begins again with a new session."""
    overtaken: list[int] = []

    def project(connection: psycopg.Connection, events: Sequence[Recorded]) -> None:
        write_down(connection, events)
        if not overtaken:
            overtaken.append(1)
            scene.look.execute("INSERT INTO seen SELECT 0, 1, 'x'")
            scene.look.execute("UPDATE seen_cursors SET position = 1 WHERE shard = 0")

    async with scene.following(project) as made:
        scene.pen.append(0, 3)
        await scene.caught_up()
        await until("it follows all", lambda: len(made.held) == SHARDS)


async def test_it_goes_on_after_its_session_was_ended(scene: Scene) -> None:
    async with scene.following() as made:
        scene.pen.append(0)
        await scene.caught_up()
        scene.look.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'windlass test'")
        scene.pen.append(0)
        await scene.caught_up()
        assert len(made.held) == SHARDS


async def test_what_is_wanted_is_found_by_an_index_of_its_own(scene: Scene) -> None:
    def explain(connection: psycopg.Connection, wanted: str) -> str:
        query = sql.SQL("EXPLAIN ") + composed("read_wanted", wanted=wanted)
        places = {"shards": [0, 1], "seen": [5, 5], "heads": [900, 900], "most": 100, "size": 1000}
        return "\n".join(row[0] for row in connection.execute(query, places))

    store = Connection(scene.dsn, "plan", IDLE_S, scene.schema)
    for wanted, index in (("timed", "shard_position_idx1"), ("hooked", "shard_position_idx2")):
        plan = await store.run(explain, wanted)
        assert index in plan, plan
        assert "Seq Scan" not in plan
    await store.close()
