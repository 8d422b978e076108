"""What a wheel holds is enough: installed with pip in an environment of its own, away from the checkout, it runs a job."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a program says on its standard output; it must succeed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WINDLASS_", "TORK_", "PYTHON"))}
    done = subprocess.run(  # noqa: PLW1510 the next line looks at it
        [str(word) for word in command], cwd=cwd, env=environ | variables, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(500)
def test_an_installed_wheel_runs_a_job(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        reason = "no uv to build a wheel with; pip install uv"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    call(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("windlass-*.whl")
    venv.create(tmp_path / "v", with_pip=True)
    programs = tmp_path / "v" / ("Scripts" if sys.platform == "win32" else "bin")
    call(programs / "pip", "install", "--quiet", f"{wheel}[all]", cwd=tmp_path)
    shutil.copy(ROOT / "examples" / "hello.yaml", tmp_path)
    said = call(programs / "windlass", "run", "hello.yaml", cwd=tmp_path, WINDLASS_DATA=str(tmp_path / "data"))
    assert said == "Hello, world!\n"
