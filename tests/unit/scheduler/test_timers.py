"""Timers as events tell of them, and when they fire by a clock that may differ from the one that set them."""

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scenario import (
    JOB,
    THEN,
    begun,
    cancelled,
    completed,
    delayed,
    dispatched,
    failed,
    job_cancelled,
    job_completed,
    job_delayed,
    redelivered,
    started,
    task,
    task_id,
    task_queued,
)
from windlass.eventlog.follow import Recorded
from windlass.messages.commands import ExpireTask, QueueTask, StartJob
from windlass.messages.envelope import tag_of
from windlass.messages.events import JobEvent
from windlass.scheduler.timers import Kind, Timer, changes, command, fires_at

UNTIL = THEN + timedelta(minutes=1)
ROW = task_id()


def read(*events: JobEvent, kind: str = "job") -> dict[str, Timer | None]:
    """What a page of these events changes."""
    return changes(
        Recorded(3, number, JOB, number, kind, tag_of(event), msgspec.json.encode(event).decode(), "{}", THEN)
        for number, event in enumerate(events, 1)
    )


def timer(row: str, kind: Kind, number: int) -> Timer:
    """A timer of a minute."""
    return Timer(id=row, job=JOB, kind=kind, number=number, shard=3, set_at=THEN, due_at=UNTIL)


def test_what_waits_has_a_timer() -> None:
    assert read(job_delayed(UNTIL)) == {JOB: timer(JOB, Kind.START, 1)}
    retry = task_id(1, 2)
    assert read(delayed(task(), UNTIL)) == {retry: timer(retry, Kind.RETRY, 2)}
    assert read(started(ROW, 3, deadline=UNTIL)) == {ROW: timer(ROW, Kind.DEADLINE, 3)}


@pytest.mark.parametrize("event", [begun(), job_cancelled()])
def test_a_job_that_starts_or_ends_waits_no_more(event: JobEvent) -> None:
    assert read(job_delayed(UNTIL), event) == {JOB: None}


@pytest.mark.parametrize(
    "event", [task_queued(ROW), started(ROW), completed(ROW), failed(ROW, "e"), redelivered(ROW, 2), cancelled(ROW)]
)
def test_a_task_that_goes_on_or_ends_waits_no_more(event: JobEvent) -> None:
    assert read(started(ROW, deadline=UNTIL), event) == {ROW: None}


def test_the_last_word_of_a_page_counts() -> None:
    again = started(ROW, 2, deadline=UNTIL)
    assert read(started(ROW, 1, deadline=UNTIL), redelivered(ROW, 2), again) == {ROW: timer(ROW, Kind.DEADLINE, 2)}


def test_other_events_other_streams_and_later_releases_are_passed_over() -> None:
    assert read(dispatched(task()), job_completed()) == {}
    assert read(job_delayed(UNTIL), kind="schedule") == {}
    assert changes([Recorded(3, 1, JOB, 1, "job", "job.postponed", "{}", "{}", THEN)]) == {}


def test_each_kind_has_its_command() -> None:
    assert command(Kind.START, JOB, JOB, 2) == StartJob(job=JOB, run=2)
    assert command(Kind.RETRY, JOB, ROW, 2) == QueueTask(job=JOB, task=ROW, attempt=2)
    assert command(Kind.DEADLINE, JOB, ROW, 2) == ExpireTask(job=JOB, task=ROW, attempt=2)


# -- clocks ---------------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)


def armed(now: datetime, level: datetime | None) -> datetime:
    """When a timer of a minute, set at THEN by the clock of a coordinator, fires by that of a scheduler."""
    return fires_at(timer(JOB, Kind.START, 1), now, level)


@pytest.mark.parametrize("apart_s", [0, 0.5, -0.5, 3600, -3600])
@pytest.mark.parametrize("since_s", [0.03, 0.9, 9])
def test_what_is_read_soon_lasts_from_its_reading_whatever_its_stamp(apart_s: float, since_s: float) -> None:
    """The bell came, or was lost, or the one who followed is dead and another has taken over."""
    now = THEN + timedelta(seconds=apart_s)
    assert armed(now, now - timedelta(seconds=since_s)) == now + timedelta(minutes=1)


def test_a_timer_found_late_is_not_prolonged() -> None:
    """The log was followed an hour ago; the stamp decides, and what is long due fires at once."""
    assert armed(THEN + HOUR, THEN - HOUR) == UNTIL


@pytest.mark.parametrize("apart", [2 * HOUR, -HOUR])
def test_a_stamp_that_cannot_be_true_counts_for_nothing(apart: timedelta) -> None:
    now = THEN + apart
    assert armed(now, now - HOUR) == now + timedelta(minutes=1)


def test_where_nobody_knows_when_it_was_written_it_is_not_early() -> None:
    assert armed(THEN + HOUR, None) == THEN + HOUR + timedelta(minutes=1)


moments = st.integers(-10_000, 10_000).map(lambda s: THEN + timedelta(seconds=s))


@settings(deadline=None, database=None)
@given(now=moments, since=st.integers(0, 5000), apart=st.integers(-10_000, 10_000), lasts=st.integers(0, 5000))
def test_it_lasts_as_long_as_was_decided_give_or_take_the_time_since_the_last_look(
    now: datetime, since: int, apart: int, lasts: int
) -> None:
    """Whatever the two clocks say: counted from some moment between the last look and now."""
    level, set_at = now - timedelta(seconds=since), now + timedelta(seconds=apart)
    one = Timer(id=ROW, job=JOB, kind=Kind.START, number=1, shard=0, set_at=set_at, due_at=set_at + timedelta(seconds=lasts))
    assert level + timedelta(seconds=lasts) <= fires_at(one, now, level) <= now + timedelta(seconds=lasts)
    if level <= set_at <= now and since > 10:
        assert fires_at(one, now, level) == one.due_at
