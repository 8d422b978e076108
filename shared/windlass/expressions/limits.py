"""How much an expression may cost, and the accounts that a run keeps.

A run's frame is one list, so that closures reach everything by a constant index: the environment, three accounts, then
the variables. An account holds what is left; the functions here take from it.
"""

from typing import Any, NamedTuple

from windlass.expressions.errors import RunError

Frame = list[Any]  # dynamic by nature: the environment, the accounts, then values of the language

ENVIRONMENT, STEPS, CELLS, TEXT, SLOTS = range(5)


class Limits(NamedTuple):
    """Bounds for one expression, or for all expressions of one template together. Ordinary inputs meet none of them."""

    source: int = 65_536
    """code points of an expression"""
    nodes: int = 10_000
    """parts of an expression, as the reference counts them"""
    depth: int = 128
    """nesting of an expression, and of the values that are walked"""
    steps: int = 6_000_000
    """work: about one for each operation done and each element looked at; under a quarter of a microsecond each"""
    cells: int = 1_000_000
    """elements of the arrays and maps made, as the reference charges them"""
    text: int = 16_777_216
    """code points of all strings made, of the rendered text, and of the strings in a result"""


DEFAULT = Limits()
QUICK = Limits(source=4_096, steps=50_000, cells=50_000, text=1_048_576)
"""What an event loop can afford between two messages: run the rest aside, under `DEFAULT`."""


def spend(frame: Frame, steps: int) -> None:
    """Pay for work."""
    left = frame[STEPS] = frame[STEPS] - steps
    if left < 0:
        raise RunError("step budget exceeded", budget="steps")


def grow(frame: Frame, cells: int) -> None:
    """Pay for elements of a new array or map. Reaching the limit is too much already, as in the reference."""
    left = frame[CELLS] = frame[CELLS] - cells
    if left <= 0:
        raise RunError("memory budget exceeded", budget="cells")


def write(frame: Frame, characters: int) -> None:
    """Pay for a new string; call it before making the string."""
    left = frame[TEXT] = frame[TEXT] - characters
    if left < 0:
        raise RunError("text budget exceeded", budget="text")
    spend(frame, characters >> 6)
