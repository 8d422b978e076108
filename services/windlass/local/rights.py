"""The rights of NATS users, kept between starts: working them out brings the whole client library."""

from pathlib import Path

import msgspec

import windlass.bus
import windlass.subjects
from windlass.local.data import Data
from windlass.local.nats import Rights, rights


class _Kept(msgspec.Struct):
    key: str
    rights: dict[str, Rights]


def _key(prefix: str) -> str:
    """Changes with the prefix and with the code that the rights come from."""
    folder = Path(windlass.bus.__path__[0])
    files = [folder / "permissions.py", folder / "streams.py", Path(windlass.subjects.__file__)]
    return "|".join([prefix, *(f"{file}:{file.stat().st_mtime_ns}:{file.stat().st_size}" for file in files)])


def cached(data: Data, prefix: str) -> dict[str, Rights]:
    """The rights of every user, for an installation with this subject prefix."""
    file, key = data.path / "rights.json", _key(prefix)
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        if kept.key == key:
            return kept.rights
    except (OSError, msgspec.MsgspecError):
        pass
    found = rights(prefix)
    data.write(file, _Kept(key, found))
    return found
