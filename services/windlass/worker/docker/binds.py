"""Which directories and files of the worker's machine a task may have: none that the operator has not named."""

import os

from windlass.errors import Invalid

_NEVER = ("/proc", "/sys", "/dev", "/run", "/var/run", "/var/lib/docker", "/var/lib/containers")
"""Whoever has one of these, or what holds it, has the machine."""


class Binds:
    """`allowed` are the directories that tasks may bind, with all below them; `own` are the worker's, never bound."""

    def __init__(self, allowed: tuple[str, ...] = (), own: tuple[str, ...] = ()) -> None:
        self._allowed = allowed
        self._own = own

    def admit(self, source: str) -> str:
        """The path that is really meant, links resolved; it is there.

        Raises:
            Invalid: it is not, or is not allowed.
        """
        if not self._allowed:
            raise Invalid(
                "bind mounts are not allowed; use a volume, or start the worker with "
                "WINDLASS_MOUNTS_BIND_ALLOWED=true and the directories in WINDLASS_MOUNTS_BIND_SOURCES"
            )
        found = os.path.realpath(source)
        if not any(_holds(os.path.realpath(one), found) for one in self._allowed):
            raise Invalid(f"src bind mount is not allowed: {source}; it is in no directory of WINDLASS_MOUNTS_BIND_SOURCES")
        for one in map(os.path.realpath, (*_NEVER, *self._own)):
            if _holds(one, found) or _holds(found, one):
                raise Invalid(f"src bind mount is not allowed: {source}; it holds or is in {one}, which no task may have")
        if not os.path.exists(found):
            raise Invalid(f"src bind mount does not exist: {source}; make it on the worker's machine")
        return found


def _holds(above: str, path: str) -> bool:
    return os.path.commonpath((above, path)) == above
