"""Every subject: built here, parsed here, permitted here, and written nowhere else.

The words are the system's vocabulary; behind a word come tokens from the steady to the particular, so that a filter is a
prefix: `started.<shard>.<worker>`. A shard is two hex digits. An optional prefix in front serves a shared NATS cluster.
"""

import re
from base64 import b32encode
from dataclasses import dataclass, field

from windlass.errors import Invalid
from windlass.ids import issued_of

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
PERSONAL = ("jobs", "jobs.cancel", "jobs.restart", "pending", "started", "completed", "error", "progress", "schedules")
"""The bare words: what a person publishes by hand. A coordinator forwards each to its shard."""
REPORTS = ("started", "completed", "error", "progress")
PRIORITIES = range(9, -1, -1)
RESERVED_QUEUES = frozenset({"pending", "started", "completed", "error", "heartbeat", "jobs", "logs", "progress", "redeliveries"})


def check_queue(name: str) -> str:
    """The name of a queue, if it may be one.

    Raises:
        Invalid: with what a name may hold.
    """
    if name in RESERVED_QUEUES or name.startswith("x-"):
        raise Invalid(f"queue {name!r} is reserved for Windlass itself; choose another name")
    if not name or len(name) > 64 or any(c.isspace() or not c.isprintable() or c in "*>" for c in name):
        raise Invalid(f"queue {name!r}: a name has 1–64 printable characters, no blanks, no * and no >")
    return name


def queue_token(name: str) -> str:
    """One subject token for any queue name: itself where it can be, else `=` and its base32."""
    return name if TOKEN.fullmatch(name) else "=" + b32encode(name.encode()).decode().rstrip("=").lower()


def rung(bell: str) -> int | None:
    """The shard whose bell a subject is; None if it is none."""
    shard = bell.rpartition(".")[2]
    return int(shard, 16) if re.fullmatch(r"[0-9a-f]{2}", shard) else None


def inbox_of(service: str, worker: str = "") -> str:
    """What the inboxes of a service's user begin with; of a worker's own, if it has one: then `worker` is its name."""
    return f"_INBOX_workers.{worker}" if worker else f"_INBOX_{service}"


@dataclass(frozen=True, slots=True)
class Place:
    """What a subject of the intake says: its word, and shard and worker where it has them."""

    word: str
    shard: int | None = None
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Subjects:
    """All names of one installation; `prefix` is empty or ends in a dot."""

    prefix: str = ""
    api: str = field(init=False)

    def __post_init__(self) -> None:
        if self.prefix and not re.fullmatch(r"([A-Za-z0-9_-]+\.)+", self.prefix):
            raise Invalid(f"subject prefix {self.prefix!r}: use letters, digits, - and _, and end it with a dot")
        object.__setattr__(self, "api", f"{self.prefix}api")

    # -- intake -----------------------------------------------------------------------------------------------------

    def personal(self) -> list[str]:
        """The bare words."""
        return [self.prefix + word for word in PERSONAL]

    def jobs(self, shard: int) -> str:
        """Commands to the jobs of a shard."""
        return f"{self.prefix}jobs.{shard:02x}"

    def pending(self, shard: int) -> str:
        """Fired timers and due slices of a shard."""
        return f"{self.prefix}pending.{shard:02x}"

    def report(self, word: str, shard: int, worker: str) -> str:
        """A worker's report: `word` is one of `REPORTS`."""
        return f"{self.prefix}{word}.{shard:02x}.{issued_of(worker)}"

    def shard_intake(self, shard: int) -> list[str]:
        """All that the owner of a shard takes."""
        hexed = f"{shard:02x}"
        words = [f"{self.prefix}{word}.{hexed}" for word in ("jobs", "pending", "schedules", "control")]
        return words + [f"{self.prefix}{word}.{hexed}.*" for word in REPORTS]

    def place(self, subject: str) -> Place:
        """Read an intake subject back.

        Raises:
            Invalid: it is none.
        """
        rest = subject.removeprefix(self.prefix)
        if rest in PERSONAL:
            return Place(rest)
        word, _, tail = rest.partition(".")
        shard, _, worker = tail.partition(".")
        if not re.fullmatch(r"[0-9a-f]{2}", shard):
            raise Invalid(f"{subject!r} is no subject of the intake")
        return Place(word, int(shard, 16), worker or None)

    # -- work -------------------------------------------------------------------------------------------------------

    def queued(self, queue: str, priority: int, task: str, attempt: int) -> str:
        """One task in one queue."""
        return f"{self.prefix}queues.{queue_token(queue)}.{priority}.{task}.{attempt}"

    def queue_level(self, queue: str, priority: int) -> str:
        """Filter: one queue at one priority."""
        return f"{self.prefix}queues.{queue_token(queue)}.{priority}.>"

    def queues(self) -> str:
        """Filter: all queues."""
        return f"{self.prefix}queues.>"

    def orders(self, worker: str) -> str:
        """Grants, refusals and stop orders for one worker."""
        return f"{self.prefix}x-{issued_of(worker)}"

    def canary(self, node: str) -> str:
        """What a service writes only to see that the broker stores it."""
        return f"{self.prefix}canary.{node}"

    def canaries(self) -> str:
        """Filter: every canary."""
        return f"{self.prefix}canary.*"

    # -- notices ----------------------------------------------------------------------------------------------------

    def heartbeat(self, node: str) -> str:
        """Who is alive."""
        return f"{self.prefix}heartbeat.{issued_of(node)}"

    def heartbeats(self) -> str:
        """Filter: every node."""
        return f"{self.prefix}heartbeat.*"

    def logs(self, shard: int, job: str, task: str) -> str:
        """Parts of one task's output."""
        return f"{self.prefix}logs.{shard:02x}.{job}.{task}"

    def shard_logs(self, shard: int) -> str:
        """Filter: the output of a shard's tasks."""
        return f"{self.prefix}logs.{shard:02x}.>"

    def job_logs(self, shard: int, job: str) -> str:
        """Filter: the output of one job's tasks."""
        return f"{self.prefix}logs.{shard:02x}.{job}.*"

    def all_logs(self) -> str:
        """Filter: all output."""
        return f"{self.prefix}logs.>"

    def changed(self, kind: str, stream: str) -> str:
        """What was committed to one stream."""
        return f"{self.prefix}events.{kind}.{stream}"

    def changes(self, kind: str) -> str:
        """Filter: what was committed to any stream of a kind."""
        return f"{self.prefix}events.{kind}.*"

    def bell(self, name: str, shard: int) -> str:
        """`timed` or `hooked`: the head of a shard."""
        return f"{self.prefix}events.{name}.{shard:02x}"

    def bells_of(self, name: str) -> str:
        """Filter: the bells of all shards, of one name."""
        return f"{self.prefix}events.{name}.*"

    def bells(self) -> list[str]:
        """Filter: all bells."""
        return [self.bells_of("timed"), self.bells_of("hooked")]

    def request(self, method: str) -> str:
        """An endpoint of the gateway's NATS service: `api.jobs`."""
        return f"{self.api}.{method}"
