"""What a builtin is, and the checks of arguments that many share."""

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from windlass.expressions import nodes
from windlass.expressions.errors import CompileError
from windlass.expressions.types import ANY, NIL, Type, assignable
from windlass.expressions.values import Value

COUNTS = ("duration", "month", "weekday")
"""Kinds that are integers underneath, and pass for them here and there."""

Check = Callable[[nodes.Builtin, list[Type]], Type]
"""Given the call and its arguments' types, tells the result's; raises `CompileError`."""


class Builtin(NamedTuple):
    """One builtin. `run` takes the frame and the arguments.

    With a `predicate`, the least and most arguments, `run` takes the frame, the array, the closure of the predicate, its
    slots, the cost of one evaluation, and any third argument.
    """

    name: str
    usage: str
    about: str
    check: Check
    run: Callable[..., Value]
    predicate: tuple[int, int] | None = None


def fail(node: nodes.Builtin, message: str) -> NoReturn:
    raise CompileError(message, node.position)


def invalid(node: nodes.Builtin, found: Type) -> NoReturn:
    fail(node, f"invalid argument for {node.name} (type {found})")


def counted(node: nodes.Builtin, given: list[Type], least: int, most: int) -> None:
    """Refuse a wrong number of arguments."""
    if len(given) < least:
        fail(node, f"not enough arguments to call {node.name}")
    if len(given) > most:
        fail(node, f"too many arguments to call {node.name}")


def typed(result: Type, *parameters: Type, least: int | None = None) -> Check:
    """Positional parameters of these types, the last ones optional beyond `least`."""

    def check(node: nodes.Builtin, given: list[Type]) -> Type:
        counted(node, given, len(parameters) if least is None else least, len(parameters))
        for at, found in enumerate(given):
            wanted = parameters[at]
            if not found.is_open and not assignable(found, wanted) and not (found.integer and wanted.integer):
                shown = "nil" if found is NIL else found
                message = f"cannot use {shown} as argument (type {wanted}) to call {node.name} "
                raise CompileError(message, node.arguments[at].position)
        return result

    return check


def one_of(result: Type | None, *kinds: str) -> Check:
    """One argument of these kinds or unknown; its own type is the result where none is given."""

    def check(node: nodes.Builtin, given: list[Type]) -> Type:
        counted(node, given, 1, 1)
        if not given[0].is_open and given[0].kind not in kinds:
            invalid(node, given[0])
        return result or given[0]

    return check


def anything(result: Type) -> Check:
    return typed(result, ANY)
