"""Every error a user or a service can meet: one root, five kinds, a stable code each."""

from typing import ClassVar


class WindlassError(Exception):
    """The root. The message names the thing, says what is wrong, then what to do."""

    code: ClassVar[str] = "error"
    http: ClassVar[int] = 500


class Invalid(WindlassError):
    """Can never succeed as written."""

    code = "invalid"
    http = 400


class NotFound(WindlassError):
    """There is no such thing."""

    code = "not_found"
    http = 404


class Rejected(WindlassError):
    """The state does not allow it now."""

    code = "rejected"
    http = 409


class Unavailable(WindlassError):
    """A dependency did not answer in time; the outcome is unknown and asking again is safe."""

    code = "unavailable"
    http = 503


class Corrupt(WindlassError):
    """Our own invariant is broken: the stream concerned is frozen and a person looks."""

    code = "corrupt"
    http = 500


class Stale(Rejected):
    """A report whose fence is not the task's current one; it changes nothing."""

    code = "stale"

    def __init__(self, message: str, reason: str = "fence") -> None:
        super().__init__(message)
        self.reason = reason


class Conflict(Rejected):
    """An `Idempotency-Key` was used before with another body."""

    code = "conflict"


class Misconfigured(Invalid):
    """A setting is wrong or something this command needs is missing; ends a process at its start."""

    code = "misconfigured"


CODES: dict[str, type[WindlassError]] = {
    kind.code: kind for kind in (Invalid, NotFound, Rejected, Unavailable, Corrupt, Stale, Conflict, Misconfigured)
}


def rebuild(code: str, message: str) -> WindlassError:
    """The error that a reply carried as code and message; an unknown code is a plain `WindlassError`."""
    return CODES.get(code, WindlassError)(message)
