"""The choice between the runtimes, by name or by what is there."""

import asyncio
import os

import msgspec

from windlass.errors import Misconfigured
from windlass.ids import NODE
from windlass.log import get
from windlass.messages.commands import RunTask
from windlass.worker.docker.containers import Amounts
from windlass.worker.docker.engine import answers
from windlass.worker.docker.runtime import Docker, DockerSettings
from windlass.worker.runtime import Failed, Outcome, Runtime, Sink
from windlass.worker.shell import Shell, ShellSettings

KINDS = ("auto", "docker", "shell")
PODMAN_HOSTS = (
    f"unix://{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/podman/podman.sock",
    "unix:///run/podman/podman.sock",
)

log = get()


class RuntimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtimes are told.

    `worker` names what a start after a crash has to clean up: unique on this machine and its engine, the same over restarts
    (a node's id is a good one). `instance` is of this start alone. `temp_dir` should be on a disk with room; empty is the
    system's. An empty `docker_host` is `DOCKER_HOST`, else the usual socket.
    """

    worker: str
    instance: str
    concurrency: int = 1
    temp_dir: str = ""
    shell_command: tuple[str, ...] = ("bash", "-c")
    shell_uid: int | None = None
    shell_gid: int | None = None
    shell_control_groups: bool = False
    docker_host: str = ""
    docker_config: str = ""
    docker_exchange: str = "auto"
    docker_sandbox: str = "auto"
    docker_hardening: str = "standard"
    docker_log_driver: str = "none"
    docker_limits: Amounts = Amounts()
    docker_binds: tuple[str, ...] = ()


class Auto:
    """A task with an image runs in the first engine that answers at the start, one without in the shell."""

    def __init__(self, shell: Shell, engines: list[Docker]) -> None:
        self._shell = shell
        self._engines = engines
        self._engine: Docker | None = None

    async def prepare(self) -> None:
        """See `Runtime.prepare`."""
        await self._shell.prepare()
        for engine in self._engines:
            if not await asyncio.to_thread(answers, engine.engine.host):
                continue
            try:
                await engine.prepare()
            except Misconfigured as error:
                log.warning("engine_not_usable", host=engine.engine.host, error=str(error))
                continue
            self._engine = engine
            log.info("engine_found", host=engine.engine.host)
            return
        log.warning(
            "no_engine_found",
            hosts=[engine.engine.host for engine in self._engines],
            consequence="tasks run in the shell of this machine, without isolation; tasks with an image fail",
            remedy="start Docker or Podman, then this worker again",
        )

    def refusal(self, task: RunTask) -> str | None:
        """See `Runtime.refusal`."""
        if not task.definition.image:
            return self._shell.refusal(task)
        if self._engine is None:
            return (
                f"task {task.definition.name}: it has an image, and no engine answered when this worker started; "
                "start Docker or Podman and then the worker, or remove image to run it in the shell"
            )
        return self._engine.refusal(task)

    async def run(self, task: RunTask, worker: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        """See `Runtime.run`."""
        why = self.refusal(task)
        if why is not None:
            return Failed(why)
        runtime = self._engine if task.definition.image and self._engine is not None else self._shell
        return await runtime.run(task, worker, sink, stop)

    async def healthy(self) -> bool:
        """See `Runtime.healthy`."""
        return await self._shell.healthy() and (self._engine is None or await self._engine.healthy())

    async def close(self) -> None:
        """See `Runtime.close`."""
        if self._engine is not None:
            await self._engine.close()
        await self._shell.close()


def usual_host() -> str:
    """Where Docker's own tools would look for the engine."""
    return os.environ.get("DOCKER_HOST", "") or "unix:///var/run/docker.sock"


def make_runtime(kind: str, settings: RuntimeSettings) -> Runtime:
    """The runtime of a name in `KINDS`; it does nothing before `prepare`.

    Raises:
        Misconfigured: there is none of that name, or a setting is wrong.
    """
    if NODE.fullmatch(settings.worker) is None:
        raise Misconfigured(f"the worker's name is {settings.worker!r}; it has 1–64 letters, digits, _ and -")
    match kind:
        case "shell":
            return _shell(settings)
        case "docker":
            return _docker(settings, settings.docker_host or usual_host())
        case "auto":
            hosts = (settings.docker_host,) if settings.docker_host else (usual_host(), *PODMAN_HOSTS)
            return Auto(_shell(settings), [_docker(settings, host) for host in hosts])
        case _:
            raise Misconfigured(f"runtime {kind!r}; it is one of: {', '.join(KINDS)}")


def _shell(settings: RuntimeSettings) -> Shell:
    return Shell(
        ShellSettings(
            worker=settings.worker,
            temp_dir=settings.temp_dir,
            command=settings.shell_command,
            uid=settings.shell_uid,
            gid=settings.shell_gid,
            control_groups=settings.shell_control_groups,
        )
    )


def _docker(settings: RuntimeSettings, host: str) -> Docker:
    return Docker(
        DockerSettings(
            worker=settings.worker,
            instance=settings.instance,
            concurrency=settings.concurrency,
            temp_dir=settings.temp_dir,
            host=host,
            config=settings.docker_config,
            exchange=settings.docker_exchange,
            sandbox=settings.docker_sandbox,
            hardening=settings.docker_hardening,
            log_driver=settings.docker_log_driver,
            limits=settings.docker_limits,
            binds=settings.docker_binds,
        )
    )
