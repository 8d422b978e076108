"""`just simulate`: many seeds, or the trace of one."""

import argparse
import sys
from collections import Counter

from tests.simulation.campaign import judge_all
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.world import SOMETIMES, World

CAMPAIGN = 100
"""From so many seeds on, what must happen at least once has to have happened."""


def main() -> int:
    """The command; exit code 0 when no seed failed and all that must happen has."""
    parser = argparse.ArgumentParser(prog="just simulate", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="print the trace of this one")
    parser.add_argument("--seeds", type=int, default=500, metavar="N", help="how many to run (default 500)")
    parser.add_argument("--from", type=int, default=0, metavar="S", dest="first", help="the first of them (default 0)")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this defect, which is to be found")
    args = parser.parse_args()
    if args.seed is not None:
        with mutated(args.mutant):
            world = World(args.seed)
            violation = world.run()
        print(*world.plan.lines(), *world.lines(), sep="\n")
        print(f"seed {args.seed}: {violation or 'all promises hold'}")
        return int(violation is not None)
    happened: Counter[str] = Counter()
    failed = 0
    for verdict in judge_all(range(args.first, args.first + args.seeds), args.mutant):
        happened.update(verdict.happened)
        if verdict.violation is not None:
            failed += 1
            print(*verdict.lines(), sep="\n", end="\n\n")
    print(", ".join(f"{name} {happened[name]}" for name in SOMETIMES))
    never = [name for name in SOMETIMES if not happened[name]]
    if never:
        print(f"never happened: {', '.join(never)}")
    print(f"{args.seeds - failed} passed, {failed} failed")
    return int(failed > 0 or (bool(never) and args.seeds >= CAMPAIGN))


if __name__ == "__main__":
    sys.exit(main())
