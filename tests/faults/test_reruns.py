"""What failed runs again alone, however its coordinator dies: nothing that ended well runs twice, and nothing is left out."""

from collections import Counter
from pathlib import Path

import psycopg

from tests.faults.test_survival import LATER_S, ask, until_ended
from tests.support.stack import Up, up, wait_for

ELEMENTS, EVERY = 1_500, 25
BROKEN = ELEMENTS // EVERY


def _begun(stack: Up, run: int) -> Counter[tuple[str, str]]:
    """The rows of a run, by the first letter of their names and their state."""
    with psycopg.connect(stack.env()["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:
        connection.execute("SET search_path TO windlass")
        query = b"SELECT left(definition->>'name', 1), state FROM tasks WHERE run = %s"
        return Counter(connection.execute(query, (run,)).fetchall())


def test_of_many_elements_those_that_failed_run_again_though_the_coordinator_is_killed(tmp_path: Path) -> None:
    door = tmp_path / "door"
    odd = f"{{{{ item.value % {EVERY} == 0 }}}}"
    children = [
        {"name": "x", "if": "false", "run": "exit 1"},
        {"name": "y{{ item.index }}", "if": odd, "run": f"test -e {door}"},
    ]
    inner = {"name": "p{{ item.index }}", "parallel": {"tasks": children}, "onError": "continue"}
    tasks = [
        {"name": "e", "each": {"list": f"{{{{ sequence(0, {ELEMENTS}) }}}}", "task": inner}},
        {"name": "last", "run": "true"},
    ]
    with up("--runtime", "shell", "--coordinators", "2", "--queue", "default:4") as stack:
        job = str(ask(stack, "POST", "/jobs", {"name": "many", "tasks": tasks})["id"])
        assert until_ended(stack, [job]) == {job: "FAILED"}
        first = _begun(stack, 1)
        assert (first["p", "FAILED"], first["y", "FAILED"], first["e", "FAILED"]) == (BROKEN, BROKEN, 1)
        door.touch()
        assert ask(stack, "PUT", f"/jobs/{job}/restart?only=failed") == {"status": "OK"}
        wait_for("some to run again", lambda: _begun(stack, 2)["y", "COMPLETED"] > 3, LATER_S)
        for name in ("coordinator-1", "coordinator-2"):
            stack.kill(name)
        wait_for("the end", lambda: until_ended(stack, [job]) == {job: "COMPLETED"}, LATER_S)
        assert _begun(stack, 2) == {
            ("e", "COMPLETED"): 1,
            ("p", "COMPLETED"): BROKEN,
            ("y", "COMPLETED"): BROKEN,
            ("l", "COMPLETED"): 1,
        }
        assert _begun(stack, 1) == first
