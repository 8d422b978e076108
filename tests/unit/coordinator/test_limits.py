"""How much a task, a job and a list may hold; what is more ends the task, with the reason."""

import pytest

from tests.support.play import Play
from tests.support.scenario import JOB, task
from tests.unit.coordinator.test_composites import each, parallel, subjob
from windlass.coordinator.job import decide
from windlass.eventlog.rows import TaskRow
from windlass.messages.jobs import Job, Retry, Task


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can reach."""
    monkeypatch.setattr(decide, "RESULT_MAX", 10)
    monkeypatch.setattr(decide, "CONTEXT_MAX", 25)
    monkeypatch.setattr(decide, "EACH_MAX", 5)


def played(*tasks: Task, output: str = "") -> Play:
    """A job whose tasks give the text that they would run."""
    play = Play(lambda row: row.definition.run).submit(Job(name="j", tasks=tasks, output=output)).run()
    play.check()
    return play


def error(play: Play) -> str:
    """Of the job."""
    row = play.whole[JOB].job
    assert row is not None
    return row.error


def test_the_limits_are_those_that_are_promised() -> None:
    assert (decide.RESULT_MAX, decide.CONTEXT_MAX, decide.EACH_MAX) == (1024 * 1024, 16 * 1024 * 1024, 1_000_000)


@pytest.mark.usefixtures("small")
def test_a_result_has_a_limit_in_bytes() -> None:
    assert played(task("a", run="x" * 10)).state() == "COMPLETED"
    assert played(task("a", run="é" * 5)).state() == "COMPLETED"
    play = played(task("a", run="é" * 6))
    assert error(play) == "task 'a': its result takes 12 bytes, and 10 are kept; hand large values on as a file or an address"


@pytest.mark.usefixtures("small")
def test_all_variables_of_a_job_have_a_limit_together() -> None:
    several = [task(name, run="x" * 10, var=name) for name in "abc"]
    play = played(*several)
    assert play.tasks() == {"1": "COMPLETED", "2": "COMPLETED", "3": "FAILED"}
    assert "the variables of this job would take more than 25 bytes" in error(play)
    beside = played(parallel(*several, on_error="continue"), task("d"))
    assert beside.tasks()["1.2"] == "FAILED"
    assert played(*(task(name, run="x" * 10, var="same") for name in "abcd")).state() == "COMPLETED"
    assert played(*(task(name, run="x" * 10) for name in "abcd")).state() == "COMPLETED"


@pytest.mark.usefixtures("small")
def test_what_a_job_below_gives_counts_with_the_variables() -> None:
    one = subjob(task("deep", run="x" * 10, var="d"), output="{{ tasks.d }}", var="s1")
    two = subjob(task("deep", run="x" * 10, var="d"), output="{{ tasks.d }}", var="s2")
    play = played(one, two, task("a", run="x" * 10, var="a"))
    assert play.tasks() == {"1": "COMPLETED", "2": "COMPLETED", "3": "FAILED"}
    play = played(task("a", run="x" * 10, var="a"), task("b", run="x" * 10, var="b"), one)
    assert play.tasks() == {"1": "COMPLETED", "2": "COMPLETED", "3": "FAILED"}
    assert "the variables of this job would take more than 25 bytes" in error(play)


@pytest.mark.usefixtures("small")
def test_what_a_job_gives_has_the_limit_of_a_result() -> None:
    play = played(task("a", run="x" * 6, var="a"), output="{{ tasks.a }}{{ tasks.a }}")
    assert play.state() == "FAILED"
    assert error(play).startswith("the job's output: its result takes 12 bytes, and 10 are kept")


@pytest.mark.usefixtures("small")
def test_a_list_has_a_limit() -> None:
    assert played(each("sequence(0, 5)", task("t"))).state() == "COMPLETED"
    play = played(each("sequence(0, 6)", task("t"), on_error="ignore"), task("after"))
    assert play.tasks() == {"1": "FAILED", "2": "COMPLETED"}
    (row,) = [row for row in play.whole[JOB].tasks.values() if row.key == "1"]
    assert row.error == "each.list has 6 elements, and may have 5; split the job"


@pytest.mark.usefixtures("small")
def test_a_result_that_is_too_large_may_be_tried_again() -> None:
    def does(row: TaskRow) -> str:
        return "x" * (20 if row.attempt == 1 else 5)

    play = Play(does).submit(Job(name="j", tasks=(task("a", retry=Retry(limit=1)),))).run()
    assert play.state() == "COMPLETED"
