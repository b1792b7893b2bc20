"""The knobs of a program: upper-case constants at the top level of its source.

A knob is read and turned without running the program, so that a change of one value is one changed value in the
diff: comments, spacing and line endings around it stay. Only what a reader can check at a glance counts:
`NAME = literal`, or simple arithmetic of literals such as `2**17` and `5 * 60`. A name bound more than once
is left alone, since nobody can say which of its values is the knob.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate

ConstantValue = bool | int | float | str
"""What a knob may hold. Numbers are finite; None, bytes, tuples and names are no knobs."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_POWER_OF_TWO = re.compile(r"(2\s*\*\*\s*|1\s*<<\s*)(\d+)\Z")
_PRODUCT = re.compile(r"\d+(\s*\*\s*)(\d+)\Z")
_LARGEST_BITS = 1024
_PARSING = threading.Lock()

_OPERATORS: dict[type[ast.operator], Callable[[int | float, int | float], int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True)
class Constant:
    """One knob as it stands in the source."""

    name: str
    value: ConstantValue
    text: str
    """The value as written, without what surrounds it: `2**17`, `1e-3`, `"adam"`."""
    line: int
    """The line of the value's first character, counted from 1."""
    is_expression: bool
    """Whether the value is arithmetic and not a plain, perhaps negative, literal."""


def find_constants(source: str) -> dict[str, Constant]:
    """Find the upper-case module-level constants of `source`, in the order of their lines.

    Returns:
        Name to constant; empty when the source does not parse.
    """
    return {name: constant for name, (constant, _, _) in _located(source).items()}


def rewrite_constants(source: str, values: Mapping[str, ConstantValue]) -> str:
    """Give constants new values and leave every other character as it is.

    A value is written the way the old one was: powers of two as `2**n`, products by their first factor, thousands
    with underscores, strings in the same quotes. Floats are written as short as they can be and still be read back
    exactly; an int given to a float constant becomes a float, so that its type survives.

    Raises:
        ValueError: A name is no constant of this source, or a number is not finite.
    """
    located = _located(source)
    unknown = sorted(set(values) - set(located))
    if unknown:
        raise ValueError(f"no such constant: {', '.join(unknown)}; there is: {', '.join(located) or 'none'}")
    places = sorted(((*located[name][1:], name) for name in values), reverse=True)
    for start, end, name in places:
        old, new = located[name][0], values[name]
        if not _same(old.value, new):
            source = source[:start] + _written(new, old) + source[end:]
    return source


def is_constants_only(before: str, after: str) -> bool:
    """Whether the two sources are the same program apart from the values of constants.

    Comments and formatting do not count. False when either does not parse.
    """
    shapes = _shape(before), _shape(after)
    return None not in shapes and shapes[0] == shapes[1]


def changed_constants(before: str, after: str) -> tuple[str, ...]:
    """Names of the constants whose values differ, or that only one of the two sources has.

    A changed type counts: 1, 1.0 and True are three values.
    """
    old, new = find_constants(before), find_constants(after)
    return tuple(
        name
        for name in dict.fromkeys([*old, *new])
        if name not in old or name not in new or not _same(old[name].value, new[name].value)
    )


def parse_without_constants(source: str) -> ast.Module | None:
    """The program's syntax tree with the statements that set constants taken out; None when it does not parse."""
    tree = _parse(source.removeprefix("\ufeff"))
    if tree is not None:
        knobs = {id(node) for _, node in _assignments(tree) if _evaluate(node) is not None}
        tree.body = [statement for statement in tree.body if id(getattr(statement, "value", None)) not in knobs]
    return tree


def parse_with_values(source: str) -> ast.Module | None:
    """The program's syntax tree with each constant's value as a plain literal; None when it does not parse."""
    tree = _parse(source.removeprefix("\ufeff"))
    if tree is not None:
        values = {id(node): value for _, node in _assignments(tree) if (value := _evaluate(node)) is not None}
        for statement in tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and id(statement.value) in values:
                statement.value = ast.Constant(values[id(statement.value)])
    return tree


def _same(a: ConstantValue, b: ConstantValue) -> bool:
    return type(a) is type(b) and a == b


def _parse(source: str) -> ast.Module | None:
    with _PARSING, warnings.catch_warnings():  # the filters are global: one thread at a time
        warnings.simplefilter("ignore")  # a candidate's dubious escapes are its own affair
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _located(source: str) -> dict[str, tuple[Constant, int, int]]:
    """Each constant with the character offsets of its value, start and end."""
    body = source.removeprefix("\ufeff")
    tree = _parse(body)
    if tree is None:
        return {}
    lines = _LINE.findall(body)
    starts = [len(source) - len(body), *accumulate(map(len, lines), initial=len(source) - len(body))][1:]
    found = {}
    for name, node in _assignments(tree):
        value = _evaluate(node)
        if value is not None and node.end_lineno is not None and node.end_col_offset is not None:
            start = starts[node.lineno - 1] + _characters(lines[node.lineno - 1], node.col_offset)
            end = starts[node.end_lineno - 1] + _characters(lines[node.end_lineno - 1], node.end_col_offset)
            literal = node.operand if isinstance(node, ast.UnaryOp) else node
            plain = isinstance(literal, ast.Constant)
            found[name] = (Constant(name, value, source[start:end], node.lineno, not plain), start, end)
    return found


def _characters(line: str, num_bytes: int) -> int:
    """How many characters the first `num_bytes` UTF-8 bytes of `line` are: the parser counts bytes."""
    return len(line.encode()[:num_bytes].decode())


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every `NAME = value` at the top level whose name is bound nowhere else in the module."""
    bound = Counter(_bindings(tree))
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        if isinstance(target, ast.Name) and _NAME.match(target.id) and bound[target.id] == 1 and statement.value:
            yield target.id, statement.value


def _bindings(tree: ast.Module) -> Iterator[str]:
    """Names as often as the module's own scope binds them, `global` statements of functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        if not isinstance(node, ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))


def _evaluate(node: ast.expr) -> ConstantValue | None:
    """The value of a literal or of simple arithmetic on literals; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | str):
        return node.value
    try:
        return _number(node)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _number(node: ast.expr) -> int | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _number(node.operand)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left), _number(node.right)
        if type(node.op) in _OPERATORS:
            return _bounded(_OPERATORS[type(node.op)](left, right))
        if isinstance(node.op, ast.Pow):
            return _bounded(_power(left, right))
        if isinstance(node.op, ast.LShift) and isinstance(left, int) and isinstance(right, int):
            return _bounded(left << right if right <= _LARGEST_BITS else math.inf)
    raise ValueError("not a number")


def _power(base: int | float, exponent: int | float) -> int | float:
    """`base ** exponent`, refused before it can fill the memory or become complex."""
    if isinstance(base, int) and abs(exponent) * max(1, base.bit_length()) > _LARGEST_BITS * 2:
        raise ValueError("too large")
    result = base**exponent
    if isinstance(result, int | float):
        return result
    raise ArithmeticError("a complex number")


def _bounded(value: int | float) -> int | float:
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and value.bit_length() > _LARGEST_BITS
    ):
        raise ValueError("not finite, or too large to be a knob")
    return value


def _shape(source: str) -> str | None:
    """The program with each constant's value replaced by one and the same."""
    tree = _parse(source.removeprefix("\ufeff"))
    if tree is None:
        return None
    knobs = {id(node) for _, node in _assignments(tree) if _evaluate(node) is not None}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and id(statement.value) in knobs:
            statement.value = ast.Constant(0)
    try:
        return ast.dump(tree)
    except RecursionError:
        return None


def _written(value: ConstantValue, old: Constant) -> str:
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, str):
        return _string_written(value, old.text)
    if isinstance(value, float):
        return _float_written(value, old.text)
    if isinstance(old.value, float) and abs(value) <= 2**53:  # beyond that, a float is not every int
        return _float_written(float(value), old.text)
    return _int_written(value, old.text)


def _string_written(value: str, old: str) -> str:
    text = repr(value)
    if old.endswith('"') and "'" not in value and '"' not in value:
        return f'"{text[1:-1]}"'
    return text


def _float_written(value: float, old: str) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    text = repr(value)
    if value and ("e" in text or "e" in old.lower()) and not old.lower().startswith(("0x", "-0x")):
        sign, digits, exponent = Decimal(text).normalize().as_tuple()
        mantissa = "".join(map(str, digits))
        power = int(exponent) + len(mantissa) - 1
        dotted = mantissa[0] + (f".{mantissa[1:]}" if len(mantissa) > 1 else "")
        return f"{'-' if sign else ''}{dotted}e{power}"
    return text


def _int_written(value: int, old: str) -> str:
    if value.bit_length() > _LARGEST_BITS:
        raise ValueError("the number is too large to be a knob")
    power = _POWER_OF_TWO.match(old)
    if power and value > 0 and value.bit_count() == 1:
        return f"{power[1]}{value.bit_length() - 1}"
    product = _PRODUCT.match(old)
    if product and int(product[2]) > 1 and value > 0 and value % int(product[2]) == 0:
        return f"{value // int(product[2])}{product[1]}{product[2]}"
    if old.lower().startswith("0x") and value >= 0:
        return hex(value)
    return f"{value:_}" if re.fullmatch(r"-?\d+(_\d+)+", old) else str(value)
