"""The program that does nothing: it keeps a network namespace alive while tasks come and go.

No registry is needed for it: the image is a tar with one file of 129 bytes (x86-64), and here is each of them. An ELF
executable is a header, one program header that says "load this file and start there", and the code.
"""

import io
import struct
import tarfile

IMAGE = "windlass/pause:1"
PROGRAM = "/pause"

_BASE = 0x400000
"""Where the file is loaded; any page above the lowest ones does."""

_CODE = {
    # 62 = EM_X86_64. pause() has no arguments; it returns only after a signal handler, and there is none.
    "amd64": (
        62,
        bytes.fromhex(
            "b822000000"  # mov eax, 34     the number of pause
            "0f05"  #       syscall
            "ebf7"  #       jmp  -9         to the first instruction: once more, should it ever return
        ),
    ),
    # 183 = EM_AARCH64. No pause there: ppoll(NULL, 0, NULL, NULL) waits for none of no files, without a limit of time.
    "arm64": (
        183,
        struct.pack(
            "<7L",
            0xD2800000,  # mov x0, #0      fds
            0xD2800001,  # mov x1, #0      how many
            0xD2800002,  # mov x2, #0      timeout: for ever
            0xD2800003,  # mov x3, #0      signal mask: as it is
            0xD2800928,  # mov x8, #73     the number of ppoll
            0xD4000001,  # svc #0
            0x17FFFFFA,  # b   -6 instructions, to the first
        ),
    ),
}
ARCHITECTURES = frozenset(_CODE)


def program(architecture: str) -> bytes:
    """The executable for an engine's architecture, as the engine calls it."""
    machine, code = _CODE[architecture]
    header, entry = 64, 56
    size = header + entry + len(code)
    return (
        struct.pack(
            "<4s5B7x2HL3QL6H",
            b"\x7fELF",  # magic
            2,  #          64 bits
            1,  #          little-endian
            1,  #          version of the format
            0,  #          System V
            0,  #          of no version; 7 bytes of padding follow
            2,  #          ET_EXEC: at a fixed address
            machine,
            1,  #          version again
            _BASE + header + entry,  # first instruction: right behind both headers
            header,  #     where the program headers are
            0,  #          no section headers
            0,  #          no flags
            header,  #     size of this header
            entry,  #      size of a program header
            1,  #          one of them
            64,  #         size of a section header
            0,  #          none of them
            0,  #          so no names of sections
        )
        + struct.pack(
            "<2L6Q",
            1,  #          PT_LOAD
            5,  #          may be read and executed
            0,  #          from the beginning of the file
            _BASE,  #      to this address
            _BASE,  #      physical address: means nothing here
            size,  #       bytes in the file
            size,  #       bytes in memory
            0x1000,  #     aligned to a page
        )
        + code
    )


def image(architecture: str) -> bytes:
    """The tar of the image."""
    content = program(architecture)
    file = tarfile.TarInfo(PROGRAM.lstrip("/"))
    file.size = len(content)
    file.mode = 0o555
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(file, io.BytesIO(content))
    return out.getvalue()
