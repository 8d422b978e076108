"""More of `windlass up`: long paths, other releases' data, one more service beside it."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest

from tests.support.stack import Up, up, wait_for, windlass


def test_a_data_directory_of_two_hundred_characters_works(tmp_path: Path) -> None:
    path = tmp_path
    while len(str(path)) < 200:
        path /= "d" * min(60, max(1, 199 - len(str(path))))
    running = Up(path, "--runtime", "shell", "--workers", "0")
    try:
        assert windlass("status", "--data", str(path)).returncode == 0
    finally:
        assert running.stop() == 0


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "data"
    running = Up(path, "--runtime", "shell", "--workers", "0")
    try:
        with psycopg.connect(running.env()["WINDLASS_POSTGRES_DSN"]) as connection:
            connection.execute("UPDATE windlass.installation SET format = format + 1")
    finally:
        running.stop()
    installation = path / "installation.json"
    installation.unlink()  # as if that release had been killed before it wrote down what it did
    said = windlass("up", "--data", str(path), "--port", "0", "--workers", "0")
    assert said.returncode == 1
    assert "install a newer windlass" in said.stderr.splitlines()[-1]
    assert "Traceback" not in said.stderr


def test_data_of_another_postgres_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "data"
    (path / "postgres").mkdir(parents=True)
    (path / "postgres" / "PG_VERSION").write_text("9\n")
    (path / "secrets.json").write_text('{"nats":{},"postgres":{}}')
    said = windlass("up", "--data", str(path), "--port", "0")
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith(f"windlass up: {path} holds a database of PostgreSQL 9, and found is: ")


@pytest.mark.parametrize("service", ["gateway", "coordinator", "scheduler", "worker", "webhooks"])
def test_a_service_without_its_servers_is_one_line(service: str) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("WINDLASS_")}
    said = subprocess.run(
        [sys.executable, "-P", "-m", "windlass.cli", service],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith(f"windlass {service}: WINDLASS_NATS_URL is not set")
    assert "Traceback" not in said.stderr


def test_one_more_gateway_joins_by_env() -> None:
    with up("--runtime", "shell", "--workers", "0") as running:
        argv = [sys.executable, "-P", "-m", "windlass.cli", "gateway", "--port", "0"]
        more = subprocess.Popen(argv, env=running.env("gateway"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert more.stdout is not None
            line = next(line for line in more.stdout if "gateway_ready" in line)
            url = next(word for word in line.split() if word.startswith("url=")).removeprefix("url=")
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                assert answer.status == 200
        finally:
            more.terminate()
            more.wait(20)
            if more.stdout is not None:
                more.stdout.close()


def test_a_stopped_child_shows_in_status() -> None:
    with up("--runtime", "shell", "--workers", "0") as running:
        pid = running.kill("gateway-1", signal.SIGSTOP)
        try:
            wait_for("status notices", lambda: windlass("status", "--data", str(running.path)).returncode == 1)
            gateway = next(service for service in running.state["services"] if service["instance"] == "gateway-1")
            assert (gateway["pid"], gateway["healthy"]) == (pid, False)
            assert gateway["broken"] == {"answer": "none within 5 s"}
        finally:
            os.kill(pid, signal.SIGCONT)
