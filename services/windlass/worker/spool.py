"""Outcomes on disk until the coordinator has recorded them: one file a report, named after its fence."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        with self._complaining():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self._folder / ".probe"
            probe.write_bytes(b"")
            probe.unlink()

    def owner(self) -> str:
        """The name of whoever works with this spool, drawn once: what a killed worker left in its engine is found by it.

        The path would not do, since workers in containers may all have the same and share an engine.

        Raises:
            Misconfigured: it cannot be written.
        """
        file, drawn = self._folder / ".owner", secrets.token_hex(6)
        with self._complaining():
            fresh = self._folder / f".owner.{drawn}"
            fresh.write_text(drawn)
            with suppress(FileExistsError):
                os.link(fresh, file)  # of two that start at once, one is first
            if not re.fullmatch("[0-9a-f]{12}", file.read_text()):
                os.replace(fresh, file)  # cut short by a full disk or a power failure
            fresh.unlink(missing_ok=True)
            return file.read_text()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
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
