"""A small language for requests: ``BMI >= 30 and not (sex == "F" or age < 12)``.

Columns of the cohort file, numbers, text in quotes, ``+ - * / **``, comparisons (also chained,
``18 <= age <= 65``), ``and``, ``or``, ``not``. The text is parsed and walked; it is never executed.
Walked over arrays it says who qualifies; walked over the range of each column it says whether anyone can.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pbpk.checks import choose

_EXAMPLE = 'for example: 18 <= age <= 65 and BMI >= 30 and sex == "F"'
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
_NOT_COVERED = ("pregnan", "gestation", "trimester", "preterm", "premature", "lactati")
FAR = 10.0  # standard deviations: what counts as far off
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


class Range(NamedTuple):
    """The values that a column can take: an interval or a set of texts, and what keeps it there."""

    lower: float
    upper: float
    texts: tuple[str, ...] = ()
    reason: str = ""


class Bound(NamedTuple):
    """A comparison of one column with one constant."""

    column: str
    comparison: str
    value: float | str


@dataclass(frozen=True)
class Where:
    """A parsed request.

    Attributes:
        text: What the user wrote.
        tree: Its syntax tree, of the allowed kinds of node only.
    """

    text: str
    tree: ast.expr

    @classmethod
    def parse(cls, text: str, columns: Mapping[str, Range] | list[str]) -> Where:
        """Parses a request.

        Arguments:
            text: The request.
            columns: The names that may occur.

        Raises:
            ValueError: If the text cannot be read, or names no such column.

        >>> Where.parse("BMI >= 30 and agee < 12", ["BMI", "age"])
        Traceback (most recent call last):
        ValueError: where: column must be one of BMI, age, but is 'agee'. Did you mean 'age'?
        """
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            hint = "use '==' to compare" if "=" in text else _EXAMPLE
            raise ValueError(f"where must be a comparison, but {text!r} cannot be read; {hint}.") from None
        _check(tree, list(columns), text)
        for part in ast.walk(tree):
            if isinstance(part, ast.Compare) and not any(isinstance(n, ast.Name) for n in ast.walk(part)):
                raise ValueError(
                    f"where must compare a column, but {ast.unparse(part)!r} names none; {_EXAMPLE}."
                )
        if not isinstance(tree, ast.BoolOp | ast.Compare | ast.UnaryOp):
            raise ValueError(f"where must be a comparison, but is {text!r}; {_EXAMPLE}.")
        return cls(text, tree)

    def conjuncts(self) -> list[Where]:
        """Returns the parts that must all hold."""
        if isinstance(self.tree, ast.BoolOp) and isinstance(self.tree.op, ast.And):
            parts = [Where(ast.unparse(part), part) for part in self.tree.values]
            return [conjunct for part in parts for conjunct in part.conjuncts()]
        return [self]

    def columns(self) -> set[str]:
        """Returns the names of the columns that occur."""
        return {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}

    def holds(self, table: Mapping[str, Any]) -> np.ndarray:
        """Returns for each row of ``table`` (anything that gives arrays by column) whether it qualifies.

        >>> where = Where.parse("18 <= age <= 65 and not sex == 'F'", ["age", "sex"])
        >>> where.holds({"age": np.array([17, 30, 40]), "sex": np.array(["M", "M", "F"])})
        array([False,  True, False])
        """
        try:
            with np.errstate(all="ignore"):
                return np.asarray(_evaluate(self.tree, table), dtype=bool)
        except (TypeError, ValueError):
            raise ValueError(
                f"where must compare numbers with numbers and text with text, but is {self.text!r}."
            ) from None

    def slack(self, table: Mapping[str, Any], among: Mapping[str, Any]) -> np.ndarray:
        """Returns for each row by how much it qualifies, negative where it does not.

        The unit of a comparison is the standard deviation of the difference between its two sides, of their
        logarithms where both are positive; texts and what is missing lie :data:`FAR` off. The least of parts
        that must all hold counts, the largest of alternatives.

        Arguments:
            table: The rows, by column.
            among: Other rows, of which the standard deviations are taken.

        >>> table = {"age": np.array([10.0, 40.0]), "sex": np.array(["F", "M"])}
        >>> Where.parse("age >= 20 and sex == 'M'", ["age", "sex"]).slack(table, table)
        array([-10.,   1.])
        """
        with np.errstate(all="ignore"):
            return _slack(self.tree, table, among)

    def bounds(self) -> list[Bound]:
        """Returns the conjuncts that compare one column with one constant, chains taken apart."""
        return [bound for part in self.conjuncts() for bound in _bounds(part.tree)]

    def refuse_impossible(self, ranges: Mapping[str, Range]) -> None:
        """Raises where no value inside the columns' ranges can satisfy a conjunct, or two together.

        Raises:
            ValueError: Naming the conjunct, the column, its range, and what keeps it there.

        >>> ages = {"age": Range(0, 80, reason="survey")}
        >>> Where.parse("age >= 200", ages).refuse_impossible(ages)
        Traceback (most recent call last):
        ValueError: where must be possible, but 'age >= 200' is not: age lies in [0, 80] (survey).
        """
        allowed = {name: [r.lower, r.upper] for name, r in ranges.items()}
        for bound in self.bounds():
            span = ranges[bound.column]
            if isinstance(bound.value, str) != bool(span.texts):
                kind = "text" if span.texts else "a number"
                raise ValueError(
                    f"where: {bound.column} is {kind}, but is compared with {bound.value!r}; {_EXAMPLE}."
                )
            if isinstance(bound.value, str):
                if bound.comparison == "==" and bound.value not in span.texts:
                    choose(f"where: {bound.column}", bound.value, span.texts)
                continue
            low, high = allowed[bound.column]
            if bound.comparison in (">", ">=", "=="):
                low = max(low, bound.value)
            if bound.comparison in ("<", "<=", "=="):
                high = min(high, bound.value)
            strict = bound.comparison in ("<", ">") and low == high
            if low > high or strict:
                _refuse(bound, span)
            allowed[bound.column] = [low, high]


def _refuse(bound: Bound, span: Range) -> None:
    wish = f"{bound.column} {bound.comparison} {bound.value:g}"
    value = float(bound.value)
    alone = {"<": span.lower < value, "<=": span.lower <= value, ">": value < span.upper}
    alone |= {">=": value <= span.upper, "==": span.lower <= value <= span.upper}
    if alone[bound.comparison]:
        raise ValueError(f"where must be possible, but '{wish}' contradicts the rest of the request.")
    raise ValueError(
        f"where must be possible, but '{wish}' is not: {bound.column} lies in "
        f"[{span.lower:g}, {span.upper:g}] ({span.reason})."
    )


def _check(node: ast.AST, columns: list[str], text: str) -> None:
    """Raises unless the tree consists of the allowed kinds of node and names known columns."""
    allowed = (ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Name, ast.Constant)
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            if child.id.lower().startswith(_NOT_COVERED):
                raise ValueError(
                    f"where: {child.id!r} cannot be asked for: neither the reference population nor the laws "
                    "cover pregnancy, lactation or preterm birth."
                )
            try:
                choose("column", child.id, columns)
            except ValueError as error:
                raise ValueError(f"where: {error}") from None
        if isinstance(child, ast.Constant):
            fine = isinstance(child.value, int | float | str) and not isinstance(child.value, bool)
        elif isinstance(child, ast.BinOp):
            fine = type(child.op) in _ARITHMETIC
        elif isinstance(child, ast.UnaryOp):
            fine = isinstance(child.op, ast.Not | ast.USub)
        elif isinstance(child, ast.Compare):
            fine = all(type(op) in _COMPARISONS for op in child.ops)
        else:
            fine = isinstance(child, (*allowed, ast.operator, ast.cmpop, ast.boolop, ast.unaryop))
            fine = fine or isinstance(child, ast.expr_context)
        if not fine:
            part = ast.unparse(child) if isinstance(child, ast.expr) else type(child).__name__
            raise ValueError(
                f"where may hold columns, numbers, quoted text, arithmetic, comparisons, and, or, not; "
                f"but {text!r} holds {part!r}; {_EXAMPLE}."
            )


def _evaluate(node: ast.expr, table: Mapping[str, Any]) -> Any:
    """Evaluates one node over arrays."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return np.asarray(table[node.id])
    if isinstance(node, ast.UnaryOp):
        value = _evaluate(node.operand, table)
        return np.logical_not(value) if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BoolOp):
        values = [_evaluate(part, table) for part in node.values]
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return combine.reduce(values)
    if isinstance(node, ast.BinOp):
        left, right = (np.asarray(_evaluate(side, table), float) for side in (node.left, node.right))
        return _ARITHMETIC[type(node.op)](left, right)
    assert isinstance(node, ast.Compare)
    sides = [_evaluate(side, table) for side in (node.left, *node.comparators)]
    pairs = zip(sides, node.ops, sides[1:], strict=False)
    return np.logical_and.reduce([_COMPARISONS[type(op)][1](a, b) for a, op, b in pairs])


def _slack(node: ast.expr, table: Mapping[str, Any], among: Mapping[str, Any]) -> np.ndarray:
    """Returns the slack of one node."""
    if isinstance(node, ast.UnaryOp):
        return -_slack(node.operand, table, among)
    if isinstance(node, ast.BoolOp):
        nearest = np.minimum if isinstance(node.op, ast.And) else np.maximum
        return nearest.reduce([_slack(part, table, among) for part in node.values])
    if not isinstance(node, ast.Compare):
        return _yes_or_no(_evaluate(node, table))
    sides = [node.left, *node.comparators]
    pairs = zip(sides, node.ops, sides[1:], strict=False)
    return np.minimum.reduce([_difference(a, op, b, table, among) for a, op, b in pairs])


def _difference(
    a: ast.expr, op: ast.cmpop, b: ast.expr, table: Mapping[str, Any], among: Mapping[str, Any]
) -> np.ndarray:
    """Returns the slack of one comparison."""
    symbol, compare = _COMPARISONS[type(op)]
    left, right = (np.asarray(_evaluate(side, table)) for side in (a, b))
    if symbol == "!=" or left.dtype.kind not in "iuf":
        return _yes_or_no(compare(left, right))
    others = [np.asarray(_evaluate(side, among), float) for side in (a, b)]
    scale = np.log if all(np.nanmin(side) > 0 for side in others) else np.positive
    gap = scale(right) - scale(left)
    gap = gap if symbol in ("<", "<=") else -abs(gap) if symbol == "==" else -gap
    unit = float(np.nanstd(scale(others[1]) - scale(others[0])))
    return np.clip(np.nan_to_num(gap / (unit or 1.0), nan=-FAR), -FAR, FAR)


def _yes_or_no(holds: Any) -> np.ndarray:
    return np.where(holds, FAR, -FAR)


def _constant(node: ast.expr) -> float | str | None:
    """Returns the value of a node without columns, or None where it has any."""
    if any(isinstance(child, ast.Name) for child in ast.walk(node)):
        return None
    try:
        with np.errstate(all="ignore"):
            value = _evaluate(node, {})
            return value if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):  # text in arithmetic: holds() says so
        return None


def _bounds(tree: ast.expr) -> list[Bound]:
    """Returns the comparisons of a column with a constant in one conjunct."""
    if not isinstance(tree, ast.Compare):
        return []
    found, sides = [], [tree.left, *tree.comparators]
    for a, op, b in zip(sides, tree.ops, sides[1:], strict=False):
        symbol = _COMPARISONS[type(op)][0]
        left, right = _constant(a), _constant(b)
        if isinstance(a, ast.Name) and right is not None:
            found.append(Bound(a.id, symbol, right))
        elif isinstance(b, ast.Name) and left is not None:
            found.append(Bound(b.id, _MIRROR[symbol], left))
    return found
