"""Rows to answers: absent keys where there is nothing to say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from windlass.eventlog.read import CompositeRow, JobRow, LogRow, NodeRow, TaskRow, WholeJob
from windlass.gateway.replies import render
from windlass.gateway.shapes import job_view, log_part, node_view, summary, task_view
from windlass.messages.jobs import (
    AutoDelete,
    AuxTask,
    Each,
    Job,
    Limits,
    Mount,
    Parallel,
    Permission,
    Registry,
    Retry,
    SidecarTask,
    SubJob,
    Task,
)

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def shown(value: object) -> dict[str, Any]:
    """What a client sees."""
    found = msgspec.json.decode(render(value))
    assert isinstance(found, dict)
    return found


def job_row(definition: Job, **fields: object) -> JobRow:
    usual = {
        "id": "a" * 32,
        "state": "PENDING",
        "definition": msgspec.Raw(msgspec.json.encode(definition)),
        "created_by": "guest",
        "position": 0,
        "task_count": len(definition.tasks),
        "progress": float("0"),
        "created_at": AT,
        "started_at": None,
        "completed_at": None,
        "failed_at": None,
        "result": "",
        "error": "",
        "parent": None,
    }
    return JobRow(**{**usual, **fields})  # type: ignore[arg-type]  # columns by name


def task_row(definition: Task, **fields: object) -> TaskRow:
    usual = {
        "id": "b" * 32,
        "job": "a" * 32,
        "position": 1,
        "state": "SCHEDULED",
        "definition": msgspec.Raw(msgspec.json.encode(definition)),
        "queue": "default",
        "worker": "",
        "attempt": 1,
        "retries": 0,
        "redelivered": 0,
        "progress": float("0"),
        "created_at": AT,
        "scheduled_at": AT,
        "started_at": None,
        "completed_at": None,
        "failed_at": None,
        "result": "",
        "error": "",
        "parent": None,
        "due_at": None,
        "composite": None,
    }
    return TaskRow(**{**usual, **fields})  # type: ignore[arg-type]  # columns by name


def test_a_summary_says_only_what_there_is() -> None:
    assert shown(summary(job_row(Job(name="j", tasks=(Task(name="t"),))))) == {
        "id": "a" * 32,
        "createdBy": {"username": "guest"},
        "name": "j",
        "state": "PENDING",
        "createdAt": "2026-03-01T12:00:00.000005Z",
        "position": 0,
        "taskCount": 1,
    }


def test_a_whole_job_has_its_definition_and_its_execution() -> None:
    definition = Job(name="j", inputs={"a": "b"}, output="x", tasks=(Task(name="t", run="echo {{ x }}", if_="true"),))
    row = job_row(definition, state="COMPLETED", result="r", progress=100.0, completed_at=AT, position=2)
    found = shown(job_view(WholeJob(row, [task_row(Task(name="t"), result="v")], {"x": "v"})))
    assert found["tasks"] == [{"name": "t", "run": "echo {{ x }}", "if": "true"}]
    assert found["context"] == {"job": {"id": "a" * 32, "name": "j"}, "inputs": {"a": "b"}, "tasks": {"x": "v"}}
    assert (found["result"], found["output"], found["progress"]) == ("r", "x", 100)
    assert found["execution"] == [shown(task_view(task_row(Task(name="t"), result="v")))]


def test_what_waits_for_its_time_tells_when_that_is() -> None:
    definition = Job(name="j", tasks=(Task(name="t"),))
    found = shown(job_view(WholeJob(job_row(definition, due_at=AT), [task_row(Task(name="t"), due_at=AT)], {})))
    tried = found["execution"][0]
    assert found["dueAt"] == tried["dueAt"] == "2026-03-01T12:00:00.000005Z"


def test_a_job_without_rows_still_has_its_lists_and_its_context() -> None:
    found = shown(job_view(WholeJob(job_row(Job(name="j", tasks=(Task(name="t"),))), [], {})))
    assert found["execution"] == []
    assert found["context"] == {"job": {"id": "a" * 32, "name": "j"}}


def test_a_task_shows_its_retries_and_its_node() -> None:
    found = shown(task_view(task_row(Task(name="t", retry=Retry(limit=3)), retries=2, worker="w", redelivered=1)))
    assert (found["retry"], found["nodeId"], found["redelivered"]) == ({"limit": 3, "attempts": 2}, "w", 1)


def test_a_task_shows_all_that_its_definition_says() -> None:
    definition = Task(
        name="t",
        entrypoint=("sh",),
        files={"a": "b"},
        mounts=(Mount(type="volume", target="/a"),),
        networks=("n",),
        post=(AuxTask(name="p", always=True),),
        limits=Limits(cpus="1"),
        gpus="all",
        workdir="/w",
        on_error="ignore",
        delay="1s",
        each=Each(list="[1]", task=Task(name="i")),
    )
    found = shown(task_view(task_row(definition)))
    said = msgspec.json.decode(msgspec.json.encode(definition))
    assert {name: found[name] for name in said} == said


def test_a_composite_shows_how_far_it_is() -> None:
    def composite(**fields: Any) -> dict[str, Any]:
        counted = CompositeRow(size=3, opened=2, completions=1, subjob="d" * 32)
        return shown(task_view(task_row(Task(name="t", **fields), composite=counted, parent="c" * 32)))

    inner = Task(name="i")
    found = composite(parallel=Parallel(tasks=(inner,) * 3))
    assert (found["parallel"]["completions"], len(found["parallel"]["tasks"]), found["parentId"]) == (1, 3, "c" * 32)
    found = composite(each=Each(list="x", task=inner, concurrency=1))["each"]
    assert found == {"list": "x", "task": {"name": "i"}, "concurrency": 1, "size": 3, "completions": 1, "index": 2}
    assert composite(subjob=SubJob(name="s", tasks=(inner,)))["subjob"]["id"] == "d" * 32


def test_a_subjob_shows_whose_it_is() -> None:
    row = job_row(Job(name="j", tasks=(Task(name="t"),)), parent="c" * 32)
    assert shown(job_view(WholeJob(row, [], {})))["parentId"] == "c" * 32
    assert shown(summary(row))["parentId"] == "c" * 32


def test_a_job_shows_who_may_see_it_and_when_it_goes() -> None:
    definition = Job(name="j", tasks=(Task(name="t"),), permissions=(Permission(role="r"),), auto_delete=AutoDelete(after="1h"))
    found = shown(job_view(WholeJob(job_row(definition), [], {})))
    assert (found["permissions"], found["autoDelete"]) == ([{"role": "r"}], {"after": "1h"})


def test_passwords_for_registries_are_not_shown_wherever_they_are() -> None:
    login = Registry(username="u", password="p4ssw0rd")
    inner = Task(name="i", registry=login, pre=(AuxTask(name="a", registry=login), AuxTask(name="b")))
    for task in (
        inner,
        Task(name="t", sidecars=(SidecarTask(name="s", registry=login),), post=(AuxTask(name="a", registry=login),)),
        Task(name="t", parallel=Parallel(tasks=(inner,))),
        Task(name="t", each=Each(list="[1]", task=inner)),
        Task(name="t", subjob=SubJob(name="s", tasks=(Task(name="u", parallel=Parallel(tasks=(inner,))),))),
    ):
        for view in (job_view(WholeJob(job_row(Job(name="j", tasks=(task,))), [], {})), task_view(task_row(task))):
            text = render(view).decode()
            assert "p4ssw0rd" not in text
            assert '"registry":{"username":"u","password":"[REDACTED]"}' in text


def test_parts_of_output_have_ids_of_their_own() -> None:
    parts = [shown(log_part(LogRow("b" * 32, attempt, number, "x", AT))) for attempt in (1, 2) for number in (1, 2)]
    assert len({str(part["id"]) for part in parts}) == 4
    assert [part["number"] for part in parts] == [1, 2, 1, 2]


def test_a_silent_node_is_offline_but_one_that_said_down_stays_down() -> None:
    def status(said: str, silence_s: float) -> str:
        row = NodeRow("w", "n", "worker", "h", "1", 0, said, 0.0, 0, AT, AT)
        return node_view(row, AT + timedelta(seconds=silence_s), 60).status

    assert [status("UP", 10), status("UP", 61), status("DOWN", 61)] == ["UP", "OFFLINE", "DOWN"]


def test_only_a_worker_has_a_queue_of_its_own() -> None:
    rows = [NodeRow("w", "n", service, "h", "1", 0, "UP", 0.0, 0, AT, AT) for service in ("worker", "coordinator")]
    assert [node_view(row, AT, 60).queue for row in rows] == ["x-w", ""]
