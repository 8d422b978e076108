"""The choice between the runtimes, by name or by what is there."""

import msgspec

from windlass.errors import Misconfigured
from windlass.ids import NODE
from windlass.worker.runtime import Runtime
from windlass.worker.shell import Shell, ShellSettings

KINDS = ("auto", "docker", "shell")


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
    docker_host: str = ""
    docker_config: str = ""
    docker_exchange: str = "auto"
    docker_sandbox: str = "auto"
    docker_hardening: str = "standard"
    docker_log_driver: str = "none"


def make_runtime(kind: str, settings: RuntimeSettings) -> Runtime:
    """The runtime of a name in `KINDS`; it does nothing before `prepare`.

    Raises:
        Misconfigured: there is none of that name, or a setting is wrong.
    """
    if NODE.fullmatch(settings.worker) is None:
        raise Misconfigured(f"the worker's name is {settings.worker!r}; it has 1–64 letters, digits, _ and -")
    match kind:
        case "shell" | "auto":
            return _shell(settings)
        case "docker":
            raise Misconfigured("the docker runtime is not built yet; use --runtime shell")
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
        )
    )
