"""Documents in JSON: what is taken, and what is refused in which words."""

import json
from typing import Any

import pytest

from windlass.documents.reading import BODY_MAX, TooLarge, read_job, read_task
from windlass.errors import Invalid
from windlass.messages.jobs import Job, Retry, Task, Wait, Webhook


def refusal(body: bytes | dict[str, Any]) -> str:
    """Why a document is refused."""
    with pytest.raises(Invalid) as refused:
        read_job(body if isinstance(body, bytes) else json.dumps(body).encode(), "json")
    return str(refused.value)


def job(**task: Any) -> dict[str, Any]:
    """A job of one task with these fields."""
    return {"name": "j", "tasks": [{"name": "t", **task}]}


def test_every_field_of_a_job_is_read() -> None:
    body = {
        "name": "j",
        "description": "d",
        "tags": ["a", "b"],
        "inputs": {"k": "v"},
        "output": "{{ tasks.x }}",
        "tasks": [
            {
                "name": "t",
                "description": "d",
                "run": "true",
                "image": "alpine:3",
                "cmd": ["a"],
                "env": {"A": "b"},
                "queue": "q",
                "priority": 9,
                "var": "x",
                "if": "false",
                "timeout": "10s",
                "retry": {"limit": 2},
                "tags": ["c"],
            }
        ],
        "webhooks": [{"url": "http://a/", "headers": {"A": "b"}, "event": "task.StateChange", "if": "true"}],
    }
    assert read_job(json.dumps(body).encode()).job == Job(
        name="j",
        description="d",
        tags=("a", "b"),
        inputs={"k": "v"},
        output="{{ tasks.x }}",
        webhooks=(Webhook(url="http://a/", headers={"A": "b"}, event="task.StateChange", if_="true"),),
        tasks=(
            Task(
                name="t",
                description="d",
                run="true",
                image="alpine:3",
                cmd=("a",),
                env={"A": "b"},
                queue="q",
                priority=9,
                var="x",
                if_="false",
                timeout="10s",
                retry=Retry(limit=2),
                tags=("c",),
            ),
        ),
    )


def test_the_case_of_a_key_does_not_matter() -> None:
    assert read_job(b'{"Name":"j","TASKS":[{"nAme":"t","IF":"false"}]}').job.tasks[0].if_ == "false"


def test_a_number_beyond_64_bits_is_no_priority() -> None:
    assert "'max' tag" in refusal(job(priority=2**70))


def test_null_leaves_the_default() -> None:
    task = b'{"name":"t","retry":null,"priority":null,"env":{"A":null}}'
    body = b'{"name":"j","inputs":null,"tags":null,"output":null,"tasks":[' + task + b"]}"
    assert read_job(body).job == Job(name="j", tasks=(Task(name="t", env={"A": ""}),))


def test_wait_is_not_part_of_the_job() -> None:
    document = read_job(json.dumps({**job(), "wait": {"timeout": "5s"}}).encode())
    assert document.wait == Wait(timeout="5s")
    assert document.job == Job(name="j", tasks=(Task(name="t"),))


def test_an_unknown_field_is_named_with_its_place_and_its_neighbour() -> None:
    body = {"name": "j", "tasks": [{"name": "a"}, {"name": "b"}, {"name": "c", "imge": "alpine"}]}
    assert refusal(body) == """json: unknown field "imge" (tasks[2].imge: unknown field; did you mean 'image'?)"""


@pytest.mark.parametrize("field", ["id", "state", "createdAt", "queue", "timeout", "retry"])
def test_fields_that_the_server_sets_are_unknown(field: str) -> None:
    assert f'json: unknown field "{field}"' in refusal({**job(), field: "x"})


@pytest.mark.parametrize("field", ["module", "data"])
def test_a_module_task_is_told_from_a_mistake(field: str) -> None:
    assert refusal(job(**{field: {"b": 1, "a": 2}})) == f"module tasks are not built yet (tasks[0].{field})"


def test_a_schedule_is_told_what_to_use_instead() -> None:
    assert refusal({**job(), "schedule": {"cron": "* * * * *"}}) == (
        'json: unknown field "schedule" (schedule: unknown field; a job has none; it starts later with delay or runAt, '
        "and schedules come in a later release)"
    )


def test_the_pause_before_a_retry_has_a_former_name() -> None:
    retry = Retry(limit=2, delay="3s", scaling_factor=4)
    for name in ("delay", "initialDelay", "InitialDelay"):
        body = json.dumps(job(retry={"limit": 2, name: "3s", "scalingFactor": 4})).encode()
        assert read_job(body).job.tasks[0].retry == retry
    both = job(retry={"limit": 2, "delay": "3s", "initialDelay": "3s"})
    assert refusal(both) == "tasks[0].retry.initialDelay: is given twice, under another name; remove one"


def test_a_job_says_when_it_starts() -> None:
    assert read_job(json.dumps({**job(), "delay": "5m"}).encode()).job.delay == "5m"
    assert read_job(json.dumps({**job(), "runAt": "2026-03-01T12:00:00Z"}).encode()).job.run_at == "2026-03-01T12:00:00Z"
    assert read_job(b"name: j\nrunAt: 2026-03-01T12:00:00Z\ntasks: [{name: t}]").job.run_at == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (job(name=5), "number into Go struct field of type string (tasks[0].name: write a text in quotes)"),
        (job(env={"A": True}), "bool into Go struct field of type string (tasks[0].env.A: write a text in quotes)"),
        (job(cmd="ls"), "string into []str (tasks[0].cmd: write a list)"),
        (job(priority="3"), "string into Go struct field of type int (tasks[0].priority: write a whole number)"),
        (job(priority=1.5), "number into Go struct field of type int (tasks[0].priority: write a whole number)"),
        (job(retry=3), "number into Retry (tasks[0].retry: write a mapping of fields)"),
        ({"name": "j", "tasks": {}}, "object into []Task (tasks: write a list)"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(body: dict[str, Any], message: str) -> None:
    assert refusal(body) == f"json: cannot unmarshal {message}"


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_nothing_is_the_end_of_the_file(body: bytes) -> None:
    assert refusal(body) == "EOF"


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":',
        b'{"name":"j"',
        b"nonsense",
        b'{"name":"a\x01"}',
        b'{"name":"j","tasks":[{"name":"t"}]} {}',
        b'\xef\xbb\xbf{"name":"j"}',
        b'{"name":NaN}',
        b'{"name":-Infinity}',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(body).startswith("json: ")


def test_bytes_that_are_not_utf8_are_refused() -> None:
    assert refusal(b'{"name":"\xff","tasks":[{"name":"t"}]}') == "json: byte 9 is not UTF-8; save the file as UTF-8"


@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud800", b"\\udfff"])
def test_what_no_store_can_hold_is_refused_by_field(text: bytes) -> None:
    assert refusal(b'{"name":"j","tasks":[{"name":"t","run":"a' + text + b'"}]}').startswith("tasks[0].run: holds a NUL")


def test_an_escaped_pair_is_one_character() -> None:
    assert read_job(b'{"name":"\\ud83d\\ude00","tasks":[{"name":"t"}]}').job.name == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"j","name":"k","tasks":[{"name":"t"}]}',
        b'{"name":"j","tasks":[{"name":"t","env":{"A":"1","A":"2"}}]}',
        b'{"name":"\\u0022","tasks":[{"name":"t","env":{"A":"1","A":"2"}}]}',
    ],
)
def test_a_key_that_appears_twice_is_refused(body: bytes) -> None:
    assert "appears twice" in refusal(body)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 80_000, b'{"tasks":' + b"[" * 100 + b"]" * 100 + b"}"])
def test_deep_nesting_is_refused(body: bytes) -> None:
    assert "nested" in refusal(body)


def test_too_many_values_are_refused() -> None:
    assert "100,000" in refusal(b'{"tags":[' + b'"",' * 120_000 + b'""]}')


def test_a_body_beyond_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="Request Entity Too Large"):
        read_job(b" " * (BODY_MAX + 1))


def test_a_large_body_within_the_limit_is_taken() -> None:
    body = json.dumps({"name": "j", "tasks": [{"name": "t", "run": "x" * 400_000}]}).encode()
    assert len(read_job(body).job.tasks[0].run) == 400_000


def test_a_refusal_does_not_grow_with_the_document() -> None:
    assert len(refusal({"name": "j", "tasks": [{"x" * 100: 1}] * 2_000})) < 50_000
    assert len(refusal({"x" * 400_000: 1})) < 2_000


def test_a_bare_task_is_a_job_of_one() -> None:
    assert read_task(b'{"name":"t","run":"echo hi"}') == Job(name="t", tasks=(Task(name="t", run="echo hi"),))


def test_a_bare_task_is_checked_as_any_other() -> None:
    with pytest.raises(Invalid, match=r"Job\.Tasks\[0\]\.Queue"):
        read_task(b'{"name":"t","queue":"x-1"}')
