"""Who is alive, by counting: each node's heartbeat carries a counter, and its last change is timed on our own clock.

Stamps are never compared. While the broker or the observer itself is away no lease runs down, and each starts full after that.
"""

from dataclasses import dataclass

from windlass.clock import Clock


@dataclass(slots=True)
class _Seen:
    counter: int
    changed_at: float


class Leases:
    """The leases of one kind of node, each `lease_s` long from the last change of its counter."""

    def __init__(self, clock: Clock, lease_s: float) -> None:
        self._clock, self._lease_s = clock, lease_s
        self._nodes: dict[str, _Seen] = {}
        self.suspended = False
        self._looked_at = clock.monotonic()

    def beat(self, node: str, counter: int) -> bool:
        """A heartbeat came; True when the node was not known."""
        seen = self._nodes.get(node)
        if seen is None:
            self._nodes[node] = _Seen(counter, self._clock.monotonic())
            return True
        if seen.counter != counter:
            seen.counter, seen.changed_at = counter, self._clock.monotonic()
        return False

    def expect(self, node: str) -> None:
        """Something of this node is known from elsewhere: if it never says a word, its lease runs out from now."""
        self._nodes.setdefault(node, _Seen(-1, self._clock.monotonic()))

    def end(self, node: str) -> None:
        """The node said its last word: what it still seems to hold is lost now."""
        if node in self._nodes:
            self._nodes[node].changed_at = float("-inf")

    def forget(self, node: str) -> None:
        """The node is gone, or nothing depends on it any more."""
        self._nodes.pop(node, None)

    def suspend(self) -> None:
        """The broker is away: nobody can be heard, so nobody is lost."""
        self.suspended = True

    def resume(self) -> None:
        """The broker is back: every lease starts full."""
        self.suspended = False
        now = self._clock.monotonic()
        for seen in self._nodes.values():
            seen.changed_at = now

    def alive(self) -> list[str]:
        """The nodes whose lease runs, in order of their ids."""
        now = self._clock.monotonic()
        return sorted(node for node, seen in self._nodes.items() if now - seen.changed_at < self._lease_s)

    def expired(self) -> list[str]:
        """The nodes whose lease has run out; to be asked much more often than a lease is long."""
        now = self._clock.monotonic()
        away_s, self._looked_at = now - self._looked_at, now
        if self.suspended:
            return []
        if away_s > self._lease_s / 2:
            # It was us who were frozen, or asleep with the machine: what was said meanwhile is not read yet.
            self.resume()
            return []
        return [node for node, seen in self._nodes.items() if now - seen.changed_at >= self._lease_s]
