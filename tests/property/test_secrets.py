"""Sealing and redaction, whatever the values: nothing opens what it should not, and no form of a secret comes through."""

import base64
import json
import time
from contextlib import suppress
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from windlass.secrets.keys import Key, Unopened
from windlass.secrets.redaction import REDACTED, SHORTEST, Redactor, Stream

QUICK = settings(max_examples=200, deadline=None, database=None)
KEYS = st.binary(min_size=32, max_size=32).map(Key)
PLACES = st.lists(st.text(max_size=8), max_size=3).map(tuple)
# Few letters, so that values overlap each other and themselves; others need escapes somewhere.
LETTERS = st.sampled_from('ab"\\<%+/ \né€')
VALUES = st.lists(st.text(LETTERS, min_size=SHORTEST, max_size=9), min_size=1, max_size=4)


@QUICK
@given(KEYS, st.binary(max_size=200), PLACES)
def test_what_was_sealed_is_opened_where_it_belongs_and_is_sealed_alike(key: Key, data: bytes, place: tuple[str, ...]) -> None:
    sealed = key.seal(data, *place)
    assert key.open(sealed, *place) == data
    assert key.seal(data, *place) == sealed


@QUICK
@given(KEYS, st.binary(max_size=50), PLACES, st.data())
def test_a_sealed_text_with_any_byte_changed_is_refused(
    key: Key, data: bytes, place: tuple[str, ...], draw: st.DataObject
) -> None:
    name, _, text = key.seal(data, *place).partition(".")
    sealed = bytearray(base64.urlsafe_b64decode(text))
    at = draw.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= draw.draw(st.integers(1, 255))
    for changed in (bytes(sealed), bytes(sealed[:at])):
        with pytest.raises(Unopened):
            key.open(f"{name}.{base64.urlsafe_b64encode(changed).decode()}", *place)


@QUICK
@given(KEYS, KEYS, st.binary(max_size=50), PLACES, PLACES)
def test_another_key_or_another_place_opens_nothing(
    key: Key, other: Key, data: bytes, place: tuple[str, ...], elsewhere: tuple[str, ...]
) -> None:
    sealed = key.seal(data, *place)
    if place != elsewhere:
        with pytest.raises(Unopened):
            key.open(sealed, *elsewhere)
        assert key.seal(data, *elsewhere)[:24] != sealed[:24]  # another nonce, too
    assume(key.id != other.id)
    with pytest.raises(Unopened):
        other.open(sealed, *place)
    with pytest.raises(Unopened):
        other.open(f"{other.id}.{sealed.partition('.')[2]}", *place)


@QUICK
@given(KEYS, st.text(max_size=60))
def test_a_text_that_nobody_sealed_is_refused_and_breaks_nothing(key: Key, text: str) -> None:
    for sealed in (text, f"{key.id}.{text}"):
        with pytest.raises(Unopened):
            key.open(sealed, "place")


def _written(value: str) -> list[str]:
    encoded = base64.b64encode(value.encode()).decode()
    return [
        value,
        json.dumps(value),
        json.dumps({"a": value}, ensure_ascii=False),
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        encoded,
        base64.urlsafe_b64encode(value.encode()).decode(),
        encoded.rstrip("="),
    ]


@QUICK
@given(VALUES, st.lists(st.text(LETTERS, max_size=6), min_size=2, max_size=4), st.data())
def test_no_form_of_a_secret_stays_in_a_text(values: list[str], around: list[str], draw: st.DataObject) -> None:
    form = draw.draw(st.sampled_from(_written(draw.draw(st.sampled_from(values)))))
    text = form.join(around)
    found = Redactor(values).text(text)
    assert REDACTED in found
    for value in values:
        for written in _written(value):
            assert written.strip('"') not in found.replace(REDACTED, "\0")
    assert Redactor(values).text("nothing of it") == "nothing of it"


@QUICK
@given(st.text("xyz", min_size=SHORTEST, max_size=9), st.text("abcdefgh:", max_size=7), st.text("abcdefgh:", max_size=7))
def test_a_secret_within_something_longer_in_base64_is_found(value: str, before: str, after: str) -> None:
    encoded = base64.b64encode(f"{before}{value}{after}".encode()).decode()
    found = Redactor([value]).text(encoded)
    assume(len(value) * 8 // 6 - 1 >= SHORTEST)  # of four bytes only three characters may be its own
    assert REDACTED in found
    with suppress(ValueError):
        assert value.encode() not in base64.b64decode(found.replace(REDACTED, ""), validate=True)


@QUICK
@given(VALUES, st.text(LETTERS, max_size=60), st.data())
def test_a_text_in_pieces_is_redacted_as_a_whole_one(values: list[str], text: str, draw: st.DataObject) -> None:
    for value in draw.draw(st.lists(st.sampled_from(values), max_size=3)):
        at = draw.draw(st.integers(0, len(text)))
        text = text[:at] + value + text[at:]
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    redactor = Redactor(values)
    stream = Stream(redactor)
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join((*map(stream.feed, pieces), stream.close())) == redactor.text(text)


@pytest.mark.parametrize("value", ["a" * 5_000, "a" * 2_500 + "b" + "a" * 2_499, "ab" * 2_500])
def test_the_work_grows_with_the_text_alone(value: str) -> None:
    redactor = Redactor([value])

    def cost_s(size: int) -> float:
        text, stream = "a" * size, Stream(redactor)
        started = time.process_time()
        for at in range(0, size, 1_000):
            stream.feed(text[at : at + 1_000])
        stream.close()
        return time.process_time() - started

    cost_s(100_000)
    assert cost_s(1_600_000) < 60 * max(cost_s(100_000), 0.001)  # 16 times the text; its square would be 256
