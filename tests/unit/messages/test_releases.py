"""Which types of events may be written while coordinators of an older release may still run."""

from windlass.messages.events import JOB_EVENTS, SINCE, unfinished


def test_what_came_with_a_later_format_waits_until_that_is_finished() -> None:
    since = {"task.paused": 3, "task.resumed": 4}
    assert unfinished(2, since) == {"task.paused", "task.resumed"}
    assert unfinished(3, since) == {"task.resumed"}
    assert unfinished(4, since) == frozenset()


def test_only_types_that_there_are_are_named() -> None:
    assert [tag for tag in SINCE if tag not in JOB_EVENTS] == []
