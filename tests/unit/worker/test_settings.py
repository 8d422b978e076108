"""The worker's settings: queues and slots, name, runtime, spool."""

import pytest

from windlass.errors import Misconfigured
from windlass.worker.docker.containers import Amounts
from windlass.worker.settings import Settings

NATS = {"WINDLASS_NATS_URL": "nats://localhost"}


def test_without_a_word_it_serves_the_default_queue_with_one_slot_on_docker() -> None:
    found = Settings.load(NATS)
    assert (found.queues, found.runtime, found.name) == ({"default": 1}, "docker", "worker")


def test_queues_come_from_flags_then_ours_then_torks() -> None:
    environ = {**NATS, "TORK_WORKER_QUEUES_GPU": "1"}
    assert Settings.load(environ).queues == {"gpu": 1}
    environ["WINDLASS_WORKER_QUEUES_BIG"] = "2"
    environ["WINDLASS_WORKER_QUEUES_SMALL"] = "8"
    assert Settings.load(environ).queues == {"big": 2, "small": 8}
    assert Settings.load(environ, queues=["x:3", "y", "a:b:4"]).queues == {"x": 3, "y": 1, "a:b": 4}


def test_its_name_and_its_spool_are_its_own() -> None:
    found = Settings.load({**NATS, "TORK_WORKER_NAME": "w2"})
    assert found.name == "w2"
    assert found.spool.name == "windlass-spool-w2"
    assert Settings.load({**NATS, "WINDLASS_SPOOL": "/there"}).spool.as_posix() == "/there"


def test_the_runtime_is_chosen_as_tork_does() -> None:
    assert Settings.load({**NATS, "TORK_RUNTIME_TYPE": "shell"}).runtime == "shell"
    assert Settings.load({**NATS, "TORK_RUNTIME_TYPE": "shell"}, runtime="auto").runtime == "auto"


@pytest.mark.parametrize("flag", ["q:0", "q:10001", "q:x", "q:-1", "q:1.5", "q:", ":1", "x-q:1", "a b:1", "jobs:1"])
def test_a_queue_that_cannot_be_served_is_refused(flag: str) -> None:
    with pytest.raises(Misconfigured, match="--queue"):
        Settings.load(NATS, queues=[flag])


def test_slots_from_the_environment_are_refused_under_their_name() -> None:
    with pytest.raises(Misconfigured, match="TORK_WORKER_QUEUES_GPU is 'many'; slots are"):
        Settings.load({**NATS, "TORK_WORKER_QUEUES_GPU": "many"})


def test_limits_of_tasks_that_have_none() -> None:
    found = Settings.load({**NATS, "TORK_WORKER_LIMITS_CPUS": ".5", "WINDLASS_WORKER_LIMITS_MEMORY": "10m"})
    assert found.limits == Amounts(500_000_000, 10 * 1024 * 1024)
    assert Settings.load(NATS).limits == Amounts()
    assert Settings.load({**NATS, "WINDLASS_WORKER_LIMITS_TIMEOUT": "90m"}).timeout == "90m"


@pytest.mark.parametrize(("name", "value"), [("CPUS", "many"), ("MEMORY", "10 apples"), ("TIMEOUT", "soon")])
def test_limits_that_are_none_are_refused_under_their_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        Settings.load({**NATS, f"WINDLASS_WORKER_LIMITS_{name}": value})


def test_directories_to_bind_are_named_and_allowed() -> None:
    named = {**NATS, "TORK_MOUNTS_BIND_SOURCES": "/srv/a, /srv/b"}
    assert Settings.load(named).binds == ()
    assert Settings.load({**named, "TORK_MOUNTS_BIND_ALLOWED": "true"}).binds == ("/srv/a", "/srv/b")
    assert Settings.load({**NATS, "WINDLASS_MOUNTS_BIND_ALLOWED": "true"}).binds == ()
    with pytest.raises(Misconfigured, match="'srv' is no absolute path"):
        Settings.load({**NATS, "WINDLASS_MOUNTS_BIND_ALLOWED": "true", "WINDLASS_MOUNTS_BIND_SOURCES": "srv"})
