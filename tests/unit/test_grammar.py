"""Names, paths and amounts: what is taken, and what could be taken for something else."""

import re
from collections.abc import Callable

import pytest

from windlass import grammar
from windlass.errors import Invalid
from windlass.grammar import Gpus


@pytest.mark.parametrize(
    ("text", "nano"),
    [("1", 10**9), (".5", 5 * 10**8), ("0.25", 25 * 10**7), ("1/2", 5 * 10**8), ("2.", 2 * 10**9), ("0", 0), ("0.000000001", 1)],
)
def test_a_number_of_cpus_may_be_a_fraction(text: str, nano: int) -> None:
    assert grammar.nano_cpus(text) == nano


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "+1", "1/0", "1/3", "0.0000000001", "1 2", ".", "1_0", "١", "9" * 41, "9" * 39, "nan"]
)
def test_what_is_no_number_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        grammar.nano_cpus(text)


def test_a_finer_number_of_cpus_is_refused_in_torks_words() -> None:
    with pytest.raises(Invalid, match="value is too precise"):
        grammar.nano_cpus("1/3")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10m", 10 << 20), ("500KB", 500 << 10), ("1g", 1 << 30), ("1B", 1), ("7", 7), ("1.5GiB", 3 << 29), ("10 MB", 10 << 20),
        (".5k", 512), ("1T", 1 << 40), ("1p", 1 << 50),
    ],
)  # fmt: skip
def test_a_size_has_binary_multiples(text: str, size: int) -> None:
    assert grammar.memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1m", "1x", "1mm", "1 k b", "1..5k", "1m ", "1ib", "99999999999p", "9" * 41])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="invalid size"):
        grammar.memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", Gpus(number=-1)),
        ("2", Gpus(number=2)),
        ("count=all", Gpus(number=-1)),
        ("device=0,1", Gpus(devices=("0", "1"))),
        ('"device=GPU-3a,GPU-4b",driver=nvidia', Gpus(devices=("GPU-3a", "GPU-4b"), driver="nvidia")),
        ("driver=nvidia", Gpus(number=1, driver="nvidia")),
        ('"capabilities=utility,compute",count=3', Gpus(number=3, capabilities=("utility", "compute", "gpu"))),
        ("count=1,options=a=b", Gpus(number=1, options={"a": "b"})),
    ],
)
def test_gpus_are_asked_for_as_with_docker(text: str, expected: Gpus) -> None:
    assert grammar.gpus(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some",
        "-2",
        "count=x",
        "device=0,count=2",
        "count=1,count=2",
        "colour=red",
        "device=",
        '"device=0',
        "1,2",
        "a\nb",
        "all,x",
        "1" * 9,
    ],
)
def test_what_asks_for_no_gpus_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        grammar.gpus(text)


REFUSED: list[tuple[Callable[[str], object], list[str]]] = [
    (grammar.check_image, ["", "-v", "a b", "a\nb", "--privileged", "a;b"]),
    (grammar.check_env_name, ["", "-e", "A=B", "A B", "A\0"]),
    (grammar.check_network, ["", "-n", "container:abc", "a b", "a/b", "n" * 256]),
    (
        grammar.check_file,
        ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "./a", "a\nb", "a" * 256, "ü" * 128, "a/" * 600 + "a"],
    ),
    (grammar.check_source, ["", "data", "../data", "/a/../b", "/a:ro", "/a,b", "~/a"]),
    (
        grammar.check_target,
        [
            "",
            "data",
            "/a/../b",
            "/",
            "//",
            "/tork",
            "/tork/",
            "/./tork",
            "/tork/stdout",
            "/proc/1",
            "/sys",
            "/dev/sda",
            "/etc",
            "/a:b",
        ],
    ),
]


@pytest.mark.parametrize(("check", "text"), [(check, text) for check, texts in REFUSED for text in texts])
def test_what_leads_elsewhere_is_refused_with_a_remedy(check: Callable[[str], object], text: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(text)
    assert re.search("; (write|use|mount)|too long", str(refused.value))


TAKEN: list[tuple[Callable[[str], object], list[str]]] = [
    (grammar.check_image, ["alpine", "a.b:5000/c/d@sha256:0", "Ubuntu:22.04"]),
    (grammar.check_env_name, ["A_1", "b.c", "ü"]),
    (grammar.check_network, ["host", "a_b-c.d", "0123abcdef"]),
    (grammar.check_file, ["a", ".env", "a/b c/d.txt", "-x", "...", "a..b", "ü"]),
    (grammar.check_source, ["/", "/srv/a b/c=d_e-f.g"]),
    (grammar.check_target, ["/data", "/data/", "/tmp", "/etc/app", "/dev/shm", "/torkish", "/usr/share/x", "/a..b"]),
]


@pytest.mark.parametrize(("check", "text"), [(check, text) for check, texts in TAKEN for text in texts])
def test_what_people_write_is_taken(check: Callable[[str], object], text: str) -> None:
    check(text)


def test_a_target_is_written_in_one_way_only() -> None:
    assert grammar.check_target("/data//a/./b/") == "/data/a/b"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("volume", {"type": "none", "device": "/", "o": "bind"}),
        ("volume", {"device": "/srv"}),
        ("volume", {"o": "addr=10.0.0.1"}),
        ("bind", {"propagation": "shared"}),
        ("bind", {"readonly": "perhaps"}),
        ("tmpfs", {"size": "big"}),
        ("tmpfs", {"mode": "9"}),
    ],
)
def test_an_option_of_a_mount_that_reaches_further_is_refused(kind: str, options: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        grammar.check_mount_options(kind, options)


def test_options_of_mounts_that_people_write() -> None:
    grammar.check_mount_options("volume", {"type": "tmpfs", "device": "tmpfs", "o": "size=100m,uid=1000,noexec"})
    grammar.check_mount_options("bind", {"readonly": "true"})
    grammar.check_mount_options("tmpfs", {"size": "64m", "mode": "1777"})
    grammar.check_mount_options("s3", {"bucket": "anything"})
