"""The hand-made program is the executable that it says it is; that it runs, the sandboxes show."""

import io
import struct
import tarfile

import pytest

from windlass.worker.docker import pause


@pytest.mark.parametrize(("architecture", "machine", "size"), [("amd64", 62, 129), ("arm64", 183, 148)])
def test_executable(architecture: str, machine: int, size: int) -> None:
    content = pause.program(architecture)
    assert len(content) == size
    assert content[:6] == b"\x7fELF\x02\x01"
    kind, found, _, entry, headers = struct.unpack_from("<HHLQQ", content, 16)
    assert (kind, found, headers) == (2, machine, 64)
    load, flags, offset, address, _, in_file, in_memory, _ = struct.unpack_from("<2L6Q", content, headers)
    assert (load, flags, offset, in_file, in_memory) == (1, 5, 0, size, size)
    assert entry - address == 120, "the code is behind both headers"


def test_arm_code_jumps_to_its_beginning() -> None:
    code = pause.program("arm64")[120:]
    (jump,) = struct.unpack_from("<L", code, len(code) - 4)
    distance = (jump & 0x3FFFFFF) - (1 << 26)
    assert distance * 4 == -(len(code) - 4)


def test_image_has_the_program_and_nothing_else() -> None:
    with tarfile.open(fileobj=io.BytesIO(pause.image("amd64"))) as tar:
        (member,) = tar.getmembers()
        assert (member.name, member.mode) == ("pause", 0o555)
        file = tar.extractfile(member)
        assert file is not None
        assert file.read() == pause.program("amd64")
