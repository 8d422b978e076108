"""The names that a job engine gives to expressions: Tork's tables, functions and webhook structs."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import ClassVar

from windlass.expressions.errors import RunError
from windlass.expressions.limits import Frame, grow
from windlass.expressions.operations import converted, is_integer
from windlass.expressions.types import ANY, FLOAT, INT, INTS, STRING, STRING_MAP, STRINGS, TIME, name_of, struct
from windlass.expressions.values import AbsentStringMap, Environment, Function, IntArray, StringMap, Value

Below = Callable[[int], int]
"""A source of chance: an integer from 0 up to but not including the bound."""

SEQUENCE_MAX = 1_000_000


class Sequence(Function):
    """`sequence(start, stop)`: the integers from start up to but not including stop."""

    parameters: ClassVar = (INT, INT)
    result: ClassVar = INTS

    def call(self, frame: Frame, arguments: list[Value]) -> Value:
        for value in arguments:
            if type(value) is not int:
                raise converted(value, "int")
        start, stop = arguments
        size = max(stop - start, 0)
        if size > SEQUENCE_MAX:
            raise RunError(f"sequence of {size} elements is longer than {SEQUENCE_MAX}", budget="cells")
        if size:
            grow(frame, size)
        return IntArray(range(start, stop))


class RandomInt(Function):
    """`randomInt()` is below 2^63, `randomInt(n)` below n."""

    __slots__ = ("_below",)
    parameters: ClassVar = (ANY,)
    variadic: ClassVar = True
    result: ClassVar = ANY

    def __init__(self, below: Below) -> None:
        self._below = below

    def call(self, frame: Frame, arguments: list[Value]) -> Value:
        if not arguments:
            return self._below(2**63)
        if len(arguments) > 1:
            raise RunError(f"invalid number of arguments for trim (expected 0 or 1, got {len(arguments)})")
        (bound,) = arguments
        if bound is None:
            raise RunError("not expecting nil argument")
        if not is_integer(bound):
            raise RunError(f"invalid arg type {name_of(bound)}")
        if bound <= 0:
            raise RunError("invalid argument to Intn")
        return self._below(int(bound))


def functions(below: Below) -> dict[str, Value]:
    """The two functions that every environment of a job has."""
    return {"sequence": Sequence(), "randomInt": RandomInt(below)}


def job_environment(
    *,
    inputs: Mapping[str, str] | None,
    secrets: Mapping[str, str] | None,
    tasks: Mapping[str, str] | None,
    job: Mapping[str, str] | None,
    below: Below,
    now: Callable[[], datetime] | None = None,
    item: tuple[str, int, Value] | None = None,
    items: Mapping[str, Mapping[str, Value]] | None = None,
) -> Environment:
    """What a task's templates, `each.list` and a job's output see.

    None is an absent table. `item` is the name of the loop variable, the index and the element; `items` are the loop variables
    of several loops, each with what its name stands for. `now` tells an aware time.
    """
    values = functions(below)
    for name, table in (("inputs", inputs), ("secrets", secrets), ("tasks", tasks), ("job", job)):
        values[name] = AbsentStringMap() if table is None else StringMap(table)
    if item is not None:
        name, index, value = item
        values[name] = {"index": str(index), "value": value}
    values |= {name: dict(one) for name, one in (items or {}).items()}
    return Environment(values, now)


def hook_environment(
    job: "Mapping[str, Value]",
    task: "Mapping[str, Value] | None",
    below: Below,
    now: Callable[[], datetime] | None = None,
) -> Environment:
    """What a webhook's `if` sees: the job, and for an event of a task also the task, by the names of their members."""
    values = functions(below) | {"job": JobSummary(job)}
    if task is not None:
        values["task"] = TaskSummary(task)
    return Environment(values, now)


JobSummary = struct(
    "JobSummary",
    {
        "ID": STRING,
        "ParentID": STRING,
        "Name": STRING,
        "Description": STRING,
        "Tags": STRINGS,
        "Inputs": STRING_MAP,
        "State": STRING,
        "CreatedAt": TIME,
        "CreatedBy": ANY,
        "StartedAt": TIME,
        "CompletedAt": TIME,
        "FailedAt": TIME,
        "Position": INT,
        "TaskCount": INT,
        "Result": STRING,
        "Error": STRING,
        "Progress": FLOAT,
        "Schedule": ANY,
    },
)

TaskSummary = struct(
    "TaskSummary",
    {
        "ID": STRING,
        "JobID": STRING,
        "Position": INT,
        "Progress": FLOAT,
        "Name": STRING,
        "Description": STRING,
        "State": STRING,
        "CreatedAt": TIME,
        "ScheduledAt": TIME,
        "StartedAt": TIME,
        "CompletedAt": TIME,
        "Error": STRING,
        "Result": STRING,
        "Var": STRING,
        "Tags": STRINGS,
    },
)
