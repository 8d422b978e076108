"""The API of a real stack: jobs by HTTP and by NATS, looked at on every route, and input that must not pass."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import psycopg
import pytest

from tests.support.stack import Up, up, wait_for

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("api")]

JOB = """
name: hello
inputs: {who: world, n: 5}
output: "{{ tasks.greeting }}!"
tasks:
  - name: greet
    var: greeting
    env: {WHO: "{{ inputs.who }}"}
    run: |
      echo greeting
      echo -n "hello $WHO" > $TORK_OUTPUT
  - name: never
    if: "false"
    run: exit 1
"""


class Api:
    """A client, as plain as they come."""

    def __init__(self, running: Up) -> None:
        self.up = running

    def ask(self, method: str, target: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
        """Status and document of an answer."""
        request = urllib.request.Request(self.up.url + target, body, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def submit(self, job: str) -> Any:
        """The answer to a job in YAML."""
        status, document = self.ask("POST", "/jobs", job.encode(), "text/yaml")
        assert status == 200, document
        return document

    def ended(self, job: str) -> Any:
        """A job, once it has ended."""

        def look() -> Any:
            document = self.ask("GET", f"/jobs/{job}")[1]
            return document if document.get("state") in ("COMPLETED", "FAILED", "CANCELLED") else None

        return wait_for(f"the end of job {job}", look, 30)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A stack for the tests of this file."""
    with up("--runtime", "shell") as running:
        yield Api(running)


def test_a_job_in_yaml_runs_to_its_end_and_is_shown_whole(api: Api) -> None:
    whole = api.submit(JOB + "wait: {timeout: 30s}\n")
    assert (whole["state"], whole["result"], whole["position"], whole["taskCount"]) == ("COMPLETED", "hello world!", 3, 2)
    assert [(task["name"], task["state"]) for task in whole["execution"]] == [("greet", "COMPLETED"), ("never", "SKIPPED")]
    assert whole["execution"][0]["env"] == {"WHO": "world"}
    assert whole["tasks"][0]["env"] == {"WHO": "{{ inputs.who }}"}
    assert whole["context"]["tasks"] == {"greeting": "hello world"}
    assert api.ask("GET", f"/jobs/{whole['id']}") == (200, whole)


def test_a_summary_answers_a_job_and_lists_show_it(api: Api) -> None:
    summary = api.submit(JOB)
    assert summary["name"] == "hello"
    assert summary["inputs"] == {"who": "world", "n": "5"}
    whole = api.ended(summary["id"])
    page = api.ask("GET", "/jobs?size=20")[1]
    (listed,) = [item for item in page["items"] if item["id"] == whole["id"]]
    assert listed["result"] == "hello world!"
    assert page["totalItems"] >= len(page["items"]) >= 1


def test_a_task_and_its_output_are_shown(api: Api) -> None:
    whole = api.submit(JOB + "wait: {timeout: 30s}\n")
    task = whole["execution"][0]
    assert api.ask("GET", f"/tasks/{task['id']}") == (200, task)

    def parts(target: str) -> Any:
        return wait_for("output", lambda: api.ask("GET", target)[1]["items"])

    (part,) = parts(f"/tasks/{task['id']}/log")
    assert (part["number"], part["taskId"], part["contents"]) == (1, task["id"], "greeting\n")
    assert parts(f"/jobs/{whole['id']}/log") == [part]


def test_a_job_that_runs_is_cancelled_and_one_that_ended_is_not(api: Api) -> None:
    job = api.submit("name: long\ntasks: [{name: t, run: sleep 60}]")["id"]
    wait_for("a running task", lambda: api.ask("GET", f"/jobs/{job}")[1]["execution"][0]["state"] == "RUNNING")
    assert api.ask("PUT", f"/jobs/{job}/cancel") == (200, {"status": "OK"})
    assert api.ended(job)["state"] == "CANCELLED"
    done = api.submit(JOB + "wait: {timeout: 30s}\n")["id"]
    assert api.ask("PUT", f"/jobs/{done}/cancel") == (400, {"message": "job is not running"})
    assert api.ask("PUT", f"/jobs/{'0' * 31}f/cancel") == (404, {"message": "job not found"})


def test_a_job_that_failed_goes_on_where_it_failed(api: Api, tmp_path: Path) -> None:
    door = tmp_path / "door"
    job = api.submit(
        "name: door\noutput: '{{ tasks.a }} and through'\n"
        "tasks:\n  - {name: a, var: a, run: 'echo -n $WINDLASS_RUN > $TORK_OUTPUT'}\n"
        f"  - {{name: b, run: 'test -e {door}'}}\n"
    )["id"]
    assert api.ended(job)["state"] == "FAILED"
    assert api.ask("PUT", f"/jobs/{job}/restart") == (200, {"status": "OK"})
    wait_for("the second failure", lambda: len(api.ended(job)["execution"]) == 3, 30)
    door.touch()
    assert api.ask("PUT", f"/jobs/{job}/restart") == (200, {"status": "OK"})
    wait_for("the end", lambda: api.ended(job)["state"] == "COMPLETED", 30)
    whole = api.ended(job)
    assert whole["result"] == "1 and through"
    assert [(task["name"], task["state"]) for task in whole["execution"]] == [
        ("a", "COMPLETED"),
        ("b", "FAILED"),
        ("b", "FAILED"),
        ("b", "COMPLETED"),
    ]
    assert api.ask("PUT", f"/jobs/{job}/restart") == (400, {"message": "job is COMPLETED and can not be restarted"})
    assert api.ask("PUT", f"/jobs/{'0' * 31}f/restart") == (404, {"message": "job not found"})


def test_a_paused_job_starts_nothing_until_it_is_resumed(api: Api, tmp_path: Path) -> None:
    door, ran = tmp_path / "door", tmp_path / "ran"
    job = api.submit(
        "name: pause\ntasks:\n"
        f"  - name: both\n    parallel:\n      tasks:\n        - {{name: a, run: 'until test -e {door}; do sleep 0.05; done'}}\n"
        "        - name: s\n          subjob:\n            name: below\n            tasks:\n"
        f"              - {{name: b, run: 'until test -e {door}; do sleep 0.05; done'}}\n"
        f"              - {{name: c, run: 'touch {ran}'}}\n"
        "  - {name: late, delay: 50ms, run: 'true'}\n"
    )["id"]

    def states() -> dict[str, str]:
        return {task["name"]: task["state"] for task in api.ask("GET", f"/jobs/{job}")[1]["execution"]}

    wait_for("a task that runs", lambda: states().get("a") == "RUNNING")
    below = next(task["subjob"]["id"] for task in api.ask("GET", f"/jobs/{job}")[1]["execution"] if task["name"] == "s")
    wait_for("the one below, too", lambda: api.ask("GET", f"/jobs/{below}")[1]["execution"][0]["state"] == "RUNNING")
    assert api.ask("PUT", f"/jobs/{below}/pause")[0] == 400
    assert api.ask("PUT", f"/jobs/{job}/pause") == (200, {"status": "OK"})
    assert api.ask("PUT", f"/jobs/{job}/pause") == (200, {"status": "OK"})
    assert "pausedAt" in api.ask("GET", f"/jobs/{job}")[1]
    door.touch()
    wait_for("what runs to end", lambda: states()["a"] == "COMPLETED")
    wait_for("below, too", lambda: api.ask("GET", f"/jobs/{below}")[1]["position"] == 2)
    assert not ran.exists()
    assert "late" not in states()
    assert api.ask("PUT", f"/jobs/{job}/resume") == (200, {"status": "OK"})
    assert api.ended(job)["state"] == "COMPLETED"
    assert ran.exists()
    assert "pausedAt" not in api.ended(job)
    assert states()["late"] == "COMPLETED"
    assert api.ask("PUT", f"/jobs/{job}/pause") == (400, {"message": "job is not running"})
    assert api.ask("PUT", f"/jobs/{'0' * 31}f/resume") == (404, {"message": "job not found"})


def test_only_what_failed_runs_again_and_then_all_from_the_start(api: Api, tmp_path: Path) -> None:
    """Elements of a list, and the job that a task stands for; what ended well keeps its row and its result."""
    door = tmp_path / "door"
    job = api.submit(
        "name: twice\noutput: '{{ tasks.r0 }} {{ tasks.r1 }} {{ tasks.r2 }} {{ tasks.s }}'\n"
        "tasks:\n"
        "  - name: both\n    parallel:\n      tasks:\n"
        '        - name: list\n          onError: continue\n          each:\n            list: \'["x", "y", "z"]\'\n'
        "            task: {name: '{{ item.value }}', onError: continue, var: 'r{{ item.index }}',\n"
        "                   env: {I: '{{ item.index }}', V: '{{ item.value }}'},\n"
        f"                   run: 'test $I != 1 || test -e {door} || exit 1; echo -n $V$WINDLASS_RUN > $TORK_OUTPUT'}}\n"
        "        - name: below\n          onError: continue\n          var: s\n          subjob:\n            name: sub\n"
        "            output: '{{ tasks.first }}{{ tasks.last }}'\n            tasks:\n"
        "              - {name: first, var: first, run: 'echo -n f$WINDLASS_RUN > $TORK_OUTPUT'}\n"
        f"              - {{name: last, var: last, run: 'test -e {door} && echo -n l$WINDLASS_RUN > $TORK_OUTPUT'}}\n"
    )["id"]
    assert api.ended(job)["state"] == "FAILED"
    door.touch()
    assert api.ask("PUT", f"/jobs/{job}/restart?only=failed") == (200, {"status": "OK"})
    wait_for("the end", lambda: api.ended(job)["state"] == "COMPLETED", 30)
    assert api.ended(job)["result"] == "x1 y2 z1 f1l2"
    assert api.ask("PUT", f"/jobs/{job}/restart?only=failed") == (400, {"message": "job has no failed tasks to run again"})
    for query in ("only=some", "from=end", "from=start&only=failed"):
        status, answer = api.ask("PUT", f"/jobs/{job}/restart?{query}")
        assert (status, answer["message"]) == (400, "restart takes ?from=start or ?only=failed, or neither")
    assert api.ask("PUT", f"/jobs/{job}/restart?from=start") == (200, {"status": "OK"})
    wait_for("the end again", lambda: api.ended(job).get("result") == "x3 y3 z3 f1l1", 30)


def test_who_waits_for_a_job_that_is_cancelled_is_answered(api: Api) -> None:
    answers: list[Any] = []
    body = "name: waited\nwait: {timeout: 60s}\ntasks: [{name: t, run: sleep 60}]"
    waiter = threading.Thread(target=lambda: answers.append(api.submit(body)))
    waiter.start()

    def find() -> Any:
        items = api.ask("GET", "/jobs?size=20")[1]["items"]
        return next((item["id"] for item in items if item["name"] == "waited"), None)

    job = wait_for("the job", find)
    assert api.ask("PUT", f"/jobs/{job}/cancel")[0] == 200
    waiter.join(20)
    assert [answer["state"] for answer in answers] == ["CANCELLED"]


def test_a_key_makes_one_job_however_often_it_is_sent(api: Api) -> None:
    def submit(body: bytes) -> tuple[int, Any]:
        request = urllib.request.Request(api.up.url + "/jobs", body, {"Content-Type": "text/yaml", "Idempotency-Key": "once"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    answers = [submit(JOB.encode()) for _ in range(3)]
    assert [status for status, _ in answers] == [200] * 3
    assert len({document["id"] for _, document in answers}) == 1
    assert submit(JOB.replace("hello", "other").encode())[0] == 409


def test_nodes_and_counters_and_health(api: Api) -> None:
    def seen() -> list[dict[str, object]]:
        found: list[dict[str, object]] = api.ask("GET", "/nodes")[1]
        return found if any(node.get("queue") == f"x-{node['id']}" for node in found) else []

    nodes = wait_for("the worker's row, which follows its heartbeat", seen)
    assert {node["status"] for node in nodes} == {"UP"}
    assert api.ask("GET", "/metrics")[1]["nodes"]["online"] == len(nodes)
    status, health = api.ask("GET", "/health")
    assert (status, health["status"]) == (200, "UP")


async def test_a_request_by_nats_is_answered_after_the_commit(api: Api) -> None:
    client = await nats.connect(api.up.env()["NATS_URL"])
    try:
        for payload in (JOB.encode(), b'{"name":"hi","tasks":[{"name":"t","run":"true"}]}'):
            answer = json.loads((await client.request("api.jobs", payload, timeout=20)).data)
            assert api.ask("GET", f"/jobs/{answer['id']}")[0] == 200
        refused = json.loads((await client.request("api.jobs", b'{"name":"hi"}', timeout=20)).data)
        assert refused["message"].startswith("Key: 'Job.Tasks'")
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("application/json", b"{", 400, "json"),
        (
            "application/json",
            b'{"name":"j","tasks":[{"name":"t","module":"m"}]}',
            400,
            "module tasks are not built yet (tasks[0].module)",
        ),
        ("application/json", b'{"name":5,"tasks":[{"name":"t"}]}', 400, "name: write a text"),
        ("application/json", b'{"name":"a\\u0000","tasks":[{"name":"t"}]}', 400, "name: holds a NUL"),
        ("application/json", b"[" * 100_000, 400, "nested"),
        ("text/yaml", b"a: " + b"[" * 100_000, 400, "nest"),
        ("text/plain", b"{}", 400, "unknown content type"),
        ("application/json", b" " * 500_001, 413, "Request Entity Too Large"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_stored(api: Api, kind: str, body: bytes, status: int, words: str) -> None:
    before = api.ask("GET", "/jobs")[1]["totalItems"]
    found, document = api.ask("POST", "/jobs", body, kind)
    assert found == status
    assert words in document["message"]
    assert api.ask("GET", "/jobs")[1]["totalItems"] == before


def test_a_body_without_a_length_has_the_same_limit(api: Api) -> None:
    address = urlsplit(api.up.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
        head = "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(8):
            connection.sendall(chunk)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_what_is_not_there_is_said_in_one_key(api: Api) -> None:
    assert api.ask("GET", "/nothing") == (404, {"message": "Not Found"})
    assert api.ask("DELETE", "/jobs") == (405, {"message": "Method Not Allowed"})


def test_a_deleted_job_is_gone_with_all_that_belongs_to_it(api: Api) -> None:
    job = api.submit(
        "name: goes\nsecrets: {s: 'hunter2 hunter2'}\ntasks:\n"
        "  - {name: a, var: v, env: {S: '{{ secrets.s }}'}, run: 'echo $S; echo -n x > $TORK_OUTPUT'}\n"
        "  - name: s\n    subjob: {name: below, tasks: [{name: b, run: 'true'}]}\n"
        "  - name: e\n    each: {list: '[1, 2]', task: {name: n, run: 'true'}}\n"
    )["id"]
    assert api.ended(job)["state"] == "COMPLETED"
    rows = api.ask("GET", f"/jobs/{job}")[1]["execution"]
    below = next(task["subjob"]["id"] for task in rows if task["name"] == "s")
    wait_for("output", lambda: api.ask("GET", f"/jobs/{job}/log")[1]["items"])
    assert api.ask("DELETE", f"/jobs/{below}")[0] == 400
    total = api.ask("GET", "/jobs")[1]["totalItems"]
    assert api.ask("DELETE", f"/jobs/{job}") == (200, {"status": "OK"})
    assert api.ask("DELETE", f"/jobs/{job}") == (404, {"message": "job not found"})
    assert api.ask("GET", f"/jobs/{job}")[0] == 404
    assert api.ask("GET", f"/tasks/{rows[0]['id']}")[0] == 404
    assert api.ask("PUT", f"/jobs/{job}/restart")[0] == 404
    wait_for("its output to go", lambda: api.ask("GET", f"/jobs/{job}/log")[0] == 404)
    wait_for("the one below to go", lambda: api.ask("GET", f"/jobs/{below}")[0] == 404)
    assert api.ask("GET", "/jobs")[1]["totalItems"] < total

    def left() -> dict[str, int]:
        with psycopg.connect(api.up.env()["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:
            connection.execute("SET search_path TO windlass")
            tables = ("tasks", "job_vars", "sealed_texts", "job_keys", "task_logs", "each_items", "composites")
            found = {}
            for table in tables:
                query = f"SELECT count(*) FROM {table} WHERE job = ANY (%s::uuid[])"
                (found[table],) = connection.execute(query.encode(), ([job, below],)).fetchone()  # type: ignore[misc]  # one row
            return {table: rows for table, rows in found.items() if rows}

    wait_for("all rows to go", lambda: not left(), 30)


def test_a_job_is_deleted_when_its_time_has_come_and_its_key_stays_its_own(api: Api) -> None:
    body = json.dumps({"name": "short", "autoDelete": {"after": "1s"}, "tasks": [{"name": "t", "run": "true"}]}).encode()
    request = urllib.request.Request(
        f"{api.up.url}/jobs", body, {"Content-Type": "application/json", "Idempotency-Key": "short-lived"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        job = json.load(answer)["id"]
    wait_for(
        "it to say when", lambda: "deleteAt" in api.ask("GET", f"/jobs/{job}")[1] or api.ask("GET", f"/jobs/{job}")[0] == 404
    )
    wait_for("it to be gone", lambda: api.ask("GET", f"/jobs/{job}")[0] == 404, 30)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 409
    assert "was deleted; choose another key" in refused.value.read().decode()


def test_permissions_are_kept_and_inherited(api: Api) -> None:
    job = api.submit(
        "name: mine\npermissions: [{role: operators}]\ntasks:\n"
        "  - name: s\n    subjob: {name: b, tasks: [{name: t, run: 'true'}]}\n"
    )["id"]
    whole = api.ended(job)
    assert whole["permissions"] == [{"role": "operators"}]
    below = whole["execution"][0]["subjob"]["id"]
    assert api.ended(below)["permissions"] == [{"role": "operators"}]


def test_the_rows_of_a_very_large_job_come_in_pages(api: Api) -> None:
    job = api.submit(
        "name: large\ntasks:\n  - name: e\n    each:\n      list: '{{ sequence(0, 10050) }}'\n"
        "      task: {name: 'n{{ item.index }}', if: 'false', run: 'true'}\n"
    )["id"]
    whole = wait_for("its end", lambda: (d := api.ask("GET", f"/jobs/{job}")[1])["state"] == "COMPLETED" and d, 60)
    assert (len(whole["execution"]), whole["executionTotal"]) == (10_000, 10_051)
    second = api.ask("GET", f"/jobs/{job}?execution=2")[1]
    assert len(second["execution"]) == 51
    assert {row["id"] for row in second["execution"]}.isdisjoint({row["id"] for row in whole["execution"]})
    assert api.ask("GET", f"/jobs/{job}?execution=0")[1]["execution"] == []
    assert api.ask("GET", f"/jobs/{job}?execution=3")[1]["execution"] == []
    for wrong in ("x", "-1", "1234567"):
        assert api.ask("GET", f"/jobs/{job}?execution={wrong}")[0] == 400
