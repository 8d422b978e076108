"""Many seeds, on all cores; where one fails, what of its faults is to blame."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec

from tests.simulation.faults import Plan
from tests.simulation.mutants import mutated
from tests.simulation.world import World

CHUNK = 20
"""Seeds that a process takes at a time."""
TAIL = 40
"""Lines of a failing seed's trace."""
SHRINKING_S = 30.0
"""How long to look for fewer faults that break the same promise, for the first failing seed of each chunk."""


class Verdict(msgspec.Struct, frozen=True):
    """What came of a seed."""

    seed: int
    violation: str | None
    plan: Plan
    tail: list[str]
    happened: dict[str, int]

    def lines(self) -> Iterator[str]:
        """What a person wants to know of a failure."""
        yield f"just simulate {self.seed}: {self.violation}"
        yield from self.plan.lines()
        yield from self.tail


def judge(seed: int, mutant: str | None = None, plan: Plan | None = None) -> Verdict:
    """Run one world, with other faults than its seed draws if there is a plan."""
    with mutated(mutant):
        world = World(seed, plan)
        violation = world.run()
    tail = list(world.lines())[-TAIL:] if violation is not None else []
    return Verdict(seed, violation, world.plan, tail, dict(world.happened))


def shrunk(verdict: Verdict, mutant: str | None = None, within_s: float = SHRINKING_S) -> Verdict:
    """The failure again, with no more going wrong than it takes to break the same promise, as far as there was time to try."""
    until_s = time.monotonic() + within_s
    untried = verdict.plan.simpler()
    while time.monotonic() < until_s and (plan := next(untried, None)) is not None:
        found = judge(verdict.seed, mutant, plan)
        if found.violation is not None and _promise(found) == _promise(verdict):
            verdict, untried = found, plan.simpler()
    return verdict


def _promise(verdict: Verdict) -> str:
    """The first words of a violation, which name what is broken."""
    return (verdict.violation or "").partition(":")[0]


def _judge_some(seeds: Sequence[int], mutant: str | None) -> list[Verdict]:
    verdicts = [judge(seed, mutant) for seed in seeds]
    first = next((number for number, verdict in enumerate(verdicts) if verdict.violation is not None), None)
    if first is not None:
        verdicts[first] = shrunk(verdicts[first], mutant)
    return verdicts


def judge_all(seeds: Sequence[int], mutant: str | None = None, processes: int | None = None) -> Iterator[Verdict]:
    """Run many, in order, on all cores."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
        for verdicts in pool.map(_judge_some, chunks, [mutant] * len(chunks)):
            yield from verdicts
