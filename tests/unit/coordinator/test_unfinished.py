"""What a newer release would write has to wait until every coordinator can read it."""

import pytest

from tests.support import scenario as s
from windlass.coordinator.job.decide import refusing
from windlass.errors import Corrupt, Rejected
from windlass.eventlog.state import JobWork, evolve
from windlass.messages.commands import CancelJob
from windlass.messages.jobs import Parallel, Retry


def test_a_command_that_begins_with_such_an_event_is_refused_and_changes_nothing() -> None:
    work = s.given(*s.queued(s.job())).work
    before = s.rows(work)
    with pytest.raises(Rejected, match="windlass migrate --finish"):
        s.decided(CancelJob(job=s.JOB), work, fold=refusing(frozenset({"task.cancelled"}), evolve))
    assert s.rows(work) == before


def test_a_rule_that_comes_to_such_an_event_later_has_to_ask_before() -> None:
    work = s.given(*s.queued(s.job())).work
    with pytest.raises(Corrupt):
        s.decided(CancelJob(job=s.JOB), work, fold=refusing(frozenset({"job.cancelled"}), evolve))


def test_a_job_that_may_come_to_such_an_event_is_refused_at_its_submission() -> None:
    patient = s.job(s.task(), s.task(retry=Retry(limit=1, delay="1s")))
    for definition, tag in [(s.job(delay="1m"), "job.delayed"), (patient, "task.delayed"), (patient, "task.queued")]:
        work = JobWork()
        with pytest.raises(Rejected, match=tag):
            s.decided(s.submit(definition), work, fold=refusing(frozenset({tag}), evolve))
        assert work == JobWork()


def test_a_job_with_a_field_that_an_older_coordinator_cannot_read_is_refused_at_its_submission() -> None:
    definition = s.job(s.task(parallel=Parallel(tasks=(s.task(on_error="ignore"),))))
    work = JobWork()
    with pytest.raises(Rejected, match=r"Task\.onError is written only .* windlass migrate --finish"):
        s.decided(s.submit(definition), work, fold=refusing(frozenset({"Task.onError"}), evolve))
    assert work == JobWork()
    assert s.decided(s.submit(definition), work, fold=refusing(frozenset({"Task.gpus"}), evolve))


def test_everything_else_is_folded() -> None:
    work = s.given(*s.queued(s.job())).work
    events = s.decided(CancelJob(job=s.JOB), work, fold=refusing(frozenset({"job.paused"}), evolve))
    assert [type(event).__name__ for event in events] == ["TaskCancelled", "JobCancelled"]
    assert refusing(frozenset(), evolve) is evolve
