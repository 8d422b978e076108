"""`/tork` in the container: script in, result and progress out.

Two ways. *Bind*: a directory of this host is mounted; costs 1 ms, needs engine and worker on one file system. *Archive*: the
engine packs and unpacks tars; costs 12 to 130 ms and works from anywhere.
"""

import base64
import contextlib
import io
import json
import os
import posixpath
import stat
import tarfile

from windlass.messages.jobs import Task
from windlass.worker.docker.engine import SLOW_S, Attachment, Engine, Json, Refused, translated
from windlass.worker.results import BadOutput, clean, parse_progress, refuse_kind, refuse_size
from windlass.worker.runtime import OUTPUT_MAX, Program

HOME = "/tork"
SCRIPT = f"{HOME}/entrypoint"
OUTPUT = f"{HOME}/stdout"
PROGRESS = f"{HOME}/progress"
WORKDIR = f"{HOME}/workdir"
FILE_MODE, FOLDER_MODE = 0o444, 0o777
"""Of a program's files and their directories: made for a user that only the image knows."""
NETWORK_FILES = ("hosts", "resolv.conf", "hostname")
"""Files of a network namespace's owner; a task in a sandbox gets copies, or its changes would meet the next one."""

_GO_KINDS = (
    (31, stat.S_IFDIR),
    (27, stat.S_IFLNK),
    (25, stat.S_IFIFO),
    (24, stat.S_IFSOCK),
    (21, stat.S_IFCHR),
    (26, stat.S_IFBLK),
)
"""Bits of Go's file modes, as the engine tells them."""


def workdir(program: Program) -> str:
    """The directory that a program begins in; empty for the image's own."""
    if isinstance(program, Task) and program.workdir:
        return posixpath.normpath(program.workdir).replace("//", "/")  # it leaves two at the beginning
    return WORKDIR if program.files else ""


def _contents(program: Program) -> list[tuple[str, int, bytes]]:
    """What belongs in `/tork`; its files too, unless they belong elsewhere."""
    found = [("stdout", 0o666, b""), ("progress", 0o666, b"")]
    if program.run:
        found.append(("entrypoint", 0o555, program.run.encode()))
    if workdir(program) == WORKDIR:
        found += [(f"workdir/{name}", FILE_MODE, content.encode()) for name, content in program.files.items()]
    return found


def lay_out(folder: str, program: Program, network: dict[str, bytes], is_remapped: bool) -> None:
    """Fill a new directory for one container: `tork/`, and copies of a sandbox's files beside it."""
    inner = os.path.join(folder, "tork")
    os.makedirs(inner, 0o700)
    os.chmod(inner, 0o777 if is_remapped else 0o755)
    for name, mode, content in _contents(program):
        _make_folders(inner, name)
        _place(os.path.join(inner, name), mode, content)
    for name, content in network.items():
        _place(os.path.join(folder, name), 0o644, content)


def _make_folders(folder: str, name: str) -> None:
    """What a file needs above it; the container's user, whoever that is, may write there."""
    for above in _above(name):
        path = os.path.join(folder, above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, FOLDER_MODE)


def _above(name: str) -> list[str]:
    """The directories that a file needs, the highest first: of `a/b/c` these are `a` and `a/b`."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _place(path: str, mode: int, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def mounts(folder: str, network: dict[str, bytes]) -> list[Json]:
    """What the engine is to mount. `Mounts`, not `Binds`: those create what is missing on the engine's host."""
    pairs = [(os.path.join(folder, "tork"), HOME), *((os.path.join(folder, name), f"/etc/{name}") for name in network)]
    return [{"Type": "bind", "Source": source, "Target": target} for source, target in pairs]


def send(engine: Engine, container: str, program: Program, has_home: bool) -> None:
    """Put everything into a created container with one tar; with `has_home` into the volume there, as the rest is read-only."""
    contents = _contents(program)
    folders = {f"{folder}/" for name, _, _ in contents for folder in _above(name)}
    contents = [*((folder, FOLDER_MODE, b"") for folder in sorted(folders)), *contents]
    if has_home:
        _send(engine, container, HOME, contents)
    else:
        within = [(f"tork/{name}", mode, content) for name, mode, content in contents]
        _send(engine, container, "/", [("tork/", 0o755, b""), *within])


def send_files(engine: Engine, container: str, program: Program) -> None:
    """Put a program's files into its `workdir`, which is in the image, a volume or a mount of the created container."""
    where = workdir(program)
    if not program.files or where == WORKDIR:
        return
    files = [(name, FILE_MODE, content.encode()) for name, content in program.files.items()]
    try:
        _send(engine, container, where, files)
    except Refused as error:
        if error.status != 404:
            raise
        # Below a volume nobody has made it yet. (Not in the first place: a read-only image takes nothing at its root.)
        _send(engine, container, "/", [(f"{where[1:]}/{name}", mode, content) for name, mode, content in files])


def _send(engine: Engine, container: str, where: str, contents: list[tuple[str, int, bytes]]) -> None:
    """Names that end in a slash are directories; others that are missing belong to root."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, mode, content in contents:
            file = tarfile.TarInfo(name)
            file.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            file.mode, file.size = mode, len(content)
            tar.addfile(file, io.BytesIO(content))
    engine.call("PUT", f"/containers/{container}/archive", params={"path": where}, data=out.getvalue(), timeout_s=SLOW_S)


def _fetch(engine: Engine, container: str, path: str, size_max: int) -> bytes:
    """The content of a file in a container; empty when it is missing.

    Raises:
        BadOutput: it is no regular file, or larger than `size_max`.
    """
    where = {"path": path}
    name = "TORK_OUTPUT" if path == OUTPUT else "TORK_PROGRESS"
    try:
        answer = engine.call("HEAD", f"/containers/{container}/archive", params=where)
    except Refused as error:
        if error.status == 404:
            return b""
        raise
    found = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    for bit, kind in _GO_KINDS:
        if int(found["mode"]) >> bit & 1:
            raise refuse_kind(name, kind)
    size = int(found["size"])
    if size > size_max:
        raise refuse_size(name, size)
    if size == 0:
        return b""
    # A tar may say any size; never take more than the file had, its header and the tar's padding.
    plain = {"Accept-Encoding": "identity"}
    answer = engine.call("GET", f"/containers/{container}/archive", params=where, headers=plain, timeout_s=SLOW_S, stream=True)
    with contextlib.closing(answer), translated():
        packed = io.BytesIO()
        for piece in answer.iter_content(64 * 1024):
            packed.write(piece)
            if packed.tell() > size_max + 64 * 1024:
                raise refuse_size(name, packed.tell())
    packed.seek(0)
    try:
        with tarfile.open(fileobj=packed, mode="r:") as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.isreg() else None
            return file.read(size_max) if file is not None else b""
    except tarfile.TarError as error:
        raise BadOutput(f"{name} cannot be read: {error}") from error


def fetch_output(engine: Engine, container: str) -> str:
    """The result of an ended container.

    Raises:
        BadOutput: see `results.read_output`.
    """
    return clean(_fetch(engine, container, OUTPUT, OUTPUT_MAX))


def fetch_progress(engine: Engine, container: str) -> float | None:
    """The number in the progress file of a running container."""
    try:
        return parse_progress(_fetch(engine, container, PROGRESS, OUTPUT_MAX))
    except BadOutput:
        return None


def attach(engine: Engine, container: str) -> Attachment:
    """Both outputs from now on; before the start, so that nothing is missed."""
    params = {"stream": 1, "stdout": 1, "stderr": 1}
    return Attachment(engine.call("POST", f"/containers/{container}/attach", params=params, timeout_s=None, stream=True))
