"""The campaign, that it is the same twice, that it finds what it must, and what it has found."""

import os
import subprocess
import sys
from collections import Counter

import msgspec
import pytest

from tests.house.files import ROOT
from tests.simulation.campaign import judge, judge_all, shrunk
from tests.simulation.faults import CALM, UNITS, Fault
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import SOMETIMES, World

SEEDS = range(500)
pytestmark = pytest.mark.timeout(600)


def test_no_seed_breaks_a_promise_and_all_that_must_happen_has() -> None:
    happened: Counter[str] = Counter()
    for verdict in judge_all(SEEDS):
        assert verdict.violation is None, "\n".join(verdict.lines())
        happened.update(verdict.happened)
    assert [name for name in SOMETIMES if not happened[name]] == []


CUT_OFF = msgspec.structs.replace(CALM, faults=tuple(Fault(1.5, "cut-broker", unit, 9.0) for unit in ("worker-1", "worker-2")))
TWICE = msgspec.structs.replace(CALM, twice={"publish": 0.9})
RARE = {"worker-never-gives-up": CUT_OFF, "webhooks-one-at-a-time": CALM, "restart-without-its-name": TWICE}
"""Defects that chance alone seldom shows, and the faults that show them."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_defect_is_found(mutant: str) -> None:
    assert any(judge(seed, mutant, RARE.get(mutant)).violation is not None for seed in SEEDS)


def test_a_failure_is_told_with_no_more_faults_than_it_takes() -> None:
    plan = msgspec.structs.replace(
        CALM,
        faults=(Fault(0.7, "kill", "gateway-1"), Fault(1.0, "stop", "coordinator-2"), *CUT_OFF.faults),
        lost={"tell": 0.05},
        slow=0.1,
    )
    failure = next(found for seed in SEEDS if (found := judge(seed, "worker-never-gives-up", plan)).violation is not None)
    told = shrunk(failure, "worker-never-gives-up", within_s=120)
    assert (told.violation or "").startswith("G6")
    assert "cut-broker" in {fault.kind for fault in told.plan.faults}
    assert len(told.plan.faults) < len(plan.faults)
    calmer = [judge(failure.seed, "worker-never-gives-up", plan) for plan in told.plan.simpler()]
    assert calmer
    assert not any((found.violation or "").startswith("G6") for found in calmer)
    assert shrunk(failure, "worker-never-gives-up", within_s=0) == failure


def test_a_worker_that_is_cut_off_runs_nothing_when_its_lease_is_over() -> None:
    for seed in range(20):
        assert judge(seed, plan=CUT_OFF).violation is None


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_asked_to_end_does_and_nobody_is_lost(unit: str) -> None:
    """A worker hands back what runs, a coordinator its shards, and whoever follows lets others follow."""
    faults = (Fault(1.5, "stop", unit),)
    for seed in range(8):
        world = World(seed, msgspec.structs.replace(CALM, faults=faults))
        assert world.run() is None
        assert world.units[unit].starts == 2


def _traced(seed: int, hash_seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.simulation", str(seed)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout


@pytest.mark.parametrize("seed", [2, 11, 42])
def test_the_same_seed_is_the_same_world_byte_for_byte(seed: int) -> None:
    first = _traced(seed, "1")
    assert len(first.splitlines()) > 50
    assert first == _traced(seed, "2")


# -- what it found --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.startswith("coordinator")])
def test_a_coordinator_that_is_cut_off_calls_nobody_lost(unit: str) -> None:
    """It took living workers for lost until its client noticed that nothing came any more."""
    for seed in range(10):
        world = World(seed, msgspec.structs.replace(CALM, faults=(Fault(1.0, "cut-broker", unit, 9.0),)))
        assert world.run() is None
        assert world.happened["lease expiry"] == 0


def test_what_waits_is_driven_again_though_its_last_owners_clock_was_ahead() -> None:
    """What the owner of a shard had planned by a clock an hour ahead, nobody did for an hour."""
    faults = (Fault(0.6, "cut-broker", "worker-1", 1.0), Fault(0.9, "kill", "coordinator-1", 0.0))
    for seed in range(10):
        plan = msgspec.structs.replace(CALM, faults=faults, lost={"publish": 0.3}, skew_s={"coordinator-1": 3600.0})
        assert World(seed, plan).run() is None


def test_a_session_that_ends_between_two_takings_leaves_no_shard_locked_and_unowned() -> None:
    """The second shard was taken in the next session, then once more, and let go only once."""
    for moment in range(24):
        faults = (Fault(0.046 + 0.0003 * moment, "database-restart"),)
        assert World(1, msgspec.structs.replace(CALM, faults=faults)).run() is None
