"""When a call is made again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.webhooks.policy import AGAIN, JITTER, PAUSE_MAX_S, RETRY_AFTER_MAX_S, Answer, judge


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_good_answer_ends_it(status: int) -> None:
    assert judge(Answer(status), 1, 5, 0.0) == ("DELIVERED", 0.0)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 308, 400, 401, 404, 410, 501, 505, 600])
def test_an_answer_that_time_does_not_mend_ends_it(status: int) -> None:
    assert judge(Answer(status), 1, 5, 0.0) == ("REFUSED", 0.0)


@pytest.mark.parametrize("status", [None, *sorted(AGAIN)])
def test_the_pauses_are_those_of_tork_and_the_fifth_attempt_is_the_last(status: int | None) -> None:
    judged = [judge(Answer(status, "why"), attempt, 5, 0.0) for attempt in (1, 2, 3, 4, 5)]
    assert judged == [("WAITING", 2.0), ("WAITING", 4.0), ("WAITING", 6.0), ("WAITING", 8.0), ("EXHAUSTED", 0.0)]


def test_chance_makes_a_pause_longer_by_a_quarter_at_most() -> None:
    assert judge(Answer(500), 2, 5, 0.999999)[1] == pytest.approx(5.0, abs=0.001)


def test_an_address_that_may_not_be_called_is_not_tried_again() -> None:
    assert judge(Answer(None, "private", is_final=True), 1, 5, 0.0) == ("REFUSED", 0.0)


def test_a_receiver_may_ask_for_a_longer_pause_within_limits() -> None:
    assert judge(Answer(503, retry_after_s=30), 1, 5, 0.0) == ("WAITING", 30.0)
    assert judge(Answer(503, retry_after_s=1), 1, 5, 0.0) == ("WAITING", 2.0)
    assert judge(Answer(429, retry_after_s=1e9), 1, 5, 0.0) == ("WAITING", RETRY_AFTER_MAX_S)


@given(
    st.none() | st.integers(100, 999), st.integers(1, 100), st.integers(1, 100), st.floats(0, 1, exclude_max=True), st.booleans()
)
def test_a_delivery_ends_or_waits_for_a_bounded_while(
    status: int | None, attempt: int, most: int, chance: float, final: bool
) -> None:
    state, pause_s = judge(Answer(status, is_final=final), attempt, most, chance)
    if state == "WAITING":
        assert attempt < most
        assert 2 <= pause_s <= PAUSE_MAX_S * (1 + JITTER)
    else:
        assert pause_s == 0
