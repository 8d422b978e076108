"""Leases: timed by the last change of a counter, on the observer's own clock."""

from datetime import UTC, datetime

from windlass.coordinator.lease import Leases


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


class Observer:
    """Leases of 3 s, looked at twice a second as the coordinator does."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.leases = Leases(self.clock, 3.0)

    def wait(self, seconds: float) -> list[str]:
        """Let time pass, looking all the while; what had run out at the end."""
        expired: list[str] = []
        for _ in range(round(seconds * 2)):
            self.clock.at += 0.5
            expired = self.leases.expired()
        return expired


def test_a_node_that_speaks_is_alive() -> None:
    o = Observer()
    assert o.leases.beat("w", 1) is True
    assert o.leases.beat("w", 2) is False
    assert o.wait(2.5) == []
    assert o.leases.alive() == ["w"]


def test_a_node_that_is_silent_for_its_lease_is_lost() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    assert o.wait(3) == ["w"]
    assert o.leases.alive() == []


def test_a_word_that_is_only_repeated_renews_nothing() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.wait(2)
    o.leases.beat("w", 1)
    assert o.wait(1) == ["w"]


def test_a_new_word_renews_the_lease() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.wait(2)
    o.leases.beat("w", 2)
    assert o.wait(2.5) == []


def test_a_counter_that_starts_anew_counts_as_a_word() -> None:
    o = Observer()
    o.leases.beat("w", 9)
    o.wait(2)
    o.leases.beat("w", 1)
    assert o.wait(2.5) == []


def test_a_node_known_from_elsewhere_has_a_lease_from_then_on() -> None:
    o = Observer()
    o.leases.expect("w")
    assert o.wait(2.5) == []
    assert o.wait(0.5) == ["w"]


def test_expecting_a_node_that_speaks_takes_nothing_from_it() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.wait(2)
    o.leases.expect("w")
    assert o.wait(1) == ["w"]


def test_a_node_that_said_its_last_word_is_lost_at_once() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.leases.end("w")
    assert o.leases.expired() == ["w"]


def test_the_last_word_of_a_stranger_is_nothing() -> None:
    o = Observer()
    o.leases.end("w")
    assert o.leases.expired() == []


def test_a_node_that_was_forgotten_is_neither_alive_nor_lost() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.leases.forget("w")
    o.leases.forget("w")
    assert (o.leases.alive(), o.wait(9)) == ([], [])


def test_while_the_broker_is_away_nobody_is_lost_and_then_each_lease_starts_full() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.wait(2)
    o.leases.suspend()
    assert o.wait(60) == []
    o.leases.resume()
    assert o.wait(2.5) == []
    assert o.wait(0.5) == ["w"]


def test_when_the_observer_itself_was_away_each_lease_starts_full() -> None:
    o = Observer()
    o.leases.beat("w", 1)
    o.wait(1)
    o.clock.at += 3600  # frozen, or the machine slept
    assert o.leases.expired() == []
    assert o.wait(2.5) == []
    assert o.wait(0.5) == ["w"]


def test_the_living_are_told_in_order() -> None:
    o = Observer()
    for node in ("c", "a", "b"):
        o.leases.beat(node, 1)
    assert o.leases.alive() == ["a", "b", "c"]
