"""The embedded NATS server: its configuration and how it is run."""

import json
import signal
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from windlass.local.data import NATS_USERS, Data
from windlass.local.ports import LOOPBACK
from windlass.local.process import Program

FILE_STORE_BYTES = 8 * 1024**3

TEMPLATE = """\
{head}
server_name: windlass
listen: "{listen}"
# A job of 500 KB, a result of 1 MiB and its envelope, with room.
max_payload: 4MB
# What may wait for one slow reader before it is cut off: two full pulls of large messages.
max_pending: 64MB
# A client that is gone without a word is noticed within ten seconds.
ping_interval: "5s"
ping_max: 2
jetstream {{
  store_dir: {store}
  # Every second, and after every message nothing: no promise rests on the broker's disk, the database's commit carries them all.
  sync_interval: "1s"
  # Heartbeats, bells and workers' orders are small and few; a megabyte is usual, a thousand workers fit.
  max_memory_store: 256MB
  # The streams of events and logs reserve 640 MiB; the rest takes a million waiting jobs. Then submitting is refused
  # with 503, and the disk of a laptop is not filled.
  max_file_store: {file_store_bytes}
}}
authorization {{
  users: [
{users}
  ]
}}
"""


class Rights(NamedTuple):
    """What a user may publish and subscribe to."""

    publish: list[str]
    subscribe: list[str]


def rights(prefix: str) -> dict[str, Rights]:
    """The rights of every user, for an installation with this subject prefix."""
    # Here, since it brings the whole client library, and is needed only when a configuration is written anew.
    from windlass.bus.permissions import permissions
    from windlass.subjects import Subjects

    subjects = Subjects(prefix)
    found = {user: permissions(user, subjects) for user in NATS_USERS}
    return {user: Rights(list(one.publish), list(one.subscribe)) for user, one in found.items()}


def configuration(
    head: str,
    listen: str,
    store: Path,
    passwords: Mapping[str, str],
    allowed: Mapping[str, Rights],
    file_store_bytes: int = FILE_STORE_BYTES,
) -> str:
    """The text of a server's configuration; `head` is a comment or more, `passwords` are as `entry` takes them."""
    users = "\n".join(entry(user, passwords[user], allowed[user]) for user in NATS_USERS)
    return TEMPLATE.format(
        head=head,
        listen=listen,
        store=json.dumps(str(store)),
        file_store_bytes=file_store_bytes,
        users=textwrap.indent(users, "    "),
    )


def entry(user: str, password: str, allowed: Rights) -> str:
    """A user as a server's configuration has it; `password` as it stands there: in quotes, or a variable's name after `$`."""
    lines = [f"{{ user: {json.dumps(user)}, password: {password}, permissions: {{"]
    for verb, subjects in (("publish", allowed.publish), ("subscribe", allowed.subscribe)):
        lines += [f"    {verb}: {{ allow: [", *(f"        {json.dumps(subject)}" for subject in subjects), "    ] }"]
    return "\n".join([*lines, "} }"])


class Nats:
    """The NATS server of a data directory."""

    name = "nats"

    def __init__(self, data: Data, binary: Path, port: int, file_store_bytes: int = FILE_STORE_BYTES) -> None:
        self.port = port
        self._data, self._binary, self._file_store_bytes = data, binary, file_store_bytes
        self._passwords = data.secrets().nats

    @property
    def _file(self) -> Path:
        return self._data.nats / "nats.conf"

    def prepare(self, prefix: str = "", allowed: Mapping[str, Rights] | None = None) -> None:
        """Write the configuration; `allowed` is `rights(prefix)` unless given."""
        self._data.nats.mkdir(exist_ok=True, mode=0o700)
        text = configuration(
            "# Written by windlass at every start; changes made here are lost.",
            f"{LOOPBACK}:{self.port}",
            self._data.nats / "store",
            {user: json.dumps(password) for user, password in self._passwords.items()},
            rights(prefix) if allowed is None else allowed,
            self._file_store_bytes,
        )
        self._file.touch(mode=0o600)
        self._file.chmod(0o600)
        self._file.write_text(text)

    def program(self) -> Program:
        """How to start it. It needs nothing of our environment."""
        return Program(
            name=self.name,
            argv=[str(self._binary), "-c", str(self._file)],
            environ={"PATH": "/usr/bin:/bin", "HOME": str(self._data.nats)},
            parent_death=signal.SIGTERM,
        )

    @staticmethod
    def is_ready(line: str) -> bool:
        """The server's own word for it."""
        return line.endswith("Server is ready")

    def url(self, user: str) -> str:
        """Where and as whom to connect."""
        return f"nats://{user}:{self._passwords[user]}@{LOOPBACK}:{self.port}"
