"""Reading the files that a task writes for us, as if an enemy had written them: links, pipes, devices, huge files."""

import contextlib
import math
import os
import stat
from collections.abc import Iterator

from windlass.errors import Invalid
from windlass.worker.runtime import OUTPUT_MAX

PROGRESS_MAX = 64
"""Longest text of a progress file, in bytes."""

_PATH_ONLY = getattr(os, "O_PATH", 0)
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class BadOutput(Invalid):
    """A task left something that cannot be its result."""

    code = "bad_output"


def refuse_kind(name: str, mode: int) -> BadOutput:
    """The error for an output file of another kind than a regular one."""
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return BadOutput(f"{name} is {kind}, not a regular file; write the result into the file itself")


def refuse_size(name: str, size: int) -> BadOutput:
    """The error for an output file that is too large."""
    return BadOutput(
        f"{name} holds {size} bytes, a result is at most {OUTPUT_MAX}; keep large data elsewhere and return where it is"
    )


@contextlib.contextmanager
def _regular(path: str, name: str) -> Iterator[tuple[int, int] | None]:
    """A descriptor and the size of a regular file; None when there is no file.

    Opening a device or pipe can have effects or block, so the file is looked at first through a descriptor that only names
    it (`O_PATH`), and that very file is then opened through /proc. Where there is no `O_PATH`, not blocking has to do.
    """
    try:
        handle = os.open(path, (_PATH_ONLY or os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError:  # macOS: a link (ELOOP) or a socket; what it is can still be told
        raise refuse_kind(name, os.lstat(path).st_mode) from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise refuse_kind(name, found.st_mode)
        if not _PATH_ONLY:
            yield handle, found.st_size
            return
        try:
            readable = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            raise BadOutput(f"{name} may not be read by the worker any more; leave its mode as it was") from None
        try:
            yield readable, found.st_size
        finally:
            os.close(readable)
    finally:
        os.close(handle)


def clean(data: bytes) -> str:
    """Bytes as text that JSON and the database take: bad UTF-8 replaced, NUL removed."""
    return data.decode("utf-8", "replace").replace("\0", "")


def read_output(path: str, name: str = "TORK_OUTPUT") -> str:
    """The text of a result file; empty when it is missing.

    Raises:
        BadOutput: it is no regular file, or larger than `OUTPUT_MAX`.
    """
    with _regular(path, name) as found:
        if found is None:
            return ""
        handle, size = found
        if size == 0:
            return ""
        if size > OUTPUT_MAX:
            raise refuse_size(name, size)
        pieces: list[bytes] = []
        left = OUTPUT_MAX + 1
        while left and (piece := os.read(handle, left)):
            pieces.append(piece)
            left -= len(piece)
        if not left:
            raise refuse_size(name, os.fstat(handle).st_size)
        return clean(b"".join(pieces))


def parse_progress(data: bytes) -> float | None:
    """The number in a progress file, 0–100; None when there is none, yet or at all."""
    try:
        value = float(data[:PROGRESS_MAX])
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 100 else None


def read_progress(path: str) -> float | None:
    """The number in the progress file at a path; None when it holds none."""
    try:
        with _regular(path, "TORK_PROGRESS") as found:
            if found is None or not 0 < found[1] <= PROGRESS_MAX:
                return None
            return parse_progress(os.read(found[0], PROGRESS_MAX))
    except (BadOutput, OSError):
        return None
