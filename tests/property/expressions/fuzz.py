"""Sources made up by chance, from sound to nonsense: `python -m tests.property.expressions.fuzz COUNT [SEED]` runs many."""

import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tests.property.expressions.costly import TIME_S
from windlass.expressions import ExpressionError, Value, check, evaluate, evaluate_field, plain, render
from windlass.expressions.builtins import BUILTINS
from windlass.expressions.parser import BINARY
from windlass.expressions.tork import job_environment

ENVIRONMENT = job_environment(
    inputs={"n": "5", "json": '{"a": [1, 2.5, null], "b": {"c": "x"}}', "text": "naïve ☕", "date": "2024-02-29"},
    secrets={"key": "s3cr3t"},
    tasks=None,
    job={"id": "1", "name": "nightly"},
    below=lambda bound: bound // 2,
    now=lambda: datetime(2024, 3, 1, tzinfo=UTC),
    item=("item", 3, [1, "a", None, 2.5, {"k": [True]}, [[1], 2]]),
)
_LEAVES = """
1 0 -3 2.5 9223372036854775807 'abc' "é" true false nil [] {} [1,2] [1,'a',nil] {a:1} 1..5 5..1 # #.k #index #acc
inputs inputs.n inputs.json tasks secrets.key job.name item item.value item.value[4] item.index $env x q
item.value item.value item.value[0] item.value[1] item.value[4].k fromJSON(inputs.json).a fromJSON(inputs.json).b
fromJSON(inputs.json) date(inputs.date) now() duration('1h') timezone('Europe/Zurich') sequence(1,4) randomInt(9)
"""
_MEMBERS = "a b k value Year() Month() Format('2006-01-02') Add(duration('1h')) String() Hours() nope index x"
_SYMBOLS = "( ) [ ] { } , ; : ? ?. ?: . # :: not ! let if else q 1 'a' \" ` // /* \\ {{ }} é"
_TOKENS = [*BINARY, *_SYMBOLS.split(), "\n", "\x00", "\ud800", *_LEAVES.split()]


class Source:
    """A stream of sources; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._operators = list(BINARY)
        self._builtins = list(BUILTINS)
        self._leaves = _LEAVES.split()
        self._members = _MEMBERS.split()

    def expression(self, depth: int) -> str:
        """A source that mostly parses."""
        pick = self._chance.choice
        if depth <= 0:
            return pick(self._leaves)
        one, other = self.expression(depth - self._chance.randint(1, 3)), self.expression(depth - self._chance.randint(1, 3))
        match self._chance.randrange(13):
            case 0 | 1 | 2:
                return f"({one}) {pick(self._operators)} ({other})"
            case 3:
                return f"{pick(self._builtins)}({one})"
            case 4:
                return f"{pick(self._builtins)}({one}, {other})"
            case 5:
                return f"{pick(self._builtins)}({one}, {other}, {pick(self._leaves)})"
            case 6:
                return f"({one}) | {pick(self._builtins)}({other})"
            case 7:
                return f"({one}){pick(['.', '?.'])}{pick(self._members)}"
            case 8:
                return f"({one}){pick(['[', '?.['])}{other}]"
            case 9:
                return f"({one})[{other}:]"
            case 10:
                return f"let q = {one}; {other}"
            case 11:
                return f"{one} ? {other} : {pick(self._leaves)}"
            case _:
                return pick(["not ", "-", "+", ""]) + f"[{one}, {other}]"

    def tokens(self) -> str:
        """A source that mostly does not parse."""
        return self._chance.choice(["", " "]).join(self._chance.choices(_TOKENS, k=self._chance.randint(0, 25)))

    def next(self) -> str:
        """Any source: sound, nonsense, or one spoiled by a cut or a doubled stretch."""
        kind = self._chance.random()
        if kind < 0.15:
            return self.tokens()
        source = self.expression(self._chance.randint(1, 7))
        if kind < 0.3:
            at, to = sorted(self._chance.randint(0, len(source)) for _ in range(2))
            return source[:at] + source[to:] if kind < 0.22 else source[:to] + source[at:]
        return source


def run(source: str) -> Value:
    """Use a source in every way; what comes out must be a value or an error of the package, which prints."""
    uses: tuple[Callable[[], Value], ...] = (
        lambda: check(source),
        lambda: evaluate_field(source, ENVIRONMENT),
        lambda: render(f"a {{{{ {source} }}}} b {source}", ENVIRONMENT),
        lambda: plain(evaluate(source, ENVIRONMENT)),
    )
    value: Value = None
    for use in uses:
        try:
            value = use()
        except ExpressionError as error:
            value = None
            if not str(error).startswith(error.message):
                raise
    return value


def main(count: int, seed: int) -> int:
    """Run many; the exit status."""
    source = Source(seed)
    worst, slowest, values = 0.0, "", 0
    for _ in range(count):
        text = source.next()
        start = time.process_time()
        try:
            values += run(text) is not None
        except Exception:
            print(f"failed: {text!r}")
            raise
        took = time.process_time() - start
        if took > worst:
            worst, slowest = took, text
    print(f"{count} sources, {values} with a value; the slowest took {worst:.3f} s: {slowest[:300]!r}")
    return int(worst > TIME_S)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
