"""The clock: aware, in UTC, and only forwards."""

from datetime import UTC, timedelta

from windlass.clock import SystemClock


def test_now_is_aware_and_in_utc() -> None:
    assert SystemClock().now().tzinfo is UTC


def test_now_moves_by_the_monotonic_clock_alone() -> None:
    clock = SystemClock()
    before, first = clock.monotonic(), clock.now()
    while clock.now() == first:
        pass
    second, after = clock.now(), clock.monotonic()
    assert timedelta(0) < second - first <= timedelta(seconds=after - before + 1e-3)


def test_it_never_goes_back() -> None:
    clock = SystemClock()
    moments = [clock.now() for _ in range(10_000)]
    assert moments == sorted(moments)


def test_two_clocks_of_one_machine_agree() -> None:
    one, other = SystemClock(), SystemClock()
    assert abs(one.now() - other.now()) < timedelta(seconds=5)
