"""Run files of expression cases: `python tests/support/expr_corpus.py FILE…`.

A file has one JSON object a line: environments by name, and cases with the value, or the error and its phase, that the
reference gives. Each failure is a line `FILE:LINE want … got …`; the last line is the score. Leaves 1 if a case failed, if
there was none, or if a case has a mode that is not known.
"""

import base64
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from windlass import expressions
from windlass.expressions import (
    CompileError,
    Duration,
    Environment,
    RunError,
    Time,
    check,
    evaluate,
    evaluate_field,
    render_bytes,
)
from windlass.expressions.layouts import RFC3339, RFC3339_NANO, formatted, parsed
from windlass.expressions.limits import DEFAULT
from windlass.expressions.moments import Location, Month, Weekday, location
from windlass.expressions.program import accounts
from windlass.expressions.text import text
from windlass.expressions.tork import JobSummary, TaskSummary, functions
from windlass.expressions.values import (
    AbsentArray,
    AbsentStringArray,
    AbsentStringMap,
    Float32,
    FloatArray,
    Int8,
    Int16,
    Int32,
    Int64,
    IntArray,
    KeyedMap,
    Pair,
    PairArray,
    StringArray,
    StringMap,
    Uint,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Value,
    from_bytes,
)

_SIZED: dict[str, type[int]] = {
    "int8": Int8,
    "int16": Int16,
    "int32": Int32,
    "int64": Int64,
    "uint": Uint,
    "uint8": Uint8,
    "uint16": Uint16,
    "uint32": Uint32,
    "uint64": Uint64,
}
_STRUCTS = {"JobSummary": JobSummary, "TaskSummary": TaskSummary}
_TIMES = frozenset({"CreatedAt", "ScheduledAt", "StartedAt", "CompletedAt", "FailedAt"})


class Case(NamedTuple):
    """One case and where it stands."""

    place: str
    fields: dict[str, Any]
    environment: Any

    @property
    def wanted(self) -> str:
        if "error" in self.fields:
            return f"{self.fields['phase']} error: {self.fields['error']}"
        return json.dumps(self.fields.get("expect"), ensure_ascii=False)


def cases(path: Path) -> Iterator[Case]:
    """The cases of a file, in order, each with the JSON of its environment."""
    environments: dict[str, Any] = {}
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            fields = json.loads(line)
            if "define_env" in fields:
                environments[fields["define_env"]] = fields["env"]
                continue
            named = fields.get("env_ref")
            yield Case(f"{path}:{number}", fields, fields.get("env", {}) if named is None else environments[named])


def decode(data: Any) -> Value:
    """A value of the language from its JSON."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "$type" not in data:
        return {key: decode(item) for key, item in data.items()}
    return _typed(data["$type"], data.get("value"), data)


def _typed(kind: str, value: Any, data: Mapping[str, Any]) -> Value:
    if kind in _SIZED:
        return _SIZED[kind](value)
    match kind:
        case "string":
            return from_bytes(base64.b64decode(data["base64"]))
        case "float64":
            return float(value)
        case "float32":
            return Float32(value)
        case "[]uint8":
            return base64.b64decode(value or "")
        case "map[string]string":
            return AbsentStringMap() if value is None else StringMap(value)
        case "[]string":
            return AbsentStringArray() if value is None else StringArray(decode(value))
        case "[]int":
            return AbsentArray() if value is None else IntArray(value)
        case "[]float64":
            return AbsentArray() if value is None else FloatArray(map(decode, value))
        case "[2]interface {}":
            return Pair(decode(value))
        case "[][2]interface {}":
            return PairArray(map(decode, value))
        case "time.Time":
            return _seen_from(parsed(value, RFC3339), data.get("zone", ""))
        case "time.Duration":
            return Duration(value)
        case "time.Month":
            return Month(value)
        case "time.Weekday":
            return Weekday(value)
        case "*time.Location":
            return location(value)
        case "JobSummary" | "TaskSummary":
            members = {_member(key): item for key, item in value.items()}
            return _STRUCTS[kind]({key: _field(key, item) for key, item in members.items()})
    if kind.startswith("[]"):
        return AbsentArray() if value is None else decode(value)
    if kind.startswith("map["):
        return KeyedMap((decode(key), decode(item)) for key, item in value or ())
    raise ValueError(f"unknown $type {kind}")


def _seen_from(time: Time, zone: str) -> Time:
    """The time in a zone of the database, which may have an offset that the text could not show to the second."""
    try:
        place = location(zone) if zone else time.location
    except RunError:  # a made-up zone, known by its abbreviation only
        return time
    shown = Time.at(*time.civil[:7], place)
    return shown if formatted(shown, RFC3339_NANO) == formatted(time, RFC3339_NANO) else time


def _member(key: str) -> str:
    name = key[0].upper() + key[1:]
    return "ID" if name == "Id" else name.removesuffix("Id") + "ID" if name.endswith("Id") else name


def _field(name: str, value: Any) -> Value:
    if value is None:
        return None
    if name in _TIMES:
        return parsed(value, RFC3339)
    if name == "Inputs":
        return StringMap(value)
    if name == "Tags":
        return StringArray(value)
    return decode(value)


def agree(want: Value, got: Value, unordered: bool = False) -> bool:
    """Whether values are equal: integers and floats apart, element types of arrays not looked at."""
    if want is None or got is None:
        return _is_absent(want) and _is_absent(got)
    if isinstance(want, bool) or isinstance(got, bool):
        return want is got
    if isinstance(want, float) and isinstance(got, float):
        if math.isnan(want) or math.isnan(got):
            return math.isnan(want) and math.isnan(got)
        return float(want) == float(got) and math.copysign(1, want) == math.copysign(1, got)
    if isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            return False
        if not unordered:
            return all(agree(one, other) for one, other in zip(want, got, strict=True))
        rest = list(got)
        return all(
            (at := next((i for i, other in enumerate(rest) if agree(one, other)), -1)) >= 0 and [rest.pop(at)] for one in want
        )
    if isinstance(want, KeyedMap | dict) and isinstance(got, KeyedMap | dict):
        return len(want) == len(got) and all(
            any(agree(key, k) and agree(item, i) for k, i in got.items()) for key, item in want.items()
        )
    if isinstance(want, Location) and isinstance(got, Location):
        return want.name == got.name
    if isinstance(want, Time) and isinstance(got, Time):
        return formatted(want, RFC3339_NANO) == formatted(got, RFC3339_NANO)
    families: tuple[type, ...] = (int, str, bytes)
    kinds = [next((family for family in families if isinstance(value, family)), type(value)) for value in (want, got)]
    return kinds[0] is kinds[1] and want == got


def _is_absent(value: Value) -> bool:
    return value is None or isinstance(value, AbsentArray | AbsentStringArray | AbsentStringMap)


def _valid(source: str, environment: Environment) -> Value:
    check(source)
    return True


_MODES: dict[str, Callable[[str, Environment], Value]] = {
    "eval": evaluate,
    "template": render_bytes,
    "tork_expr": evaluate_field,
    "valid": _valid,
}


def verdict(case: Case) -> str | None:
    """What came instead of what was wanted; None if it was that."""
    fields, mode = case.fields, case.fields["mode"]
    run = _MODES[mode]
    values = decode(case.environment)
    if mode in ("template", "tork_expr"):
        values = {**functions(lambda bound: bound // 2), **values}
    environment = Environment(values, lambda: datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    try:
        got = run(fields["expr"], environment)
    except (CompileError, RunError) as error:
        phase = "compile" if isinstance(error, CompileError) else "run"
        if fields.get("phase") != phase:
            return f"{phase} error: {error.message}"
    else:
        if "error" in fields:
            return shown(got)
        if not agree(decode(fields["expect"]), got, fields.get("unordered", False)):
            return shown(got)
        if "text" in fields and not fields.get("unordered") and not isinstance(got, str):
            printed = text(accounts(environment, DEFAULT), got)
            if printed != fields["text"]:
                return f"text {printed}"
    if mode == "eval" and "valid" in fields:
        try:
            expressions.compile(fields["expr"])
        except CompileError as error:
            return f"not valid: {error.message}" if fields["valid"] else None
        return None if fields["valid"] else "valid"
    return None


def shown(value: Value) -> str:
    """A value for a person to compare."""
    return f"{value!r} ({type(value).__name__})"


def main(paths: list[str]) -> int:
    """Run the files; the exit status."""
    passed = failed = 0
    for path in paths:
        for case in cases(Path(path)):
            wrong: str | None
            if case.fields.get("mode") in _MODES:
                try:
                    wrong = verdict(case)
                except Exception as error:  # noqa: BLE001  a third kind of exception fails the case, not the run
                    wrong = f"{type(error).__name__}: {error}"
            else:
                wrong = f"the unknown mode {case.fields.get('mode')!r}"
            if wrong is None:
                passed += 1
            else:
                failed += 1
                print(f"{case.place} {case.fields.get('expr')!r} want {case.wanted} got {wrong}")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
