"""Getting images: one pull at a time for each, at most three at once, and never in the way of tasks whose image is here."""

import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from windlass.messages.jobs import Registry
from windlass.worker.docker.engine import QUICK_S, Engine, Gone, Refused

PULLS_MAX = 3
TRIES_MAX = 3
PAUSE_S = 0.5
"""Before the second try; doubles."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_PASSING = re.compile(
    r"connection refused|no such host|i/o timeout|TLS handshake timeout|connection reset|timeout exceeded|unexpected EOF"
    r"|server misbehaving|network is unreachable|Service Unavailable|Bad Gateway|toomanyrequests",
    re.IGNORECASE,
)


_Pull = tuple[str, Registry | None]


class NoImage(Refused):
    """An image cannot be had; the sentence says which and why."""

    code = "no_image"


def is_name(name: str) -> bool:
    """Whether a text could name an image; the engine knows the finer rules."""
    return _NAME.fullmatch(name) is not None


def full_name(name: str) -> str:
    """A name with registry and tag: `busybox` is `docker.io/library/busybox:latest`."""
    head, slash, rest = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    elif head in ("docker.io", "index.docker.io") and "/" not in rest:
        name = f"docker.io/library/{rest}"
    if "@" not in name and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name


class Images:
    """The pulls of one worker."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(PULLS_MAX, thread_name_prefix="pull")
        self._lock = threading.RLock()  # a pull that ends at once forgets itself in the caller
        self._pulls: dict[_Pull, Future[None]] = {}
        self._closed = threading.Event()

    def pull(self, name: str, registry: Registry | None = None) -> "Future[None]":
        """The pull of an image that is on its way already for the same user, or a new one; it fails with `NoImage`."""
        key = (full_name(name), registry)
        with self._lock:
            under_way = self._pulls.get(key)
            if under_way is None:
                under_way = self._pulls[key] = self._pool.submit(self._pull, name, registry)
                under_way.add_done_callback(lambda _: self._forget(key))
            return under_way

    def _forget(self, key: "_Pull") -> None:
        with self._lock:
            self._pulls.pop(key, None)

    def _pull(self, name: str, registry: Registry | None) -> None:
        pause_s = PAUSE_S
        for left in reversed(range(TRIES_MAX)):
            try:
                self._pull_once(name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest", registry)
                return
            except (Refused, Gone) as error:
                status = error.status if isinstance(error, Refused) else 503
                if left == 0 or not (isinstance(error, Gone) or _PASSING.search(str(error))) or self._closed.wait(pause_s):
                    raise NoImage(status, f"image {name} cannot be pulled: {error}") from error
                pause_s *= 2

    def _pull_once(self, name: str, registry: Registry | None) -> None:
        for line in self._engine.pull(name, registry):
            if "error" in line:
                raise Refused(500, str((line.get("errorDetail") or {}).get("message") or line["error"]))
        self._engine.call("GET", f"/images/{name}/json", timeout_s=QUICK_S)

    def close(self) -> None:
        """Try nothing again; pulls that are under way end by themselves."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
