"""Secrets of jobs on a real stack: the task sees them, and nobody else finds them anywhere, in any form."""

import asyncio
import base64
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import nats
import psycopg
import pytest

from tests.contract.runtimes import need_engine
from tests.support.receiver import Receiver, receiver
from tests.support.stack import Up, up, wait_for, windlass
from windlass.local.data import Data
from windlass.secrets.redaction import REDACTED

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("secrets")]

TOKEN = 'hunt"er2/pass wörd&<x>'
OTHER = "of-the-sub-job-alone"
NAMES = {"token": TOKEN, "short": "xyz"}


@pytest.fixture(scope="module")
def running() -> Iterator[Up]:
    with up("--runtime", "shell", "--log-format", "json", environ={"WINDLASS_LOG_LEVEL": "debug"}) as found:
        yield found


@pytest.fixture
def them() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def forms(value: str) -> list[bytes]:
    """A value as it must not be found."""
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    found = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    found += [quote(value), quote(value, safe=""), quote_plus(value), encoded, encoded.translate(str.maketrans("+/", "-_"))]
    return [form.encode() for form in dict.fromkeys(found)]


def ask(running: Up, path: str, body: object = None, method: str = "POST") -> Any:
    """What the API answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{running.url}{path}", data, {"Content-Type": "application/json"}, method="GET" if body is None else method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def rows(running: Up) -> dict[str, str]:
    """Every row of every table, as text."""
    with psycopg.connect(running.env()["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'windlass'").fetchall()
        found = {}
        for (table,) in tables:
            query = f"SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM windlass.{table} AS t"
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            found[table] = str(row[0])
        payloads = connection.execute("SELECT encode(body, 'escape') FROM windlass.deliveries").fetchall()
        return {**found, "bodies": "\n".join(body for (body,) in payloads)}


def leaks(running: Up, *values: str) -> list[str]:
    """Where a form of a value stands: in rows, in what the servers and the spool keep on disk, in logs."""
    wanted = [form for value in values for form in forms(value)]
    found = [f"table {name}" for name, text in rows(running).items() if any(form in text.encode() for form in wanted)]
    for path in sorted(running.path.rglob("*")):
        if path.is_file() and any(form in _read(path) for form in wanted):
            found.append(str(path.relative_to(running.path)))
    return found + [line for line in running.log if any(form in line.encode() for form in wanted)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it was removed meanwhile


def _job(them: Receiver) -> dict[str, Any]:
    """A job whose secrets get about as far as they can."""
    shows = (
        'echo "$T"; echo "$T" >&2; printf %s "$T" | base64 -w0; echo; '
        "python3 -c 'import os, json; print(json.dumps(os.environ[\"T\"]))'; "
    )
    return {
        "name": f"for {TOKEN}",
        "secrets": NAMES,
        "inputs": {"plain": "seen", "my_password": "by its name"},
        "output": "{{ tasks.sum }} {{ secrets.token }}",
        "webhooks": [
            {
                "url": f"{them.url}/hook?plain=1",
                "headers": {
                    "Authorization": "Bearer {{ upper(secrets.short) }}",
                    "X-Made": "{{ tasks.sum }}",
                    "X-Key": "{{ secrets.token }}",
                    "X-Echoed": "{{ tasks.echoed }}",
                },
            }
        ],
        "tasks": [
            {
                "name": "show",
                "env": {"T": "{{ secrets.token }}", "PART": "a {{ secrets.token }} b", "DB_PASSWORD": "by its name"},
                "run": shows + 'for c in h u n; do printf %s "$c"; done; echo; printf %s "$T" > $TORK_OUTPUT',
                "var": "echoed",
            },
            {
                "name": "sum",
                "env": {"E": "{{ tasks.echoed }}"},
                "run": "printf %s \"$E\" | sha256sum | cut -c1-64 | tr -d '\\n' > $TORK_OUTPUT",
                "var": "sum",
            },
            {
                "name": "listed",
                "each": {
                    "list": "{{ [secrets.token, 'plain'] }}",
                    "task": {"name": "one", "env": {"I": "{{ item.value }}"}, "run": 'echo "item $I"'},
                },
            },
            {
                "name": "below",
                "var": "from_below",
                "subjob": {
                    "name": "sub",
                    "secrets": {"mine": "{{ secrets.token }}", "own": OTHER},
                    "output": "{{ tasks.got }}",
                    "tasks": [
                        {
                            "name": "in it",
                            "var": "got",
                            "env": {"M": "{{ secrets.mine }}", "O": "{{ secrets.own }}"},
                            "run": 'echo "$M $O"; printf "%s %s" "$M" "$O" > $TORK_OUTPUT',
                        }
                    ],
                },
            },
            {
                "name": "compare",
                "env": {"B": "{{ tasks.from_below }}", "T": "{{ secrets.token }}"},
                "run": f'test "$B" = "$T {OTHER}"',
            },
            {"name": "fail", "onError": "ignore", "env": {"T": "{{ secrets.token }}"}, "run": 'echo "no: $T"; exit 3'},
            {"name": "refused", "onError": "ignore", "env": {"Q": "{{ fromJSON(secrets.token) }}"}, "run": "true"},
        ],
    }


def test_a_task_sees_its_secrets_and_nobody_finds_them_anywhere(running: Up, them: Receiver) -> None:
    told = ask(running, "/jobs", _job(them))
    job = wait_for(
        "it has ended",
        lambda: (j := ask(running, f"/jobs/{told['id']}"))["state"] not in ("PENDING", "SCHEDULED", "RUNNING") and j,
        60,
    )
    assert job["state"] == "COMPLETED", job.get("error")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert job["result"] == f"{digest} {REDACTED}"
    assert job["secrets"] == {"token": REDACTED, "short": REDACTED}
    assert job["inputs"] == {"plain": "seen", "my_password": REDACTED}
    by_name = {task["name"]: task for task in job["execution"]}
    assert by_name["show"]["env"] == {"T": REDACTED, "PART": f"a {REDACTED} b", "DB_PASSWORD": REDACTED}
    assert by_name["show"]["result"] == REDACTED
    assert by_name["fail"]["error"] == f"exit code 3: no: {REDACTED}"
    output = "".join(part["contents"] for part in reversed(ask(running, f"/tasks/{by_name['show']['id']}/log?size=100")["items"]))
    assert output.count(REDACTED) == 4
    assert "hun\n" in output
    wait_for("the webhook is told", lambda: them.states("/hook?plain=1")[-1:] == ["COMPLETED"], 30)
    last = them.calls[-1]
    assert last.headers["authorization"] == "Bearer XYZ"
    assert last.headers["x-made"] == digest
    assert [last.headers[name].encode("latin-1").decode() for name in ("x-key", "x-echoed")] == [TOKEN, TOKEN]
    everything = json.dumps([told, job, ask(running, "/jobs"), [call.body.decode() for call in them.calls]], ensure_ascii=False)
    for form in forms(TOKEN) + forms(OTHER):
        assert form.decode() not in everything
    assert leaks(running, TOKEN, OTHER) == []
    seen = windlass("status", "--data", str(running.path)).stdout
    assert TOKEN not in seen
    running.verify()


def test_a_job_survives_its_coordinator_and_its_worker_with_its_secrets(running: Up, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    waits = f'while ! test -e {flag}; do sleep 0.1; done; printf %s "$T" > $TORK_OUTPUT'
    job = ask(
        running,
        "/jobs",
        {
            "name": "survives",
            "secrets": {"token": TOKEN},
            "tasks": [
                {"name": "a", "var": "a", "env": {"T": "{{ secrets.token }}"}, "run": waits},
                {"name": "b", "env": {"A": "{{ tasks.a }}", "T": "{{ secrets.token }}"}, "run": 'test "$A" = "$T"'},
            ],
        },
    )["id"]
    wait_for("it runs", lambda: ask(running, f"/jobs/{job}")["state"] == "RUNNING", 30)
    running.kill("coordinator-1")
    flag.touch()
    wait_for("it has ended", lambda: ask(running, f"/jobs/{job}")["state"] in ("COMPLETED", "FAILED"), 60)
    assert ask(running, f"/jobs/{job}")["state"] == "COMPLETED"
    assert leaks(running, TOKEN) == []


def test_a_container_is_given_its_secrets_and_what_the_engine_quotes_of_them_is_hidden(them: Receiver) -> None:
    need_engine()
    name, password = "image-of-which-nobody-knows", "pass-word-of-a-registry"
    with_token = {"image": "busybox", "env": {"T": "{{ secrets.token }}"}}
    tasks = [
        {
            "name": "show",
            "var": "got",
            **with_token,
            "pre": [{"name": "before", "run": 'echo "$T"', **with_token}],
            "run": 'echo "$T"; printf %s "$T" > $TORK_OUTPUT',
        },
        {
            "name": "nowhere",
            "onError": "ignore",
            "image": f"{them.url.removeprefix('http://')}/{{{{ secrets.name }}}}",
            "registry": {"username": "me", "password": password},
            "run": "true",
        },
    ]
    body = {
        "name": "contained",
        "secrets": {"token": TOKEN, "name": name},
        "output": "{{ tasks.got == secrets.token }}",
        "tasks": tasks,
    }
    with up("--runtime", "docker", "--log-format", "json", environ={"WINDLASS_LOG_LEVEL": "debug"}) as stack:
        job = ask(stack, "/jobs", body)["id"]
        wait_for("it has ended", lambda: ask(stack, f"/jobs/{job}")["state"] in ("COMPLETED", "FAILED"), 90)
        found = ask(stack, f"/jobs/{job}")
        assert (found["state"], found["result"]) == ("COMPLETED", "true"), found
        show, nowhere = found["execution"]
        output = ask(stack, f"/tasks/{show['id']}/log?size=100")["items"]
        assert "".join(part["contents"] for part in output).count(REDACTED) == 2
        assert nowhere["state"] == "FAILED"
        assert REDACTED in nowhere["error"]
        assert leaks(stack, TOKEN, name, password) == []


def test_what_a_person_publishes_by_hand_is_sealed_before_it_goes_on(running: Up) -> None:
    value = "published-by-hand"
    document = {
        "name": "hand",
        "secrets": {"v": value},
        "tasks": [{"name": "t", "env": {"V": "{{ secrets.v }}"}, "run": "echo $V"}],
    }

    async def publish() -> None:
        client = await nats.connect(running.env()["WINDLASS_NATS_URL"])
        await client.jetstream().publish("jobs", json.dumps(document).encode())
        await client.close()

    def ended() -> bool:
        return any(job["name"] == "hand" and job["state"] == "COMPLETED" for job in ask(running, "/jobs")["items"])

    asyncio.run(publish())
    wait_for("it has ended", ended, 30)
    # NATS itself may keep in its files for a while what it does not give to anybody any more.
    assert [place for place in leaks(running, value) if not place.startswith("nats/")] == []


def test_an_idempotency_key_knows_the_same_job_again(running: Up) -> None:
    body = {"name": "once", "secrets": {"v": "repeated-value"}, "tasks": [{"name": "t", "run": "true"}]}

    def post(value: object) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{running.url}/jobs", json.dumps(value).encode(), {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)["id"]
        except urllib.error.HTTPError as error:
            return error.code, None

    first, again, other = post(body), post(body), post({**body, "secrets": {"v": "another-value"}})
    assert first == again
    assert other[0] == 409


def test_what_a_deleted_key_has_sealed_is_gone(running: Up) -> None:
    job = ask(running, "/jobs", {"name": "gone", "secrets": {"v": "soon-forgotten"}, "tasks": [{"name": "t", "run": "false"}]})[
        "id"
    ]
    wait_for("it has ended", lambda: ask(running, f"/jobs/{job}")["state"] == "FAILED", 30)
    with psycopg.connect(running.env()["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:
        assert connection.execute("DELETE FROM windlass.job_keys WHERE job = %s::uuid", (job,)).rowcount == 1
    running.kill("coordinator-1")
    request = urllib.request.Request(f"{running.url}/jobs/{job}/restart", b"", method="PUT")
    with urllib.request.urlopen(request, timeout=60):
        pass
    wait_for("it has ended again", lambda: len(ask(running, f"/jobs/{job}")["execution"]) == 2, 30)
    assert ask(running, f"/jobs/{job}")["secrets"] == {"v": REDACTED}


def test_a_wrong_master_key_stops_a_coordinator_and_a_new_one_may_replace_the_old(running: Up) -> None:
    environ = running.env("coordinator")
    other = windlass("secret-key").stdout.strip()
    ended = windlass("coordinator", environ={**environ, "WINDLASS_SECRET_KEY": other})
    assert ended.returncode != 0
    assert "secrets of jobs here need" in ended.stdout + ended.stderr
    assert other not in ended.stdout + ended.stderr
    none = windlass("coordinator", environ={**environ, "WINDLASS_SECRET_KEY": ""})
    assert none.returncode != 0
    data = Data(running.path)
    assert stat_of(data.secrets_file) == 0o600
    kept = data.secrets()
    running.stop()
    kept.key = f"{other},{kept.key}"
    data.write(data.secrets_file, kept)
    again = Up(running.path, "--runtime", "shell")
    try:
        with psycopg.connect(again.env()["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:
            query = b"SELECT count(DISTINCT master), min(master) FROM windlass.job_keys"

            def current() -> bool:
                row = connection.execute(query).fetchone()
                return row is not None and row[0] == 1

            wait_for("all keys of jobs are wrapped anew", current, 30)
        again.stop()
        kept.key = other
        data.write(data.secrets_file, kept)
        again = Up(running.path, "--runtime", "shell")
        body = {"name": "after", "secrets": {"v": "after-all"}, "tasks": [{"name": "t", "run": "true"}]}
        job = ask(again, "/jobs", body)["id"]
        wait_for("it has ended", lambda: ask(again, f"/jobs/{job}")["state"] == "COMPLETED", 30)
        again.verify()
    finally:
        again.stop()


def stat_of(path: Path) -> int:
    """Its permissions."""
    return path.stat().st_mode & 0o777
