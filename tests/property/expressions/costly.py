"""Sources made to cost as much as they can: `python -m tests.property.expressions.costly` runs all and fails beyond a bound.

Each runs in a process of its own, which tells the processor time it took and the most memory it held.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

from windlass.expressions import DEFAULT, QUICK, ExpressionError, Limits, StringMap, evaluate

TIME_S, QUICK_S, MEMORY_MIB = 2.0, 0.05, 256

_RANGE = "let a = 1..1000; let b = map(1..1000, a); let c = map(1..1000, b); "
_NESTED = "1"
for _ in range(28):
    _NESTED = f"(0 < ({_NESTED}) < 5 ? 1 : 2)"
_DOUBLED = "let b0 = repeat('x', 999998); " + "".join(f"let b{i + 1} = b{i} + b{i}; " for i in range(20))
_TENS = 'let b0 = ["x"]; ' + "".join(f"let b{i + 1} = [{', '.join([f'b{i}'] * 10)}]; " for i in range(11))


def _many(item: str, use: str, size: int = 50_000) -> str:
    return f"let a = '[' + repeat('{item},', {size}) + '1]'; map(1..100, {use})"


SOURCES = {
    "loop": "count(1..900000, any(1..900000, # == 0))",
    "choice": "count(1..900000, # > 5 ? # < 10 : # == 3)",
    "nest": "map(1..900, map(1..900, #))",
    "comparisons": _NESTED,
    "doubled text": _DOUBLED + "len(b20)",
    "wide text": "let a = repeat('x', 900000); replace(a, 'x', repeat('y', 90000))",
    "text of shared arrays": _RANGE + "string(c)",
    "result of shared arrays": _RANGE + "c",
    "json of shared arrays": _TENS + "toJSON(b11)",
    "equal shared arrays": _RANGE + "c == map(1..1000, b)",
    "flatten": _RANGE + "flatten(c)",
    "greatest": _RANGE + "max(c)",
    "average": _RANGE + "mean(c)",
    "median": "median(1..900000)",
    "each once": "uniq(map(1..100000, [#]))",
    "each number once": "uniq(1..900000)",
    "sort": "sort(map(1..300000, string(#)))",
    "sort by": "sortBy(1..400000, -#)",
    "groups": "groupBy(1..400000, #)",
    "groups of text": "groupBy(1..400000, string(#))",
    "groups again": "let a = 1..50000; map(1..100, groupBy(a, #))",
    "pairs": "let a = map(1..50000, [#, #]); map(1..100, fromPairs(a))",
    "slices": "let a = 1..400000; map(1..400, a[1:])",
    "takes": "let a = map(1..400000, #); map(1..400, take(a, 399999))",
    "pieces": "let a = repeat('ab,', 50000); map(1..100, split(a, ','))",
    "letters": "let a = repeat('日', 30000); map(1..100, split(a, ''))",
    "joins": "let a = split(repeat('xxxx,', 150000), ','); map(1..100000, len(join(a, '')))",
    "capitals": "let a = repeat('é', 400000); map(1..1000, upper(a))",
    "search": "let a = repeat('ab', 400000); count(1..900000, a contains 'bb')",
    "read arrays": _many("[[]]", "fromJSON(a)"),
    "read objects": _many('{"a":1}', "fromJSON(a)"),
    "read numbers": _many("1", "fromJSON(a)"),
    "read texts": _many('"ab"', "fromJSON(a)"),
    "read depth": "fromJSON(repeat('[', 100000) + repeat(']', 100000))",
    "write json": "toJSON(1..900000)",
    "write nested": "toJSON(map(1..300000, [[]]))",
    "bytes": "map(repeat('é', 400000), #)",
    "floats": "string(map(1..300000, # / 7))",
    "powers": "map(1..300000, 2.5 ** 1.7)",
    "conversions": "count(1..900000, int('12') == 12)",
    "dates": "map(1..200000, date('2024-01-01'))",
    "zones": "map(1..100000, date('2024-01-01').In(timezone('Europe/Zurich')).Format('MST'))",
    "layouts": "map(1..300000, date('2024-01-01').Format('2006-01-02T15:04:05'))",
    "durations": "map(1..300000, duration('1h30m'))",
    "maps": "map(1..400000, {a: #})",
    "empty arrays": "map(1..999998, [])",
    "patterns made": "count(1..100000, 'a' matches string(#))",
    "large patterns": "[" + ", ".join(rf"'a' matches '[\\pL]{{90}}{at}'" for at in range(900)) + "]",
    "large patterns made": r"count(1..1000, 'a' matches ('[\\pL]{90}' + string(#)))",
    "classes": "'a' matches '" + r"\\pL?" * 240 + "'",
    "long match": "let a = repeat('ab', 400000); count(1..1000, a matches 'a[ab]{900}c')",
    "a row": "+".join(["inputs.n"] * 3300),
    "parentheses": "(" * 30_000,
    "signs": "-" * 60_000 + "1",
    "quotes": '"\\' * 30_000,
    "comments": "/*" * 30_000,
}


def measure(name: str, quick: bool = False) -> tuple[float, int, str]:
    """Seconds of processor time, MiB at the most, and what came of it, in a fresh interpreter."""
    command = [sys.executable, "-m", "tests.property.expressions.costly", name, *(["quick"] if quick else [])]
    took, memory, outcome = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(" ", 2)
    return float(took), int(memory), outcome.strip()


def _run(source: str, limits: Limits) -> None:
    environment = {"inputs": StringMap({"n": "5"})}
    start = time.process_time()
    try:
        value = evaluate(source, environment, limits)
        outcome = type(value).__name__
    except ExpressionError as error:
        outcome = f"{error.message[:60]} ({error.budget})"
    took = time.process_time() - start
    peak_kib = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]
    print(took, int(peak_kib) >> 10, outcome)


def main() -> int:
    """Run all; the exit status."""
    status = 0
    for name in SOURCES:
        for quick, bound in ((False, TIME_S), (True, QUICK_S)):
            took, memory, outcome = measure(name, quick)
            failed = took > bound or memory > MEMORY_MIB
            status |= failed
            print(f"{'FAILED ' if failed else ''}{name}{', quick' if quick else ''}: {took:.3f} s, {memory} MiB, {outcome}")
    return status


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    _run(SOURCES[sys.argv[1]], QUICK if sys.argv[2:] else DEFAULT)
