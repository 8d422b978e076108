"""Network namespaces that outlive tasks: making one is half the cost of a container, so each is lent to one task at a time."""

import secrets
import threading

from windlass.log import get
from windlass.worker.docker import exchange, pause
from windlass.worker.docker.containers import Labels, sandbox_container
from windlass.worker.docker.engine import QUICK_S, SLOW_S, Engine, Gone, Json, Refused

FILE_MAX = 64 * 1024
"""Largest of the files that are copied from a sandbox."""

log = get()


class Sandbox:
    """A pause container, and its `/etc/hosts`, `resolv.conf` and `hostname` as they were in the beginning."""

    def __init__(self, container: str, files: dict[str, bytes]) -> None:
        self.container = container
        self.files = files


class Sandboxes:
    """The sandboxes of one worker; used from several threads."""

    def __init__(self, engine: Engine, labels: Labels, kept_max: int, architecture: str) -> None:
        self._engine = engine
        self._labels = labels
        self._kept_max = kept_max
        self._architecture = architecture
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._has_image = False
        self._free: list[Sandbox] = []
        self._all: set[Sandbox] = set()

    def lease(self) -> Sandbox:
        """One that nobody uses: the last given back, or a new one.

        Raises:
            Refused, Gone: the engine cannot make one.
        """
        with self._lock:
            if self._free:
                return self._free.pop()
        sandbox = self._make()
        with self._lock:
            self._all.add(sandbox)
        return sandbox

    def give_back(self, sandbox: Sandbox) -> None:
        """Its task is dead; the next one may have it."""
        with self._lock:
            if len(self._free) < self._kept_max:
                self._free.append(sandbox)
                return
        self.discard(sandbox)

    def discard(self, sandbox: Sandbox) -> None:
        """It is broken, or one too many."""
        with self._lock:
            self._all.discard(sandbox)
        self._remove(sandbox.container)

    def _make(self) -> Sandbox:
        with self._making:
            if not self._has_image:
                self._import()
                self._has_image = True
        name = f"windlass-sandbox-{secrets.token_hex(8)}"
        try:
            self._create(name)
            self._engine.call("POST", f"/containers/{name}/start", timeout_s=SLOW_S)
            found = self._engine.json("GET", f"/containers/{name}/json")
            return Sandbox(found["Id"], _files(found))
        except BaseException:
            self._remove(name)
            raise

    def _create(self, name: str) -> None:
        body = sandbox_container(self._labels)
        try:
            self._engine.call("POST", "/containers/create", params={"name": name}, body=body, timeout_s=SLOW_S)
        except Refused as error:
            if error.status != 404:
                raise
            self._import()  # somebody pruned the image
            self._engine.call("POST", "/containers/create", params={"name": name}, body=body, timeout_s=SLOW_S)

    def _import(self) -> None:
        try:
            self._engine.call("GET", f"/images/{pause.IMAGE}/json", timeout_s=QUICK_S)
        except Refused as error:
            if error.status != 404:
                raise
            self._engine.load(pause.image(self._architecture), pause.IMAGE, pause.PROGRAM)

    def _remove(self, container: str) -> None:
        try:
            self._engine.call("DELETE", f"/containers/{container}", params={"force": 1, "v": 1}, timeout_s=SLOW_S)
        except Refused as error:
            if error.status not in (404, 409):
                log.warning("sandbox_not_removed", container=container, error=str(error))
        except Gone as error:
            log.warning("sandbox_not_removed", container=container, error=str(error))

    def close(self) -> None:
        """Remove them all; no task may be running."""
        with self._lock:
            every, self._all, self._free = self._all, set(), []
        for sandbox in every:
            self._remove(sandbox.container)


def _files(found: Json) -> dict[str, bytes]:
    """The network files of a container, from where the engine keeps them on this host.

    Raises:
        Gone: they are not here.
    """
    files = {}
    for name, key in zip(exchange.NETWORK_FILES, ("HostsPath", "ResolvConfPath", "HostnamePath"), strict=True):
        try:
            with open(found[key], "rb") as file:
                files[name] = file.read(FILE_MAX)
        except (OSError, KeyError) as error:
            raise Gone(f"the engine's {name} of a sandbox is not on this host: {error}") from error
    return files
