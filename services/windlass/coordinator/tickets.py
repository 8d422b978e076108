"""Tickets: a word that a dispatch carries and its claim has to bring, so that only who could read the one can make the other.

The ids of tasks follow from their job's, so knowing one proves nothing. A ticket follows from job, task and attempt under a key
that only coordinators can read: nothing is kept for it, and a dispatch that is said again carries the same.
"""

import hmac
from hashlib import blake2b

from windlass.messages.commands import ClaimTask, RunTask
from windlass.messages.notices import LogPart


class Tickets:
    """Those of one installation."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, said: RunTask | ClaimTask | LogPart) -> str:
        """The ticket of the attempt that this speaks of."""
        return blake2b(f"{said.job}-{said.task}-{said.attempt}".encode(), digest_size=16, key=self._key).hexdigest()

    def fits(self, said: ClaimTask | LogPart) -> bool:
        """Whether this was said by somebody who could read the dispatch."""
        return hmac.compare_digest(said.ticket.encode(), self.of(said).encode())
