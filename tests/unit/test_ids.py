"""Ids: in order of time, placed by their last byte, derived or by chance."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from windlass import ids

AT = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)


def test_an_id_is_a_uuid_of_version_7_in_32_hex_digits() -> None:
    found = ids.new(AT)
    assert ids.is_id(found)
    assert (UUID(found).version, UUID(found).variant) == (7, "specified in RFC 4122")
    assert int(found[:12], 16) == int(AT.timestamp() * 1000)


def test_an_id_begins_with_its_moment_so_ids_are_in_order_of_time() -> None:
    moments = [AT + timedelta(milliseconds=i) for i in (0, 1, 2, 999, 60_000, 10**10)]
    found = [ids.new(at) for at in moments]
    assert found == sorted(found)


def test_two_ids_of_one_moment_differ() -> None:
    assert ids.new(AT) != ids.new(AT)


def test_the_byte_places_an_id() -> None:
    found = ids.new(AT, byte=0x2A)
    assert ids.byte_of(found) == 0x2A
    assert [ids.shard_of(found, shards) for shards in (1, 16, 32, 64, 256)] == [0, 10, 10, 42, 42]


def test_chance_is_given_not_taken() -> None:
    assert ids.new(AT, chance=lambda n: b"\0" * n) == ids.new(AT, chance=lambda n: b"\0" * n)


def test_what_is_derived_is_the_same_each_time_and_for_nothing_else() -> None:
    one = ids.derive(AT, 7, "job", 1, "key")
    assert one == ids.derive(AT, 7, "job", 1, "key")
    assert ids.is_id(one)
    assert UUID(one).version == 7
    assert ids.byte_of(one) == 7
    others = [ids.derive(AT, 7, "job", 2, "key"), ids.derive(AT, 7, "job", "1key"), ids.derive(AT, 7, "job1", "", "key")]
    assert len({one, *others}) == 4


def test_without_a_byte_derived_ids_spread_over_all_shards() -> None:
    assert {ids.shard_of(ids.derive(AT, None, "x", i), 16) for i in range(400)} == set(range(16))


def test_a_name_has_one_byte_and_names_spread() -> None:
    assert ids.byte_for("ann", "k") == ids.byte_for("ann", "k")
    assert {ids.byte_for("ann", str(i)) % 16 for i in range(400)} == set(range(16))


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 32 + "\n", UUID(int=5).urn, str(UUID(int=5))])
def test_what_is_no_id(text: str) -> None:
    assert not ids.is_id(text)


def test_a_node_has_a_name_that_is_one_token_and_easily_told_from_others() -> None:
    found = ids.new_node()
    assert len(found) == 22
    assert ids.NODE.fullmatch(found)
    assert not set(found) & set("0O1Il")
    assert ids.new_node() != found
    assert ids.new_node(lambda n: b"\0" * n) == "2" * 22


@pytest.mark.parametrize("text", ["", "a b", "a.b", "*", ">", "a" * 65, "ä", "a\n"])
def test_what_is_no_node(text: str) -> None:
    assert not ids.NODE.fullmatch(text)
