"""Names of images."""

import pytest

from windlass.worker.docker.images import full_name, is_name


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/library/busybox:latest", "docker.io/library/busybox:latest"),
        ("acme/tool", "docker.io/acme/tool:latest"),
        ("localhost/tool", "localhost/tool:latest"),
        ("registry.example:5000/tool", "registry.example:5000/tool:latest"),
        ("tool@sha256:00", "docker.io/library/tool@sha256:00"),
    ],
)
def test_full_name(short: str, full: str) -> None:
    assert full_name(short) == full


@pytest.mark.parametrize("name", ["", "-v", "a b", "a\nb", "../x", "a" * 300])
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)
