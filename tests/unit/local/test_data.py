"""The data directory: who holds it, what it keeps, whose eyes it is for."""

import os
import stat
from pathlib import Path

import pytest

from windlass.errors import Misconfigured
from windlass.local.data import Data, Held, Server, State, locate
from windlass.secrets import keys


def _data(path: Path) -> Data:
    data = Data(path / "data")
    data.make()
    return data


def test_one_process_holds_it_and_others_see_who(tmp_path: Path) -> None:
    data = _data(tmp_path)
    assert data.holder() is None
    with data.hold():
        assert data.holder() == os.getpid()
        with pytest.raises(Held, match="starting or stopping"):
            data.hold()
        server = Server(pid=1, port=2)
        data.write_state(State(pid=os.getpid(), url="http://here", data="d", nats=server, postgres=server))
        with pytest.raises(Held, match=r"already running: url=http://here .* windlass down"):
            data.hold()
        assert data.running() is not None
    assert data.holder() is None
    assert data.running() is None
    data.hold().close()


def test_a_state_that_another_process_left_behind_is_not_running(tmp_path: Path) -> None:
    data = _data(tmp_path)
    server = Server(pid=1, port=2)
    data.write_state(State(pid=os.getpid() + 1, url="u", data="d", nats=server, postgres=server))
    with data.hold():
        assert data.running() is None


def test_secrets_are_made_once_and_for_their_owners_eyes(tmp_path: Path) -> None:
    data = _data(tmp_path)
    first = data.secrets()
    assert data.secrets() == first
    assert stat.S_IMODE(data.secrets_file.stat().st_mode) == 0o600
    words = [*first.nats.values(), *first.postgres.values(), first.key]
    assert len(set(words)) == len(words) == 13
    assert "worker" not in first.postgres


def test_a_service_gets_its_own_key_and_never_the_master_key(tmp_path: Path) -> None:
    data = _data(tmp_path)
    master = data.secrets().key
    for service in keys.SERVICES:
        assert keys.read(data.secret_key(service), service) is not None
    found = {service: data.secret_key(service) for service in ("coordinator", "scheduler", *keys.SERVICES)}
    assert keys.read(found.pop("coordinator"), "coordinator") is not None
    assert found.pop("scheduler") == ""
    assert all(master not in key for key in found.values())
    assert len(set(found.values())) == 3


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    folder.chmod(0o755)
    Data(folder).make()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    data = _data(tmp_path)
    data.installation_file.write_text("{")
    with pytest.raises(Misconfigured, match=r"installation\.json is damaged"):
        data.installation()


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="choose another with --data"):
        Data(tmp_path / "file" / "data").make()


def test_the_flag_comes_before_the_variable(tmp_path: Path) -> None:
    assert locate({"WINDLASS_DATA": "/a"}, "/b").path == Path("/b")
    assert locate({"WINDLASS_DATA": "/a"}).path == Path("/a")
    assert locate({}).path.name == "windlass"
