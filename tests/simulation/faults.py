"""Which faults a world suffers: drawn from its seed, each kind in some worlds only, so that rare mixtures come up."""

from collections.abc import Iterator
from random import Random

import msgspec
from msgspec.structs import replace

LASTS_S = 8.0
"""How long faults go on; then all is healed."""
UNITS = (
    "gateway-1",
    "coordinator-1",
    "coordinator-2",
    "worker-1",
    "worker-2",
    "scheduler-1",
    "scheduler-2",
    "webhooks-1",
    "webhooks-2",
)
MACHINES = {"scheduler-2": "scheduler-1"}
"""Units on another's machine, with its clock."""


class Fault(msgspec.Struct, frozen=True):
    """Something that happens at a moment, to one unit or to a server, for a while."""

    at_s: float
    kind: str
    unit: str = ""
    lasts_s: float = 0.0


ON_UNITS = ("kill", "stop", "lose", "freeze", "cut-broker", "cut-database")
ON_SERVERS = ("broker-restart", "amnesia", "database-restart", "kill-all")


class Plan(msgspec.Struct, frozen=True):
    """All that a seed decides about faults. Rates are chances, for each message of a kind."""

    faults: tuple[Fault, ...]
    lost: dict[str, float]
    twice: dict[str, float]
    slow: float
    """The chance of a message to be late by up to 0.4 s, and all behind it on its connection."""
    commit_lost: float
    commit_refused: float
    skew_s: dict[str, float]
    """What the wall clock of each unit is off by."""
    shuffles: bool

    def simpler(self) -> Iterator["Plan"]:
        """The plans with one thing less that may go wrong."""
        for number in range(len(self.faults)):
            yield replace(self, faults=self.faults[:number] + self.faults[number + 1 :])
        for name in ("lost", "twice"):
            rates: dict[str, float] = getattr(self, name)
            yield from (replace(self, **{name: {**rates, kind: 0.0}}) for kind, rate in rates.items() if rate)
        for name in ("slow", "commit_lost", "commit_refused"):
            if getattr(self, name):
                yield replace(self, **{name: 0.0})
        if self.skew_s:
            yield replace(self, skew_s={})
        if self.shuffles:
            yield replace(self, shuffles=False)

    def lines(self) -> Iterator[str]:
        """What goes wrong, for people."""
        for fault in self.faults:
            yield f"{fault.at_s:10.4f} {fault.kind} {fault.unit} for {fault.lasts_s:.2f} s"
        rates = {f"{name} {kind}": rate for name in ("lost", "twice") for kind, rate in getattr(self, name).items()}
        rates |= {name: getattr(self, name) for name in ("slow", "commit_lost", "commit_refused")}
        named = [f"{name} {rate:.3f}" for name, rate in rates.items() if rate]
        named += ["clocks differ"] * bool(self.skew_s) + ["any order"] * self.shuffles
        yield f"{'':10} {', '.join(named) or 'nothing else'}"

    @property
    def is_gentle(self) -> bool:
        """Whether nothing goes wrong but that services are asked to end, which they do in good order."""
        rates = (*self.lost.values(), *self.twice.values(), self.slow, self.commit_lost, self.commit_refused)
        return not any(rates) and all(fault.kind == "stop" for fault in self.faults)


CALM_SHARE = 0.05
"""Worlds in which nothing goes wrong: what takes long there has no excuse."""
CALM = Plan(faults=(), lost={}, twice={}, slow=0.0, commit_lost=0.0, commit_refused=0.0, skew_s={}, shuffles=True)
"""Nothing goes wrong but what a test adds."""
GENTLE_SHARE = 0.1
"""Worlds in which services are only asked to end, and started again: that is no excuse either."""


def draw(chance: Random) -> Plan:
    """The plan of a seed."""
    if chance.random() < CALM_SHARE:
        return CALM
    if chance.random() < GENTLE_SHARE:
        stops = [Fault(chance.uniform(0.3, LASTS_S), "stop", chance.choice(UNITS)) for _ in range(chance.randrange(1, 7))]
        return replace(CALM, faults=tuple(sorted(stops, key=lambda fault: fault.at_s)))
    is_rough = chance.random() < 0.8
    kinds = [kind for kind in ON_UNITS + ON_SERVERS if chance.random() < 0.4]
    faults = []
    for _ in range(chance.randrange(1, 7) if kinds else 0):
        kind = chance.choice(kinds)
        unit = chance.choice(UNITS) if kind in ON_UNITS else ""
        lasts_s = chance.choice((0.2, 1.0, 5.0, 12.0)) * chance.uniform(0.5, 1.2)
        if kind in ("broker-restart", "amnesia", "database-restart"):
            lasts_s = min(lasts_s, 3.0)
        faults.append(Fault(chance.uniform(0.3, max(2.0, LASTS_S - lasts_s)), kind, unit, lasts_s))

    def sometimes(most: float) -> float:
        return chance.uniform(0, most) if is_rough and chance.random() < 0.5 else 0.0

    return Plan(
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
        lost={kind: sometimes(0.15) for kind in ("publish", "tell", "ack", "stored", "answer", "deliver")},
        twice={kind: sometimes(0.15) for kind in ("publish", "tell", "answer", "deliver")},
        slow=sometimes(0.1),
        commit_lost=sometimes(0.05),
        commit_refused=sometimes(0.05),
        skew_s={unit: chance.uniform(-3600, 3600) for unit in UNITS} if chance.random() < 0.3 else {},
        shuffles=chance.random() < 0.7,
    )


class FaultyWire:
    """A wire that does to messages what the plan says, until it is healed."""

    def __init__(self, plan: Plan, chance: Random) -> None:
        self._plan, self._chance = plan, chance
        self.healed = False

    def delay_s(self) -> float:
        """See `Wire`."""
        draw = self._chance.random()
        if not self.healed and draw < self._plan.slow:
            return self._chance.random() * 0.4
        return 0.0003 + draw * 0.001

    def fate(self, kind: str) -> tuple[float, ...]:
        """See `Wire`."""
        if self.healed:
            return (0.0,)
        lost, twice = self._plan.lost.get(kind, 0.0), self._plan.twice.get(kind, 0.0)
        if not lost and not twice:
            return (0.0,)
        draw = self._chance.random()
        if draw < lost:
            return ()
        return (0.0, self._chance.random() * 3) if draw < lost + twice else (0.0,)

    def commit(self) -> str:
        """See `Wire`."""
        if self.healed:
            return "done"
        draw = self._chance.random()
        if draw < self._plan.commit_lost:
            return "lost"
        return "refused" if draw < self._plan.commit_lost + self._plan.commit_refused else "done"
