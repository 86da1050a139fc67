"""Precedence climbing: from the text of a formula to its tree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from onehull.errors import Fault, SpecError, suggest
from onehull.fusion.arithmetic import FUNCTIONS
from onehull.fusion.tokens import Token, tokenize
from onehull.fusion.tree import PRECEDENCE, Binary, Call, Negate, Node, Number, Operator, TaskScore, walk

PLACE = "fusion.formula"
MAX_LENGTH = 8000
MAX_DEPTH = 100
"""Deepest nesting, which also bounds the operands of one chain such as a + b + c."""
_SHOWN_EACH_SIDE = 40


class Parser:
    """Reads one formula.

    Names that are not known are collected and the reading goes on; a structure that is wrong ends it.

    Args:
        text: the formula.
        tasks: name → whether a formula may use it (a multi-class task has no single score).
    """

    def __init__(self, text: str, tasks: Mapping[str, bool]) -> None:
        self._text = text
        self._tasks = tasks
        self._tokens = list(tokenize(text))
        self._next = 0
        self._depth = 0
        self._faults: list[Fault] = []

    def parse(self) -> Node:
        """The tree.

        Raises:
            SpecError: with all unknown names, and the first place where the structure is wrong.
        """
        try:
            tree = self._expression(1)
            if self._peek().kind != "end":
                raise self._unexpected("must go on with an operator")
            self._check_depth(max(depth for _, depth in walk(tree)), self._tokens[0])
        except _Broken as broken:
            self._faults.append(broken.fault)
        if self._faults:
            raise SpecError(self._faults, "formula")
        return tree

    def _expression(self, lowest: int) -> Node:
        left = self._unary()
        while (level := PRECEDENCE.get(self._peek().text, 0)) >= lowest:
            operator = cast("Operator", self._take().text)
            left = Binary(operator, left, self._expression(level + 1))
        return left

    def _unary(self) -> Node:
        token = self._peek()
        self._depth += 1
        self._check_depth(self._depth, token)
        if token.text == "-":
            self._take()
            operand = self._unary()
            node: Node = Number(-operand.value) if isinstance(operand, Number) else Negate(operand)
        else:
            node = self._power()
        self._depth -= 1
        return node

    def _power(self) -> Node:
        base = self._atom()
        if self._peek().text != "^":
            return base
        self._take()
        return Binary("^", base, self._unary())

    def _atom(self) -> Node:
        token = self._peek()
        if token.kind == "number":
            return self._number(self._take())
        if token.kind == "name":
            self._take()
            return self._call(token) if self._peek().text == "(" else self._task(token)
        if token.text == "(":
            self._take()
            inner = self._expression(1)
            self._expect(")")
            return inner
        raise self._unexpected("must have a number, a task, a function or ( here")

    def _number(self, token: Token) -> Node:
        value = float(token.text)
        if not math.isfinite(value):
            raise _Broken(self._fault(token, "must have finite numbers"))
        return Number(value)

    def _task(self, token: Token) -> Node:
        if token.text not in self._tasks:
            known = [name for name, usable in self._tasks.items() if usable]
            self._faults.append(self._fault(token, "must name tasks", suggest(token.text, known)))
        elif not self._tasks[token.text]:
            remedy = "It predicts one probability a class. Name binary and regression tasks."
            self._faults.append(self._fault(token, "must not name a multi-class task", remedy))
        return TaskScore(token.text)

    def _call(self, name: Token) -> Node:
        self._take()
        arguments = [self._expression(1)]
        while self._peek().text == ",":
            self._take()
            arguments.append(self._expression(1))
        self._expect(")")
        if name.text not in FUNCTIONS:
            self._faults.append(self._fault(name, "must call known functions", suggest(name.text, list(FUNCTIONS))))
            return Call(name.text, tuple(arguments))
        fewest, most, _ = FUNCTIONS[name.text]
        if not fewest <= len(arguments) <= most:
            count = str(fewest) if fewest == most else f"{fewest} to {most}"
            plural = "" if most == 1 else "s"
            rule = f"must give {name.text} {count} argument{plural}, not {len(arguments)}"
            self._faults.append(self._fault(name, rule))
        return Call(name.text, tuple(arguments))

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _expect(self, symbol: str) -> None:
        if self._peek().text != symbol:
            raise self._unexpected(f"must go on with an operator or {symbol!r}")
        self._take()

    def _check_depth(self, depth: int, token: Token) -> None:
        if depth > MAX_DEPTH:
            remedy = "Simplify it."
            raise _Broken(self._fault(token, f"must be nested, and chained, at most {MAX_DEPTH} deep", remedy))

    def _unexpected(self, rule: str) -> _Broken:
        token = self._peek()
        previous = self._tokens[self._next - 1] if self._next else token
        remedy = "Write powers as a^b." if token.text == previous.text == "*" else ""
        return _Broken(self._fault(token, rule, remedy))

    def _fault(self, token: Token, rule: str, remedy: str = "") -> Fault:
        where = f"{rule} at character {token.position + 1}"
        value = token.text or "the end"
        return Fault(PLACE, where, value, f"{remedy}\n{_caret(self._text, token.position)}".lstrip(" "))


class _Broken(Exception):  # noqa: N818  never leaves this file
    """The structure is wrong; nothing after this place can be read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def _caret(text: str, position: int) -> str:
    """The text around a position, on one line, and a caret under it."""
    start = max(0, position - _SHOWN_EACH_SIDE)
    line = "".join(c if c.isprintable() else " " for c in text[start : position + _SHOWN_EACH_SIDE])
    return f"    {line}\n    {' ' * (position - start)}^"
