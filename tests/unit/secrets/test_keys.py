"""Keys: how they are read from settings, what follows from them, and that they are not shown."""

import base64
import copy
import pickle
import re

import pytest

from windlass.errors import Misconfigured
from windlass.secrets import keys
from windlass.secrets.keys import Keys, Unopened

RAW = bytes(range(32))
OTHER = "ff" * 32


def _master(text: str) -> Keys:
    found = keys.read(text, "coordinator")
    assert found is not None
    return found


def test_a_key_is_read_from_hexadecimal_and_base64() -> None:
    written = [RAW.hex(), RAW.hex().upper(), base64.b64encode(RAW).decode(), base64.urlsafe_b64encode(RAW).decode()]
    assert len({_master(text).first.id for text in written}) == 1
    assert keys.read("", "coordinator") is None


@pytest.mark.parametrize("text", ["hunter2", RAW.hex()[:-2], "gateway:", "nobody:" + RAW.hex(), "é" * 44])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Misconfigured, match="WINDLASS_SECRET_KEY") as refused:
        keys.read(text, "coordinator")
    assert text.rpartition(":")[2] == "" or text.rpartition(":")[2] not in str(refused.value)


def test_each_service_has_a_key_of_its_own_and_takes_no_other() -> None:
    master = _master(RAW.hex())
    settings = {service: keys.transport(master, service).exported(service) for service in keys.SERVICES}
    for service, text in settings.items():
        own = keys.read(text, service)
        assert own is not None
        assert own.ids == keys.transport(master, service).ids
        for other in {"coordinator", *keys.SERVICES} - {service}:
            with pytest.raises(Misconfigured, match=f"key of the {service}"):
                keys.read(text, other)
        with pytest.raises(Misconfigured, match="key of the coordinator"):
            keys.read(master.exported("coordinator"), service)
    assert len({*settings.values()}) == len(settings)


def test_the_first_of_several_keys_seals_and_all_open() -> None:
    before, after = _master(RAW.hex()), _master(f"{OTHER}, {RAW.hex()}")
    assert after.open(before.seal(b"x", "place"), "place") == b"x"
    with pytest.raises(Unopened, match=r"sealed with key [0-9a-f]{8}, and here are: [0-9a-f]{8}; see WINDLASS_SECRET_KEY"):
        before.open(after.seal(b"x", "place"), "place")


def test_a_wrapped_key_is_the_key() -> None:
    master, job = _master(RAW.hex()).first, keys.new()
    again = Keys([master]).unwrap(master.wrap(job, "key", "job"), "key", "job")
    assert again.open(job.seal(b"x", "place"), "place") == b"x"


def test_a_key_is_shown_and_written_nowhere() -> None:
    key = _master(RAW.hex()).first
    assert re.fullmatch(r"Key\([0-9a-f]{8}\)", repr(key))
    assert repr(Keys([key])) == f"Keys({key.id})"
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write(key)


def test_a_keyed_hash_needs_the_key() -> None:
    one, other = _master(RAW.hex()).first, _master(OTHER).first
    assert one.mac(b"body") == one.mac(b"body") != other.mac(b"body")
