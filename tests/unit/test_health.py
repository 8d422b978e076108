"""What a service says about itself."""

from datetime import UTC, datetime, timedelta

from windlass.service import Health


class HandClock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def test_a_part_that_works_again_and_again_is_missed_when_it_does_not() -> None:
    clock = HandClock()
    health = Health("s", "s-1", clock)
    worked = health.expect("broker", 8)
    assert health.report()[1]["broken"] == {"broker": "has not worked yet"}
    worked()
    clock.seconds = 8
    assert health.report()[0]
    clock.seconds = 8.6
    well, document = health.report()
    assert (well, document["broken"]) == (False, {"broker": "has not worked for 9 s"})
    worked()
    assert health.report()[0]


def test_all_parts_have_to_work() -> None:
    health = Health("s", "s-1", HandClock())
    health.expect("one", 1)()
    health.check("other", lambda: "is gone")
    assert health.report()[1]["broken"] == {"other": "is gone"}
