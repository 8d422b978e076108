"""One job's secrets: its key, and what to redact of its texts."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from windlass.secrets import keys
from windlass.secrets.keys import Key, Keys
from windlass.secrets.redaction import WHOLE, Redactor

Made = TypeVar("Made", bound=msgspec.Struct)

_PLACE = "job key"

_encode = msgspec.json.Encoder().encode


class Vault:
    """Seals and opens for one job.

    What is sealed of a field can be opened as that field of that job, wherever it stands: a result and the variable that it set
    are one text.
    """

    __slots__ = ("_job", "_key", "_shown", "redactor")

    def __init__(self, job: str, key: Key, values: Iterable[str]) -> None:
        self._job, self._key, self.redactor = job, key, Redactor(values)
        self._shown: dict[int, tuple[object, Any, str]] = {}

    def __repr__(self) -> str:
        return f"Vault({self._job})"

    def wrapped(self, by: Keys) -> str:
        """The job's key, wrapped for whoever has these."""
        return by.first.wrap(self._key, _PLACE, self._job)

    def shown(self, value: Made) -> Made:
        """An event or a row as everybody may see it, the whole in its `sealed`; the same object if nothing is hidden."""
        changes: dict[str, Any] = {}
        sealed: dict[str, str] = {}
        for name in value.__struct_fields__:
            if name in WHOLE and (whole := getattr(value, name)):
                shown, text = self._pair(name, whole)
                if text:
                    changes[name], sealed[name] = shown, text
            elif name == "error" and (shown := self.redactor.text(value.error)) is not value.error:  # type: ignore[attr-defined]  # it has that field
                changes[name] = shown
        if sealed:
            changes["sealed"] = sealed
        return msgspec.structs.replace(value, **changes) if changes else value

    def _pair(self, name: str, whole: Any) -> tuple[Any, str]:
        """What may be seen of a value, and the whole, sealed; an empty text if there is nothing to hide."""
        known = self._shown.get(id(whole))
        if known is not None and known[0] is whole:
            return known[1], known[2]
        shown = self.redactor.value(whole)
        text = "" if shown is whole else self.seal(name, whole)
        if not isinstance(whole, str):
            self._shown[id(whole)] = whole, shown, text  # an event and the row that it makes have it in common
        return shown, text

    def clear(self, field: str, whole: Made) -> Made:
        """A struct as everybody may see it."""
        shown: Made = self._pair(field, whole)[0]
        return shown

    def seal(self, field: str, whole: Any) -> str:
        """A value, sealed as a field of this job."""
        return self._key.seal(_encode(whole), self._job, field)

    def open(self, field: str, sealed: str) -> bytes:
        """The JSON of a value that was sealed as a field of this job.

        Raises:
            Unopened: it was not.
        """
        return self._key.open(sealed, self._job, field)

    def forget(self) -> None:
        """Drop what was kept between an event and its row."""
        self._shown.clear()


def fresh(job: str, values: Iterable[str]) -> Vault:
    """The vault of a new job, with a key made by chance."""
    return Vault(job, keys.new(), values)


def unwrapped(job: str, wrapped: str, by: Keys) -> Vault:
    """The vault of a job whose key was kept; it does not know yet what to redact.

    Raises:
        Unopened: none of these keys has wrapped it.
    """
    return Vault(job, by.unwrap(wrapped, _PLACE, job), ())
