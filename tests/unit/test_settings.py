"""Settings: a flag, then WINDLASS_*, then TORK_*, then the default."""

import pytest

from windlass import settings
from windlass.errors import Misconfigured

NATS = {"WINDLASS_NATS_URL": "nats://localhost:4222"}


def test_a_flag_wins_over_the_environment_and_ours_over_torks() -> None:
    environ = {"WINDLASS_RUNTIME_TYPE": "shell", "TORK_RUNTIME_TYPE": "docker"}
    assert settings.lookup(environ, "RUNTIME_TYPE", "podman") == "podman"
    assert settings.lookup(environ, "RUNTIME_TYPE") == "shell"
    del environ["WINDLASS_RUNTIME_TYPE"]
    assert settings.lookup(environ, "RUNTIME_TYPE") == "docker"
    assert settings.lookup({}, "RUNTIME_TYPE", default="auto") == "auto"


def test_an_empty_value_is_as_good_as_none() -> None:
    assert settings.lookup({"WINDLASS_X": "", "TORK_X": "t"}, "X", "") == "t"


def test_a_setting_that_is_needed_names_itself_and_the_remedy() -> None:
    with pytest.raises(Misconfigured, match=r"WINDLASS_NATS_URL is not set: the address.*windlass env"):
        settings.needed({}, "NATS_URL", "the address")


def test_the_fast_profile_sets_the_times_of_the_guarantees() -> None:
    fast = settings.times({"WINDLASS_PROFILE": "fast"})
    assert (fast.lease_s, fast.heartbeat_s, fast.redrive_s, fast.sweep_s) == (3, 1, 3, 0.5)
    usual = settings.times({})
    assert (usual.lease_s, usual.heartbeat_s, usual.redrive_s, usual.redrive_max_s, usual.sweep_s) == (60, 10, 15, 600, 2)


def test_a_profile_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="'slow'; it is one of: default, fast"):
        settings.times({"WINDLASS_PROFILE": "slow"})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [(":8000", "127.0.0.1", 8000), ("0.0.0.0:0", "0.0.0.0", 0), ("[::1]:80", "::1", 80), ("box:65535", "box", 65535)],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert settings.address(text, "--http") == (host, port)


@pytest.mark.parametrize("text", ["", "8000", "host:", "host:65536", "host:-1", "host:http", "host:8 "])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"--http is .*HOST:PORT, for example"):
        settings.address(text, "--http")


def test_a_node_has_defaults_for_all_but_the_broker() -> None:
    node = settings.node(NATS, "worker")
    assert (node.instance, node.http, node.log_format, node.log_level, node.prefix) == (
        "worker", ("127.0.0.1", 0), "console", "info", "",
    )  # fmt: skip


def test_a_node_is_told_who_it_is() -> None:
    environ = {**NATS, "WINDLASS_INSTANCE": "worker-3", "WINDLASS_SUBJECT_PREFIX": "team.", "TORK_LOGGING_LEVEL": "debug"}
    node = settings.node(environ, "worker", ":9000", "json")
    assert (node.instance, node.http, node.log_format, node.log_level, node.prefix) == (
        "worker-3", ("127.0.0.1", 9000), "json", "debug", "team.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"WINDLASS_LOG_FORMAT": "xml"}, "log format 'xml'"),
        ({"WINDLASS_LOG_LEVEL": "loud"}, "log level 'loud'"),
        ({"WINDLASS_HTTP": "nowhere"}, "HOST:PORT"),
        ({"WINDLASS_NATS_URL": ""}, "WINDLASS_NATS_URL is not set"),
    ],
)
def test_a_wrong_setting_says_so(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason):
        settings.node({**NATS, **environ}, "worker")
