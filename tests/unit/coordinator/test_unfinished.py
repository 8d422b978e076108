"""What a newer release would write has to wait until every coordinator can read it."""

import pytest

from tests.support import scenario as s
from windlass.coordinator.job.decide import refusing, run_to_end
from windlass.errors import Corrupt, Rejected
from windlass.eventlog.state import evolve
from windlass.messages.commands import CancelJob


def test_a_command_that_begins_with_such_an_event_is_refused_and_changes_nothing() -> None:
    work = s.given(*s.queued(s.job())).work
    before = s.rows(work)
    with pytest.raises(Rejected, match="windlass migrate --finish"):
        run_to_end(CancelJob(job=s.JOB), work, s.NOW, s.render, refusing(frozenset({"task.cancelled"}), evolve))
    assert s.rows(work) == before


def test_a_rule_that_comes_to_such_an_event_later_has_to_ask_before() -> None:
    work = s.given(*s.queued(s.job())).work
    with pytest.raises(Corrupt):
        run_to_end(CancelJob(job=s.JOB), work, s.NOW, s.render, refusing(frozenset({"job.cancelled"}), evolve))


def test_everything_else_is_folded() -> None:
    work = s.given(*s.queued(s.job())).work
    events = run_to_end(CancelJob(job=s.JOB), work, s.NOW, s.render, refusing(frozenset({"job.paused"}), evolve))
    assert [type(event).__name__ for event in events] == ["TaskCancelled", "JobCancelled"]
    assert refusing(frozenset(), evolve) is evolve
