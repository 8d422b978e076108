"""Whoever receives webhooks: some answer at once, some as they like, some hang or are broken until all is healed."""

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.hush import MASTER, SECRET
from tests.simulation.telling import GOOD
from windlass.eventlog.deliveries import Taken
from windlass.messages.jobs import HOOK_EVENTS, JOB_STATE, Webhook
from windlass.secrets.keys import transport
from windlass.secrets.redaction import REDACTED
from windlass.webhooks.call import CALL_S, TooLate, target_of
from windlass.webhooks.policy import Answer

if TYPE_CHECKING:
    from tests.simulation.world import World

MOODY, HANGING, BROKEN = "moody.example", "hanging.example", "broken.example"
HOSTS = (GOOD, GOOD, MOODY, MOODY, HANGING, BROKEN)
KEYS = transport(MASTER, "webhooks")
REFUSED = Answer(None, "connection refused")
Settle = Callable[[Answer], None]


def draw_hooks(chance: Random) -> tuple[Webhook, ...]:
    """The webhooks of a job."""
    return tuple(_draw_hook(chance) for _ in range(chance.randrange(1, 4)))


def _draw_hook(chance: Random) -> Webhook:
    url = f"http://{chance.choice(HOSTS)}/{chance.choice('ab')}"
    event = chance.choice(("", JOB_STATE, *sorted(HOOK_EVENTS)))
    headers = {"x-a": "{{ tasks.a }}"} if chance.random() < 0.5 else {}
    condition = "job.State == 'COMPLETED'" if event == JOB_STATE and chance.random() < 0.5 else ""
    return Webhook(url=url, event=event, headers=headers, if_=condition)


class Receivers:
    """All of them, at the other end of `Sender`'s calls."""

    def __init__(self, world: "World") -> None:
        self._world, self._chance = world, Random(f"{world.seed}/receivers")

    async def post(self, delivery: Taken, may_send: Callable[[], bool]) -> Answer:
        """See `windlass.webhooks.sender.Post`."""
        world, chance = self._world, self._chance
        host = delivery.host.partition(":")[0]
        try:
            async with asyncio.timeout(CALL_S):
                await asyncio.sleep((0.02 if host == GOOD else chance.choice((0.02, 1.0))) * chance.random())
                if not may_send():
                    raise TooLate
                if host == MOODY and not world.is_healed and chance.random() < 0.1:
                    return REFUSED
                answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

                def settle(given: Answer) -> None:
                    if not answer.done():
                        answer.set_result(given)

                for late_s in (0.0, chance.random()) if host == MOODY and chance.random() < 0.05 else (0.0,):
                    self._later(late_s + 0.01 * chance.random(), partial(self._arrive, delivery, host, settle))
                return await answer
        except TimeoutError:
            return Answer(None, f"no answer within {CALL_S:g} s")

    def _later(self, after_s: float, work: Callable[[], None]) -> None:
        self._world.at(self._world.loop.time() + after_s, work)

    def _arrive(self, delivery: Taken, host: str, settle: Settle) -> None:
        world, chance = self._world, self._chance
        world.telling.arrived(delivery)
        whole = target_of(delivery, KEYS)
        shown = {name: value.replace(SECRET, REDACTED) for name, value in whole.headers.items()}
        if REDACTED in str(whole.headers) or shown != delivery.headers:
            world.fail(f"G13: {delivery.id} says {whole.headers}, and is on record as {delivery.headers}")
        world.happened["webhook sealed"] += bool(delivery.sealed)
        if host == HANGING and not world.is_healed:
            return
        answer, takes_s, is_heard = Answer(200), 0.05 * chance.random(), True
        if host == BROKEN and not world.is_healed:
            answer = Answer(500)
        elif host == MOODY and not world.is_healed:
            answer = chance.choice((*[Answer(200)] * 5, Answer(500), Answer(429, retry_after_s=1.0), Answer(404)))
            takes_s = chance.choice((0.01, 0.01, 1.0, 6.0)) * chance.random()
            is_heard = chance.random() < 0.8
        self._later(takes_s, partial(self._answer, delivery, answer, settle if is_heard else partial(_break, settle)))

    def _answer(self, delivery: Taken, answer: Answer, settle: Settle) -> None:
        self._world.telling.answered(delivery, answer)
        self._later(0.01 * self._chance.random(), partial(settle, answer))


def _break(settle: Settle, answer: Answer) -> None:
    settle(Answer(None, "connection reset"))
