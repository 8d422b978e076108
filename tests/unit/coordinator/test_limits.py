"""How much a task, a job and a list may hold; what is more ends the task, with the reason."""

from tests.support.play import Play
from tests.support.scenario import JOB, task
from tests.unit.coordinator.test_composites import each, parallel, subjob
from windlass.coordinator.job.decide import CONTEXT_MAX, EACH_MAX, RESULT_MAX
from windlass.eventlog.rows import TaskRow
from windlass.messages.jobs import Job, Retry, Task

WHOLE = "x" * RESULT_MAX
SEVERAL = [task(f"t{number}", var=f"v{number}") for number in range(CONTEXT_MAX // RESULT_MAX)]
"""As many as may all have a whole result."""


def played(*tasks: Task, result: str = WHOLE, output: str = "") -> Play:
    """A job whose tasks all have the same result."""
    play = Play(lambda row: result).submit(Job(name="j", tasks=tasks, output=output)).run()
    play.check()
    return play


def error(play: Play) -> str:
    """Of the job."""
    row = play.whole[JOB].job
    assert row is not None
    return row.error


def test_the_limits_are_those_that_are_promised() -> None:
    assert (RESULT_MAX, CONTEXT_MAX, EACH_MAX) == (1024 * 1024, 16 * 1024 * 1024, 1_000_000)


def test_a_result_has_a_limit_in_bytes() -> None:
    assert played(task("a")).state() == "COMPLETED"
    assert played(task("a"), result="é" * (RESULT_MAX // 2)).state() == "COMPLETED"
    play = played(task("a"), result="é" * (RESULT_MAX // 2 + 1))
    assert error(play) == (
        "task 'a': its result takes 1048578 bytes, and 1048576 are kept; hand large values on as a file or an address"
    )


def test_all_variables_of_a_job_have_a_limit_together() -> None:
    assert played(*SEVERAL).state() == "COMPLETED"
    play = played(*SEVERAL, task("more", var="more"))
    assert play.names(["FAILED"]) == ["more"]
    assert error(play).startswith("task 'more': the variables of this job would take more than 16777216 bytes")
    beside = played(parallel(*SEVERAL, task("more", var="more"), on_error="ignore"), task("after"))
    assert beside.names(["FAILED"]) == ["p", "more"]
    assert played(*SEVERAL, task("more")).state() == "COMPLETED"


def test_what_a_job_below_gives_counts_with_the_variables() -> None:
    below = subjob(task("deep", var="d"), output="{{ tasks.d }}", var="below")
    assert played(*SEVERAL[1:], below).state() == "COMPLETED"
    play = played(*SEVERAL, below)
    assert play.names(["FAILED"]) == ["s"]
    assert "the variables of this job would take more than 16777216 bytes" in error(play)


def test_what_a_job_gives_has_the_limit_of_a_result() -> None:
    play = played(task("a", var="a"), output="{{ tasks.a }}!")
    assert play.state() == "FAILED"
    assert error(play).startswith("the job's output: its result takes 1048577 bytes, and 1048576 are kept")


def test_a_list_has_a_limit() -> None:
    half = "1," * (EACH_MAX // 2)
    several = each("'[' + tasks.a + tasks.a + '1]'", task("t"), on_error="ignore")
    play = played(task("a", var="a"), several, task("after"), result=half)
    assert play.tasks() == {"1": "COMPLETED", "2": "FAILED", "3": "COMPLETED"}
    (row,) = [row for row in play.whole[JOB].tasks.values() if row.key == "2"]
    assert row.error == "each.list has 1,000,001 elements, and may have 1,000,000; split the job"


def test_a_result_that_is_too_large_may_be_tried_again() -> None:
    def does(row: TaskRow) -> str:
        return WHOLE + "x" if row.attempt == 1 else "x"

    play = Play(does).submit(Job(name="j", tasks=(task("a", retry=Retry(limit=1)),))).run()
    assert play.state() == "COMPLETED"
