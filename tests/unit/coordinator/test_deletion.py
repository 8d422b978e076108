"""Jobs that are deleted: once they have ended, by somebody or when their time has come."""

from datetime import timedelta

import pytest

from tests.support.play import Play, refused, subjobs
from tests.support.scenario import JOB, NOW, W1, task
from tests.unit.coordinator.test_composites import fails, subjob
from windlass.coordinator.job.decide import foreseen
from windlass.coordinator.job.outgoing import outgoing
from windlass.errors import Conflict, NotFound, Rejected, Stale
from windlass.eventlog.state import is_timed
from windlass.messages.commands import (
    AdvanceJob,
    CancelJob,
    ClaimTask,
    CompleteTask,
    DeleteJob,
    PauseJob,
    RestartJob,
    StartJob,
    SubmitJob,
)
from windlass.messages.events import JobCompleted, JobDeleted, JobRestarted, JobSubmitted
from windlass.messages.jobs import AutoDelete, Job, Task
from windlass.settings import Times
from windlass.subjects import Subjects

DELETE = DeleteJob(job=JOB)


def ended(*tasks: Task, **fields: object) -> Play:
    return Play().submit(Job(name="j", tasks=tasks or (task("a"),), **fields)).run()  # type: ignore[arg-type]


def test_a_job_that_has_ended_is_deleted_and_is_no_more() -> None:
    play = ended()
    assert play.say(DELETE) == [JobDeleted(at=play.now)]
    work = play.works[JOB]
    assert work.deleted
    assert list(outgoing(work, NOW, Times(redrive_s=3, redrive_max_s=100), Subjects(), 16)) == []
    for command in (DELETE, CancelJob(job=JOB, key="c"), RestartJob(job=JOB, key="r"), PauseJob(job=JOB, key="p")):
        error = refused(play, command)
        assert isinstance(error, NotFound)
        assert str(error) == "job not found"


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_however_it_ended(how: str) -> None:
    play = Play(fails("a")).submit(Job(name="j", tasks=(task("a"),)))
    if how == "failed":
        play.run()
    else:
        play.say(CancelJob(job=JOB, key="c"))
    assert len(play.say(DELETE)) == 1


def test_one_that_has_not_ended_is_not() -> None:
    play = Play().submit(Job(name="j", tasks=(task("a"),)))
    error = refused(play, DELETE)
    assert isinstance(error, Rejected)
    assert str(error) == "job is SCHEDULED and can not be deleted; cancel it first"


def test_there_must_be_a_job() -> None:
    assert isinstance(refused(Play(), DELETE), NotFound)


def test_what_comes_late_changes_nothing() -> None:
    play = ended()
    (row,) = play.whole[JOB].tasks.values()
    play.say(DELETE)
    fence = {"job": JOB, "run": 1, "task": row.id, "attempt": 1, "worker": W1}
    for command in (ClaimTask(**fence), CompleteTask(**fence), StartJob(job=JOB, run=1)):  # type: ignore[arg-type]
        assert isinstance(refused(play, command), Stale)
    assert play.say(AdvanceJob(job=JOB, run=1, position=1)) == []


def test_it_is_not_made_once_more() -> None:
    play = ended()
    definition = play.whole[JOB].job.definition  # type: ignore[union-attr]
    play.say(DELETE)
    error = refused(play, SubmitJob(job=JOB, definition=definition))
    assert isinstance(error, Conflict)
    assert str(error) == f"job {JOB} was deleted; choose another Idempotency-Key"


def test_a_job_that_was_part_of_another_goes_with_that() -> None:
    play = ended(subjob(task("a")))
    (below,) = subjobs(play)
    assert str(refused(play, DeleteJob(job=below))) == f"job {below} is part of job {JOB}; delete that one"
    play.say(DELETE)
    assert play.say(DeleteJob(job=below)) == [JobDeleted(at=play.now)]


def test_one_that_was_not_waited_for_goes_by_itself() -> None:
    play = ended(subjob(task("a"), detached=True))
    (below,) = subjobs(play)
    assert len(play.say(DeleteJob(job=below))) == 1


# -- when its time has come -----------------------------------------------------------------------------------------


def test_its_time_counts_from_its_completion() -> None:
    play = ended(auto_delete=AutoDelete(after="1h"))
    (completed,) = [event for _, event in play.log if isinstance(event, JobCompleted)]
    assert completed.delete_at == completed.at + timedelta(hours=1)
    assert is_timed(play.whole[JOB], completed)
    job = play.works[JOB].job
    assert job is not None
    assert len(play.say(DeleteJob(job=JOB, version=job.version))) == 1


def test_one_that_says_nothing_has_no_time() -> None:
    play = ended()
    (completed,) = [event for _, event in play.log if isinstance(event, JobCompleted)]
    assert completed.delete_at is None
    assert not is_timed(play.whole[JOB], completed)


def test_one_that_failed_is_kept() -> None:
    play = Play(fails("a")).submit(Job(name="j", tasks=(task("a"),), auto_delete=AutoDelete(after="1h"))).run()
    assert play.state() == "FAILED"
    assert not any(isinstance(event, JobCompleted) for _, event in play.log)


def test_a_job_that_runs_again_is_not_deleted_by_the_time_of_its_earlier_end() -> None:
    play = ended(auto_delete=AutoDelete(after="1h"))
    job = play.works[JOB].job
    assert job is not None
    before = DeleteJob(job=JOB, version=job.version)
    play.restart("start")
    (restarted,) = [event for _, event in play.log if isinstance(event, JobRestarted)]
    assert is_timed(play.whole[JOB], restarted)
    assert isinstance(refused(play, before), Stale)
    play.run()
    assert isinstance(refused(play, before), Stale)
    assert len(play.say(DeleteJob(job=JOB, version=job.version))) == 1


def test_a_job_below_may_have_a_time_of_its_own() -> None:
    play = ended(subjob(task("a"), auto_delete=AutoDelete(after="1m")), task("b"))
    (below,) = subjobs(play)
    job = play.works[below].job
    assert job is not None
    assert len(play.say(DeleteJob(job=below, version=job.version))) == 1
    assert len(play.say(DELETE)) == 1


def test_that_it_may_be_deleted_is_foreseen_at_its_submission() -> None:
    definition = Job(name="j", tasks=(task("a"),), auto_delete=AutoDelete(after="1h"))
    submitted = JobSubmitted(job=JOB, definition=definition, user="u", at=NOW)
    assert {"job.deleted", "Job.autoDelete"} <= foreseen(submitted)
