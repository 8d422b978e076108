"""What the docker runtime does not take, said before anything is made."""

import posixpath

from windlass.errors import Invalid
from windlass.grammar import check_file
from windlass.messages.jobs import Task
from windlass.worker.docker import exchange
from windlass.worker.docker.containers import Amounts
from windlass.worker.docker.images import is_name
from windlass.worker.runtime import Program, places

_RESERVED = (exchange.SCRIPT, exchange.OUTPUT, exchange.PROGRESS)
_LATER = ("mounts", "networks", "sidecars", "registry", "gpus")


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
    try:
        Amounts().of(task.limits)
    except Invalid as error:
        raise Invalid(f"task {task.name}: limits: {error}") from error


def _check_program(program: Program) -> None:
    for field in _LATER:
        if getattr(program, field, None):
            raise Invalid(f"{field}: this release does not run it yet; remove it")
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
    for name in program.files:
        try:
            check_file(name)
        except Invalid as error:
            raise Invalid(f"files: {error}") from error
        if posixpath.normpath(f"{folder}/{name}") in _RESERVED:
            raise Invalid(f"files: {name} in {folder} is a file of the platform; choose another name or workdir")
