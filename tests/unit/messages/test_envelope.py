"""The envelope: opened first, its body after, by type."""

from datetime import UTC, datetime

import msgspec
import pytest

from windlass.errors import Invalid
from windlass.ids import JobId, TaskId
from windlass.messages.commands import JOB_COMMANDS, CancelJob, RunTask
from windlass.messages.envelope import Vocabulary, encode, open_envelope, tag_of
from windlass.messages.jobs import Task

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
CANCEL = CancelJob(job=JobId("0" * 32))


def test_a_message_says_what_it_is_and_where_its_answer_goes() -> None:
    message = open_envelope(encode(CANCEL, id="m-1", at=AT, reply="_INBOX.x", trace="00-1-2-00"))
    assert (message.v, message.id, message.type, message.at) == (1, "m-1", "job.cancel", AT)
    assert (message.reply, message.trace) == ("_INBOX.x", "00-1-2-00")
    assert JOB_COMMANDS.decode(message.type, message.data) == CANCEL


def test_a_message_is_json_that_a_person_can_read() -> None:
    assert msgspec.json.decode(encode(CANCEL, id="m-1", at=AT)) == {
        "v": 1,
        "id": "m-1",
        "type": "job.cancel",
        "at": "2026-03-01T12:00:00.000005Z",
        "data": {"type": "job.cancel", "job": "0" * 32},
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"id":"1","type":"job.cancel"}',
        b'{"id":1,"type":"job.cancel","at":"2026-03-01T12:00:00Z"}',
        b'{"id":"1","type":"job.cancel","at":"yesterday"}',
        b'{"id":"1","type":"job.cancel","at":"2026-03-01T12:00:00Z"} {}',
        b"[" * 100_000,
        b'{"name":"hi","tasks":[]}',
    ],
)
def test_rubbish_is_refused_with_a_reason(payload: bytes) -> None:
    with pytest.raises(Invalid, match="not a message"):
        open_envelope(payload)


def test_a_version_from_the_future_is_refused_by_its_number() -> None:
    with pytest.raises(Invalid, match="version 2"):
        open_envelope(b'{"v":2,"id":"1","type":"job.cancel","at":"2026-03-01T12:00:00Z"}')


def test_fields_that_a_later_release_adds_to_the_envelope_are_skipped() -> None:
    assert open_envelope(b'{"id":"1","type":"x","at":"2026-03-01T12:00:00Z","new":1}').id == "1"


def test_a_body_is_not_looked_at_before_its_type_is_known() -> None:
    message = open_envelope(b'{"id":"1","type":"later","at":"2026-03-01T12:00:00Z","data":{"any":["thing"]}}')
    assert message.type not in JOB_COMMANDS
    with pytest.raises(Invalid, match="nobody here takes 'later'"):
        JOB_COMMANDS.decode(message.type, message.data)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "job"),
        (b'{"job":7}', "str"),
        (b'{"job":"1","force":true}', "force"),
        (b'{"type":"job.submit","job":"1"}', "job.submit"),
        (b"[" * 100_000, ""),
        (b'{"job":"\xff"}', ""),
    ],
)
def test_a_body_that_does_not_fit_its_type_is_refused_with_the_type(body: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=r"job\.cancel: .*" + reason):
        JOB_COMMANDS.decode("job.cancel", body)


def test_a_tag_stays_when_a_class_is_renamed() -> None:
    class Other(msgspec.Struct, tag_field="type", tag="job.cancel"):
        job: str

    assert tag_of(Other) == tag_of(CANCEL)
    assert Vocabulary(Other).decode("job.cancel", msgspec.json.encode(CANCEL)) == Other(job="0" * 32)


def test_a_task_travels_in_the_words_of_its_file() -> None:
    run = RunTask(
        job=JobId("j"),
        run=1,
        task=TaskId("t"),
        attempt=2,
        key="1",
        definition=Task(name="n", run="x", if_="true"),
    )
    assert msgspec.json.decode(msgspec.json.encode(run))["definition"] == {"name": "n", "run": "x", "if": "true"}
