"""The docker runtime as the worker sees it: an async face over threads, a janitor before and a cleaner behind."""

import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import signal
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec

from windlass.errors import Invalid, Misconfigured
from windlass.log import get
from windlass.messages.commands import RunTask
from windlass.worker.docker import exchange, pause
from windlass.worker.docker.admission import check
from windlass.worker.docker.attempt import Attempt, Delivery
from windlass.worker.docker.binds import Binds
from windlass.worker.docker.containers import HARDENINGS, Amounts, Labels, Manner
from windlass.worker.docker.engine import QUICK_S, SLOW_S, Engine, Facts, Gone, Refused
from windlass.worker.docker.images import Images
from windlass.worker.docker.rooms import Room
from windlass.worker.docker.sandboxes import Sandbox, Sandboxes
from windlass.worker.docker.sidecars import answers, run_beside
from windlass.worker.names import NameLock
from windlass.worker.results import read_progress
from windlass.worker.runtime import KILL_GRACE_S, Aside, Failed, Outcome, Program, Sink, Stopped, Vanished
from windlass.worker.sequence import run_in_turn

EXCHANGES = ("auto", "bind", "archive")
PROGRESS_S = 1.0
"""How often a progress file on this host is looked at."""
PROGRESS_ARCHIVE_S = 10.0
"""How often one is fetched from the engine."""
CALLS_MAX = 4
"""Kills, pings and fetches at once."""
CLEANERS_MAX = 2
CLEAN_TRIES_MAX = 60
"""With pauses growing to `CLEAN_PAUSE_MAX_S`, this is about ten minutes."""
CLEAN_PAUSE_MAX_S = 10.0

log = get()


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See `RuntimeSettings`, which has the same fields for all runtimes."""

    worker: str
    instance: str
    concurrency: int = 1
    temp_dir: str = ""
    host: str
    config: str = ""
    exchange: str = "auto"
    sandbox: str = "auto"
    hardening: str = "standard"
    log_driver: str = "none"
    limits: Amounts = Amounts()
    """Of tasks that name none."""
    binds: tuple[str, ...] = ()
    """Directories that tasks may bind."""
    away_s: float = 60.0
    """How long the engine may be away before the outcome of a task is unknown."""


class Docker:
    """Runs tasks as containers."""

    def __init__(self, settings: DockerSettings) -> None:
        for what, value, allowed in (
            ("exchange", settings.exchange, EXCHANGES),
            ("sandbox", settings.sandbox, ("auto", "off")),
            ("hardening", settings.hardening, HARDENINGS),
        ):
            if value not in allowed:
                raise Misconfigured(f"docker {what} is {value!r}; it is one of: {', '.join(allowed)}")
        self._settings = settings
        self._lock = NameLock(settings.worker, "docker")
        self._numbers = itertools.count(1)
        self._calls = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix="docker-call")
        self._cleaners = ThreadPoolExecutor(CLEANERS_MAX, thread_name_prefix="docker-clean")
        self._closing = threading.Event()
        self._folder = ""
        self._binds = Binds()
        self.labels = Labels(settings.worker, settings.instance)
        self.manner = Manner(
            labels=self.labels, hardening=settings.hardening, log_driver=settings.log_driver, limits=settings.limits
        )
        self.away_s = settings.away_s
        # Attach, wait, kill and the rest of each task, and the pulls.
        self.engine = Engine(settings.host, 2 * settings.concurrency + CALLS_MAX + CLEANERS_MAX + 4, settings.config)
        self.images = Images(self.engine)
        self.facts = Facts(architecture="", is_podman=False, is_remapped=False)
        self.sandboxes: Sandboxes | None = None
        self.is_bind = False

    # -- before the first task

    async def prepare(self) -> None:
        """See `Runtime.prepare`."""
        await self._lock.take()
        try:
            await asyncio.to_thread(self._connect)
        except BaseException:
            self._lock.release()
            raise

    def _connect(self) -> None:
        settings = self._settings
        try:
            self.facts = self.engine.connect()
            self._sweep()
        except (Gone, Refused) as error:
            raise Misconfigured(
                f"the docker runtime cannot use the engine at {settings.host}: {error}; "
                "start Docker and see that this user may use its socket, set DOCKER_HOST, or use --runtime shell"
            ) from error
        own = [self._folder_path(), *([self.engine.socket] if self.engine.socket else [])]
        self._binds = Binds(settings.binds, tuple(own))
        can_bind = self.engine.is_local and os.geteuid() == 0
        self.is_bind = settings.exchange == "bind" or (settings.exchange == "auto" and can_bind)
        if self.is_bind:
            self._folder = self._own_folder()
        can_share = self.is_bind and not self.facts.is_podman and self.facts.architecture in pause.ARCHITECTURES
        if settings.sandbox == "auto" and settings.hardening != "strict" and can_share:
            self.sandboxes = Sandboxes(self.engine, self.labels, settings.concurrency, self.facts.architecture)

    def _folder_path(self) -> str:
        above = os.path.realpath(self._settings.temp_dir or tempfile.gettempdir())
        return os.path.join(above, f"windlass-docker-{self._settings.worker}-{os.getuid()}")

    def _own_folder(self) -> str:
        """An empty directory that only the worker can enter: tasks write below it, and links in there lead nowhere."""
        folder = self._folder_path()
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            found = os.lstat(folder)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise Misconfigured(f"{folder} is not a directory of this user; remove it")
            os.chmod(folder, 0o700)
        except OSError as error:
            raise Misconfigured(f"the directory {folder} for running tasks cannot be made: {error.strerror}") from error
        for name in os.listdir(folder):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        return folder

    def _sweep(self) -> None:
        """Remove what an earlier start of this worker left. The lock on the name says that it is dead."""
        filters = msgspec.json.encode({"label": [f"windlass.worker={self._settings.worker}"]}).decode()
        for kind, path, field, name in (
            ("containers", "/containers/json", "items", "Id"),
            ("volumes", "/volumes", "Volumes", "Name"),
            ("networks", "/networks", "items", "Id"),
        ):
            found = self.engine.json("GET", path, params={"all": 1, "filters": filters}).get(field) or []
            for left in found:
                with contextlib.suppress(Refused):
                    self._remove(kind, left[name])
            if found:
                log.warning("leftovers_removed", worker=self._settings.worker, kind=kind, count=len(found))

    def refusal(self, task: RunTask) -> str | None:
        """See `Runtime.refusal`."""
        try:
            check(task.definition)
        except Invalid as error:
            return str(error)
        return None

    # -- a task

    async def run(self, task: RunTask, worker: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        """See `Runtime.run`."""
        why = self.refusal(task)
        if why is not None:
            return Failed(why)
        if stop.is_set():
            return Stopped()
        room = Room(task)
        room.enter()
        try:
            return await run_in_turn(task.definition, functools.partial(self._take_turn, task, room, sink), stop)
        finally:
            self.clean("", "", None, room)

    def _furnish(self, room: Room, stop: asyncio.Event) -> None:
        try:
            room.furnish(self.engine, self.labels, self._binds, self.away_s, stop.is_set)
        finally:
            self.clean("", "", None, room)

    async def _take_turn(
        self, task: RunTask, room: Room, sink: Sink, program: Program, role: str, stop: asyncio.Event
    ) -> Outcome:
        if not room.is_furnished:
            room.enter()
            try:
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._calls, self._furnish, room, stop))
            except (Invalid, Refused) as error:
                return Failed(f"the container cannot be started: {error}")
            except Gone as error:
                return Stopped() if stop.is_set() else Vanished(str(error))

        def attempt(program: Program, role: str, sink: Sink) -> Attempt:
            folder = os.path.join(self._folder, str(next(self._numbers))) if self._folder else ""
            return Attempt(self, task, program, role, room, folder, Delivery(sink, asyncio.get_running_loop()))

        if role != "main":
            return await self._run(attempt(program, role, Aside(sink)), stop)
        main = attempt(program, role, sink)
        if not task.definition.sidecars:
            return await self._run(main, stop)
        return await run_beside(
            [(sidecar, attempt(sidecar, "sidecar", Aside(sink))) for sidecar in task.definition.sidecars],
            functools.partial(self._run, grace_s=0),
            lambda attempt, probe: answers(self.engine, attempt.container, room.private, probe),
            lambda: self._run(main, stop),
            stop,
        )

    async def _run(self, attempt: Attempt, stop: asyncio.Event, grace_s: float = KILL_GRACE_S) -> Outcome:
        loop = asyncio.get_running_loop()
        attempt.room.enter()
        ended: asyncio.Future[Outcome] = loop.create_future()
        threading.Thread(target=_report, args=(attempt, loop, ended), name=attempt.name, daemon=True).start()
        stopping = asyncio.ensure_future(stop.wait())
        polling = asyncio.ensure_future(self._poll(attempt))
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            await self._stop(attempt, ended, grace_s)
            outcome = ended.result()
            return outcome if isinstance(outcome, Vanished) else Stopped()
        except asyncio.CancelledError:
            await asyncio.shield(self._stop(attempt, ended, 0))
            raise
        finally:
            stopping.cancel()
            polling.cancel()

    async def _stop(self, attempt: Attempt, ended: "asyncio.Future[Outcome]", grace_s: float) -> None:
        """Kill, gently first, until the attempt's thread says that it is over."""
        attempt.halt()
        loop = asyncio.get_running_loop()
        if grace_s and attempt.is_started and await loop.run_in_executor(self._calls, self._ask_to_end, attempt.container):
            await asyncio.wait((ended,), timeout=grace_s)
        while not ended.done():
            if attempt.is_started:
                await loop.run_in_executor(self._calls, self._kill, attempt.container, "SIGKILL")
            await asyncio.wait((ended,), timeout=1)

    def _ask_to_end(self, container: str) -> bool:
        """Send SIGTERM; whether it is worth waiting. The kernel ignores it for a main process that has no handler for it."""
        try:
            pid = int(self.engine.json("GET", f"/containers/{container}/json")["State"]["Pid"])
        except (Refused, Gone, KeyError):
            return False
        if self.engine.is_local and _ignores_sigterm(pid):
            return False
        self._kill(container, "SIGTERM")
        return True

    def _kill(self, container: str, name: str) -> None:
        with contextlib.suppress(Refused, Gone):  # it has ended, or the next round reaches the engine
            self.engine.call("POST", f"/containers/{container}/kill", params={"signal": name})

    async def _poll(self, attempt: Attempt) -> None:
        """Look at the progress now and then, and tell changes."""
        loop = asyncio.get_running_loop()
        last = 0.0
        while True:
            await asyncio.sleep(PROGRESS_S if self.is_bind else PROGRESS_ARCHIVE_S)
            value = None
            if path := attempt.progress_path:
                value = read_progress(path)
            elif attempt.is_started:
                fetch = functools.partial(exchange.fetch_progress, self.engine, attempt.container)
                with contextlib.suppress(Refused, Gone):
                    value = await loop.run_in_executor(self._calls, fetch)
            if value is not None and value != last:
                last = value
                attempt.sink.progress(value)

    def give_up_bind(self) -> None:
        """See `Tools.give_up_bind`."""
        if self.is_bind:
            log.warning("exchange_is_archive", reason="the engine does not see this host's files")
        self.is_bind = False

    # -- behind it

    def clean(self, container: str, folder: str, sandbox: Sandbox | None, room: Room | None = None) -> None:
        """See `Tools.clean`."""
        with contextlib.suppress(RuntimeError):  # closed: the sweep of the next start removes it
            self._cleaners.submit(self._clean, container, folder, sandbox, room)

    def _clean(self, container: str, folder: str, sandbox: Sandbox | None, room: Room | None) -> None:
        is_gone = not container or self._is_removed("containers", container)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        if sandbox is not None and self.sandboxes is not None:
            (self.sandboxes.give_back if is_gone else self.sandboxes.discard)(sandbox)
        if room is not None and room.leave():
            for made in room.made:
                self._is_removed(made.kind, made.name)

    def _is_removed(self, kind: str, name: str) -> bool:
        """Try to remove something until it is gone, for about ten minutes at most."""
        is_last = False
        pause_s = 0.1
        for _ in range(CLEAN_TRIES_MAX):
            try:
                self._remove(kind, name)
                return True
            except (Refused, Gone) as error:
                log.warning("not_removed", kind=kind, name=name, error=str(error))
                if is_last:
                    break
                is_last = self._closing.wait(pause_s)
                pause_s = min(pause_s * 2, CLEAN_PAUSE_MAX_S)
        return False

    def _remove(self, kind: str, name: str) -> None:
        try:
            self.engine.call("DELETE", f"/{kind}/{name}", params={"force": 1, "v": 1}, timeout_s=SLOW_S)
        except Refused as error:
            if error.status != 404 and not (error.status == 409 and "in progress" in str(error)):
                raise

    async def healthy(self) -> bool:
        """See `Runtime.healthy`."""

        def ping() -> bool:
            try:
                self.engine.call("GET", "/_ping", timeout_s=QUICK_S / 2)
            except (Refused, Gone):
                return False
            return True

        return await asyncio.get_running_loop().run_in_executor(self._calls, ping)

    async def close(self) -> None:
        """See `Runtime.close`."""
        self.images.close()
        await asyncio.to_thread(self._close)
        self._lock.release()

    def _close(self) -> None:
        self._closing.set()
        self._cleaners.shutdown(wait=True)
        self._calls.shutdown(wait=True)
        if self.sandboxes is not None:
            self.sandboxes.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.engine.close()


def _report(attempt: Attempt, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[Outcome]") -> None:
    """The thread of an attempt: whatever comes out of it reaches the loop."""
    outcome: Outcome | None = None
    defect: BaseException | None = None
    try:
        outcome = attempt.run()
    except BaseException as error:  # noqa: BLE001  it is handed on, to be raised in `run`
        defect = error

    def tell() -> None:
        if ended.done():
            return
        if outcome is not None:
            ended.set_result(outcome)
        else:
            ended.set_exception(defect or AssertionError("an attempt ended without an outcome"))

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(tell)


def _ignores_sigterm(pid: int) -> bool:
    """Whether a process of this host has no handler for SIGTERM; False when we cannot see it."""
    try:
        with open(f"/proc/{pid}/status") as lines:
            caught = next((line for line in lines if line.startswith("SigCgt:")), None)
    except OSError:
        return False
    return caught is not None and not int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1
