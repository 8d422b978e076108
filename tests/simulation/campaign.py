"""Many seeds, on all cores."""

import os
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


class Verdict(msgspec.Struct, frozen=True):
    """What came of a seed."""

    seed: int
    violation: str | None
    tail: list[str]
    happened: dict[str, int]


def judge(seed: int, mutant: str | None = None, plan: Plan | None = None) -> Verdict:
    """Run one world, with other faults than its seed draws if there is a plan."""
    with mutated(mutant):
        world = World(seed, plan)
        violation = world.run()
    tail = list(world.lines())[-TAIL:] if violation is not None else []
    return Verdict(seed, violation, tail, dict(world.happened))


def _judge_some(seeds: Sequence[int], mutant: str | None) -> list[Verdict]:
    return [judge(seed, mutant) for seed in seeds]


def judge_all(seeds: Sequence[int], mutant: str | None = None, processes: int | None = None) -> Iterator[Verdict]:
    """Run many, in order, on all cores."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
        for verdicts in pool.map(_judge_some, chunks, [mutant] * len(chunks)):
            yield from verdicts
