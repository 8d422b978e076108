"""Deaths and freezes of each part, at work: what was begun ends, and no attempt runs twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.test_survival import LATER_S, ask, executions, proof, states, submit, until_ended
from tests.support.stack import Up, up, wait_for

PROMISE_S = 5.0
"""How long the shards of a coordinator that is killed or frozen may be without an owner."""


one_after_another = pytest.mark.xdist_group("kill")


def _twice(path: Path) -> list[str]:
    return [execution for execution, times in executions(path).items() if times > 1]


def _attempts(path: Path) -> list[int]:
    return sorted(int(execution.split()[1]) for execution in executions(path))


def _events(stack: Up, job: str) -> list[str]:
    """The types of a job's events; checks on the way that versions have no gap and nothing follows the end."""
    with psycopg.connect(stack.env("coordinator")["WINDLASS_POSTGRES_DSN"]) as connection:
        rows = connection.execute(
            "SELECT version, type FROM windlass.events WHERE stream = %s::uuid ORDER BY version", (job,)
        ).fetchall()
    tags = [str(tag) for _, tag in rows]
    assert [version for version, _ in rows] == list(range(1, len(rows) + 1))
    ends = [tag for tag in tags if tag in ("job.completed", "job.failed", "job.cancelled")]
    assert ends == tags[-1:]
    return tags


def _task_states(stack: Up, job: str) -> list[str]:
    return [str(task["state"]) for task in ask(stack, "GET", f"/jobs/{job}")["execution"]]


def _owners(stack: Up) -> set[str]:
    with psycopg.connect(stack.env("coordinator")["WINDLASS_POSTGRES_DSN"]) as connection:
        return {str(row[0]) for row in connection.execute("SELECT owner FROM windlass.shards")}


def _locked(dsn: str) -> set[int]:
    """The processes of the database that own shards, if all sixteen have an owner."""
    with psycopg.connect(dsn, options="-c search_path=windlass") as connection:
        rows = connection.execute(
            "SELECT objid, pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = shard_locks()::oid"
        ).fetchall()
    return {pid for _, pid in rows} if len({shard for shard, _ in rows}) == 16 else set()


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """One stack for the tests that leave it whole."""
    with up("--runtime", "shell", "--coordinators", "2", "--queue", "default:8") as running:
        yield running


@one_after_another
def test_the_shards_of_a_coordinator_that_is_frozen_or_killed_have_another_owner_within_the_promise(shared: Up) -> None:
    dsn = shared.env("coordinator")["WINDLASS_POSTGRES_DSN"]
    wait_for("both own a share", lambda: len(_locked(dsn)) == 2, LATER_S)
    pid = shared.kill("coordinator-1", signal.SIGSTOP)
    try:
        wait_for("the other owns all", lambda: len(_locked(dsn)) == 1, PROMISE_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("both own a share again", lambda: len(_locked(dsn)) == 2, LATER_S)
    before = _owners(shared)
    shared.kill("coordinator-2")
    wait_for("all have an owner that is alive", lambda: bool(_locked(dsn)), PROMISE_S)
    wait_for("its successor has a share", lambda: len(_locked(dsn)) == 2 and _owners(shared) != before, LATER_S)


@one_after_another
def test_a_worker_that_is_asked_to_end_finishes_what_is_short_and_hands_back_what_is_long(shared: Up, tmp_path: Path) -> None:
    written, hold = tmp_path / "executions", tmp_path / "hold"
    hold.touch()
    # The long task ends at once in its second attempt; in its first it would run for ever.
    long = f'{proof(written, "0")}; while [ -e {hold} ] && [ "$WINDLASS_ATTEMPT" = 1 ]; do sleep 0.1; done'
    short_job, long_job = submit(shared, "short", proof(written, "3")), submit(shared, "long", long)
    wait_for("both run", lambda: written.exists() and len(executions(written)) == 2, LATER_S)
    shared.kill("worker-1", signal.SIGTERM)
    assert until_ended(shared, [short_job, long_job]) == {short_job: "COMPLETED", long_job: "COMPLETED"}
    assert "task.redelivered" not in _events(shared, short_job)
    assert "task.redelivered" in _events(shared, long_job)
    assert _twice(written) == []
    assert _attempts(written) == [1, 1, 2]


@one_after_another
def test_a_worker_that_is_frozen_for_longer_than_its_lease_changes_nothing_when_it_goes_on(shared: Up, tmp_path: Path) -> None:
    written = tmp_path / "executions"
    jobs = [submit(shared, f"frozen-{number}", proof(written, "1")) for number in range(4)]
    wait_for("all run", lambda: written.exists() and len(executions(written)) == 4, LATER_S)
    pid = shared.kill("worker-1", signal.SIGSTOP)
    try:
        wait_for("its lease has run out", lambda: all("SCHEDULED" in _task_states(shared, job) for job in jobs), LATER_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert set(until_ended(shared, jobs).values()) == {"COMPLETED"}
    for job in jobs:
        assert _events(shared, job).count("task.completed") == 1
    assert _twice(written) == []
    assert _attempts(written) == [1] * 4 + [2] * 4


@one_after_another
def test_a_job_that_was_cancelled_while_its_worker_was_dead_does_not_go_on(shared: Up, tmp_path: Path) -> None:
    written = tmp_path / "executions"
    job = submit(shared, "cancelled", proof(written, "600"), proof(written, "0"))
    wait_for("it runs", lambda: written.exists() and len(executions(written)) == 1, LATER_S)
    shared.kill("worker-1")
    assert ask(shared, "PUT", f"/jobs/{job}/cancel") == {"status": "OK"}
    assert states(shared, [job]) == {job: "CANCELLED"}
    # The worker is back and works: what was cancelled is not among what it does.
    other = submit(shared, "other", "true")
    assert until_ended(shared, [other]) == {other: "COMPLETED"}
    assert states(shared, [job]) == {job: "CANCELLED"}
    assert _events(shared, job)[-2:] == ["task.cancelled", "job.cancelled"]
    assert len(executions(written)) == 1


def test_when_everything_is_killed_at_once_everything_still_ends(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell", "--coordinators", "2", "--workers", "2", "--queue", "default:4") as stack:
        jobs = [submit(stack, f"job-{number}", proof(written, "0.3"), proof(written, "0")) for number in range(20)]
        parts = ["nats", "coordinator-1", "coordinator-2", "worker-1", "worker-2", "gateway-1", "postgres"]
        for pid in [stack.pid_of(part) for part in parts]:
            if pid:
                os.kill(pid, signal.SIGKILL)
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
        later = submit(stack, "later", "true")
        assert set(until_ended(stack, [later]).values()) == {"COMPLETED"}
        for job in jobs:
            _events(stack, job)
    assert _twice(written) == []


def test_a_database_that_crashes_under_load_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell", "--coordinators", "2", "--queue", "default:4") as stack:
        jobs = []
        for number in range(20):
            jobs.append(submit(stack, f"job-{number}", proof(written, "0.1")))
            if number in (5, 12):
                stack.kill("postgres")
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
        assert ask(stack, "GET", "/jobs")["totalItems"] == 20
        for job in jobs:
            _events(stack, job)
    assert _twice(written) == []
