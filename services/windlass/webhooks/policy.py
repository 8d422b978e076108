"""When a call is made again, and when it is over: Tork's rules, with a little chance in the pauses."""

from typing import NamedTuple

AGAIN = frozenset({429, 500, 502, 503, 504})
"""Answers that time may mend; so may none at all. Any other answer but 2xx is final."""
PAUSE_S = 2.0
"""After the first attempt, and by how much each pause is longer than the one before."""
PAUSE_MAX_S = 600.0
JITTER = 0.25
"""By what part of itself a pause is made longer at most, so that what failed together does not come again together."""
RETRY_AFTER_MAX_S = 300.0
"""What a receiver may ask for at most."""


class Answer(NamedTuple):
    """What came of one attempt: a status, or None and why there is none."""

    status: int | None
    error: str = ""
    retry_after_s: float = 0.0
    is_final: bool = False
    """Whether trying again cannot help, although nobody answered."""


def judge(answer: Answer, attempt: int, attempts_max: int, chance: float) -> tuple[str, float]:
    """The state of a delivery after its `attempt`th attempt, and the seconds until the next if it is WAITING.

    `chance` is from 0 up to 1.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return "DELIVERED", 0.0
    if answer.is_final or (answer.status is not None and answer.status not in AGAIN):
        return "REFUSED", 0.0
    if attempt >= attempts_max:
        return "EXHAUSTED", 0.0
    pause_s = min(PAUSE_S * attempt, PAUSE_MAX_S) * (1 + JITTER * chance)
    return "WAITING", max(pause_s, min(answer.retry_after_s, RETRY_AFTER_MAX_S))
