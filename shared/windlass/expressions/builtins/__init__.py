"""All builtins, in one table."""

from windlass.expressions.builtins import arrays, dates, numbers, predicates, strings
from windlass.expressions.builtins.signature import Builtin

BUILTINS: dict[str, Builtin] = {
    builtin.name: builtin
    for table in (predicates.TABLE, arrays.TABLE, strings.TABLE, numbers.TABLE, dates.TABLE)
    for builtin in table
}
"""Every builtin by its name."""
