"""Trees to source, every part in parentheses, and trees to data that can be compared."""

from typing import Any

from windlass.expressions import nodes
from windlass.expressions.nodes import Node


def printed(node: Node) -> str:
    """A source that parses to the same tree."""
    match node:
        case nodes.Literal(value=None):
            return "(nil)"
        case nodes.Literal(value=bool(value)):
            return f"({str(value).lower()})"
        case nodes.Literal(value=str(value)):
            return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
        case nodes.Literal(value=value):
            return f"({value!r})"
        case nodes.Name(name=name):
            return name
        case nodes.Pointer(name=name):
            return f"(#{name})"
        case nodes.Unary(operator=operator, node=inner):
            return f"({operator} {printed(inner)})"
        case nodes.Binary(operator=operator, left=left, right=right):
            return f"({printed(left)} {operator} {printed(right)})"
        case nodes.Shared(node=inner):
            return printed(inner)
        case nodes.Member(base=base, key=nodes.Literal(value=name), optional=optional, dotted=True):
            return f"{printed(base)}{'?.' if optional else '.'}{name}"
        case nodes.Member(base=base, key=key, optional=optional):
            return f"{printed(base)}{'?.' if optional else ''}[{printed(key)}]"
        case nodes.Slice(base=base, start=start, stop=stop):
            return f"{printed(base)}[{printed(start) if start else ''}:{printed(stop) if stop else ''}]"
        case nodes.Chain(node=inner):
            return f"({printed(inner)})"
        case nodes.Call(callee=callee, arguments=arguments):
            return f"{printed(callee)}({', '.join(map(printed, arguments))})"
        case nodes.Builtin(name=name, arguments=arguments):
            return f"{name}({', '.join(map(printed, arguments))})"
        case nodes.Predicate(node=inner):
            return "{" + printed(inner) + "}"
        case nodes.Conditional(condition=condition, then=then, otherwise=otherwise):
            return f"({printed(condition)} ? {printed(then)} : {printed(otherwise)})"
        case nodes.Let(name=name, value=value, body=body):
            return f"(let {name} = {printed(value)}; {printed(body)})"
        case nodes.Sequence(nodes=parts):
            return f"({'; '.join(map(printed, parts))})"
        case nodes.Array(nodes=parts):
            return f"[{', '.join(map(printed, parts))}]"
        case nodes.Map(pairs=pairs):
            return "{" + ", ".join(f"({printed(key)}): {printed(value)}" for key, value in pairs) + "}"
    raise TypeError(f"cannot print a {type(node).__name__}")


def outline(part: Any) -> Any:
    """A tree as nested tuples, without positions."""
    if isinstance(part, nodes.Shared):
        return outline(part.node)
    if isinstance(part, list | tuple):
        return [outline(each) for each in part]
    if not isinstance(part, Node):
        return (type(part).__name__, part)
    left_out = {"position", "type", "slot", "slots"}
    return (type(part).__name__, *(outline(getattr(part, name)) for name in type(part).__slots__ if name not in left_out))
