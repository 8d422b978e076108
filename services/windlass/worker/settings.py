"""The worker's settings: names and slots of its queues, its runtime, its spool."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir

import msgspec

from windlass.durations import NotADuration, seconds
from windlass.errors import Invalid, Misconfigured
from windlass.ids import NODE, user_of
from windlass.messages.jobs import Limits
from windlass.secrets import keys
from windlass.secrets.keys import Keys
from windlass.settings import Node, is_on, lookup, node
from windlass.subjects import check_queue
from windlass.worker.docker.containers import Amounts

DEFAULT_QUEUES = {"default": 1}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once, at start. `queues` maps a queue's name to its slots: how many of its tasks run at once.

    `user` is the worker's own NATS user, which `windlass nats-user` makes; empty for who shares the workers' user. `limits` and
    `timeout` are for tasks that have none, from their job either; `binds` are the directories that tasks may have.
    """

    node: Node
    name: str
    user: str
    runtime: str
    queues: dict[str, int]
    spool: Path
    docker_host: str
    control_groups: bool
    limits: Amounts
    timeout: str
    binds: tuple[str, ...]
    keys: Keys | None = None
    """What secrets are sealed with on their way here and back; without it, tasks of jobs with secrets fail."""

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        *,
        name: str | None = None,
        runtime: str | None = None,
        queues: Sequence[str] = (),
        http: str | None = None,
        log_format: str | None = None,
    ) -> "Settings":
        """From flags and environment.

        Raises:
            Misconfigured: one is missing or wrong.
        """
        common = node(environ, "worker", http, log_format)
        chosen = lookup(environ, "WORKER_NAME", name, common.instance)
        issued = lookup(environ, "WORKER_ID")
        if issued and NODE.fullmatch(user_of(issued)) is None:
            raise Misconfigured(f"WINDLASS_WORKER_ID is {issued!r}; an id has 1–57 letters, digits, - and _")
        spool = lookup(environ, "SPOOL", default=str(Path(gettempdir()) / f"windlass-spool-{issued or chosen}"))
        return cls(
            node=common,
            name=chosen,
            user=user_of(issued) if issued else "",
            runtime=lookup(environ, "RUNTIME_TYPE", runtime, "docker"),
            queues=_queues(queues) or _queues_of(environ) or DEFAULT_QUEUES,
            spool=Path(spool),
            docker_host=environ.get("DOCKER_HOST", ""),
            control_groups=_switch(lookup(environ, "SHELL_CONTROL_GROUPS", default="off")),
            keys=keys.read(lookup(environ, "SECRET_KEY"), "worker"),
            limits=_limits(environ),
            timeout=_timeout(lookup(environ, "WORKER_LIMITS_TIMEOUT")),
            binds=_binds(lookup(environ, "MOUNTS_BIND_SOURCES")) if is_on(lookup(environ, "MOUNTS_BIND_ALLOWED")) else (),
        )


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise Misconfigured(f"WINDLASS_SHELL_CONTROL_GROUPS is {text!r}; it is on or off")
    return text == "on"


def _limits(environ: Mapping[str, str]) -> Amounts:
    limits = Limits(cpus=lookup(environ, "WORKER_LIMITS_CPUS"), memory=lookup(environ, "WORKER_LIMITS_MEMORY"))
    try:
        return Amounts().of(limits)
    except Invalid as error:
        raise Misconfigured(f"WINDLASS_WORKER_LIMITS_CPUS or …_MEMORY: {error}") from error


def _binds(text: str) -> tuple[str, ...]:
    found = tuple(path for path in map(str.strip, text.split(",")) if path)
    for path in found:
        if not Path(path).is_absolute():
            raise Misconfigured(f"WINDLASS_MOUNTS_BIND_SOURCES: {path!r} is no absolute path; separate directories by commas")
    return found


def _timeout(text: str) -> str:
    try:
        if text:
            seconds(text)
    except NotADuration as error:
        raise Misconfigured(f"WINDLASS_WORKER_LIMITS_TIMEOUT: {error}; write one such as 90m") from error
    return text


def _slots(text: str, where: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise Misconfigured(f"{where} is {text!r}; slots are a number from 1 to 10000")
    return int(text)


def _name(text: str, where: str) -> str:
    try:
        return check_queue(text)
    except Invalid as error:
        raise Misconfigured(f"{where}: {error}") from error


def _queues(flags: Sequence[str]) -> dict[str, int]:
    """Of `--queue NAME:SLOTS`; slots left out are 1."""
    found = {}
    for flag in flags:
        name, colon, slots = flag.rpartition(":")
        if not colon:
            name, slots = flag, "1"
        found[_name(name, "--queue")] = _slots(slots, f"--queue {flag}")
    return found


def _queues_of(environ: Mapping[str, str]) -> dict[str, int]:
    """Of `WINDLASS_WORKER_QUEUES_<NAME>=<SLOTS>`, else of the same with `TORK_`; a name is in lower case."""
    for prefix in ("WINDLASS_WORKER_QUEUES_", "TORK_WORKER_QUEUES_"):
        found = {
            _name(key.removeprefix(prefix).lower(), key): _slots(value, key)
            for key, value in environ.items()
            if key.startswith(prefix)
        }
        if found:
            return found
    return {}
