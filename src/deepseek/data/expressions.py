"""A small language for conditions on a row: `age >= 18 and country in ["DE", "FR"]`.

It has the grammar of Python's expressions and nothing of Python's power: the text is parsed by `ast`, only the nodes listed here are
translated, each into an Arrow expression, and nothing is ever evaluated as Python. It serves the check `expression` and the `where` filters
of sources.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import acero

from deepseek.data.columns import plain, require_columns
from deepseek.data.patterns import Pattern
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import ColumnError, DataError, InputError, UnknownNameError

_LONGEST = 4_000
_DEEPEST = 50
_MOST_PARTS = 2_000
_HELP = (
    "allowed: column names (or col('a name')), numbers, texts, True, False, None, + - * / // % **, == != < <= > >=, in, is None, "
    "and, or, not, abs(), len(), lower(), upper(), matches(column, r'pattern'), timestamp('2024-01-31')"
)


class RowExpression:
    """A condition on a row, ready for Arrow.

    A comparison with a missing value is neither true nor false but unknown, as in SQL: `age > 18` is unknown where `age` is null, and
    `age > 18 or country == "DE"` is true where the country is. `x is None` is true or false; NaN counts as missing. `/` is true division
    whatever the columns' types; integers that overflow are an error. `matches(name, r'[A-Z]+')` asks whether a text, as a whole, matches a
    `deepseek.data.patterns.Pattern`.

    Texts of more than 4,000 characters, or nested more than 50 deep, are refused: whoever writes one cannot exhaust a stack.

    Args:
        text: The condition.

    Attributes:
        text: The condition as it was given.
        arrow: The same as an Arrow expression, for `Source.read(where=…)`; there, NaN is a number that no comparison holds for, and a
            timestamp with a time zone cannot be compared with one without.
        columns: The columns that it reads, in the order of their first mention.

    Raises:
        InputError: The text is no expression of this language; the message shows which part is not.

    Example:
        >>> RowExpression("0 < age <= 120").columns
        ('age',)
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._columns: dict[str, None] = {}
        if len(text) > _LONGEST:
            raise InputError(f"the expression {text[:60]!r}… is {len(text)} characters long", hint=f"at most {_LONGEST} are allowed")
        try:
            translated = self._translate(self._parse())
            self.arrow: pc.Expression = _expression(translated)
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise InputError(f"the expression {text!r} cannot be parsed: {error}", hint=_HELP) from None
        self.columns = tuple(self._columns)
        if not self.columns:
            raise InputError(f"the expression {text!r} reads no column", hint="text needs quotes, column names none")

    def evaluate(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Say for each row whether the condition holds.

        Returns:
            Two boolean arrays `[rows]`: where it is true, and where it is false; neither where it is unknown.

        Raises:
            ColumnError: A column is missing, or holds a type that the condition cannot be asked of.
            DataError: The arithmetic fails on a value, by an overflow for example.
        """
        require_columns(self.columns, batch.schema.names, what=f"the expression {self.text!r}")
        table = pa.table([_normalised(plain(batch.column(name))) for name in self.columns], names=list(self.columns))
        plan = acero.Declaration.from_sequence(
            [
                acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
                acero.Declaration("project", acero.ProjectNodeOptions([self.arrow], ["holds"])),
            ]
        )
        kinds = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        try:
            holds = plan.to_table(use_threads=False).column("holds").combine_chunks()
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise ColumnError(f"the expression {self.text!r} does not fit the columns ({kinds}): {error}") from None
        except pa.ArrowInvalid as error:
            raise DataError(f"the expression {self.text!r} failed on a value ({kinds}): {error}") from None
        if not (pa.types.is_boolean(holds.type) or pa.types.is_null(holds.type)):
            raise ColumnError(f"the expression {self.text!r} is no condition: it gives {holds.type}", hint="compare it with something")
        known = holds.cast(pa.bool_())
        true = np.asarray(known.fill_null(False).to_numpy(zero_copy_only=False))
        false = np.asarray(pc.invert(known.fill_null(True)).to_numpy(zero_copy_only=False))
        return true, false

    def _parse(self) -> ast.expr:
        with warnings.catch_warnings():  # of escapes that are none, as in '\\d': they are taken as they stand
            warnings.simplefilter("ignore")
            tree = ast.parse(self.text.strip(), mode="eval").body
        nodes: list[tuple[ast.AST, int]] = [(tree, 1)]
        parts = 0
        while nodes:
            node, depth = nodes.pop()
            parts += 1
            if depth > _DEEPEST or parts > _MOST_PARTS:
                raise InputError(
                    f"the expression {self.text[:60]!r}… is nested too deep, or has too many parts",
                    hint=f"at most {_DEEPEST} levels and {_MOST_PARTS:,} parts are allowed; 'in' takes a long list of values",
                )
            nodes += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
        return tree

    def _translate(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node.value
            case ast.Name():
                return self._column(node.id)
            case ast.Call():
                return self._call(node)
            case ast.BoolOp():
                parts = [_expression(self._translate(value)) for value in node.values]
                return _joined(pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene, parts)
            case ast.UnaryOp(op=ast.Not()):
                return pc.invert(_expression(self._translate(node.operand)))
            case ast.UnaryOp(op=ast.USub()):
                value = self._translate(node.operand)
                return -value if isinstance(value, int | float) else pc.negate_checked(_expression(value))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                left, right = (_expression(self._translate(side)) for side in (node.left, node.right))
                return _ARITHMETIC[type(node.op)](left, right)
            case ast.Compare():
                return self._compare(node)
        raise self._refuse(node)

    def _compare(self, node: ast.Compare) -> pc.Expression:
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return _joined(pc.and_kleene, [self._pair(left, op, right) for left, op, right in pairs])

    def _pair(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> pc.Expression:
        value = _expression(self._translate(left))
        if isinstance(operator, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._refuse(right, hint="only None can stand after 'is'; use == for values")
            absent = pc.is_null(value, nan_is_null=True)
            return absent if isinstance(operator, ast.Is) else pc.invert(absent)
        if isinstance(operator, ast.In | ast.NotIn):
            found = pc.if_else(value.is_valid(), value.isin(self._members(right)), pa.scalar(None, pa.bool_()))
            return found if isinstance(operator, ast.In) else pc.invert(found)
        if isinstance(right, ast.Constant) and right.value is None:
            raise self._refuse(right, hint="a comparison with None is never true; use 'is None' or 'is not None'")
        return _COMPARISON[type(operator)](value, _expression(self._translate(right)))

    def _members(self, node: ast.expr) -> list[Any]:
        if isinstance(node, ast.List | ast.Tuple | ast.Set) and node.elts:
            values = [self._translate(element) for element in node.elts]
            if not any(isinstance(value, pc.Expression) or value is None for value in values):
                return values
        raise self._refuse(node, hint="after 'in' stands a list of numbers or texts: country in ['DE', 'FR']")

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "matches":
            return self._matches(node)
        if not isinstance(node.func, ast.Name) or node.keywords or len(node.args) != 1:
            raise self._refuse(node)
        name, argument = node.func.id, node.args[0]
        if name in {"col", "timestamp"}:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise self._refuse(node, hint=f"{name}() takes one text in quotes")
            return self._column(argument.value) if name == "col" else _timestamp(argument.value)
        if name not in _FUNCTIONS:
            raise UnknownNameError("function", name, [*_FUNCTIONS, "col", "matches", "timestamp"], hint=f"in the expression {self.text!r}")
        return _FUNCTIONS[name](_expression(self._translate(argument)))

    def _matches(self, node: ast.Call) -> pc.Expression:
        match node:
            case ast.Call(args=[value, ast.Constant(value=str() as pattern)], keywords=[]):
                if not pattern.isprintable():
                    hint = r"a backslash of a pattern stands in raw text: matches(name, r'\bA+\b')"
                    raise self._refuse(node, hint=hint)
                return Pattern(pattern, what=f"the expression {self.text!r}").of(_expression(self._translate(value)))
        raise self._refuse(node, hint="matches() takes a text and a pattern in quotes: matches(email, r'[^@]+@[^@]+')")

    def _column(self, name: str) -> pc.Expression:
        self._columns[name] = None
        return pc.field(name)

    def _refuse(self, node: ast.AST, *, hint: str | None = None) -> InputError:
        part = ast.get_source_segment(self.text.strip(), node) or type(node).__name__
        return InputError(f"the expression {self.text!r} holds {part!r}, which is not allowed there", hint=hint or _HELP)


def _expression(value: Any) -> pc.Expression:
    return value if isinstance(value, pc.Expression) else pc.scalar(value)


def _joined(join: Callable[[pc.Expression, pc.Expression], pc.Expression], parts: Sequence[pc.Expression]) -> pc.Expression:
    """Return the parts joined in pairs of pairs: however many they are, Arrow goes down a few steps only."""
    while len(parts) > 1:
        parts = [join(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    return parts[0]


def _divide(left: pc.Expression, right: pc.Expression) -> pc.Expression:
    return pc.divide(left.cast(pa.float64()), right.cast(pa.float64()))


def _floor_divide(left: pc.Expression, right: pc.Expression) -> pc.Expression:
    return pc.floor(_divide(left, right))


def _modulo(left: pc.Expression, right: pc.Expression) -> pc.Expression:
    return pc.subtract(left.cast(pa.float64()), pc.multiply(_floor_divide(left, right), right.cast(pa.float64())))


def _timestamp(text: str) -> pc.Expression:
    moment = read_timestamps(pa.array([text]))[0]
    if not moment.is_valid:
        raise InputError(f"{text!r} is no point in time", hint="write 2024-01-31 or 2024-01-31T10:00:00")
    return pc.scalar(moment)


def _normalised(array: pa.Array) -> pa.Array:
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp(array.type.unit))  # Arrow compares no zoned time with one without; both are UTC from here on
    return array


_ARITHMETIC: dict[type[ast.operator], Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    ast.Add: pc.add_checked,
    ast.Sub: pc.subtract_checked,
    ast.Mult: pc.multiply_checked,
    ast.Div: _divide,
    ast.FloorDiv: _floor_divide,
    ast.Mod: _modulo,
    ast.Pow: pc.power_checked,
}
_COMPARISON: dict[type[ast.cmpop], Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_FUNCTIONS: dict[str, Callable[[pc.Expression], pc.Expression]] = {
    "abs": pc.abs_checked,
    "len": pc.utf8_length,
    "lower": pc.utf8_lower,
    "upper": pc.utf8_upper,
}
