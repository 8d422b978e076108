"""What names, paths and amounts of a job may look like, so that none of them can be taken for an option or lead elsewhere.

Checked when a job is submitted, and again by whoever uses them.
"""

import csv
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from windlass.errors import Invalid

AMOUNT_MAX = 2**63 - 1
"""Nanoseconds of a CPU in a second, or bytes."""
IMAGE_MAX = 256
FILE_MAX = 1024
"""Bytes of a file's name, with its directories."""
PART_MAX = 255
"""Bytes between two slashes."""
TORK = "/tork"
"""Where a container finds what belongs to its task."""
COVERED = ("/dev", "/proc", "/sys", TORK)
"""Directories of the platform: nothing is mounted there or below."""
UNCOVERED = ("/dev/shm",)  # noqa: S108 shared memory of the container, not a file of ours
"""What may be mounted below them all the same."""
SYSTEM = frozenset({"/", "/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/usr/bin", "/usr/lib", "/usr/sbin"})
"""Directories without which an image does not work: mounted below, but not covered."""

MOUNT_OPTIONS: Mapping[str, frozenset[str]] = {
    "volume": frozenset({"type", "device", "o"}),
    "bind": frozenset({"readonly"}),
    "tmpfs": frozenset({"size", "mode"}),
}
"""The kinds of mounts that every worker knows, and their options."""

_VOLUME_OPTION = re.compile(r"(size|uid|gid|mode|nr_inodes|nr_blocks)=[0-9]+[kmgKMG]?|noexec|nosuid|nodev|rw|ro")
"""What `o` of a volume may hold: nothing that names a place on the worker's machine."""
_MODE = re.compile(r"[0-7]{1,4}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")
_ENV_NAME = re.compile(r"[^\s=\x00-\x1f\x7f-][^\s=\x00-\x1f\x7f]*")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_PATH = re.compile(r"[-/.0-9a-zA-Z_= ]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CPUS = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+|[0-9]+/0*[1-9][0-9]*")
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_MULTIPLES = {"": 1, **{unit: 1024 ** (power + 1) for power, unit in enumerate("kmgtp")}}


def check_image(name: str) -> None:
    """Whether an image may have this name.

    Raises:
        Invalid: it is none, with what one looks like.
    """
    if not _IMAGE.fullmatch(name):
        raise Invalid(f"{name!r} is no name of an image; write one such as alpine:3.20")


def check_env_name(name: str) -> None:
    """Whether a variable of the environment may have this name.

    Raises:
        Invalid: it may not, with what one looks like.
    """
    if not _ENV_NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot name a variable; use letters, digits and underscores")


def check_network(name: str) -> None:
    """Whether a network may have this name or id.

    Raises:
        Invalid: it may not, with what one looks like.
    """
    if not _NETWORK.fullmatch(name):
        raise Invalid(f"{name!r} cannot name a network; use letters, digits, dots, hyphens and underscores")


def check_file(name: str) -> None:
    """Whether a file of a task may have this name: relative, with or without directories.

    Raises:
        Invalid: it would be elsewhere, or nowhere.
    """
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"{name!r} is no relative name of a file; write one such as conf/app.ini, without .. and doubled slashes")
    if _CONTROL.search(name) or len(name.encode()) > FILE_MAX or any(len(part.encode()) > PART_MAX for part in parts):
        raise Invalid(f"{name[:40]!r} holds a control character or is too long to name a file")


def check_source(path: str) -> None:
    """Whether a directory or file of a worker's machine may be bound by this path (the worker says which are allowed).

    Raises:
        Invalid: it may not, with what one looks like.
    """
    if not _PATH.fullmatch(path) or not path.startswith("/") or ".." in path.split("/"):
        raise Invalid(f"{path!r} is no absolute path without ..; write one such as /srv/data, of letters, digits and ./_=-")


def check_target(path: str) -> str:
    """The path in a container where something may be mounted, without needless slashes and dots.

    Raises:
        Invalid: it is no path, or would cover what the platform or the image needs.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not _PATH.fullmatch(path) or not path.startswith("/") or ".." in parts:
        raise Invalid(f"{path!r} is no absolute path without ..; write one such as /data, of letters, digits and ./_=-")
    found = f"/{'/'.join(parts)}"
    if found in SYSTEM or (any(f"{found}/".startswith(f"{one}/") for one in COVERED) and found not in UNCOVERED):
        raise Invalid(f"{found} belongs to the system; mount somewhere else, such as /data")
    return found


def check_mount_options(kind: str, options: Mapping[str, str]) -> None:
    """Whether a mount of a kind may have these options. Those of kinds that only some workers know are theirs.

    Raises:
        Invalid: it may not, with what it may have.
    """
    known = MOUNT_OPTIONS.get(kind)
    if known is None:
        return
    if unknown := sorted(set(options) - known):
        raise Invalid(f"{unknown[0]!r} is no option of a {kind}; it has {', '.join(sorted(known))}")
    if kind == "volume" and options:
        memory = {options.get(name, "tmpfs") for name in ("type", "device")} == {"tmpfs"}
        if not memory or not all(_VOLUME_OPTION.fullmatch(one) for one in options.get("o", "rw").split(",")):
            raise Invalid("a volume is a new directory or in memory (type and device tmpfs); o may hold sizes, owner and mode")
    if kind == "bind" and options.get("readonly", "true") not in ("true", "false"):
        raise Invalid("readonly is true or false")
    if kind == "tmpfs":
        memory_bytes(options.get("size", "0"))
        if not _MODE.fullmatch(options.get("mode", "0")):
            raise Invalid(f"{options['mode'][:40]!r} is no mode; write one such as 1777")


def nano_cpus(text: str) -> int:
    """A number of CPUs (`2`, `.5`, `1/2`) in billionths.

    Raises:
        Invalid: it is no such number, or finer than that.
    """
    if not _CPUS.fullmatch(text) or len(text) > 40:
        raise Invalid(f"{text[:40]!r} is no number of CPUs; write one such as 2, .5 or 1/2")
    nano = Fraction(text) * 10**9
    if nano.denominator != 1:
        raise Invalid(f"{text}: value is too precise; nine decimals are the most")
    if nano > AMOUNT_MAX:
        raise Invalid(f"{text} is more CPUs than there are")
    return int(nano)


def memory_bytes(text: str) -> int:
    """A size (`10m`, `1.5GiB`, `500 KB`: multiples of 1024) in bytes.

    Raises:
        Invalid: it is none.
    """
    found = _MEMORY.fullmatch(text)
    if found is None or len(text) > 40:
        raise Invalid(f"invalid size: {text[:40]!r}; write one such as 500k, 10m or 1.5g")
    size = int(Fraction(found[1]) * _MULTIPLES[(found[2] or "").lower()])
    if size > AMOUNT_MAX:
        raise Invalid(f"invalid size: {text} is more memory than there is")
    return size


class Gpus(NamedTuple):
    """A request for GPUs: `number` of them, -1 for all, or those that `devices` names."""

    number: int = 0
    devices: tuple[str, ...] = ()
    driver: str = ""
    capabilities: tuple[str, ...] = ("gpu",)
    options: Mapping[str, str] = {}


def gpus(text: str) -> Gpus:
    """What Docker's `--gpus` says: `all`, a number, or pairs such as `device=0,1` or `"capabilities=utility",count=2`.

    Raises:
        Invalid: it says nothing of the kind.
    """
    if _CONTROL.search(text) or len(text) > FILE_MAX:
        raise Invalid("gpus holds a control character or is too long")
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise Invalid(f"{text!r} is no request for GPUs ({error}); write all, 2 or device=0,1") from error
    if not fields:
        raise Invalid("'' is no request for GPUs; write all, 2 or device=0,1")
    said: dict[str, list[str]] = {}
    last = ""
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals and last in ("device", "capabilities"):
            said[last].append(key)
            continue
        last, value = (key.strip(), value) if equals else ("count", key)
        if last not in ("count", "device", "driver", "capabilities", "options") or last in said or not value:
            raise Invalid(
                f"{text!r} is no request for GPUs; write all, 2 or pairs of count, device, driver, capabilities, options"
            )
        said[last] = value.split(",")
    return Gpus(
        _count(text, said), tuple(said.get("device", ())), ",".join(said.get("driver", ())), _capabilities(said), _options(said)
    )


def _count(text: str, said: Mapping[str, list[str]]) -> int:
    if "device" in said:
        if "count" in said:
            raise Invalid(f"{text!r} asks for a number of GPUs and for certain ones; leave one of them out")
        return 0
    (number,) = said.get("count", ["1"])
    if number == "all" or number == "-1":
        return -1
    if not re.fullmatch(r"[0-9]{1,4}", number):
        raise Invalid(f"{number!r} is no number of GPUs; write all or a number")
    return int(number)


def _capabilities(said: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*said.get("capabilities", ()), "gpu")))


def _options(said: Mapping[str, list[str]]) -> Mapping[str, str]:
    pairs = (option.partition("=") for option in said.get("options", ()))
    return {name: value for name, _, value in pairs}
