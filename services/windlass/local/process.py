"""Starting programs so that they end with us, and as whom.

On Linux the kernel signals a child when its parent is gone. Elsewhere a standard input that ends tells our own services,
and what is left of servers is ended by the next `up`.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from windlass.errors import Misconfigured

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged user to run a server as, when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """How to start something and how to end it."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    account: Account | None = None
    capability: int | None = None
    """One capability that survives the change of user; see `capability_for`."""
    parent_death: signal.Signals | None = None
    """What the kernel sends it when we die; None leaves that to its standard input."""
    stop: signal.Signals = signal.SIGTERM
    """Asks it to end in order."""
    abort: signal.Signals = signal.SIGKILL
    """Ends it at once."""
    holds_input: bool = False
    """Whether its standard input is a pipe that we hold open for as long as we live."""
    folder: Path | None = None
    """Its working directory; ours by default."""


class Server(Protocol):
    """A server that `up` runs: prepared, started, and ready once it prints a certain line."""

    port: int

    def program(self) -> Program:
        """How to start it."""
        ...

    def is_ready(self, line: str) -> bool:
        """Whether this line of its log says that it takes connections."""
        ...


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def start(program: Program) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, so that a terminal's Ctrl-C reaches only us; output goes to pipes.

    Call it from the main thread: the kernel's notice of a parent's death is of the thread that started the child.

    Raises:
        Misconfigured: it cannot be started.
    """
    try:
        return subprocess.Popen(
            program.argv,
            env=dict(program.environ),
            stdin=subprocess.PIPE if program.holds_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_Becoming(program, os.getpid()),  # noqa: PLW1509 we have one thread when we start children
            cwd=program.folder,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Misconfigured(f"{program.name}: cannot run {program.argv[0]}: {error}") from error


@dataclass(frozen=True)
class _Becoming:
    """What the child does to itself between fork and exec; only system calls."""

    program: Program
    parent: int
    prctl: object = field(default=_libc.prctl if _libc else None)

    def __call__(self) -> None:
        account, capability = self.program.account, self.program.capability
        if account is not None:
            os.setgroups([])
            os.setgid(account.gid)
            if _libc is not None and capability is not None:
                _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setuid(account.uid)
            if _libc is not None and capability is not None:
                bit = 1 << capability
                sets = (_CapabilitySets * 2)(_CapabilitySets(bit, bit, bit), _CapabilitySets(0, 0, 0))
                _libc.capset(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), ctypes.byref(sets))
                _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        if _libc is not None and self.program.parent_death is not None:
            # After the change of user, which clears it.
            _libc.prctl(_PR_SET_PDEATHSIG, int(self.program.parent_death), 0, 0, 0)
            if os.getppid() != self.parent:
                os._exit(1)


# -- root -----------------------------------------------------------------------------------------------------------


def unprivileged(owned: Path) -> Account | None:
    """Whom PostgreSQL runs as: None (ourselves) unless we are root; then the owner of what exists, `postgres` or `nobody`.

    Raises:
        Misconfigured: there is nobody.
    """
    if os.geteuid() != 0:
        return None
    if owned.exists() and (uid := owned.stat().st_uid) != 0:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError as error:
            raise Misconfigured(f"{owned} belongs to user {uid}, whom this system does not know; chown it to `nobody`") from error
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise Misconfigured(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`; start windlass as another user"
    )


def _may_enter(folder: Path, account: Account) -> bool:
    found = folder.stat()
    if found.st_uid == account.uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == account.gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def closed_to(account: Account, path: Path) -> Path | None:
    """The first folder above `path` that the account may not enter."""
    return next((folder for folder in reversed(path.resolve().parents) if not _may_enter(folder, account)), None)


def capability_for(account: Account | None, *paths: Path) -> int | None:
    """What lets an unprivileged server reach its files below folders that are closed to it, such as /root.

    The folders stay as they are: the server's process alone is given the right to pass (CAP_DAC_READ_SEARCH; where a
    container lacks that, CAP_DAC_OVERRIDE). None when every path is open to it anyway.

    Raises:
        Misconfigured: a path is closed and we may not give that right.
    """
    if account is None:
        return None
    closed = [folder for path in paths if (folder := closed_to(account, path)) is not None]
    if not closed:
        return None
    if _libc is not None:
        ours = next(
            (
                int(line.split()[1], 16)
                for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("CapPrm:")
            ),
            0,
        )
        for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
            if ours >> capability & 1:
                return capability
    raise Misconfigured(
        f"user `{account.name}`, whom PostgreSQL runs as, may not enter {closed[0]}; choose --data (and a Python environment) "
        f"outside of it, for example --data /var/lib/windlass"
    )


# -- what an earlier run left behind --------------------------------------------------------------------------------


def command_of(pid: int) -> str:
    """The command line of a process; empty if there is none, or it is a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    found = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()
