"""What the docker runtime does not take, said before anything is made."""

import posixpath
from collections.abc import Callable

from windlass.errors import Invalid
from windlass.grammar import check_mount_options, check_network, check_source, check_target, gpus
from windlass.messages.jobs import Task
from windlass.worker.docker import exchange
from windlass.worker.docker.containers import Amounts
from windlass.worker.docker.images import is_name
from windlass.worker.runtime import Program, check_files, places

_RESERVED = (exchange.SCRIPT, exchange.OUTPUT, exchange.PROGRESS)
_KINDS = ("volume", "bind", "tmpfs")


def check(task: Task) -> None:
    """Whether it can be run.

    Raises:
        Invalid: why not, with the field and what to do.
    """
    for where, program in places(task):
        try:
            _check_program(program)
        except Invalid as error:
            raise Invalid(f"{where}: {error}") from error
    for field, check_field in _CHECKS:
        try:
            check_field(task)
        except Invalid as error:
            raise Invalid(f"task {task.name}: {field}: {error}") from error


def _check_mounts(task: Task) -> None:
    for mount in task.mounts:
        if mount.type not in _KINDS:
            raise Invalid(f"unknown mount type: {mount.type}; it is one of: {', '.join(_KINDS)}")
        if mount.type == "bind":
            check_source(mount.source)
        elif mount.source:
            raise Invalid(f"{mount.type} source should be empty; remove it")
        if not mount.target:
            raise Invalid(f"{mount.type} target is required; say where in the container it is mounted")
        check_target(mount.target)
        check_mount_options(mount.type, mount.opts)


def _check_networks(task: Task) -> None:
    for network in task.networks:
        check_network(network)
        if network == "host":
            raise Invalid("host networking is not enabled; remove it, or name a network of the engine")
    if "none" in task.networks and (len(task.networks) > 1 or task.sidecars):
        raise Invalid("none excludes other networks, and the one that sidecars need; remove it")


def _check_gpus(task: Task) -> None:
    if task.gpus:
        gpus(task.gpus)


def _check_limits(task: Task) -> None:
    Amounts().of(task.limits)


_CHECKS: tuple[tuple[str, Callable[[Task], None]], ...] = (
    ("limits", _check_limits),
    ("mounts", _check_mounts),
    ("networks", _check_networks),
    ("gpus", _check_gpus),
)


def _check_program(program: Program) -> None:
    if not program.image:
        raise Invalid(
            "the docker runtime needs an image; give it one, or start the worker with --runtime shell or --runtime auto"
        )
    if not is_name(program.image):
        raise Invalid(f"image {program.image!r} is no name of an image; write registry/name:tag")
    if program.run and program.cmd:
        raise Invalid("run and cmd exclude each other; keep the one that is meant")
    for name, value in program.env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise Invalid(f"env {name!r} cannot be a variable; names hold no = and no NUL, values no NUL")
    folder = exchange.workdir(program)
    if folder and not folder.startswith("/"):
        raise Invalid(f"workdir {folder!r} is no absolute path; write one such as /app")
    try:
        check_files(program)
    except Invalid as error:
        raise Invalid(f"files: {error}") from error
    for name in program.files:
        if posixpath.join(folder, name) in _RESERVED:
            raise Invalid(f"files: {name} in {folder} is a file of the platform; choose another name or workdir")
