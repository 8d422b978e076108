"""Ending what a dead worker's shell tasks left running.

Every process of a task inherits a variable that names worker, start and task (`MARK`). `sweep` kills all that carry a given
beginning of it, and whatever is in the control groups of that name. The worker does so at its start; and a process of its
own (`keeper.py`) does so through this module's command line as soon as the worker is gone.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

MARK = "WINDLASS_TASK_MARK"
"""The variable; its value is `<worker>:<start>:<task>`."""
GROUP = "windlass"
"""What the name of a task's control group begins with: `windlass.<worker>.<start>.<task>`."""
SWEEP_S = 10.0
"""How long killing is repeated; only a process stuck in the kernel takes longer, and it does nothing more once it is out."""


def carries(pid: int, mark: bytes) -> bool:
    """Whether a process was started with a `MARK` of which `mark` is the whole `NAME=value`, or a beginning ending in `:`."""
    try:
        handle = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
        try:
            pieces = []
            while piece := os.read(handle, 1 << 17):
                pieces.append(piece)
        finally:
            os.close(handle)
    except OSError:
        return False
    block = b"\0" + b"".join(pieces)
    return b"\0" + mark + (b"" if mark.endswith(b":") else b"\0") in block


def processes() -> list[int]:
    """Every process there is; none where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def group_members(folder: str) -> list[int]:
    """The processes of a control group; none when it is gone."""
    try:
        handle = os.open(f"{folder}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        pieces = []
        while piece := os.read(handle, 1 << 16):
            pieces.append(piece)
    except OSError:
        return []
    finally:
        os.close(handle)
    return [int(line) for line in b"".join(pieces).split()]


def kill_group(folder: str) -> None:
    """Kill a control group at once where the kernel can (`cgroup.kill`), else process by process."""
    try:
        handle = os.open(f"{folder}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        for pid in group_members(folder):
            kill(pid, signal.SIGKILL)
    else:
        with contextlib.suppress(OSError):
            os.write(handle, b"1")
        os.close(handle)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def groups(root: str | None, prefix: str) -> list[str]:
    """The control groups below `root` whose names begin so."""
    if root is None:
        return []
    try:
        return [f"{root}/{name}" for name in os.listdir(root) if name.startswith(prefix)]
    except OSError:
        return []


def sweep(owner: str, root: str | None) -> int:
    """Kill all that belongs to `owner`, `<worker>` or `<worker>:<start>`; how many processes were found.

    It is repeated until nothing is found: a process may have forked between being found and being killed.
    """
    mark = f"{MARK}={owner}:".encode()
    found: set[int] = set()
    deadline = time.monotonic() + SWEEP_S
    pause_s = 0.002
    while True:
        left = {pid for pid in processes() if carries(pid, mark)} - {os.getpid()}
        for folder in groups(root, f"{GROUP}.{owner.replace(':', '.')}."):
            members = group_members(folder)
            left.update(members)
            if members:
                kill_group(folder)
            else:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        if not left or time.monotonic() > deadline:
            return len(found)
        found |= left
        for pid in left:
            kill(pid, signal.SIGKILL)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)


if __name__ == "__main__":
    _, worker_start, groups_root, tasks_folder = sys.argv
    sweep(worker_start, groups_root or None)
    shutil.rmtree(tasks_folder, ignore_errors=True)
