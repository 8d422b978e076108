"""The wire: whatever is said comes back the same, and whatever comes is a message or a reason."""

import types
import typing
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass import ids
from windlass.errors import Invalid
from windlass.messages import commands, events, notices
from windlass.messages.commands import ANSWERS, JOB_COMMANDS, ORDERS, QUEUED, Answer
from windlass.messages.envelope import Vocabulary, encode, open_envelope, tag_of
from windlass.messages.events import JOB_EVENT_TYPES, JOB_EVENTS
from windlass.messages.notices import NOTICES
from windlass.subjects import REPORTS, Place, Subjects, check_queue, queue_token

_text = st.text(max_size=20)
_moments = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 hypothesis adds the zone
QUICK = settings(max_examples=40, deadline=None, database=None)


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, as messages use them."""
    if kind is str:
        return _text
    if kind is Any:
        return _text | st.integers(-(2**63), 2**63 - 1) | st.lists(_text, max_size=2)
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind is datetime:
        return _moments
    if kind is types.NoneType:
        return st.none()
    if kind is msgspec.Raw:
        return _json.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
    if kind is msgspec.UnsetType:
        return st.just(msgspec.UNSET)
    if hasattr(kind, "__supertype__"):
        return _values(kind.__supertype__)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.deferred(lambda: _structs(kind))  # a task may hold tasks
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_values(one) for one in inner])
    if origin is typing.Literal:
        return st.sampled_from(inner)
    if origin is dict:
        return st.dictionaries(_values(inner[0]), _values(inner[1]), max_size=3)
    assert origin is tuple, kind
    if inner[-1] is Ellipsis:
        return st.lists(_values(inner[0]), max_size=3).map(tuple)
    return st.tuples(*[_values(one) for one in inner])


@cache
def _structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    given = {field.name for field in msgspec.structs.fields(kind) if field.required}
    fields = {name: _values(hint) for name, hint in typing.get_type_hints(kind).items()}
    needed = {name: values for name, values in fields.items() if name in given}
    return st.fixed_dictionaries(needed, optional={k: v for k, v in fields.items() if k not in given}).map(lambda f: kind(**f))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)

SPOKEN: list[tuple[type[msgspec.Struct], Vocabulary[Any]]] = [
    *[(kind, JOB_COMMANDS) for kind in commands.JobCommand.__args__],
    *[(kind, ORDERS) for kind in commands.Order.__args__],
    (commands.RunTask, QUEUED),
    (Answer, ANSWERS),
    *[(kind, JOB_EVENTS) for kind in JOB_EVENT_TYPES],
    *[(kind, NOTICES) for kind in notices.Notice.__args__],
]


@pytest.mark.parametrize(("kind", "vocabulary"), SPOKEN, ids=lambda one: getattr(one, "__name__", ""))
@QUICK
@given(data=st.data())
def test_what_is_said_comes_back_the_same(kind: type[msgspec.Struct], vocabulary: Vocabulary[Any], data: st.DataObject) -> None:
    body = data.draw(_values(kind))
    at, reply = data.draw(_moments), data.draw(st.none() | _text)
    message = open_envelope(encode(body, id="m", at=at, reply=reply))
    assert (message.type, message.at, message.reply) == (tag_of(kind), at, reply)
    again = vocabulary.decode(message.type, message.data)
    assert type(again) is kind
    assert msgspec.json.encode(again) == msgspec.json.encode(body)
    if kind is not Answer:
        assert again == body


@pytest.mark.parametrize("kind", JOB_EVENT_TYPES, ids=lambda kind: kind.__name__)
@QUICK
@given(data=st.data())
def test_an_event_of_a_later_release_with_more_fields_is_read(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    body = data.draw(_values(kind))
    later = {**msgspec.json.decode(msgspec.json.encode(body)), "added later": data.draw(_json.filter(_is_writable))}
    assert JOB_EVENTS.decode(tag_of(kind), msgspec.json.encode(later)) == body


def _is_writable(value: Any) -> bool:
    """Integers beyond 64 bits are no JSON of ours."""
    try:
        msgspec.json.encode(value)
    except OverflowError:
        return False
    return True


@settings(max_examples=300, deadline=None, database=None)
@given(payload=st.binary(max_size=60) | _json.filter(_is_writable).map(msgspec.json.encode))
def test_any_bytes_are_a_message_or_a_reason(payload: bytes) -> None:
    with suppress(Invalid):
        open_envelope(payload)


@settings(max_examples=300, deadline=None, database=None)
@given(tag=st.sampled_from([tag_of(kind) for kind in commands.JobCommand.__args__]) | _text, data=st.data())
def test_any_body_is_a_command_or_a_reason(tag: str, data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=40) | _json.filter(_is_writable).map(msgspec.json.encode))
    with suppress(Invalid):
        JOB_COMMANDS.decode(tag, body)


@settings(max_examples=300, deadline=None, database=None)
@given(one=st.text(min_size=1, max_size=64), other=st.text(min_size=1, max_size=64))
def test_a_queue_is_one_token_of_its_own(one: str, other: str) -> None:
    tokens = []
    for name in (one, other):
        try:
            tokens.append(queue_token(check_queue(name)))
        except Invalid:
            return
    assert all(token and not set(token) & set(".*> \t\r\n\0") for token in tokens)
    assert all(token.isascii() for token in tokens)
    assert (tokens[0] == tokens[1]) == (one == other)


@QUICK
@given(
    prefix=st.sampled_from(["", "a.", "a.00.b."]),
    shard=st.integers(0, 255),
    word=st.sampled_from(REPORTS),
    worker=st.from_regex(ids.NODE, fullmatch=True),
)
def test_a_subject_of_the_intake_is_read_back(prefix: str, shard: int, word: str, worker: str) -> None:
    subjects = Subjects(prefix)
    assert subjects.place(subjects.report(word, shard, worker)) == Place(word, shard, worker)
    assert subjects.place(subjects.jobs(shard)) == Place("jobs", shard)


@QUICK
@given(subject=st.text(max_size=30))
def test_any_subject_is_a_place_or_a_reason(subject: str) -> None:
    with suppress(Invalid):
        Subjects().place(subject)


@QUICK
@given(at=_moments, byte=st.integers(0, 255), parts=st.lists(_text | st.integers(0, 9), max_size=4))
def test_an_id_keeps_its_moment_and_its_byte(at: datetime, byte: int, parts: list[str | int]) -> None:
    for found in (ids.new(at, byte), ids.derive(at, byte, *parts)):
        assert ids.is_id(found)
        assert ids.byte_of(found) == byte
        assert abs(int(found[:12], 16) - at.timestamp() * 1000) <= 1


def test_every_word_is_tried() -> None:
    tried = {kind for kind, _ in SPOKEN}
    for module in (commands, events, notices):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag:
                assert kind in tried, kind
