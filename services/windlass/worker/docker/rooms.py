"""What the containers of one attempt share: its mounts, the networks it joins, and a private one where it has sidecars."""

import secrets
import threading

import msgspec

from windlass.grammar import check_target, memory_bytes
from windlass.messages.commands import RunTask
from windlass.messages.jobs import Mount, Task
from windlass.worker.docker.binds import Binds
from windlass.worker.docker.containers import Labels
from windlass.worker.docker.engine import SLOW_S, Engine, Json


class Made(msgspec.Struct, frozen=True):
    """Something on the engine that is ours to remove: `kind` is as in the engine's paths."""

    kind: str
    name: str


class Room:
    """Of one attempt; used from several threads. `made` is removed when the last who `enter`ed has left."""

    def __init__(self, task: RunTask) -> None:
        self.mounts: list[Json] = []
        self.made: list[Made] = []
        self.private = ""
        self._task = task
        self._lock = threading.Lock()
        self._inside = 0

    def enter(self) -> None:
        """Somebody needs what is in it."""
        with self._lock:
            self._inside += 1

    def leave(self) -> bool:
        """Somebody does not any more; whether that was the last."""
        with self._lock:
            self._inside -= 1
            return not self._inside

    def networks(self, role: str) -> tuple[str, ...]:
        """Those that a container joins: only what runs beside sidecars needs theirs."""
        joined = self._task.definition.networks
        return (*joined, self.private) if self.private and role in ("main", "sidecar") else joined

    def furnish(self, engine: Engine, labels: Labels, binds: Binds) -> None:
        """Make it. What is made is noted before, so that it is removed even if its making was not answered.

        Raises:
            Invalid: a directory may not be bound.
            Refused, Gone: the engine cannot make it.
        """
        definition, task = self._task.definition, self._task.task
        for mount in definition.mounts:
            name = ""
            if mount.type == "volume":
                name = self._note("volumes", task)
                body = {"Name": name, "Driver": "local", "DriverOpts": mount.opts, "Labels": labels.of("volume", task)}
                engine.call("POST", "/volumes/create", body=body, timeout_s=SLOW_S)
            self.mounts.append(_mount(mount, name, binds))
        if definition.sidecars:
            self.private = self._note("networks", task)
            body = {"Name": self.private, "Driver": "bridge", "Labels": labels.of("network", task)}
            engine.call("POST", "/networks/create", body=body, timeout_s=SLOW_S)

    def _note(self, kind: str, task: str) -> str:
        name = f"windlass-{task}-{secrets.token_hex(4)}"
        self.made.append(Made(kind, name))
        return name


def needs_room(task: Task) -> bool:
    """Whether there is something to make."""
    return bool(task.mounts or task.sidecars)


def _mount(mount: Mount, volume: str, binds: Binds) -> Json:
    told: Json = {"Type": mount.type, "Target": check_target(mount.target)}
    if mount.type == "bind":
        told |= {"Source": binds.admit(mount.source), "ReadOnly": mount.opts.get("readonly") == "true"}
    elif mount.type == "tmpfs":
        size, mode = memory_bytes(mount.opts.get("size", "0")), int(mount.opts.get("mode", "1777"), 8)
        told["TmpfsOptions"] = {"SizeBytes": size, "Mode": mode}
    else:
        told["Source"] = volume
    return told
