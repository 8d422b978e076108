"""The shell runtime: a task's script as a program of this machine, in a private directory and a session of its own.

A script with a `#!` line is run by what the line names, else by the shell of `command`. It sees `env`, the platform's
variables, and `PATH` and `HOME` of the worker, nothing else of the worker's environment.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import msgspec

from windlass.errors import Invalid, Misconfigured
from windlass.messages.commands import RunTask
from windlass.worker.confinement import Confined, Confinement
from windlass.worker.keeper import Keeper
from windlass.worker.names import NameLock
from windlass.worker.results import BadOutput, read_output, read_progress
from windlass.worker.runtime import (
    KILL_GRACE_S,
    Aside,
    Failed,
    Outcome,
    Program,
    Sink,
    Stopped,
    Succeeded,
    check_files,
    environment,
    places,
)
from windlass.worker.sequence import run_in_turn
from windlass.worker.words import Tail, Words

READ_BYTES = 64 * 1024
"""Most that is read from a task at once: all that a pipe holds."""
DRAIN_READS_MAX = 64
"""How often is read after a task's end; a pipe holds 1 MiB at most."""
PROGRESS_S = 1.0
"""How often the progress file is looked at."""


_RESERVED = ("entrypoint", "stdout", "progress")
_UNSUPPORTED = "is not supported by the shell runtime"
_REMEDY = "remove {}, or start the worker with --runtime docker or --runtime auto"


class ShellSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`worker` names what a start after a crash has to clean up; `command` gets the path of the script as last argument."""

    worker: str
    temp_dir: str = ""
    command: tuple[str, ...] = ("bash", "-c")
    uid: int | None = None
    gid: int | None = None
    control_groups: bool = False


class Shell:
    """Runs tasks as processes."""

    def __init__(self, settings: ShellSettings) -> None:
        self._settings = settings
        self._lock = NameLock(settings.worker, "shell")
        self._confinement = Confinement(settings.worker, settings.control_groups)
        self._keeper: Keeper | None = None
        self._folder = ""
        self._program = ""
        self._is_bash = False
        self._null = -1
        self._numbers = itertools.count(1)

    async def prepare(self) -> None:
        """See `Runtime.prepare`."""
        settings = self._settings
        if not settings.command:
            raise Misconfigured("the shell's command is empty; it is `bash -c` by default")
        if (settings.uid, settings.gid) != (None, None) and os.geteuid() != 0:
            raise Misconfigured("the shell runtime changes user and group only when the worker runs as root; leave both unset")
        program = shutil.which(settings.command[0], path=_absolute_path())
        if program is None:
            raise Misconfigured(f"the shell runtime needs {settings.command[0]}, which is not on PATH; install it")
        self._program = program
        self._is_bash = os.path.basename(program) == "bash" and settings.command[1:] == ("-c",)
        await self._lock.take()
        self._confinement.prepare()
        self._folder = self._own_folder()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._keeper = Keeper(self._confinement.owner, self._confinement.root, self._folder)
        self._keeper.start()

    def _own_folder(self) -> str:
        """A directory of this start, which only the worker may list; other users may pass when tasks run as one.

        Those of earlier starts are removed. Each start has its own, as the keeper of the last one may still be at work.
        """
        above = os.path.abspath(self._settings.temp_dir or tempfile.gettempdir())
        folder = os.path.join(above, f"windlass-shell.{self._confinement.owner.replace(':', '.')}")
        try:
            os.makedirs(above, exist_ok=True)
            for name in os.listdir(above):
                path = os.path.join(above, name)
                if name.startswith(f"windlass-shell.{self._settings.worker}.") and os.lstat(path).st_uid == os.geteuid():
                    remove_tree(path)
            os.mkdir(folder, 0o700)
            os.chmod(folder, 0o700 if self._settings.uid is None else 0o711)
        except OSError as error:
            raise Misconfigured(f"the directory {folder} for running tasks cannot be made: {error.strerror}") from error
        return folder

    def refusal(self, task: RunTask) -> str | None:
        """See `Runtime.refusal`."""
        definition = task.definition
        for field in ("mounts", "networks", "sidecars", "limits"):
            if getattr(definition, field):
                return f"task {definition.name}: {field} {_UNSUPPORTED}; {_REMEDY.format(field)}"
        for where, program in places(definition):
            for field in ("image", "registry"):
                if getattr(program, field):
                    return f"{where}: {field} {_UNSUPPORTED}; {_REMEDY.format(field)}"
            for field in ("cmd", "entrypoint"):
                if getattr(program, field):
                    return f"{where}: {field} {_UNSUPPORTED}; write the command into run"
            if not program.run:
                return f"{where}: there is nothing to run; give it a script in run"
            try:
                check_files(program)
            except Invalid as error:
                return f"{where}: files: {error}"
            for name in program.files:
                if name.partition("/")[0] in _RESERVED:
                    return f"{where}: files: {name} is a name of the platform in the shell runtime; choose another"
        return None

    async def run(self, task: RunTask, worker: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        """See `Runtime.run`."""
        why = self.refusal(task)
        if why is not None:
            return Failed(why)
        if stop.is_set():
            return Stopped()

        async def one(program: Program, role: str, stop: asyncio.Event) -> Outcome:
            folder = os.path.join(self._folder, str(next(self._numbers)))
            try:
                return await self._run(task, program, folder, sink if role == "main" else Aside(sink), stop)
            finally:
                if not _remove_usual(folder):  # a task may leave thousands of files: not in the loop's way
                    await asyncio.shield(asyncio.to_thread(remove_tree, folder))

        return await run_in_turn(task.definition, one, stop)

    async def _run(self, task: RunTask, program: Program, folder: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        tail = Tail()
        confined = self._confinement.confine()
        with contextlib.ExitStack() as held:
            held.callback(confined.release)
            try:
                self._furnish(folder, program)
                out, err = Stream(Words("out", sink, tail)), Stream(Words("err", sink, tail))
                held.callback(out.close)
                held.callback(err.close)
                child = self._start(task, program, folder, confined, out, err)
            except (OSError, ValueError) as error:
                return Failed(_unstartable(error))
            process = Process(child, confined)
            polling = Polling(os.path.join(folder, "progress"), sink)
            try:
                stopped = await process.ended_or(stop)
            finally:
                polling.stop()
                await process.finish()
            out.drain()
            err.drain()
        if stopped:
            return Stopped()
        if process.code != 0:
            return Failed(tail.explain(describe_exit(process.code)), exit_code(process.code))
        try:
            return Succeeded(read_output(os.path.join(folder, "stdout")))
        except BadOutput as error:
            return Failed(str(error))

    def _furnish(self, folder: str, program: Program) -> None:
        """The private directory: script, empty result, empty progress, files."""
        os.mkdir(folder, 0o700)
        owner = None if self._settings.uid is None and self._settings.gid is None else self._owner()
        usual = (("entrypoint", 0o500, program.run), ("stdout", 0o600, ""), ("progress", 0o600, ""))
        for name, mode, content in (*usual, *((name, 0o444, content) for name, content in program.files.items())):
            if "/" in name:
                self._make_folders(folder, os.path.dirname(name), owner)
            handle = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                data = memoryview(content.encode())
                while data:
                    data = data[os.write(handle, data) :]
                if owner:
                    os.fchown(handle, *owner)
            finally:
                os.close(handle)
        if owner:
            os.chown(folder, *owner)

    def _make_folders(self, folder: str, name: str, owner: tuple[int, int] | None) -> None:
        for part in name.split("/"):
            folder = os.path.join(folder, part)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                if owner:
                    os.chown(folder, *owner)

    def _owner(self) -> tuple[int, int]:
        settings = self._settings
        uid = 0 if settings.uid is None else settings.uid
        return uid, (uid if settings.gid is None else settings.gid)

    def _start(
        self, task: RunTask, program: Program, folder: str, confined: Confined, out: "Stream", err: "Stream"
    ) -> "subprocess.Popen[bytes]":
        """Start the program. `Popen` without a user uses vfork: 0.15 ms; with one it forks, which costs some tenths more.

        asyncio's own subprocesses cost 0.8 ms, and `posix_spawn` knows no working directory.
        """
        settings = self._settings
        variables = {
            **confined.variables,  # first, so that it is found soon
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            **program.env,
            **environment(task),
            "WORKDIR": folder,
            "TORK_OUTPUT": os.path.join(folder, "stdout"),
            "TORK_PROGRESS": os.path.join(folder, "progress"),
            **confined.variables,
        }
        arguments = [*settings.command, "./entrypoint"]
        user: dict[str, Any] = {}
        if (settings.uid, settings.gid) != (None, None):
            uid, gid = self._owner()
            user = {"user": uid, "group": gid, "extra_groups": ()}
        with contextlib.ExitStack() as held:
            door = confined.door() if self._is_bash else None
            if door is not None:
                held.callback(os.close, door)
                arguments[-1] = f"echo 0 >&{door} 2>/dev/null; exec {door}>&- ./entrypoint"
            child = subprocess.Popen(
                arguments,
                executable=self._program,
                cwd=folder,
                env=variables,
                stdin=self._null,
                stdout=out.theirs,
                stderr=err.theirs,
                pass_fds=(door,) if door is not None else (),
                start_new_session=True,
                **user,
            )
        confined.hold(child.pid, is_inside=door is not None)
        out.begin()
        err.begin()
        return child

    async def healthy(self) -> bool:
        """See `Runtime.healthy`."""
        return os.access(self._program, os.X_OK) and os.access(self._folder, os.W_OK)

    async def close(self) -> None:
        """See `Runtime.close`."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        self._confinement.close()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
        if self._folder:
            remove_tree(self._folder)
        self._lock.release()


class Stream:
    """One of a task's two outputs: a pipe, read when something is in it."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._loop = asyncio.get_running_loop()
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._is_read = False

    def begin(self) -> None:
        """After the start: only the task holds its end now."""
        os.close(self.theirs)
        self.theirs = -1
        self._loop.add_reader(self._ours, self._read)
        self._is_read = True

    def _read(self) -> bool:
        """Take what is there; whether there may be more."""
        try:
            data = os.read(self._ours, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._forget()
            return False
        self._words.feed(data)
        return True

    def drain(self) -> None:
        """After the task's end: take what is left, at most what a pipe holds."""
        for _ in range(DRAIN_READS_MAX):  # bounded: what got away from us may print for ever
            if not (self._is_read and self._read()):
                break
        self._words.end()

    def _forget(self) -> None:
        if self._is_read:
            self._loop.remove_reader(self._ours)
            self._is_read = False

    def close(self) -> None:
        """Give both ends back."""
        self._forget()
        os.close(self._ours)
        if self.theirs >= 0:
            os.close(self.theirs)


class Polling:
    """Looks at a progress file now and then, and tells changes."""

    def __init__(self, path: str, sink: Sink) -> None:
        self._path = path
        self._sink = sink
        self._last = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(PROGRESS_S, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(PROGRESS_S, self._look)
        value = read_progress(self._path)
        if value is not None and value != self._last:
            self._last = value
            self._sink.progress(value)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()


class Process:
    """The main process of a task, until all of the task is gone."""

    def __init__(self, child: "subprocess.Popen[bytes]", confined: Confined) -> None:
        self._child = child
        self._confined = confined
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._unwatch: Callable[[], None] = lambda: None
        self.code = 0
        self._watch()

    def _watch(self) -> None:
        try:
            handle = os.pidfd_open(self._child.pid)
        except (AttributeError, OSError):  # macOS, or a kernel before 5.3
            waiting = self._loop.run_in_executor(None, self._child.wait)
            waiting.add_done_callback(lambda _: self._has_ended())
            return

        def unwatch() -> None:
            self._loop.remove_reader(handle)
            os.close(handle)

        self._loop.add_reader(handle, self._has_ended)
        self._unwatch = unwatch

    def _has_ended(self) -> None:
        self._unwatch()
        self._unwatch = lambda: None
        if not self._end.done():
            self._end.set_result(None)

    async def ended_or(self, stop: asyncio.Event) -> bool:
        """Wait for its end. When `stop` is set before: ask it to end, wait for the grace time, and say True."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((self._end, stopping), return_when=asyncio.FIRST_COMPLETED)
            if self._end.done():
                return False
            self._confined.signal(signal.SIGTERM)
            await asyncio.wait((self._end,), timeout=KILL_GRACE_S)
            return True
        finally:
            stopping.cancel()

    async def finish(self) -> None:
        """Kill what is left of the task, also when the main process ended by itself, and reap."""
        try:
            await self._confined.end()
        finally:
            if not self._end.done():
                await asyncio.wait((self._end,), timeout=KILL_GRACE_S)
            self._unwatch()
            if self._end.done():
                self.code = self._child.wait()


def describe_exit(code: int) -> str:
    """`exit code 3`; for a program that a signal killed, the code that a shell would report, and the signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"exit code {exit_code(code)} (killed by {name})"


def exit_code(code: int) -> int:
    """The exit code that a shell would report for what `wait` did."""
    return code if code >= 0 else 128 - code


def _absolute_path() -> str:
    """PATH without its relative places: a task's own directory is no place to find the shell in."""
    return os.pathsep.join(place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place))


def _unstartable(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"the program cannot be started: {error.strerror or error}"
    return f"the program cannot be started: {error}; names of variables hold no = and no NUL, values no NUL"


def _remove_usual(path: str) -> bool:
    """Remove a directory that holds what it was furnished with, as most do at the end; whether it did."""
    try:
        for name in ("entrypoint", "stdout", "progress"):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:
        return False
    return True


def remove_tree(path: str) -> None:
    """Remove a directory that a task filled, or locked with modes; what cannot be removed is left to the next start."""
    shutil.rmtree(path, onerror=_open_and_retry)


def _open_and_retry(act: Callable[..., object], path: str, _: object) -> None:
    """A directory without rights cannot be read or emptied: give them back and do it again."""
    with contextlib.suppress(OSError):
        above = os.path.dirname(path)
        os.chmod(above, 0o700)
        if act in (os.scandir, os.open, os.lstat):
            os.chmod(path, 0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            act(path)
