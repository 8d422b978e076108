"""Outcomes on disk until the coordinator has recorded them: one file a report, named after its fence."""

import os
from pathlib import Path

from windlass.errors import Misconfigured


class Spool:
    """A directory of reports; a worker that starts again finds what its forerunner could not deliver."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the directory.

        Raises:
            Misconfigured: it cannot be written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self._folder / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise Misconfigured(f"the spool {self._folder} cannot be written ({error.strerror}); set WINDLASS_SPOOL") from error

    def keep(self, name: str, subject: str, payload: bytes) -> None:
        """Write a report, whole or not at all."""
        unfinished = self._folder / f".{name}"
        unfinished.write_bytes(subject.encode() + b"\n" + payload)
        os.replace(unfinished, self._folder / name)

    def drop(self, name: str) -> None:
        """A report is on record."""
        (self._folder / name).unlink(missing_ok=True)

    def left(self) -> list[tuple[str, str, bytes]]:
        """The reports of a forerunner: name, subject, payload, oldest first."""
        found = []
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
            if not path.name.startswith("."):
                subject, _, payload = path.read_bytes().partition(b"\n")
                found.append((path.name, subject.decode(), payload))
        return found
