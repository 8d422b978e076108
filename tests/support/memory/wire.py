"""What lies between a process and a server in memory: how long a message takes, and whether it arrives."""

from typing import Protocol


class Wire(Protocol):
    """Asked for each message on its way; a message keeps its place behind the earlier ones of its connection."""

    def delay_s(self) -> float:
        """How long a message takes."""
        ...

    def fate(self, kind: str) -> tuple[float, ...]:
        """How often a message arrives, each time with a further delay: `(0.0,)` once and at once, `()` never.

        `kind` is what it is: `publish`, `tell`, `ack`, `stored` (the broker's own acknowledgement), `deliver`, `answer`.
        """
        ...

    def commit(self) -> str:
        """What becomes of a commit: `done`, `lost` (it is stored and nobody hears of it) or `refused` (nothing is stored)."""
        ...


class Perfect:
    """Everything arrives, once and soon."""

    def delay_s(self) -> float:
        """See `Wire`."""
        return 0.0001

    def fate(self, kind: str) -> tuple[float, ...]:
        """See `Wire`."""
        return (0.0,)

    def commit(self) -> str:
        """See `Wire`."""
        return "done"
