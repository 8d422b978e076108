"""What a job says for all its tasks."""

import pytest

from tests.support.scenario import (
    NOW,
    begun,
    complete,
    completed,
    dispatched,
    fail,
    given,
    job,
    started,
    submit,
    submitted,
    task,
    task_id,
)
from windlass.messages.events import JobEvent, TaskDispatched
from windlass.messages.jobs import Defaults, Retry, Task

ALL = Defaults(queue="gpu", timeout="5m", priority=3, retry=Retry(limit=2))
ROW = task_id()


def test_a_task_that_says_nothing_has_what_its_job_says() -> None:
    definition = job(defaults=ALL)
    merged = task(queue="gpu", timeout="5m", priority=3, retry=Retry(limit=2))
    given().when(submit(definition)).then(submitted(definition, NOW), begun(NOW), dispatched(merged, at=NOW))


@pytest.mark.parametrize("own", [task(queue="cpu"), task(timeout="1s"), task(priority=9), task(retry=Retry(limit=1, delay="1s"))])
def test_what_a_task_says_itself_goes_before(own: Task) -> None:
    outcome = given().when(submit(job(own, defaults=ALL)))
    (made,) = [event.definition for event in outcome.events if isinstance(event, TaskDispatched)]
    for name in ("queue", "timeout", "priority", "retry"):
        assert getattr(made, name) == (getattr(own, name) or getattr(ALL, name))


def test_it_holds_for_every_task_and_for_retries() -> None:
    definition = job(task("a"), task("b"), defaults=Defaults(retry=Retry(limit=1, delay="3s")))
    merged = [task(name, retry=Retry(limit=1, delay="3s")) for name in ("a", "b")]
    history: list[JobEvent] = [submitted(definition), begun(), dispatched(merged[0]), started(ROW)]
    given(*history).when(complete(ROW)).then(completed(ROW, at=NOW), dispatched(merged[1], 2, at=NOW))
    outcome = given(*history).when(fail(ROW))
    assert [type(event).__name__ for event in outcome.events] == ["TaskFailed", "TaskDelayed"]


def test_a_default_queue_may_be_a_template() -> None:
    definition = job(inputs={"q": "gpu"}, defaults=Defaults(queue="{{ inputs.q }}"))
    given().when(submit(definition)).then(submitted(definition, NOW), begun(NOW), dispatched(task(queue="gpu"), at=NOW))
