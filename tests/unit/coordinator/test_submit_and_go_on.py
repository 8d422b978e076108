"""Submitting a job, and going on from task to task."""

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    begun,
    complete,
    completed,
    dispatched,
    given,
    job,
    job_cancelled,
    job_completed,
    job_failed,
    queued,
    refused,
    running,
    skipped,
    started,
    submit,
    submitted,
    task,
    task_id,
)
from windlass.coordinator.job.decide import OPENED_MAX
from windlass.errors import Conflict, Stale
from windlass.messages.commands import AdvanceJob
from windlass.messages.events import JobEvent, TaskSkipped
from windlass.messages.jobs import Job, Task


def test_a_submitted_job_starts_and_dispatches_its_first_task_at_once() -> None:
    hello = job(task("a"), task("b"))
    given().when(submit(hello)).then(submitted(hello, NOW), begun(NOW), dispatched(hello.tasks[0], at=NOW))


def test_submitting_keeps_user_key_and_digest() -> None:
    hello = job()
    outcome = given().when(submit(hello, user="ann", key="k", digest="d"))
    first = outcome.events[0]
    assert (getattr(first, "user", ""), getattr(first, "key", ""), getattr(first, "digest", "")) == ("ann", "k", "d")


def test_submitting_twice_makes_nothing_new() -> None:
    hello = job()
    given(*queued(hello)).when(submit(hello)).then_nothing()


def test_an_id_that_another_definition_has_is_a_conflict() -> None:
    given(*queued(job(task("a")))).when(submit(job(task("b")))).then_refused(Conflict, "another definition")


def test_a_job_without_tasks_is_complete() -> None:
    empty = Job(name="nothing", tasks=())
    given().when(submit(empty)).then(submitted(empty, NOW), begun(NOW), job_completed())


def test_a_task_goes_to_the_queue_that_it_names() -> None:
    hello = job(task(queue="gpu"))
    given().when(submit(hello)).then(submitted(hello, NOW), begun(NOW), dispatched(hello.tasks[0], at=NOW))


def test_a_completed_task_makes_room_for_the_next() -> None:
    two = job(task("a"), task("b"))
    given(*running(two)).when(complete(task_id())).then(
        completed(task_id(), at=NOW), dispatched(two.tasks[1], position=2, at=NOW)
    )


def test_after_the_last_task_the_job_is_complete_with_its_output() -> None:
    one = job(task("a", var="x"), output="got {{ tasks.x }}")
    given(*running(one)).when(complete(task_id(), "42")).then(completed(task_id(), "42", at=NOW), job_completed("got 42"))


def test_an_output_that_cannot_be_evaluated_fails_the_job() -> None:
    one = job(task("a"), output="{{ tasks.nobody }}")
    given(*running(one)).when(complete(task_id())).then(completed(task_id(), at=NOW), job_failed("unknown name tasks.nobody"))


def test_templates_are_evaluated_when_a_task_is_dispatched() -> None:
    two = job(
        task("a", var="x"),
        task(
            "b {{ inputs.i }}",
            image="img:{{ tasks.x }}",
            cmd=("one", "{{ tasks.x }}"),
            env={"E": "{{ inputs.i }}", "F": "plain"},
            queue="q{{ tasks.x }}",
            var="v{{ tasks.x }}",
            if_="{{ inputs.i }}",
        ),
        inputs={"i": "in"},
    )
    evaluated = task("b in", image="img:7", cmd=("one", "7"), env={"E": "in", "F": "plain"}, queue="q7", var="v7", if_="in")
    given(*running(two)).when(complete(task_id(), "7")).then(
        completed(task_id(), "7", at=NOW), dispatched(evaluated, position=2, at=NOW)
    )


def test_a_script_is_no_template() -> None:
    one = job(Task(name="t", run="echo {{ inputs.x }}"))
    given().when(submit(one)).then(submitted(one, NOW), begun(NOW), dispatched(one.tasks[0], at=NOW))


@pytest.mark.parametrize("text", ["false", " false\n", "{{ inputs.no }}"])
def test_a_task_whose_if_says_false_is_skipped_and_the_next_dispatched(text: str) -> None:
    two = job(task("a", if_=text), task("b"), inputs={"no": "false"})
    evaluated = task("a", if_="false" if "{{" in text else text)
    given().when(submit(two)).then(
        submitted(two, NOW), begun(NOW), skipped(evaluated, at=NOW), dispatched(two.tasks[1], position=2, at=NOW)
    )


@pytest.mark.parametrize("text", ["true", "False", "0", "no"])
def test_any_other_if_runs_the_task(text: str) -> None:
    one = job(task("a", if_=text))
    given().when(submit(one)).then(submitted(one, NOW), begun(NOW), dispatched(one.tasks[0], at=NOW))


def test_a_job_whose_tasks_are_all_skipped_is_complete() -> None:
    two = job(task("a", if_="false"), task("b", if_="false"), output="done")
    given().when(submit(two)).then(
        submitted(two, NOW),
        begun(NOW),
        skipped(two.tasks[0], at=NOW),
        skipped(two.tasks[1], position=2, at=NOW),
        job_completed("done"),
    )


def test_a_task_with_a_broken_template_fails_and_its_job_with_it() -> None:
    one = job(task("a", env={"E": "{{ tasks.nobody }}"}))
    given().when(submit(one)).then(
        submitted(one, NOW),
        begun(NOW),
        refused(one.tasks[0], "unknown name tasks.nobody", at=NOW),
        job_failed("task 'a': unknown name tasks.nobody"),
    )


@pytest.mark.parametrize("queue", ["x-mine", "{{ inputs.q }}"])
def test_a_queue_name_that_may_not_be_fails_the_task_also_after_evaluation(queue: str) -> None:
    one = job(task("a", queue=queue), inputs={"q": "a b"})
    outcome = given().when(submit(one))
    assert [type(event).__name__ for event in outcome.events][2:] == ["TaskRefused", "JobFailed"]
    assert outcome.work.job is not None
    assert "queue" in outcome.work.job.error


def test_a_long_row_of_skipped_tasks_is_taken_in_slices() -> None:
    row = job(*[task(f"t{i}", if_="false") for i in range(OPENED_MAX + 2)])
    first = given().when(submit(row))
    assert len(first.events) == 2 + OPENED_MAX
    position = OPENED_MAX + 1
    rest = given(*first.events).when(AdvanceJob(job=JOB, run=1, position=position))
    rest.then(
        skipped(row.tasks[position - 1], position=position, at=NOW),
        skipped(row.tasks[position], position=position + 1, at=NOW),
        job_completed(),
    )


def _at_second_slice(last: Task) -> tuple[Job, list[TaskSkipped]]:
    row = job(*[task(f"t{i}", if_="false") for i in range(OPENED_MAX)], last)
    return row, [skipped(one, position=i + 1) for i, one in enumerate(row.tasks[:OPENED_MAX])]


def test_going_on_twice_from_the_same_position_dispatches_once() -> None:
    row, passed = _at_second_slice(task("last"))
    position = OPENED_MAX + 1
    go_on = AdvanceJob(job=JOB, run=1, position=position)
    once = given(submitted(row), begun(), *passed).when(go_on).then(dispatched(row.tasks[-1], position=position, at=NOW))
    given(submitted(row), begun(), *passed, *once.events).when(go_on).then_nothing()


def test_going_on_from_a_position_that_was_passed_makes_nothing() -> None:
    two = job(task("a"), task("b"))
    history: list[JobEvent] = [*running(two), completed(task_id()), dispatched(two.tasks[1], position=2)]
    given(*history).when(AdvanceJob(job=JOB, run=1, position=1)).then_nothing()


def test_going_on_in_another_run_makes_nothing() -> None:
    row, passed = _at_second_slice(task("last"))
    given(submitted(row), begun(), *passed).when(AdvanceJob(job=JOB, run=2, position=OPENED_MAX + 1)).then_nothing()


def test_going_on_with_a_job_that_has_ended_makes_nothing() -> None:
    row, passed = _at_second_slice(task("last"))
    history: list[JobEvent] = [submitted(row), begun(), *passed, job_cancelled()]
    given(*history).when(AdvanceJob(job=JOB, run=1, position=OPENED_MAX + 1)).then_nothing()


def test_going_on_with_a_job_that_does_not_exist_makes_nothing() -> None:
    given().when(AdvanceJob(job=JOB, run=1, position=1)).then_nothing()


def test_a_report_for_a_job_that_does_not_exist_is_stale() -> None:
    given().when(complete(task_id())).then_refused(Stale, "no such job", reason="unknown")


def test_a_report_for_a_task_that_does_not_exist_is_stale() -> None:
    given(*running(job())).when(complete(task_id(9))).then_refused(Stale, "has no task", reason="unknown")


def test_a_result_sets_the_variable_that_a_later_template_reads() -> None:
    two = job(task("a", var="x"), task("b", env={"E": "{{ tasks.x }}"}), output="{{ tasks.x }}")
    outcome = given(*running(two)).when(complete(task_id(), "seven"))
    assert outcome.work.variables == {"x": "seven"}
    assert outcome.work.set_variables == {"x": "seven"}
    second = task_id(2, at=NOW)
    assert outcome.work.tasks[second].definition.env == {"E": "seven"}
    given(*running(two), *outcome.events, started(second)).when(complete(second)).then(
        completed(second, at=NOW), job_completed("seven")
    )


def test_an_empty_result_sets_no_variable() -> None:
    one = job(task("a", var="x"))
    assert given(*running(one)).when(complete(task_id(), "")).work.variables == {}


def test_a_task_that_its_values_make_too_large_to_send_fails_with_the_reason() -> None:
    two = job(task("a", var="x"), task("b", env=dict.fromkeys("abcd", "{{ tasks.x }}")))
    outcome = given(*running(two)).when(complete(task_id(), "x" * 1024 * 1024))
    assert [type(event).__name__ for event in outcome.events] == ["TaskCompleted", "TaskRefused", "JobFailed"]
    assert outcome.work.job is not None
    assert "its definition takes 41" in outcome.work.job.error
