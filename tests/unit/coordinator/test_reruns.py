"""Jobs that run again: from their first task, or only what did not end well."""

import pytest

from tests.support.play import Does, Play, refused, subjobs
from tests.support.scenario import JOB, task
from tests.unit.coordinator.test_composites import each, fails, parallel, subjob
from windlass.coordinator.job.decide import OPENED_MAX
from windlass.errors import Rejected
from windlass.eventlog.rows import TaskRow
from windlass.messages.commands import CancelJob, RestartJob
from windlass.messages.events import ItemsListed, JobRestarted, TaskOpened
from windlass.messages.jobs import Job, Retry, Task


def played(*tasks: Task, does: Does | None = None, **fields: object) -> Play:
    """A job that has ended, after a first run."""
    play = Play(does).submit(Job(name="j", tasks=tasks, **fields)).run()  # type: ignore[arg-type]
    play.check()
    return play


def again(play: Play, *bad: str) -> list[str]:
    """Run only what failed again, where now the tasks `bad` fail; the names of the rows that came to be, in their order."""
    before = sum(len(work.tasks) for work in play.whole.values())
    play.does = fails(*bad)
    play.restart("failed").run()
    play.check()
    rows = sorted((row for work in play.whole.values() for row in work.tasks.values()), key=lambda row: row.created_at)
    return [row.definition.name for row in rows[before:]]


# -- from the start -----------------------------------------------------------------------------------------------------


def test_a_job_that_completed_runs_anew() -> None:
    play = played(
        task("a", run="1", var="x"), task("b {{ tasks.x }}"), output="{{ tasks.x }}", does=lambda row: row.definition.run
    )
    play.does = lambda row: "2" if row.definition.name == "a" else ""
    play.restart("start")
    row = play.whole[JOB].job
    assert row is not None
    assert (row.state, row.run, row.position, row.progress, row.result, row.completed_at) == ("RUNNING", 2, 1, 0, "", None)
    assert play.whole[JOB].variables == {}
    play.run().check()
    assert play.state() == "COMPLETED"
    assert row.result == "2"
    assert play.names() == ["a", "b 1", "a", "b 2"]


def test_what_was_set_before_is_not_there_anew() -> None:
    play = played(task("a", var="x"), task("b"), does=lambda row: "1" if row.definition.name == "a" else Exception("no"))
    play.does = lambda row: ""
    play.restart("start").run()
    assert play.whole[JOB].variables == {}


def test_anew_even_where_no_task_is_left_to_run() -> None:
    play = played(task("a"), output="{{ nothing.at.all }}")
    assert play.state() == "FAILED"
    assert isinstance(refused(play, RestartJob(job=JOB, key="k")), Rejected)
    play.restart("start").run()
    assert play.names() == ["a", "a"]


def test_a_job_that_runs_is_not_begun_anew() -> None:
    play = Play().submit(Job(name="j", tasks=(task("a"),)))
    assert str(refused(play, RestartJob(job=JOB, key="k", how="start"))) == "job is SCHEDULED and can not be restarted"


# -- only what failed ---------------------------------------------------------------------------------------------------


def test_of_tasks_in_a_row_those_run_again_that_failed_and_all_after_the_last() -> None:
    loose = {"on_error": "continue"}
    tasks = (task("a"), task("b", **loose), task("c"), task("d", **loose), task("e"), task("f"), task("g"))
    play = played(*tasks, does=fails("b", "d", "f"))
    assert play.state() == "FAILED"
    assert again(play) == ["b", "d", "f", "g"]
    assert play.state() == "COMPLETED"
    assert play.whole[JOB].job.redo is None  # type: ignore[union-attr]


def test_what_fails_once_more_runs_once_more() -> None:
    loose = {"on_error": "continue"}
    play = played(task("a", **loose), task("b"), task("c", **loose), task("d"), does=fails("a", "c", "d"))
    assert again(play, "a", "d") == ["a", "c", "d"]
    assert play.state() == "FAILED"
    assert again(play, "a") == ["a", "d"]
    assert play.state() == "FAILED"
    assert play.whole[JOB].job.error == "task 'a': exit code 1"  # type: ignore[union-attr]
    assert again(play) == ["a"]
    assert play.state() == "COMPLETED"


def test_a_failure_that_was_ignored_runs_again_too() -> None:
    play = played(task("a", on_error="ignore"), task("b"), does=fails("a"))
    assert play.state() == "COMPLETED"
    assert again(play) == ["a"]


def test_progress_does_not_go_back() -> None:
    play = played(task("a", on_error="continue"), task("b"), task("c"), task("d"), does=fails("a", "d"))
    play.does = fails()
    before = play.whole[JOB].job.progress  # type: ignore[union-attr]
    play.restart("failed")
    play.claim(play.active("SCHEDULED")[0])
    play.finish(play.active("RUNNING")[0])
    assert play.whole[JOB].job.progress == before == 75  # type: ignore[union-attr]


def test_children_that_ended_well_are_kept_with_their_results() -> None:
    inner = [task(name, var=name, run=name) for name in "abcd"]
    play = played(parallel(*inner), task("e"), output="{{ tasks.a }}{{ tasks.b }}{{ tasks.c }}{{ tasks.d }}", does=fails("c"))
    assert play.tasks() == {"1": "CANCELLED", "1.0": "COMPLETED", "1.1": "COMPLETED", "1.2": "FAILED", "1.3": "CANCELLED"}
    play.does = lambda row: row.definition.run
    play.restart("failed").run().check()
    assert play.names(("COMPLETED", "RUNNING", "SCHEDULED")) == ["a", "b", "p", "c", "d", "e"]
    assert play.state() == "COMPLETED"
    assert play.whole[JOB].job.result == "abcd"  # type: ignore[union-attr]
    (row,) = [row for row in play.whole[JOB].tasks.values() if row.composite is not None and row.state == "COMPLETED"]
    assert row.composite is not None
    assert (row.composite.size, row.composite.opened, row.composite.completions) == (4, 4, 4)


def test_a_retry_that_ended_well_is_kept() -> None:
    def once(row: TaskRow) -> str | Exception:
        return Exception("no") if row.definition.name == "b" or (row.definition.name == "a" and row.attempt == 1) else ""

    play = played(parallel(task("a", retry=Retry(limit=2)), task("b", on_error="continue"), task("c")), does=once)
    assert again(play) == ["p", "b"]


def test_of_a_list_the_elements_that_failed_and_those_never_begun_run_with_the_values_of_then() -> None:
    calls = []

    def does(row: TaskRow) -> str | Exception:
        calls.append(row.definition.name)
        return Exception("no") if row.definition.name in ("n 1 b", "n 4 e") else ""

    inner = task("n {{ item.index }} {{ item.value }}", on_error="continue")
    play = played(each('["a", "b", "c", "d", "e", "f"]', inner, concurrency=2), task("after"), does=does)
    assert play.state() == "FAILED"
    assert again(play) == ["e", "n 1 b", "n 4 e", "after"]
    assert play.state() == "COMPLETED"


def test_a_list_is_not_evaluated_again() -> None:
    play = played(
        task("l", var="l"),
        each("{{ tasks.l }}", task("{{ item.value }}")),
        does=lambda r: '["x","y","z"]' if r.definition.name == "l" else Exception("no") if r.definition.name == "y" else "",
    )
    play.whole[JOB].variables.clear()
    play.works[JOB].variables.clear()
    assert again(play) == ["e", "y", "z"]
    assert play.state() == "COMPLETED"


def test_a_map_keeps_its_keys() -> None:
    play = played(each("{a: 1, b: 2}", task("{{ item.index }}{{ item.key }}{{ item.value }}")), does=fails("1b2"))
    assert again(play) == ["e", "1b2"]


def test_composites_within_keep_what_ended_well_too() -> None:
    inner = parallel(task("x{{ item.value }}"), task("y{{ item.value }}"), name="p{{ item.value }}")
    loose = Task(name=inner.name, parallel=inner.parallel, on_error="continue")
    play = played(each("[1, 2, 3]", loose), does=fails("y2"))
    assert again(play) == ["e", "p2", "y2"]
    assert play.state() == "COMPLETED"


def test_what_never_came_to_be_in_one_run_comes_to_be_in_the_next() -> None:
    play = played(each("[1, 2, 3, 4]", task("n{{ item.value }}"), concurrency=1), does=fails("n2"))
    assert again(play, "n3") == ["e", "n2", "n3"]
    assert again(play, "n4") == ["e", "n3", "n4"]
    assert again(play) == ["e", "n4"]
    assert play.state() == "COMPLETED"


def test_a_composite_within_that_was_not_reached_again_keeps_what_it_was() -> None:
    loose = parallel(task("x{{ item.value }}"), task("y{{ item.value }}"), name="p{{ item.value }}", on_error="continue")
    play = played(each("[1, 2, 3]", loose, concurrency=1), does=fails("y1", "y3"))
    strict = fails("y1")
    play.does = strict
    play.restart("failed")
    play.say(CancelJob(job=JOB, key="c"))
    assert play.state() == "CANCELLED"
    assert again(play) == ["e", "p1", "y1", "p3", "y3"]


def test_a_cancelled_job_goes_on_with_what_had_not_ended() -> None:
    play = Play().submit(Job(name="j", tasks=(parallel(task("a"), task("b"), task("c")), task("d"))))
    play.claim(play.active("SCHEDULED")[0])
    play.finish(play.active("RUNNING")[1])
    play.say(CancelJob(job=JOB, key="c"))
    assert again(play) == ["p", "b", "c", "d"]


def test_the_job_that_a_task_stood_for_goes_on_with_what_failed_in_it() -> None:
    below = subjob(task("a", var="x", run="1"), parallel(task("b"), task("c")), output="{{ tasks.x }}", var="y")
    play = played(
        below, task("d"), output="{{ tasks.y }}", does=lambda r: Exception("no") if r.definition.name == "c" else r.definition.run
    )
    (one,) = subjobs(play)
    assert play.state(one) == "FAILED"
    play.does = lambda row: row.definition.run
    play.restart("failed").run().check()
    assert subjobs(play) == [one]
    assert (play.state(), play.state(one)) == ("COMPLETED", "COMPLETED")
    assert play.whole[JOB].job.result == "1"  # type: ignore[union-attr]
    assert play.names(job=one) == ["a", "b", "p", "c"]
    job = play.whole[one].job
    assert job is not None
    assert job.parent is not None
    assert play.whole[JOB].tasks[job.parent].state == "COMPLETED"


def test_as_many_children_as_have_to_end_well_are_counted_with_those_kept() -> None:
    play = played(parallel(*[task(name) for name in "abcd"], min_success=3), does=fails("a", "b"))
    assert play.state() == "FAILED"
    again(play, "a")
    assert play.state() == "COMPLETED"


@pytest.mark.parametrize("count", [OPENED_MAX * 3])
def test_a_long_list_goes_on_in_slices(count: int) -> None:
    inner = task("{{ item.value }}", if_="{{ item.value % 3 != 0 }}", on_error="continue")
    play = Play(fails("7", "700")).submit(Job(name="j", tasks=(each(f"sequence(0,{count})", inner),))).run()
    assert play.state() == "FAILED"
    assert again(play) == ["e", "7", "700"]
    (listed,) = [event for _, event in play.log if isinstance(event, ItemsListed) and event.redo is not None]
    assert listed.redo is not None
    assert (listed.first, listed.redo.indexes) == (count - 2, (7, 700))


def test_there_has_to_be_something_that_failed() -> None:
    play = played(task("a"))
    play.recall(JOB)
    assert str(refused(play, RestartJob(job=JOB, key="k", how="failed"))) == "job has no failed tasks to run again"


def test_a_request_that_comes_twice_is_carried_out_once() -> None:
    play = played(parallel(task("a"), task("b")), does=fails("a"))
    play.restart("failed").run()
    play.recall(JOB)
    assert play.say(RestartJob(job=JOB, key="restart-1", how="failed")) == []
    assert sum(isinstance(event, JobRestarted) for _, event in play.log) == 1


def test_a_usual_restart_after_it_runs_the_composite_whole_and_keeps_what_ended_well_after_it() -> None:
    loose = {"on_error": "continue"}
    play = played(parallel(task("a"), task("b"), **loose), task("c"), task("d", **loose), task("e"), does=fails("a", "d", "e"))
    again(play, "a", "d", "e")
    play.does = fails()
    play.say(RestartJob(job=JOB, key="usual"))
    play.run().check()
    assert [row.definition.name for row in play.whole[JOB].tasks.values() if row.run == 3] == ["e"]


def test_the_row_says_what_it_goes_on_from() -> None:
    play = played(parallel(task("a"), task("b")), does=fails("b"))
    again(play)
    first, second = [event for _, event in play.log if isinstance(event, TaskOpened)]
    assert (first.again, first.kept, second.again, second.kept) == (None, 0, first.task, 1)
