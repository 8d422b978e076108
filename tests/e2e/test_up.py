"""`windlass up`, `status`, `env` and `down`: real processes on one machine."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.stack import Up, up, wait_for, windlass
from windlass import metrics
from windlass.clock import system as clock
from windlass.local.process import command_of

together = pytest.mark.xdist_group("one up")
"""For tests that share a stack: in one process, so that it is started once."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """One stack for the tests that leave it as it is."""
    with up("--runtime", "shell", "--coordinators", "2", "--workers", "2") as running:
        yield running


@together
def test_the_ready_line_says_where_it_is(shared: Up) -> None:
    expected = rf"windlass ready url=http://127\.0\.0\.1:\d+ data={re.escape(str(shared.path))} pid={shared.pid}"
    assert re.fullmatch(expected, shared.ready_line)
    with urllib.request.urlopen(f"{shared.url}/health", timeout=5) as answer:
        assert answer.status == 200


@together
def test_status_tells_people_and_programs(shared: Up) -> None:
    said = windlass("status", "--json", "--data", str(shared.path))
    state = json.loads(said.stdout)
    assert said.returncode == 0, said.stdout
    assert list(state) == ["url", "data", "pid", "nats", "postgres", "services", "shards", "next_timer_at"]
    assert (state["url"], state["data"], state["pid"]) == (shared.url, str(shared.path), shared.pid)
    assert set(state["nats"]) == set(state["postgres"]) == {"pid", "port"}
    instances = {service["instance"]: service for service in state["services"]}
    assert {"gateway-1", "coordinator-1", "coordinator-2", "worker-1", "worker-2", "webhooks-1"} <= set(instances)
    for service in instances.values():
        assert list(service) == ["name", "instance", "pid", "url", "healthy", "restarts", "last_progress_at", "broken"]
        assert service["healthy"] is True
        assert service["restarts"] == 0
    table = windlass("status", "--data", str(shared.path))
    assert table.returncode == 0
    assert "coordinator-2" in table.stdout
    wait_for(
        "each has its share", lambda: {shard["owner"] for shard in shared.state["shards"]} == {"coordinator-1", "coordinator-2"}
    )
    assert [shard["shard"] for shard in shared.state["shards"]] == list(range(16))
    lines = windlass("status", "--data", str(shared.path)).stdout.splitlines()
    spoken = {line.split()[0]: line.split()[5:] for line in lines if "coordinator-" in line}
    assert sorted(spoken.values()) == [[str(shard) for shard in range(first, 16, 2)] for first in (0, 1)]


@together
def test_what_waits_for_its_time_is_seen(shared: Up) -> None:
    def ask(path: str, method: str = "GET", body: bytes | None = None) -> Any:
        request = urllib.request.Request(shared.url + path, body, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    job = ask("/jobs", "POST", b'{"name":"later","delay":"2h","tasks":[{"name":"t","run":"true"}]}')["id"]
    wait_for("it says when it goes on", lambda: "dueAt" in ask(f"/jobs/{job}"))
    waits_s = (datetime.fromisoformat(ask(f"/jobs/{job}")["dueAt"]) - clock.now()).total_seconds()
    assert 7000 < waits_s <= 7200
    assert shared.state["next_timer_at"] is not None
    assert "goes on at" in windlass("status", "--data", str(shared.path)).stdout
    ask(f"/jobs/{job}/cancel", "PUT")
    wait_for("nothing waits", lambda: shared.state["next_timer_at"] is None)


@together
@pytest.mark.parametrize("name", ["gateway", "coordinator", "worker", "scheduler", "webhooks"])
def test_a_service_tells_its_own_metrics_and_no_others(shared: Up, name: str) -> None:
    with urllib.request.urlopen(shared.health_url(f"{name}-1") + "/metrics", timeout=10) as answer:
        told = set(re.findall(r"^# TYPE (windlass_\w+)", answer.read().decode(), re.MULTILINE))
    ours = {metric.name for metric in vars(metrics).values() if isinstance(metric, metrics.Metric) and name in metric.service}
    assert {one for one in told if not one.endswith("_created")} == ours


@together
def test_everything_listens_on_loopback_only(shared: Up) -> None:
    ports = {service["url"].rpartition(":")[2] for service in shared.state["services"]}
    ports |= {str(shared.state["nats"]["port"]), str(shared.state["postgres"]["port"]), shared.url.rpartition(":")[2]}
    listening = {
        (parts[1].split(":")[0], str(int(parts[1].split(":")[1], 16)))
        for table in ("tcp", "tcp6")
        for parts in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if parts[3] == "0A"
    }
    found = {address for address, port in listening if port in ports}
    assert found == {"0100007F"}


@together
def test_env_gives_a_worker_no_database(shared: Up) -> None:
    said = windlass("env", "worker", "--data", str(shared.path)).stdout
    lines = said.splitlines()
    assert re.fullmatch(r"export WINDLASS_NATS_URL=nats://worker:\w+@127\.0\.0\.1:\d+", lines[0])
    assert re.fullmatch(r"export WINDLASS_SECRET_KEY=worker:[\w+/=]+", lines[1])
    assert len(lines) == 2


@together
def test_env_gives_each_service_its_own_user_and_role(shared: Up) -> None:
    for service in ("gateway", "coordinator", "scheduler", "webhooks"):
        environ = shared.env(service)
        assert environ["WINDLASS_NATS_URL"].startswith(f"nats://{service}:")
        with psycopg.connect(environ["WINDLASS_POSTGRES_DSN"]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (f"windlass_{service}",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM windlass.events")


@together
def test_env_without_a_service_is_an_operators(shared: Up) -> None:
    environ = shared.env()
    assert environ["WINDLASS_ENDPOINT"] == shared.url
    assert environ["NATS_URL"] == environ["WINDLASS_NATS_URL"]
    assert environ["NATS_URL"].startswith("nats://operator:")
    assert windlass("migrate", environ=environ).stdout == "the database is current\n"
    assert windlass("bus", "apply", environ=environ).returncode == 0


@together
def test_env_prints_lines_that_a_shell_takes(shared: Up) -> None:
    script = f'eval "$({sys.executable} -m windlass.cli env --data {shared.path})"; printf %s "$WINDLASS_ENDPOINT"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == shared.url


@together
def test_a_second_up_says_that_one_runs_and_where(shared: Up) -> None:
    said = windlass("up", "--data", str(shared.path), "--port", "0")
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 1
    assert shared.url in said.stderr
    assert f"pid={shared.pid}" in said.stderr


def test_a_port_in_use_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = windlass("up", "--data", str(tmp_path / "data"), "--port", str(port))
    assert said.returncode == 1
    assert said.stderr == f"windlass up: port {port} is in use; choose another with --port, or let --port 0 pick one\n"


def test_ctrl_c_stops_everything_and_the_next_start_finds_its_data(tmp_path: Path) -> None:
    first = Up(tmp_path / "data", "--runtime", "shell")
    try:
        with psycopg.connect(first.env()["WINDLASS_POSTGRES_DSN"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        pids = [first.pid_of(name) for name in ("nats", "postgres", "gateway-1", "coordinator-1", "worker-1")]
        nats = first.state["nats"]["port"]
    finally:
        code = first.stop()
    assert code == 0
    assert not [pid for pid in pids if command_of(pid)]
    assert windlass("status", "--data", str(tmp_path / "data")).returncode == 3
    second = Up(tmp_path / "data", "--runtime", "shell")
    try:
        assert second.state["nats"]["port"] == nats
        with psycopg.connect(second.env()["WINDLASS_POSTGRES_DSN"]) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
        assert windlass("down", "--data", str(tmp_path / "data")).returncode == 0
        assert second.process.wait(5) == 0
    finally:
        second.stop()


def test_a_child_that_dies_is_started_again_on_its_port(tmp_path: Path) -> None:
    with up("--runtime", "shell") as running:
        before = running.state
        for instance in [*(service["instance"] for service in before["services"]), "nats", "postgres"]:
            running.kill(instance)
        wait_for("every child is there again", lambda: windlass("status", "--data", str(running.path)).returncode == 0, 30)
        after = running.state
        assert after["nats"]["port"] == before["nats"]["port"]
        assert after["postgres"]["port"] == before["postgres"]["port"]
        assert after["nats"]["pid"] != before["nats"]["pid"]
        for was, now in zip(before["services"], after["services"], strict=True):
            assert now["url"] == was["url"]
            assert now["pid"] != was["pid"]
            assert now["restarts"] >= 1


def test_a_killed_up_takes_its_children_along_and_the_next_one_recovers(tmp_path: Path) -> None:
    first = Up(tmp_path / "data", "--runtime", "shell")
    names = ("nats", "postgres", "gateway-1", "coordinator-1", "worker-1")
    pids = {name: first.pid_of(name) for name in names}
    first.process.kill()
    first.stop()
    wait_for("the children are gone", lambda: not [name for name, pid in pids.items() if command_of(pid)], 20)
    second = Up(tmp_path / "data", "--runtime", "shell")
    try:
        assert windlass("status", "--data", str(tmp_path / "data")).returncode == 0
    finally:
        assert second.stop() == 0


def test_an_up_right_after_a_killed_one_recovers_too(tmp_path: Path) -> None:
    first = Up(tmp_path / "data", "--runtime", "shell")
    first.process.kill()
    second = Up(tmp_path / "data", "--runtime", "shell")
    try:
        assert windlass("status", "--data", str(tmp_path / "data")).returncode == 0
    finally:
        assert second.stop() == 0
        first.stop()


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with up("--runtime", "shell") as running:
        os.kill(running.pid_of("worker-1"), signal.SIGSTOP)
        running.process.send_signal(signal.SIGTERM)
        wait_for("it is stopping", lambda: running.state_phase() == "stopping")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(5) == 0


def test_log_format_json_is_json_on_every_line() -> None:
    with up("--runtime", "shell", "--workers", "0", "--log-format", "json") as running:
        running.stop()
        records = [json.loads(line) for line in running.log]
    assert {"gateway-1", "coordinator-1"} <= {record["instance"] for record in records}
