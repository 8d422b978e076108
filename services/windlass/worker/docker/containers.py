"""What the engine is told to make: the settings of each container, as data."""

import re
import unicodedata

import msgspec

from windlass.grammar import gpus, memory_bytes, nano_cpus
from windlass.messages.commands import RunTask
from windlass.messages.jobs import Limits, Task
from windlass.worker.docker import exchange, pause
from windlass.worker.docker.engine import Json
from windlass.worker.runtime import Program, environment

PROCESSES_MAX = 4096
_DROPPED = ("NET_RAW", "MKNOD", "AUDIT_WRITE", "SETPCAP", "SETFCAP")
_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL")
OWN_NETWORKS = ("none", "bridge", "default")
"""Networks that are part of the engine."""
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


class Amounts(msgspec.Struct, frozen=True):
    """What a container may use: CPUs in billionths and memory in bytes, 0 for as much as there is."""

    nano_cpus: int = 0
    memory_bytes: int = 0

    def of(self, limits: Limits | None) -> "Amounts":
        """What a task says of them, else what is said here.

        Raises:
            Invalid: it says no amount.
        """
        if limits is None:
            return self
        return Amounts(
            nano_cpus(limits.cpus) if limits.cpus else self.nano_cpus,
            memory_bytes(limits.memory) if limits.memory else self.memory_bytes,
        )


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """What all containers of a worker have in common."""

    labels: Labels
    hardening: str
    log_driver: str
    limits: Amounts
    """For tasks that name no limits."""


def alias(name: str) -> str:
    """How others on a network reach what has this name: in lower case, with dashes."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9_]+", "-", plain).strip("-")


def endpoint(network: str, program: Program) -> Json:
    """How a container is on a network; the engine's own know no aliases."""
    name = alias(program.name)
    return {"Aliases": [name]} if name and network not in OWN_NETWORKS else {}


def task_container(
    task: RunTask,
    program: Program,
    role: str,
    *,
    manner: Manner,
    exchanged: list[Json],
    mounts: list[Json],
    network: str,
    sandbox: str,
) -> Json:
    """The container of one program of a task.

    Without `exchanged` mounts the exchange is by archive. It is on `network`; if that is empty it joins the sandbox, and
    without one it is on the engine's default network.
    """
    host = _hardening(manner.hardening, has_archive=not exchanged)
    amounts = manner.limits.of(task.definition.limits)
    if amounts.nano_cpus:
        host["NanoCpus"] = amounts.nano_cpus
    if amounts.memory_bytes:
        host["Memory"] = host["MemorySwap"] = amounts.memory_bytes  # the same: no swap on top
    host["LogConfig"] = {"Type": manner.log_driver}
    if sandbox:
        host["NetworkMode"] = f"container:{sandbox}"
    else:
        host["NetworkMode"] = network or ("none" if manner.hardening == "strict" else "default")
    host["Mounts"] = [*host.get("Mounts", []), *exchanged, *mounts]
    if any(mount["Target"] in host.get("Tmpfs", ()) for mount in mounts):
        del host["Tmpfs"]  # of `strict`; the task has something there itself
    if isinstance(program, Task) and program.gpus:
        host["DeviceRequests"] = [_device_request(program.gpus)]
    variables = {
        **program.env,
        **environment(task),
        "TORK_OUTPUT": exchange.OUTPUT,
        "TORK_PROGRESS": exchange.PROGRESS,
    }
    body: Json = {
        "Image": program.image,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": manner.labels.of(role, task.task),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }
    if network:
        body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint(network, program)}}
    if workdir := exchange.workdir(program):
        body["WorkingDir"] = workdir
    entrypoint = program.entrypoint or (("sh", "-c") if program.run else ())
    if entrypoint:
        body["Entrypoint"] = list(entrypoint)
    if program.run:
        body["Cmd"] = [exchange.SCRIPT]
    elif program.cmd:
        body["Cmd"] = list(program.cmd)
    return body


def _device_request(text: str) -> Json:
    """As Docker's own `--gpus` would ask."""
    asked = gpus(text)
    return {
        "Driver": asked.driver,
        "Count": asked.number,
        "DeviceIDs": list(asked.devices),
        "Capabilities": [list(asked.capabilities)],
        "Options": dict(asked.options),
    }


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
