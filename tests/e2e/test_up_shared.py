"""A stack for the time being: shared by those who need it, stopped by the last, however they end."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.stack import Up, wait_for, windlass
from windlass.local.data import Data
from windlass.local.process import command_of

PROGRAM = Path(__file__).parents[1] / "support" / "use_stack.py"


class User:
    """A process that uses the stack of a data directory."""

    def __init__(self, data: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(data), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self) -> list[str]:
        """Its next line, in words."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def release(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def using(data: Path, *options: str) -> Iterator[User]:
    user = User(data, *options)
    try:
        yield user
    finally:
        user.close()


def holder_of(data: Path) -> int | None:
    return Data(data).holder()


def test_two_at_once_share_one_and_the_last_stops_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with using(data) as first, using(data) as second:
        words = [first.say(), second.say()]
        assert words[0][:2] == words[1][:2]
        assert sorted(word[2] for word in words) == ["False", "True"]
        first.release()
        assert windlass("status", "--data", str(data)).returncode == 0
        second.release()
        assert holder_of(data) is None
        assert windlass("status", "--data", str(data)).returncode == 3


def test_it_goes_when_its_only_user_is_killed_and_the_next_user_gets_another(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with using(data) as first:
        first.say()
        state = Data(data).state()
        assert state is not None
        first.process.kill()
        with using(data) as second:
            assert second.say()[0] == "using"
            other = holder_of(data)
            assert other is not None
            second.process.kill()
            wait_for("the stack has gone", lambda: holder_of(data) is None, 30)
            pids = [state.pid, state.nats.pid, state.postgres.pid, *(service.pid for service in state.services)]
            if other != state.pid:
                assert not [pid for pid in pids if command_of(pid)]


def test_the_one_who_started_it_may_be_killed_while_another_uses_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with using(data) as first:
        first.say()
        with using(data) as second:
            second.say()
            first.process.kill()
            first.process.wait(10)
            assert windlass("status", "--data", str(data)).returncode == 0
            second.release()
        assert holder_of(data) is None


def test_it_stays_when_its_user_says_so_until_down(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with using(data, "leave") as first:
        first.say()
        first.release()
        assert windlass("status", "--data", str(data)).returncode == 0
        assert windlass("down", "--data", str(data)).returncode == 0
        assert holder_of(data) is None


def test_a_foreground_up_is_used_and_left_running(tmp_path: Path) -> None:
    running = Up(tmp_path / "data", "--runtime", "shell")
    try:
        with using(running.path) as user:
            assert user.say() == ["using", running.url, "False"]
            user.release()
        assert windlass("status", "--data", str(running.path)).returncode == 0
    finally:
        running.stop()


def test_what_keeps_it_from_starting_is_told(tmp_path: Path) -> None:
    Data(tmp_path / "data").make()
    (tmp_path / "data" / "installation.json").write_text('{"release":"9.0","postgres":15,"format":999}')
    script = (
        "import asyncio, os, sys\nfrom windlass.local.stack import use\n"
        "async def main():\n    async with use(os.environ, sys.argv[1], ['--port', '0']):\n        pass\n"
        "try:\n    asyncio.run(main())\nexcept Exception as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path / "data")], capture_output=True, text=True, check=True)
    assert "windlass 9.0, whose database format 999 this release" in said.stdout
    assert len(said.stdout.splitlines()) == 1
