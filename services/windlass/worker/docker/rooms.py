"""What the containers of one attempt share: its mounts, the networks it joins, and a private one where it has sidecars."""

import secrets
import threading
from collections.abc import Callable
from functools import partial

import msgspec

from windlass.grammar import check_target, memory_bytes
from windlass.messages.commands import RunTask
from windlass.messages.jobs import Mount
from windlass.worker.docker.binds import Binds
from windlass.worker.docker.containers import Labels
from windlass.worker.docker.engine import SLOW_S, Engine, Json, patiently


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
        self.is_furnished = not (task.definition.mounts or task.definition.sidecars)

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

    def furnish(self, engine: Engine, labels: Labels, binds: Binds, away_s: float, is_over: Callable[[], bool]) -> None:
        """Make it; an engine that is away has `away_s` to come back, unless it `is_over`.

        Raises:
            Invalid: a directory may not be bound.
            Refused, Gone: the engine cannot make it.
        """
        definition, task = self._task.definition, self._task.task

        def make(kind: str, body: Json) -> str:
            name = f"windlass-{task}-{secrets.token_hex(4)}"
            self.made.append(Made(kind, name))  # before, so that it is removed even if its making was not answered
            engine.call("POST", f"/{kind}/create", body={**body, "Name": name}, timeout_s=SLOW_S)
            return name

        mounts: list[Json] = []
        for mount in definition.mounts:
            told = _mount(mount, binds)
            if mount.type == "volume":
                body = {"Driver": "local", "DriverOpts": mount.opts, "Labels": labels.of("volume", task)}
                told["Source"] = patiently(partial(make, "volumes", body), away_s, is_over)
            mounts.append(told)
        if definition.sidecars:
            body = {"Driver": "bridge", "Labels": labels.of("network", task)}
            self.private = patiently(partial(make, "networks", body), away_s, is_over)
        self.mounts, self.is_furnished = mounts, True


def _mount(mount: Mount, binds: Binds) -> Json:
    told: Json = {"Type": mount.type, "Target": check_target(mount.target)}
    if mount.type == "bind":
        told |= {"Source": binds.admit(mount.source), "ReadOnly": mount.opts.get("readonly") == "true"}
    elif mount.type == "tmpfs":
        size, mode = memory_bytes(mount.opts.get("size", "0")), int(mount.opts.get("mode", "1777"), 8)
        told["TmpfsOptions"] = {"SizeBytes": size, "Mode": mode}
    return told
