"""Commands, events and notices: which tags there are, what they carry, who accepts what."""

import msgspec
import pytest

from windlass.messages import commands, events, notices
from windlass.messages.envelope import tag_of

COMMANDS = {
    "job.submit", "job.cancel", "job.advance", "task.claim", "task.progress", "task.complete", "task.fail", "task.lose",
    "job.start", "job.restart", "task.queue", "task.expire", "task.expand",
    "job.pause", "job.resume", "job.delete",
}  # fmt: skip
EVENTS = {
    "job.submitted", "job.started", "job.completed", "job.failed", "job.cancelled",
    "task.dispatched", "task.skipped", "task.refused", "task.started", "task.progressed", "task.completed", "task.failed",
    "task.redelivered", "task.cancelled", "job.delayed", "job.restarted", "task.delayed", "task.queued",
    "task.opened", "task.listed", "job.paused", "job.resumed", "job.deleted",
}  # fmt: skip


def _structs(module: object) -> list[type[msgspec.Struct]]:
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
    return [one for one in found if one.__module__ == module.__name__]  # type: ignore[attr-defined]  # a module has a name


def test_the_tags_of_commands_are_these() -> None:
    assert {tag for tag in COMMANDS if tag in commands.JOB_COMMANDS} == COMMANDS
    assert {tag_of(one) for one in commands.JobCommand.__args__} == COMMANDS


def test_the_tags_of_events_are_these_and_stay_so_for_ever() -> None:
    assert {tag_of(one) for one in events.JOB_EVENT_TYPES} == EVENTS
    assert set(events.JobEvent.__args__) == set(events.JOB_EVENT_TYPES)
    assert len(events.JOB_EVENT_TYPES) == len(EVENTS)


def test_no_two_words_have_the_same_tag_unless_they_are_kept_apart_by_who_reads_them() -> None:
    for module in (commands, events, notices):
        tags = [one.__struct_config__.tag for one in _structs(module) if one.__struct_config__.tag]
        assert len(tags) == len(set(tags)), module


@pytest.mark.parametrize("kind", [*_structs(commands), *_structs(events), *_structs(notices)])
def test_every_word_is_frozen(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize("kind", [one for one in _structs(commands) if one is not commands.Answer])
def test_commands_and_orders_refuse_fields_they_do_not_know(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("kind", [*events.JOB_EVENT_TYPES, commands.Answer, *_structs(notices)])
def test_events_answers_and_notices_allow_fields_of_later_releases(kind: type[msgspec.Struct]) -> None:
    assert not kind.__struct_config__.forbid_unknown_fields


def test_events_that_may_set_or_end_a_timer_are_marked() -> None:
    assert {
        "job.delayed", "job.started", "job.cancelled", "task.delayed", "task.queued",
        "task.started", "task.redelivered", "task.completed", "task.failed", "task.cancelled",
        "job.completed", "job.restarted", "job.deleted",
    } == events.TIMED  # fmt: skip


def test_a_report_carries_its_whole_fence() -> None:
    for kind in (commands.ClaimTask, commands.ReportProgress, commands.CompleteTask, commands.FailTask):
        assert {"job", "run", "task", "attempt", "worker"} <= set(kind.__struct_fields__)
