"""What webhooks are told of each event, and which call is owed for it."""

import json
from typing import Any

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    begun,
    cancelled,
    completed,
    delayed,
    dispatched,
    failed,
    job,
    job_cancelled,
    job_completed,
    job_failed,
    job_restarted,
    progressed,
    queued,
    redelivered,
    refused,
    running,
    skipped,
    started,
    submitted,
    task,
    task_id,
    task_queued,
)
from windlass.eventlog.deliveries import Delivery
from windlass.eventlog.state import JobWork
from windlass.messages.events import JobEvent
from windlass.messages.jobs import Job, Webhook
from windlass.webhooks.projection import fold, owed

URL = "http://a.example/hook"


def told(*events: JobEvent) -> list[tuple[str, str]]:
    """What happened by some events: the name, and the state of the job or task."""
    work = JobWork()
    return [(h.name, (h.task or h.job).state) for event in events for h in fold(work, event)]


def hooked(*webhooks: Webhook, **fields: Any) -> Job:
    """A job with these webhooks."""
    return job(*fields.pop("tasks", ()), webhooks=webhooks, **fields)


def calls(*events: JobEvent) -> list[Delivery]:
    """The calls that are owed for some events of a job."""
    work = JobWork()
    return [
        delivery
        for version, event in enumerate(events, 1)
        for happened in fold(work, event)
        for delivery in owed(work, happened, version, event.at)
    ]


def to(webhook: Webhook, *more: JobEvent, **fields: Any) -> list[str]:
    """The states that a webhook is told of a job that runs and then goes on with `more`."""
    return [json.loads(call.body)["state"] for call in calls(*running(hooked(webhook, **fields)), *more)]


# -- what happens -------------------------------------------------------------------------------------------------------


def test_a_job_that_completes_is_told_of_once_a_state() -> None:
    whole = [*running(job()), completed(task_id()), job_completed()]
    assert told(*whole) == [
        ("job.StateChange", "PENDING"),
        ("task.StateChange", "SCHEDULED"),
        ("job.StateChange", "RUNNING"),
        ("task.StateChange", "RUNNING"),
        ("task.StateChange", "COMPLETED"),
        ("job.Progress", "RUNNING"),
        ("job.StateChange", "COMPLETED"),
    ]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ([failed(task_id(), "no"), job_failed("no")], [("task.StateChange", "FAILED"), ("job.StateChange", "FAILED")]),
        ([cancelled(task_id()), job_cancelled()], [("job.StateChange", "CANCELLED")]),
        (
            [redelivered(task_id(), 2), started(task_id(), 2)],
            [("task.StateChange", "SCHEDULED"), ("task.StateChange", "RUNNING")],
        ),
        ([progressed(task_id(), 50, 25)], [("task.Progress", "RUNNING"), ("job.Progress", "RUNNING")]),
        ([progressed(task_id(), 50, 0)], [("task.Progress", "RUNNING")]),
    ],
)
def test_a_running_job_goes_on(end: list[JobEvent], expected: list[tuple[str, str]]) -> None:
    begin = running(job(task(), task()))
    assert told(*begin, *end)[len(told(*begin)) :] == expected


def test_a_second_task_does_not_make_the_job_run_again() -> None:
    two: list[JobEvent] = [completed(task_id()), dispatched(task(), 2), started(task_id(2))]
    names = [name for name in told(*running(job(task(), task())), *two) if name[0] == "job.StateChange"]
    assert names == [("job.StateChange", "PENDING"), ("job.StateChange", "RUNNING")]


def test_tasks_that_never_wait_are_told_of_once() -> None:
    assert told(submitted(job()), begun(), skipped(task()))[1:] == [
        ("task.StateChange", "SKIPPED"),
        ("job.Progress", "SCHEDULED"),
    ]
    assert told(submitted(job()), begun(), refused(task(), "no"))[1:] == [("task.StateChange", "FAILED")]


def test_a_job_that_runs_again_says_restart_as_in_tork() -> None:
    begin = [*running(job()), failed(task_id(), "no"), job_failed("no")]
    again: list[JobEvent] = [job_restarted(), dispatched(task(), attempt=2, at=NOW), started(task_id(1, 2, NOW), 2)]
    assert told(*begin, *again)[len(told(*begin)) :] == [
        ("job.StateChange", "RESTART"),
        ("task.StateChange", "SCHEDULED"),
        ("task.StateChange", "RUNNING"),
    ]


def test_a_retry_that_waits_is_told_of() -> None:
    row = delayed(task(), attempt=2, until=NOW)
    begin = running(job())
    assert told(*begin, row, task_queued(row.task))[len(told(*begin)) :] == [
        ("task.StateChange", "PENDING"),
        ("task.StateChange", "SCHEDULED"),
    ]


def test_events_of_a_job_that_is_not_known_are_nothing() -> None:
    assert told(begun(), job_completed()) == []


# -- which calls are owed -------------------------------------------------------------------------------------------------


def test_a_webhook_hears_of_what_it_asked_for_and_by_default_of_the_job() -> None:
    end: list[JobEvent] = [progressed(task_id(), 50, 50), completed(task_id()), job_completed()]
    assert to(Webhook(url=URL), *end) == ["PENDING", "RUNNING", "COMPLETED"]
    assert to(Webhook(url=URL, event="job.StateChange"), *end) == ["PENDING", "RUNNING", "COMPLETED"]
    assert to(Webhook(url=URL, event="task.StateChange"), *end) == ["SCHEDULED", "RUNNING", "COMPLETED"]
    assert to(Webhook(url=URL, event="task.Progress"), *end) == ["RUNNING"]
    assert to(Webhook(url=URL, event="job.Progress"), *end) == ["RUNNING", "RUNNING"]
    assert to(Webhook(url=URL, event="job.statechange"), *end) == []


def test_only_what_may_be_told_makes_a_job_hooked() -> None:
    assert hooked(Webhook(url=URL)).is_hooked
    assert hooked(Webhook(url=URL, event="x"), Webhook(url=URL, event="task.Progress")).is_hooked
    assert not hooked(Webhook(url=URL, event="x")).is_hooked
    assert not job().is_hooked


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("job.State == 'COMPLETED'", ["COMPLETED"]),
        ("{{ job.State != 'RUNNING' and job.Inputs.x == '1' }}", ["PENDING", "COMPLETED"]),
        ("job.CreatedAt.Year() == 2026 and job.CompletedAt == nil", ["PENDING", "RUNNING"]),
        ("job.CreatedBy.Username == 'guest' and 'b' in job.Tags and job.Progress == 0", ["PENDING", "RUNNING"]),
        ("now() == job.CreatedAt", ["PENDING", "RUNNING"]),
        ("false", []),
        ("job.Name", []),
        ("job.state == 'COMPLETED'", []),
        ("inputs.x == '1'", []),
        ("task.State == 'RUNNING'", []),
    ],
)
def test_a_condition_sees_the_job_as_it_stood(condition: str, expected: list[str]) -> None:
    hook = Webhook(url=URL, if_=condition)
    assert to(hook, completed(task_id()), job_completed(), inputs={"x": "1"}, tags=("a", "b")) == expected


def test_a_condition_on_a_task_sees_both() -> None:
    hook = Webhook(
        url=URL, event="task.StateChange", if_="job.State == 'RUNNING' and task.State == 'COMPLETED' and task.Var == 'v'"
    )
    assert to(hook, completed(task_id()), tasks=[task(var="v")]) == ["COMPLETED"]


def test_headers_are_templates_over_what_was_known_then() -> None:
    hook = Webhook(url=URL, headers={"A": "{{ inputs.x }}-{{ tasks.v }}-{{ job.name }}", "B": "as { it } is"})
    made = calls(
        *running(hooked(hook, name="n", inputs={"x": "1"}, tasks=[task(var="v")])), completed(task_id(), "r"), job_completed()
    )
    assert [call.headers["A"] for call in made] == ["1--n", "1--n", "1-r-n"]
    assert {call.headers["B"] for call in made} == {"as { it } is"}


@pytest.mark.parametrize(
    ("value", "sent"), [("one\n", "one"), ("a\r\nHost: b", ""), ("a\0b", ""), ("ü", "ü"), ("{{ 1 + 1 }}", "{{ 1 + 1 }}")]
)
def test_a_header_that_cannot_be_sent_is_empty_and_data_is_never_evaluated(value: str, sent: str) -> None:
    (call,) = calls(submitted(hooked(Webhook(url=URL, headers={"A": "{{ inputs.x }}"}), inputs={"x": value})))
    assert call.headers == {"A": sent}


def test_a_header_that_cannot_be_evaluated_is_empty() -> None:
    (call,) = calls(submitted(hooked(Webhook(url=URL, headers={"A": "{{ nope.x }}", "B": "{{ secrets.x }}"}))))
    assert call.headers == {"A": "", "B": ""}


def test_a_condition_that_costs_too_much_is_not_met() -> None:
    hook = Webhook(url=URL, if_="all(1..9999, any(1..9999, # == 9999))")
    assert calls(submitted(hooked(hook))) == []


# -- one call -------------------------------------------------------------------------------------------------------------


def test_the_body_is_the_summary_of_the_job() -> None:
    ended = running(hooked(Webhook(url=URL), inputs={"k": "v"}, tags=("t",), description="d"))
    last = calls(*ended, completed(task_id()), job_completed("out"))[-1]
    assert json.loads(last.body) == {
        "id": JOB,
        "createdBy": {"username": "guest"},
        "inputs": {"k": "v"},
        "name": "j",
        "description": "d",
        "tags": ["t"],
        "state": "COMPLETED",
        "createdAt": "2026-03-01T12:00:00Z",
        "startedAt": "2026-03-01T12:00:00Z",
        "completedAt": "2026-03-01T12:00:07Z",
        "position": 2,
        "taskCount": 1,
        "result": "out",
        "progress": 100.0,
    }


def test_the_body_of_a_tasks_event_is_the_summary_of_the_task() -> None:
    definition = task("n", description="d", var="v", tags=("t",), env={"SECRET": "x"})
    hook = Webhook(url=URL, event="task.StateChange")
    *_, ended = calls(*running(hooked(hook, tasks=[definition])), completed(task_id(), "out"))
    assert json.loads(ended.body) == {
        "id": task_id(),
        "jobId": JOB,
        "position": 1,
        "name": "n",
        "description": "d",
        "state": "COMPLETED",
        "createdAt": "2026-03-01T12:00:00Z",
        "scheduledAt": "2026-03-01T12:00:00Z",
        "startedAt": "2026-03-01T12:00:00Z",
        "completedAt": "2026-03-01T12:00:00Z",
        "result": "out",
        "var": "v",
        "tags": ["t"],
    }
    *_, lost = calls(*running(hooked(hook)), failed(task_id(), "exit code 3"))
    assert json.loads(lost.body)["error"] == "exit code 3"


def test_each_call_has_an_id_of_its_own_that_is_the_same_whenever_it_is_made() -> None:
    events = [
        *running(hooked(Webhook(url=URL), Webhook(url=URL, event="task.StateChange"))),
        completed(task_id()),
        job_completed(),
    ]
    made = calls(*events)
    assert len({call.id for call in made}) == len(made) == 6
    assert [call.id for call in calls(*events)] == [call.id for call in made]
    assert {call.id[-2:] for call in made} == {JOB[-2:]}


def test_a_job_and_a_url_are_one_lane_and_its_calls_are_in_the_order_of_events() -> None:
    hooks = (Webhook(url=URL), Webhook(url=URL, event="task.StateChange"), Webhook(url="https://b.example:1/x"))
    made = calls(*running(hooked(*hooks)), completed(task_id()), job_completed(at=NOW))
    assert len({(call.lane, call.url) for call in made}) == 2
    assert {call.url: call.host for call in made} == {URL: "a.example:80", "https://b.example:1/x": "b.example:1"}
    versions = [call.version for call in made]
    assert versions == sorted(versions)
    assert len({(call.version, call.hook) for call in made}) == len(made)
    assert (made[0].created_at, made[-1].created_at) == (THEN, NOW)


def test_what_is_known_of_a_job_does_not_hold_its_tasks() -> None:
    work = JobWork()
    for event in queued(hooked(Webhook(url=URL), tasks=[task(run="x" * 1000)] * 3)):
        fold(work, event)
    assert work.job is not None
    assert work.job.definition.tasks == ()
    assert work.job.task_count == 3
