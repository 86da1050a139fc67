"""The tree of a formula, and its canonical text.

A number may be negative; the parser folds ``-20`` into one, so that `Negate` never holds a `Number`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Operator = Literal["+", "-", "*", "/", "^"]

PRECEDENCE: dict[str, int] = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}
UNARY = 3
"""Unary minus binds below ``^``: -a^2 is -(a^2)."""
_ATOM = 5
_LARGEST_PLAIN_INTEGER = 1e15


@dataclass(frozen=True)
class Number:
    """A finite constant."""

    value: float


@dataclass(frozen=True)
class TaskScore:
    """The score of a task."""

    name: str


@dataclass(frozen=True)
class Negate:
    """Unary minus."""

    operand: Node


@dataclass(frozen=True)
class Binary:
    """Two operands and ``+ - * / ^``."""

    operator: Operator
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    """A function of one or more arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | TaskScore | Negate | Binary | Call


def children(node: Node) -> tuple[Node, ...]:
    """Direct subexpressions, in the order of the text."""
    # No match statement: AutoGraph reads this too, inside a tf.function, and does not know it.
    if isinstance(node, Negate):
        return (node.operand,)
    if isinstance(node, Binary):
        return (node.left, node.right)
    return node.arguments if isinstance(node, Call) else ()


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """Every node with its depth (the root has 1), in the order of the text, without recursion."""
    stack = [(node, 1)]
    while stack:
        current, depth = stack.pop()
        yield current, depth
        stack.extend((child, depth + 1) for child in reversed(children(current)))


def tasks_in(node: Node) -> tuple[str, ...]:
    """Names of the tasks, each once, in the order of the text."""
    return tuple(dict.fromkeys(part.name for part, _ in walk(node) if isinstance(part, TaskScore)))


def to_text(node: Node) -> str:
    """The canonical text, which parses back to the same tree."""
    match node:
        case Number(value):
            return _number_text(value)
        case TaskScore(name):
            return name
        case Negate(operand):
            return f"-{_operand_text(operand, UNARY + 1)}"
        case Call(function, arguments):
            return f"{function}({', '.join(map(to_text, arguments))})"
        case Binary("^", left, right):
            return f"{_operand_text(left, _ATOM)}^{_operand_text(right, UNARY)}"
        case Binary(operator, left, right):
            level = PRECEDENCE[operator]
            return f"{_operand_text(left, level)} {operator} {_operand_text(right, level + 1)}"


def _operand_text(node: Node, lowest: int) -> str:
    """The text of an operand, in parentheses where it binds below `lowest`."""
    text = to_text(node)
    return text if _binding(node) >= lowest else f"({text})"


def _binding(node: Node) -> int:
    match node:
        case Binary(operator, _, _):
            return PRECEDENCE[operator]
        case Negate():
            return UNARY
        case Number() if _number_text(node.value).startswith("-"):
            return UNARY
        case _:
            return _ATOM


def _number_text(value: float) -> str:
    if value.is_integer() and abs(value) < _LARGEST_PLAIN_INTEGER and not (value == 0 and str(value)[0] == "-"):
        return str(int(value))
    return repr(value)
