"""The command line: wrong use is one line and exit code 2, what is missing one line and exit code 1."""

from collections.abc import Callable

import pytest

from windlass import cli
from windlass.release import RELEASE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str, **environ: str) -> tuple[int, str, str]:
        try:
            code = cli.run(argv, environ)
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"windlass {RELEASE}\n", "")


def test_help_lists_the_commands(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in cli.MODULES:
        assert f"\n  {command} " in out


def test_no_command_is_answered_with_help(run: Run) -> None:
    code, out, _ = run()
    assert code == 2
    assert "COMMAND" in out


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["up", "--speed"], "unrecognized arguments: --speed"),
        (["up", "--port", "http"], "'http' is not a port"),
        (["up", "--port", "70000"], "'70000' is not a port"),
        (["up", "--queue", "default"], "write NAME:SLOTS"),
        (["up", "--queue", "x-1:2"], "is reserved"),
        (["up", "--queue", "a b:2"], "no blanks"),
        (["up", "--queue", "default:0"], "write NAME:SLOTS"),
        (["up", "--workers", "-1"], "'-1' is not a number from 0 to 64"),
        (["up", "--coordinators", "many"], "'many' is not a number from 0 to 64"),
        (["up", "--runtime", "vm"], "invalid choice: 'vm'"),
        (["env", "nobody"], "invalid choice: 'nobody'"),
        (["bus"], "required: action"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_two(run: Run, argv: list[str], reason: str) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert reason in err
    assert "--help" in err


@pytest.mark.parametrize(
    ("argv", "environ", "reason"),
    [
        (["coordinator"], {}, "WINDLASS_NATS_URL is not set"),
        (["scheduler"], {}, "WINDLASS_NATS_URL is not set"),
        (["worker"], {}, "WINDLASS_NATS_URL is not set"),
        (["up", "--data", "/proc/nothing"], {}, "/proc/nothing"),
        (["up", "--data", "/tmp/unused"], {"WINDLASS_PROFILE": "slow"}, "it is one of: default, fast"),
        (["up", "--data", "/tmp/unused"], {"WINDLASS_LOG_FORMAT": "xml"}, "it is console or json"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_and_exit_code_one(
    run: Run, argv: list[str], environ: dict[str, str], reason: str
) -> None:
    code, _, err = run(*argv, **environ)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert reason in err


def test_nothing_running_is_exit_code_three(run: Run, tmp_path: object) -> None:
    for command in ("status", "env"):
        code, out, err = run(command, "--data", str(tmp_path))
        assert (code, out) == (3, "")
        assert "windlass up" in err
    assert run("down", "--data", str(tmp_path))[0] == 0


def test_a_missing_extra_is_answered_with_what_installs_it() -> None:
    error = cli._missing("gateway", ModuleNotFoundError("No module named 'litestar'", name="litestar.app"))
    assert str(error) == "the Python package `litestar` is missing; pip install 'windlass[gateway]'"
    error = cli._missing("up", ModuleNotFoundError("No module named 'psycopg'", name="psycopg"))
    assert str(error) == "the Python package `psycopg` is missing; pip install 'windlass[all]'"
