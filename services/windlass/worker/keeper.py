"""A process that outlives the worker to end the worker's tasks.

A worker killed with SIGKILL can do nothing for its tasks, and a task that nobody watches must not go on: it may be started
anew elsewhere. So a shell waits on a pipe whose other end only the worker holds. When the kernel closes that end, the shell
becomes `leftovers.py` and sweeps. It is in a session of its own, so a signal to the worker's group does not reach it.
"""

import contextlib
import os
import subprocess
import sys

_SCRIPT = 'read _ && exit 0; exec "$@"'


class Keeper:
    """Watches over one start of one worker, `<worker>:<start>`; `folder` is where its tasks run, `root` their control groups'."""

    def __init__(self, owner: str, root: str | None, folder: str) -> None:
        self._command = [sys.executable, "-I", "-m", "windlass.worker.leftovers", owner, root or "", folder]
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def start(self) -> None:
        """Begin to watch."""
        end, self._pipe = os.pipe()
        try:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "windlass-keeper", *self._command],
                stdin=end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        finally:
            os.close(end)

    def stop(self) -> None:
        """Stop watching; nothing is swept."""
        if self._child is not None:
            with contextlib.suppress(BrokenPipeError):  # somebody killed it
                os.write(self._pipe, b"\n")
            os.close(self._pipe)
            self._child.wait()
            self._child = None
