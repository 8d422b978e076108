"""The only place that reads a clock.

Wall time is read once, at start, and advanced by the boot-time clock from there, so a step of the
machine's clock moves nothing inside a running process (guarantee G18).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """A source of time; tests and the simulation bring their own."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC, microseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow; for leases, timeouts and durations."""
        ...


class SystemClock:
    """The machine's clock, immune to steps."""

    def __init__(self) -> None:
        self._wall = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 the one reading of the wall clock
        self._start = time.clock_gettime(_MONOTONIC)

    def now(self) -> datetime:
        """The wall clock at start plus the boot-time clock since."""
        return self._wall + timedelta(seconds=time.clock_gettime(_MONOTONIC) - self._start)

    def monotonic(self) -> float:
        """The boot-time clock, which also counts while the machine sleeps."""
        return time.clock_gettime(_MONOTONIC)


system = SystemClock()
