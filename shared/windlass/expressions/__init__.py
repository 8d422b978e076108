"""Expr, the language that conditions, loops and templates of jobs are written in: version 1.17.7, with Tork's templates.

Values are plain Python data; `values` has the few classes that say more, `tork` what a job engine puts into an environment.
"""

from windlass.expressions.engine import check, compile, evaluate, evaluate_field, forget, render, render_bytes  # noqa: A004  the word for it
from windlass.expressions.errors import CompileError, ExpressionError, RunError
from windlass.expressions.jsontext import plain
from windlass.expressions.limits import DEFAULT, QUICK, Limits
from windlass.expressions.moments import Duration, Time
from windlass.expressions.program import Program
from windlass.expressions.templates import expression_of, has_template
from windlass.expressions.values import AbsentStringMap, Environment, Function, IntArray, StringArray, StringMap, Value

__all__ = [
    "DEFAULT",
    "QUICK",
    "AbsentStringMap",
    "CompileError",
    "Duration",
    "Environment",
    "ExpressionError",
    "Function",
    "IntArray",
    "Limits",
    "Program",
    "RunError",
    "StringArray",
    "StringMap",
    "Time",
    "Value",
    "check",
    "compile",
    "evaluate",
    "evaluate_field",
    "expression_of",
    "forget",
    "has_template",
    "plain",
    "render",
    "render_bytes",
]
