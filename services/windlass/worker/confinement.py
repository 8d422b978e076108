"""Keeping hold of every process of a task, whatever session, group or environment it moves to.

Three means, together, since each alone has a hole:

- The worker is a *subreaper* (Linux): a process whose parent has died becomes the worker's child, so a daemon cannot leave
  the tree. At the end of a task one read of a few microseconds shows whether such an orphan exists. Whose it is, its session
  tells, or the variable `MARK` that it inherited.
- A *control group* per task, if asked for and where the worker may make one (root, or a delegated directory; version 2 for
  its `cgroup.kill`, else version 1). It also holds a process that left its session and wiped its environment. The shell
  enters it by itself through an open file (`door`) before it runs anything; another program is put there right after its
  start, and what it forks before that is held by the first means only. On a machine that is otherwise idle the kernel takes
  10–20 ms to move a process, and holds up every fork meanwhile; so it is off unless switched on.
- The *process group*, the only means on macOS: one call reaches all who did not leave it.

Without control groups, an orphan that changed its session *and* wiped its environment has no name. It is ended with the first
task that ends while no other runs, since then it can be nobody else's.
"""

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable

from windlass.log import get
from windlass.worker import leftovers
from windlass.worker.leftovers import GROUP, MARK, carries, group_members, kill, kill_group

PROCESSES_MAX = 4096
"""Processes and threads of one task, where the kernel lets us limit them."""
DEATH_S = 10.0
"""How long we wait for killed processes to be gone; one that hangs in the kernel does nothing more when it is back."""
_PR_SET_CHILD_SUBREAPER = 36

log = get()


class Confinement:
    """The hold of one worker on its tasks."""

    def __init__(self, worker: str, control_groups: bool = False) -> None:
        self._worker = worker
        self._control_groups = control_groups
        self._start = secrets.token_hex(4)
        self._count = 0
        self._session = os.getsid(0)
        self._children = f"/proc/self/task/{os.getpid()}/children"
        self._free: list[str] = []
        self.root: str | None = None
        self.held: dict[int, Confined] = {}
        self._strangers: set[int] = set()
        """Children that this process had before its first task."""

    @property
    def owner(self) -> str:
        """What the marks of this start begin with."""
        return f"{self._worker}:{self._start}"

    def prepare(self) -> None:
        """Become the parent of orphans, find a place for control groups, end what an earlier start left."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            if self._control_groups:
                self.root = next((root for root in _candidates() if _works(root, f"{root}/{GROUP}.{self._worker}.probe")), None)
        self._strangers = self._adopted()
        killed = leftovers.sweep(self._worker, self.root)
        if killed:
            log.warning("leftovers_killed", worker=self._worker, processes=killed)

    def confine(self) -> "Confined":
        """A place for one more task."""
        self._count += 1
        return Confined(self, f"{self.owner}:{self._count}", self._free.pop() if self._free else self._new_group())

    def _new_group(self) -> str | None:
        if self.root is None:
            return None
        group = f"{self.root}/{GROUP}.{self._worker}.{self._start}.{self._count}"
        try:
            _make_group(group)
        except OSError:
            return None
        return group

    def take_back(self, group: str) -> None:
        """Keep a control group for another task: removing one that was used costs half a millisecond."""
        self._free.append(group)

    def close(self) -> None:
        """Remove the control groups."""
        while self._free:
            with contextlib.suppress(OSError):  # the next sweep takes it
                os.rmdir(self._free.pop())

    def orphans(self, asker: "Confined") -> set[int]:
        """The living orphans that belong to a task; dead ones of any task are reaped on the way."""
        found: set[int] = set()
        is_alone = self.held.keys() <= {asker.pid}
        for pid in self._adopted():
            if (seen := _stat(pid)) is None or seen.session == self._session:
                continue
            if seen.state in "ZX":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            elif (is_alone and pid not in self._strangers) or seen.session == asker.pid or carries(pid, asker.mark):
                found.add(pid)
        return found

    def _adopted(self) -> set[int]:
        """Children that are not the main process of a task."""
        try:
            handle = os.open(self._children, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # macOS, or a kernel without these files
            parent = os.getpid()
            return {pid for pid, seen in _table().items() if seen.parent == parent} - self.held.keys()
        try:
            pieces = []
            while piece := os.read(handle, 1 << 16):
                pieces.append(piece)
        finally:
            os.close(handle)
        return set(map(int, b"".join(pieces).split())) - self.held.keys()


class Confined:
    """The hold on one task."""

    def __init__(self, owner: Confinement, mark: str, group: str | None) -> None:
        self._owner = owner
        self._group = group
        self.variables = {MARK: mark}
        self.mark = f"{MARK}={mark}".encode()
        self.pid = 0

    def door(self) -> int | None:
        """A file for the main process: whoever writes 0 into it is in the control group. To be closed by the caller.

        The kernel asks who opened it, so a program that runs as another user may use it as well.
        """
        if self._group is None:
            return None
        try:
            return os.open(f"{self._group}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def hold(self, pid: int, is_inside: bool) -> None:
        """Take hold of the main process, which leads a session of its own; `is_inside` when it enters the group by itself."""
        self.pid = pid
        self._owner.held[pid] = self
        if self._group is not None and not is_inside:
            with contextlib.suppress(OSError):  # it has ended already
                _write(f"{self._group}/cgroup.procs", str(pid))

    def signal(self, number: int) -> None:
        """Send a signal to all of them, the main process first."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self._living():
            seen = _stat(pid)
            if seen is None or seen.group != self.pid:  # the group has it already
                kill(pid, number)

    async def end(self) -> None:
        """Kill all that is left, and wait until it is gone. The main process is still to be reaped by the caller."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        pause_s = waited_s = 0.0
        while left := self._living():
            if waited_s >= DEATH_S:
                log.error("processes_outlived_kill", pids=sorted(left))
                return
            if self._group is not None:
                kill_group(self._group)
            for pid in left:
                kill(pid, signal.SIGKILL)
            pause_s = min(pause_s * 2 or 0.001, 0.05)
            waited_s += pause_s
            await asyncio.sleep(pause_s)

    def release(self) -> None:
        """Forget a task whose processes are gone and reaped."""
        self._owner.held.pop(self.pid, None)
        if self._group is not None and not group_members(self._group):
            self._owner.take_back(self._group)

    def _living(self) -> set[int]:
        """Every living process but dead ones that only wait to be reaped."""
        found = set(group_members(self._group)) if self._group is not None else set()
        found |= self._owner.orphans(self)
        main = _stat(self.pid)
        if main is not None and main.state not in "ZX":
            found.add(self.pid)
        found = {pid for pid in found if pid == self.pid or ((seen := _stat(pid)) is not None and seen.state not in "ZX")}
        if main is None or main.state in "ZX":
            found.discard(self.pid)
        return found | _descendants(found) if found else found


class _Seen:
    """One line of /proc/<pid>/stat."""

    __slots__ = ("group", "parent", "session", "state")

    def __init__(self, line: bytes) -> None:
        # The name of the program, in parentheses, may itself hold blanks and parentheses.
        fields = line[line.rindex(b")") + 2 :].split(None, 4)
        self.state = fields[0].decode()
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])


def _stat(pid: int) -> _Seen | None:
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _Seen(os.read(handle, 1024))
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)


def _table() -> dict[int, _Seen]:
    return {pid: seen for pid in leftovers.processes() if (seen := _stat(pid)) is not None}


def _descendants(of: set[int]) -> set[int]:
    table = _table()
    found: set[int] = set()
    while more := {pid for pid, seen in table.items() if seen.parent in of or seen.parent in found} - found:
        found |= more
    return {pid for pid in found if table[pid].state not in "ZX"}


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _make_group(folder: str) -> None:
    os.mkdir(folder)
    with contextlib.suppress(OSError):  # only where the controller of processes is on
        _write(f"{folder}/pids.max", str(PROCESSES_MAX))


def _candidates() -> list[str]:
    """Directories of our own control group, version 2 first, then version 1 with the limit of processes first."""
    try:
        with open("/proc/mounts") as lines:
            mounts = [line.split() for line in lines]
        with open("/proc/self/cgroup") as lines:
            places = [line.rstrip("\n").split(":", 2) for line in lines]
    except OSError:
        return []
    wanted: list[tuple[Callable[[list[str]], bool], str]] = [(lambda mount: mount[2] == "cgroup2", "")]
    wanted += [
        (lambda mount, name=name: mount[2] == "cgroup" and name in mount[3].split(","), name)  # type: ignore[misc]  # a default binds the name
        for name in ("pids", "name=systemd", "freezer")
    ]
    found = []
    for matches, controller in wanted:
        place = next((path for _, names, path in places if (controller in names.split(",") if controller else not names)), None)
        mount = next((mount[1] for mount in mounts if len(mount) > 3 and matches(mount)), None)
        if place is not None and mount is not None:
            found.append((mount + place).rstrip("/"))
    return found


def _works(root: str, probe: str) -> bool:
    """Whether a process can really be put into a new control group below `root`, and be killed there."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(probe)
    except OSError:
        return False
    child = subprocess.Popen(
        ["/bin/sh", "-c", "read _"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, env={}
    )
    try:
        _write(f"{probe}/cgroup.procs", str(child.pid))
        kill_group(probe)
        return child.wait(timeout=1) == -signal.SIGKILL
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        child.kill()
        child.communicate()
        with contextlib.suppress(OSError):
            os.rmdir(probe)
