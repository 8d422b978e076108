"""Tasks that others run in place of: side by side, for each element of a list, and as jobs of their own."""

import pytest

from tests.support.play import Play, refused, subjobs
from tests.support.scenario import JOB, task
from windlass.coordinator.job.decide import ACTIVE_MAX, OPENED_MAX
from windlass.errors import Rejected
from windlass.eventlog.rows import TaskRow
from windlass.messages.commands import CancelJob, RestartJob
from windlass.messages.events import ItemsListed, TaskOpened
from windlass.messages.jobs import Each, Job, Parallel, SubJob, Task


def parallel(*tasks: Task, **fields: object) -> Task:
    name = fields.pop("name", "p")
    needed = fields.pop("min_success", 0)
    return Task(name=name, parallel=Parallel(tasks=tasks, min_success=needed), **fields)  # type: ignore[arg-type]


def each(items: str, inner: Task, name: str = "e", **fields: object) -> Task:
    outer = {key: fields.pop(key) for key in ("on_error", "if_") if key in fields}
    return Task(name=name, each=Each(list=items, task=inner, **fields), **outer)  # type: ignore[arg-type]


def subjob(*tasks: Task, name: str = "s", on_error: str = "", var: str = "", **fields: object) -> Task:
    return Task(name=name, subjob=SubJob(name="below", tasks=tasks, **fields), on_error=on_error, var=var)  # type: ignore[arg-type]


def fails(*names: str):  # type: ignore[no-untyped-def]
    def does(row: TaskRow) -> str | Exception:
        return Exception("exit code 1") if row.definition.name in names else row.definition.run

    return does


# -- parallel ---------------------------------------------------------------------------------------------------------


def test_all_children_wait_in_queues_at_once_and_the_next_task_comes_after_the_last() -> None:
    play = Play().submit(Job(name="j", tasks=(parallel(task("a"), task("b"), task("c")), task("d"))))
    assert [row.definition.name for row in play.active("SCHEDULED")] == ["a", "b", "c"]
    assert {row.position for row in play.active("SCHEDULED")} == {1}
    assert play.state() == "SCHEDULED"
    play.run().check()
    assert play.state() == "COMPLETED"
    assert play.names() == ["p", "a", "b", "c", "d"]


def test_skipped_children_count() -> None:
    play = Play().submit(Job(name="j", tasks=(parallel(task("a", if_="false"), task("b", if_="false")),))).run()
    play.check()
    assert play.state() == "COMPLETED"
    assert play.tasks() == {"1": "COMPLETED", "1.0": "SKIPPED", "1.1": "SKIPPED"}


def test_a_child_that_fails_ends_the_job_and_its_siblings() -> None:
    play = Play(fails("b")).submit(Job(name="j", tasks=(parallel(task("a"), task("b"), task("c")), task("d")))).run()
    play.check()
    assert play.state() == "FAILED"
    assert play.tasks() == {"1": "CANCELLED", "1.0": "COMPLETED", "1.1": "FAILED", "1.2": "CANCELLED"}
    assert play.whole[JOB].job.error == "task 'b': exit code 1"  # type: ignore[union-attr]


def test_a_composite_may_hold_what_its_child_does_to_the_job() -> None:
    play = Play(fails("b")).submit(Job(name="j", tasks=(parallel(task("b"), task("c"), on_error="ignore"), task("d")))).run()
    play.check()
    assert play.state() == "COMPLETED"
    assert play.tasks() == {"1": "FAILED", "1.0": "FAILED", "1.1": "CANCELLED", "2": "COMPLETED"}


def test_a_job_goes_on_after_a_task_that_may_fail_and_fails_at_its_end() -> None:
    play = Play(fails("a")).submit(Job(name="j", tasks=(task("a", on_error="continue"), task("d")), output="x")).run()
    play.check()
    assert play.tasks() == {"1": "FAILED", "2": "COMPLETED"}
    assert play.state() == "FAILED"
    assert play.whole[JOB].job.error == "task 'a': exit code 1"  # type: ignore[union-attr]


def test_a_failure_that_is_ignored_is_a_success() -> None:
    play = Play(fails("a")).submit(Job(name="j", tasks=(task("a", on_error="ignore"), task("d")))).run()
    play.check()
    assert play.state() == "COMPLETED"


def test_children_that_may_fail_let_their_siblings_go_on_and_fail_the_composite() -> None:
    loose = [task(name, on_error="continue") for name in "abc"]
    play = Play(fails("a", "b")).submit(Job(name="j", tasks=(parallel(*loose), task("d")))).run()
    play.check()
    assert play.tasks() == {"1": "FAILED", "1.0": "FAILED", "1.1": "FAILED", "1.2": "COMPLETED"}
    assert play.state() == "FAILED"
    assert play.whole[JOB].job.error == "task 'p': 2 of its 3 tasks failed"  # type: ignore[union-attr]


@pytest.mark.parametrize(("needed", "state", "ended"), [(1, "COMPLETED", 4), (2, "COMPLETED", 4), (3, "FAILED", 4)])
def test_as_many_children_must_end_well_as_it_says(needed: int, state: str, ended: int) -> None:
    children = [task(name) for name in "abcd"]
    play = Play(fails("a", "c")).submit(Job(name="j", tasks=(parallel(*children, min_success=needed),))).run()
    play.check()
    assert play.state() == state


def test_a_composite_that_cannot_have_enough_any_more_ends_at_once() -> None:
    play = Play(fails("a")).submit(Job(name="j", tasks=(parallel(task("a"), task("b"), min_success=2),))).run()
    play.check()
    assert play.tasks() == {"1": "CANCELLED", "1.0": "FAILED", "1.1": "CANCELLED"}
    assert play.state() == "FAILED"


# -- each -------------------------------------------------------------------------------------------------------------


def test_each_element_has_its_row_with_its_value_in_place() -> None:
    inner = task(
        "n {{ item.index }} {{ item.value.x }}", run="true", var="v{{ item.index }}", env={"E": "{{ item.value.x + 1 }}"}
    )
    play = Play(lambda row: row.definition.env["E"])
    play.submit(Job(name="j", tasks=(each("[{x: 1}, {x: 2.5}]", inner),), output="{{ tasks.v0 }} {{ tasks.v1 }}")).run().check()
    assert play.names() == ["e", "n 0 1", "n 1 2.5"]
    assert play.whole[JOB].job.result == "2 3.5"  # type: ignore[union-attr]


def test_an_element_is_called_as_the_loop_says() -> None:
    play = Play().submit(Job(name="j", tasks=(each("sequence(3,5)", task("{{ n.value * 2 }}"), var="n"),))).run()
    assert play.names() == ["e", "6", "8"]


def test_a_map_gives_keys_and_values_in_the_order_of_the_keys() -> None:
    play = (
        Play().submit(Job(name="j", tasks=(each("{b: 1, a: 2}", task("{{ item.index }}{{ item.key }}{{ item.value }}")),))).run()
    )
    assert play.names() == ["e", "0a2", "1b1"]


def test_a_text_that_is_a_list_in_json_is_that_list() -> None:
    play = Play(lambda row: '["x", "y"]').submit(
        Job(name="j", tasks=(task("first", var="l"), each("{{ tasks.l }}", task("{{ item.value }}"))))
    )
    assert play.run().names() == ["first", "e", "x", "y"]


@pytest.mark.parametrize("wrong", ["1", '"text"', "'[1'", "nil", "true"])
def test_what_is_no_list_fails_the_task(wrong: str) -> None:
    play = Play().submit(Job(name="j", tasks=(each(wrong, task()),)))
    play.check()
    assert play.tasks() == {"1": "FAILED"}
    assert play.whole[JOB].job.error == "task 'e': each.list does not evaluate to a list"  # type: ignore[union-attr]


def test_an_empty_list_is_done_at_once() -> None:
    play = Play().submit(Job(name="j", tasks=(each("[]", task()), task("after"))))
    assert play.tasks() == {"1": "COMPLETED", "2": "SCHEDULED"}


def test_no_more_are_at_work_than_it_says_and_they_come_in_order() -> None:
    play = Play().submit(Job(name="j", tasks=(each("1..10", task("{{ item.value }}"), concurrency=3),)))
    assert [row.definition.name for row in play.active("SCHEDULED")] == ["1", "2", "3"]
    seen = 0
    while waiting := play.active("SCHEDULED"):
        seen = max(seen, len(waiting))
        play.claim(waiting[-1])
        play.finish(waiting[-1])
    play.check()
    assert seen == 3
    assert play.names()[1:] == [str(n) for n in range(1, 11)]
    assert play.state() == "COMPLETED"


def test_a_long_list_is_evaluated_once_kept_in_parts_and_opened_in_slices() -> None:
    inner = task("{{ item.value }}", if_="{{ item.value % 10 == 0 }}")
    play = Play().submit(Job(name="j", tasks=(each("sequence(0, 5000)", inner),)))
    parts = [event for _, event in play.log if isinstance(event, ItemsListed)]
    assert [part.first for part in parts] == list(range(0, 5000, 500))
    play.run().check()
    assert play.state() == "COMPLETED"
    assert play.tasks()["1"] == "COMPLETED"
    assert sum(state == "COMPLETED" for state in play.tasks().values()) == 501
    assert play.biggest <= ACTIVE_MAX


def test_a_job_has_only_so_many_rows_at_work_and_all_come_to_their_turn() -> None:
    wide = each("sequence(0, 700)", task())
    play = Play().submit(Job(name="j", tasks=(parallel(wide, wide, each("1..3", wide)),))).run(200_000)
    play.check()
    assert play.state() == "COMPLETED"
    assert OPENED_MAX < play.biggest <= ACTIVE_MAX + 10


def test_an_inner_loop_sees_the_elements_of_the_outer_ones() -> None:
    inner = each("[1, 2]", parallel(task("{{ a.value }}{{ b.value }}"), name="p{{ a.value }}"), var="b", name="i{{ a.value }}")
    play = Play().submit(Job(name="j", tasks=(each('["x", "y"]', inner, var="a"),))).run()
    play.check()
    assert sorted(play.names()) == sorted(["e", "ix", "iy", "px", "px", "py", "py", "x1", "x2", "y1", "y2"])


def test_data_is_never_evaluated() -> None:
    play = Play().submit(
        Job(name="j", inputs={"evil": "{{ secrets.x }}"}, tasks=(each("[inputs.evil]", task("{{ item.value }}")),))
    )
    assert [row.definition.name for row in play.active("SCHEDULED")] == ["{{ secrets.x }}"]


# -- sub-jobs ---------------------------------------------------------------------------------------------------------


def test_a_job_below_runs_with_its_own_inputs_and_gives_its_result() -> None:
    definition = Job(
        name="j",
        inputs={"n": "7"},
        tasks=(
            subjob(
                task("b", run="{{ x }}", var="r"), inputs={"m": "{{ inputs.n }}"}, output="{{ inputs.m }}:{{ tasks.r }}", var="s"
            ),
        ),
        output="got {{ tasks.s }}",
    )
    play = Play(lambda row: "ran").submit(definition)
    (below,) = subjobs(play)
    assert play.whole[below].job.parent_job == JOB  # type: ignore[union-attr]
    assert play.whole[below].job.definition.inputs == {"m": "7"}  # type: ignore[union-attr]
    assert play.state() == "SCHEDULED"
    play.run().check()
    assert play.state(below) == play.state() == "COMPLETED"
    assert play.whole[JOB].job.result == "got 7:ran"  # type: ignore[union-attr]


def test_a_job_below_that_is_all_skipped_ends_within_the_decision() -> None:
    play = Play().submit(Job(name="j", tasks=(subjob(task(if_="false")), task("after"))))
    assert play.tasks() == {"1": "COMPLETED", "2": "SCHEDULED"}


def test_a_job_below_that_fails_fails_its_task_and_the_job() -> None:
    play = Play(fails("b")).submit(Job(name="j", tasks=(parallel(subjob(parallel(task("b"), task("c"))), task("d")),)))
    (below,) = subjobs(play)
    first = next(row for row in play.active("SCHEDULED") if row.definition.name == "b")
    play.claim(first)
    play.finish(first)
    play.check()
    assert play.state(below) == play.state() == "FAILED"
    assert play.tasks() == {"1": "CANCELLED", "1.0": "FAILED", "1.1": "CANCELLED"}
    assert play.tasks(below) == {"1": "CANCELLED", "1.0": "FAILED", "1.1": "CANCELLED"}


def test_a_detached_job_goes_its_own_way() -> None:
    play = Play(fails("b")).submit(Job(name="j", tasks=(subjob(task("b"), detached=True), task("after")))).run()
    play.check()
    (below,) = subjobs(play)
    assert (play.state(), play.state(below)) == ("COMPLETED", "FAILED")
    assert play.whole[below].job.parent is None  # type: ignore[union-attr]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_cancelling_any_of_them_cancels_all_in_one_decision(which: int) -> None:
    deep = subjob(parallel(task("a"), subjob(task("b"), task("c"))))
    play = Play().submit(Job(name="j", tasks=(parallel(deep, each("1..3", task())), task("after"))))
    play.claim(play.active("SCHEDULED")[0])
    jobs = [JOB, *subjobs(play)]
    assert len(jobs) == 3
    play.say(CancelJob(job=jobs[which]))
    play.check()
    assert [play.state(job) for job in jobs] == ["CANCELLED"] * 3
    assert not play.active("SCHEDULED") + play.active("RUNNING") + play.due()


def test_a_job_below_is_restarted_with_the_one_above() -> None:
    play = Play(fails("b")).submit(Job(name="j", tasks=(subjob(task("b")),))).run()
    (below,) = subjobs(play)
    assert isinstance(refused(play, RestartJob(job=below, key="k")), Rejected)
    play.does = lambda row: ""
    play.say(RestartJob(job=JOB, key="k"))
    play.run().check()
    assert play.state() == "COMPLETED"
    assert [play.state(job) for job in subjobs(play)] == ["FAILED", "COMPLETED"]


def test_an_each_of_jobs_below_goes_on_as_they_end() -> None:
    play = Play().submit(Job(name="j", tasks=(each("1..20", subjob(task("t")), concurrency=2),)))
    assert len(subjobs(play)) == 2
    play.run().check()
    assert play.state() == "COMPLETED"
    assert len(subjobs(play)) == 20


def test_progress_is_that_of_all_and_never_goes_back() -> None:
    play = Play().submit(Job(name="j", tasks=(task("a"), each("1..4", task()))))
    seen = []
    while waiting := play.active("SCHEDULED"):
        play.claim(waiting[0])
        play.finish(waiting[0])
        seen.append(play.whole[JOB].job.progress)  # type: ignore[union-attr]
    assert seen == [50.0, 62.5, 75.0, 87.5, 100.0]


def test_the_rows_of_a_composite_say_so() -> None:
    play = Play().submit(Job(name="j", tasks=(each("1..4", task()),)))
    opened = [event for _, event in play.log if isinstance(event, TaskOpened)]
    assert [(event.size, event.parent) for event in opened] == [(4, None)]
    assert {row.parent for row in play.active("SCHEDULED")} == {opened[0].task}
