"""How fast expressions are: `python benchmarks/expressions.py`. Processor time, the best of many rounds."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from windlass.expressions import Environment, compile, evaluate, forget, render  # noqa: A004
from windlass.expressions.tork import job_environment

CONDITION = "inputs.n == '5' && len(tasks.a) > 3"
TEMPLATE = "{{ inputs.a }}-{{ tasks.b }}"
LOOP = "map(filter(1..1000, # % 2 == 0), # * 2)"


def best_us(action: Callable[[], object], times: int, rounds: int = 40) -> float:
    """Microseconds of processor time for one call, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time_ns()
        for _ in range(times):
            action()
        best = min(best, time.process_time_ns() - start)
    return best / times / 1000


def import_us() -> float:
    """Microseconds of processor time for the import in a fresh interpreter, from bytecode, in the best of some."""
    code = "import time; s = time.process_time_ns(); import windlass.expressions; print(time.process_time_ns() - s)"
    with tempfile.TemporaryDirectory() as cache:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-X", f"pycache_prefix={cache}", "-c", code]
        runs = [subprocess.run(command, env=kept, capture_output=True, text=True, check=True).stdout for _ in range(20)]
    return min(map(int, runs)) / 1000


def environment() -> Environment:
    return job_environment(
        inputs={"n": "5", "a": "x"},
        secrets={},
        tasks={"a": "abcd", "b": "y"},
        job={"id": "1", "name": "nightly"},
        below=lambda bound: 0,
    )


def main() -> None:
    names = environment()

    def compile_anew() -> None:
        forget()
        compile(CONDITION, names)

    program = compile(CONDITION, names)
    rows: list[tuple[str, float, float]] = [
        ("compile a condition", best_us(compile_anew, 200), 60),
        ("run it, cached", best_us(lambda: program.run(names), 2000), 4),
        ("evaluate it by its text, cached", best_us(lambda: evaluate(CONDITION, names), 2000), 4),
        ("render a template of two, cached", best_us(lambda: render(TEMPLATE, names), 2000), 5),
        ("render a plain text", best_us(lambda: render("a plain text of no great length", names), 20_000), 0.3),
        ("filter and map a thousand", best_us(lambda: evaluate(LOOP, names), 20), 400),
        ("import the package", import_us(), 40_000),
    ]
    for name, took, target in rows:
        print(f"{name:34} {took:10.2f} µs   target {target:g} µs")


if __name__ == "__main__":
    main()
