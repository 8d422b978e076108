"""What the engine is told to make: the settings of each container, as data."""

import msgspec

from windlass.messages.commands import RunTask
from windlass.worker.docker import exchange, pause
from windlass.worker.docker.engine import Json
from windlass.worker.runtime import environment

PROCESSES_MAX = 4096
_DROPPED = ("NET_RAW", "MKNOD", "AUDIT_WRITE", "SETPCAP", "SETFCAP")
_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL")
HARDENINGS = ("standard", "none", "strict")


class Labels(msgspec.Struct, frozen=True):
    """Whose a container is; by these the next start of a worker finds what the last one left."""

    worker: str
    instance: str

    def of(self, role: str, task: str = "") -> dict[str, str]:
        """The labels of one container."""
        return {
            "windlass.worker": self.worker,
            "windlass.instance": self.instance,
            "windlass.role": role,
            **({"windlass.task": task} if task else {}),
        }


def _hardening(kind: str, has_archive: bool) -> Json:
    """No new privileges, fewer capabilities, a limit of processes; `strict` breaks package installs, see the reference."""
    if kind == "none":
        return {}
    host: Json = {"SecurityOpt": ["no-new-privileges"], "CapDrop": list(_DROPPED), "PidsLimit": PROCESSES_MAX}
    if kind == "strict":
        host |= {"CapDrop": ["ALL"], "CapAdd": list(_KEPT), "ReadonlyRootfs": True, "Tmpfs": {"/tmp": ""}}  # noqa: S108  the container's own
        if has_archive:
            host["Mounts"] = [{"Type": "volume", "Target": exchange.HOME}]
    return host


def task_container(task: RunTask, *, labels: Labels, hardening: str, log_driver: str, mounts: list[Json], sandbox: str) -> Json:
    """A task's container. Without mounts the exchange is by archive; without a sandbox it gets a network of its own."""
    definition = task.definition
    host = _hardening(hardening, has_archive=not mounts)
    host["LogConfig"] = {"Type": log_driver}
    host["NetworkMode"] = f"container:{sandbox}" if sandbox else ("none" if hardening == "strict" else "default")
    if mounts:
        host["Mounts"] = [*host.get("Mounts", []), *mounts]
    variables = {
        **definition.env,
        **environment(task),
        "TORK_OUTPUT": exchange.OUTPUT,
        "TORK_PROGRESS": exchange.PROGRESS,
    }
    body: Json = {
        "Image": definition.image,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": labels.of("main", task.task),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }
    if definition.run:
        body |= {"Entrypoint": ["sh", "-c"], "Cmd": [exchange.SCRIPT]}
    elif definition.cmd:
        body["Cmd"] = list(definition.cmd)
    return body


def sandbox_container(labels: Labels, image: str = pause.IMAGE) -> Json:
    """A container that only holds a network namespace: one program that sleeps, nothing to write to, no rights."""
    return {
        "Image": image,
        "Cmd": [pause.PROGRAM],
        "Labels": labels.of("sandbox"),
        "HostConfig": {
            "NetworkMode": "default",
            "LogConfig": {"Type": "none"},
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 16,
        },
    }
