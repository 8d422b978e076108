"""A worker's name is its claim on what it left behind, so two workers of one name must not run here at once."""

import asyncio
import contextlib
import fcntl
import os
import stat
import tempfile

from windlass.errors import Misconfigured

WAIT_S = 3.0
"""How long a start waits for the worker it replaces to be gone."""


class NameLock:
    """A lock on a name, for one user of this machine; the kernel gives it back when the process ends, however it ends."""

    def __init__(self, name: str, kind: str) -> None:
        self._name = name
        self._file = f"{name}.{kind}.lock"
        self._handle: int | None = None

    async def take(self) -> None:
        """Hold the name until `release`.

        Raises:
            Misconfigured: another process has it.
        """
        if self._handle is not None:
            return
        folder = os.path.join(tempfile.gettempdir(), f"windlass-{os.getuid()}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise Misconfigured(f"{folder} is not a directory that only this user may write; remove it")
        handle = os.open(os.path.join(folder, self._file), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            async with asyncio.timeout(WAIT_S):
                while not _try_lock(handle):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            os.close(handle)
            raise Misconfigured(
                f"a worker named {self._name} runs on this machine already; stop it, or set WINDLASS_WORKER_NAME"
            ) from None
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def release(self) -> None:
        """Give the name back. The file stays: removing it would let two processes lock two files of one name."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
