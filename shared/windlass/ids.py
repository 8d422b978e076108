"""Ids: UUIDv7 (RFC 9562) printed as 32 hex digits, whose last byte places them in a shard.

Everything that must be decided together shares its last byte: a job with its tasks, the job of an
`Idempotency-Key` (the byte comes from a hash of user and key). An id is made from chance (`new`) or
derived from what it stands for (`derive`), so that deciding twice gives the same id.
"""

import re
import secrets
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import NewType

JobId = NewType("JobId", str)
TaskId = NewType("TaskId", str)
WorkerId = NewType("WorkerId", str)

ID = re.compile(r"[0-9a-f]{32}")
NODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may be one token of a subject: a node's id, or the id that an operator issued to a worker."""
WORKER = re.compile(rf"{NODE.pattern}(\.{NODE.pattern})?")
"""A worker's id; with a dot, its user's name, which an operator issued, and an id for this start of it."""
ISSUED = "worker-"
"""What the names of workers' own users begin with, and no other token of a node: who has one can pass for nobody else."""
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Chance = Callable[[int], bytes]
"""A source of random bytes: `chance(n)` gives n of them."""

chance: Chance = secrets.token_bytes


def _v7(milliseconds: int, tail: bytes, byte: int | None) -> str:
    """Lay out a UUIDv7 from a 48-bit time and ten bytes; `byte` replaces the last."""
    body = bytearray(milliseconds.to_bytes(6, "big") + tail[:10])
    body[6] = 0x70 | (body[6] & 0x0F)
    body[8] = 0x80 | (body[8] & 0x3F)
    if byte is not None:
        body[15] = byte
    return body.hex()


def new(at: datetime, byte: int | None = None, chance: Chance = chance) -> str:
    """A fresh id of the moment `at`; with `byte`, in that byte's shard."""
    return _v7(int(at.timestamp() * 1000), chance(10), byte)


def derive(at: datetime, byte: int | None, *parts: str | int) -> str:
    """The id of the moment `at` for what `parts` name: same arguments, same id."""
    digest = blake2b("\0".join(map(str, parts)).encode(), digest_size=10).digest()
    return _v7(int(at.timestamp() * 1000), digest, byte)


def named(*parts: str) -> str:
    """A word of 32 hex digits for something that is known by name, of whatever length: same parts, same word."""
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def byte_of(identifier: str) -> int:
    """The byte that places an id, 0–255."""
    return int(identifier[-2:], 16)


def byte_for(*parts: str) -> int:
    """The byte for something that is known by name: a key of a user, a node."""
    return blake2b("\0".join(parts).encode(), digest_size=1).digest()[0]


def shard_of(identifier: str, shards: int) -> int:
    """The shard of an id, in an installation of `shards` shards (a power of two)."""
    return int(identifier[-2:], 16) % shards


def is_id(text: str) -> bool:
    """Whether a text is an id as this system prints them."""
    return ID.fullmatch(text) is not None


def new_node(chance: Chance = chance) -> WorkerId:
    """A node's id: 22 characters that cannot be mistaken for each other."""
    number = int.from_bytes(chance(16), "big")
    digits = []
    for _ in range(22):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return WorkerId("".join(digits))


def user_of(worker: str) -> str:
    """The name of the user that an operator issues to the worker it calls `worker`; its token in subjects as well."""
    return ISSUED + worker


def new_start(user: str, chance: Chance = chance) -> WorkerId:
    """The id of one more start of a worker with a user of its own: no two starts of it can be taken for each other."""
    return WorkerId(f"{user}.{new_node(chance)}")


def issued_of(worker: str) -> str:
    """The part of a worker's id that its subjects and its user are bound to: the user's name, else all of it."""
    return worker.partition(".")[0]
