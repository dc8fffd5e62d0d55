"""Arrow's filters as conditions in SQL that hold for at least the same rows: fewer rows are sent, and Arrow has the last word on each.

A condition of SQL need not mean what Arrow's does: collations take `a` for `A`, NaN is greater than everything in PostgreSQL. So a filter
is only translated where every row that Arrow keeps fulfils the condition; whatever else is sent is sorted out by Arrow afterwards.

Arrow does not let its expressions be taken apart. They are read from what they print, built up again, and believed only where the two are
equal to Arrow.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import EXACT

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

    from deepseek.data.sources.sql.columns import Column

_MOMENT = re.compile(r"(?<![\w\"-])(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d:\d\d)(\.\d+)?(Z)?)?(?![\w\"-])")
_SET = re.compile(r"\{value_set=(\w+):(\[.*?\]), null_matching_behavior=MATCH\}", re.DOTALL)
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MOST_DOUBTFUL = 6


class _Part(NamedTuple):
    """A part of a filter: Arrow's, the columns that it reads, and a condition that holds wherever it does, where there is one."""

    arrow: pc.Expression
    names: frozenset[str]
    sql: Any = None


class Filter(NamedTuple):
    """What was understood of a filter.

    Attributes:
        names: The columns that it reads; nothing where that is not known.
        sql: A condition that holds for every row that the filter keeps; nothing where there is none.
    """

    names: frozenset[str] | None
    sql: ColumnElement[bool] | None


def understood(where: pc.Expression, columns: Mapping[str, Column]) -> Filter:
    """Return which columns a filter reads, and the condition to send.

    Args:
        where: The filter.
        columns: The columns of the table, by name.
    """
    text = _SET.sub(lambda match: match.group(2).replace("\\", "\\\\"), str(where))  # there, texts are printed as they are
    text = text.replace("{nan_is_null=true}", "True").replace("null[bool]", "None")
    text = _MOMENT.sub(lambda match: f"moment({match.group(0)!r})", text)
    try:
        tree = ast.parse(text, mode="eval").body
        sides = [side for node in ast.walk(tree) if isinstance(node, ast.Compare) for side in (node.left, *node.comparators)]
        doubtful = sum(_is_whole(side) for side in sides)
        for floats in itertools.product((False, True), repeat=doubtful) if doubtful <= _MOST_DOUBTFUL else ():
            part = _Reader(columns, iter(floats)).condition(tree)
            if part.arrow.equals(where):
                return Filter(part.names, part.sql)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, StopIteration, pa.ArrowException):
        pass
    return Filter(None, None)


class _Reader:
    """Builds up a filter again.

    Args:
        columns: The columns of the table, by name.
        floats: For each whole number in the text, whether it is a float: Arrow prints 3.0 as 3.
    """

    def __init__(self, columns: Mapping[str, Column], floats: Iterator[bool]) -> None:
        self._columns = columns
        self._floats = floats

    def condition(self, node: ast.expr) -> _Part:
        match node:
            case ast.BoolOp():
                return self._joined(node)
            case ast.Compare(ops=[one], comparators=[right]):
                return self._comparison(node.left, type(one), right)
            case ast.Call(func=ast.Name(id="is_valid"), args=[ast.Name(id=name)]):
                return _Part(pc.field(name).is_valid(), frozenset({name}), self._columns[name].value.is_not(None))
            case ast.Call(func=ast.Name(id="is_null"), args=[ast.Name(id=name), *more]):
                return self._absent(name, nan=bool(more))
            case ast.Call(func=ast.Name(id="is_in"), args=[ast.Name(id=name), ast.List() as values]):
                return self._member(name, ast.literal_eval(values))
            case ast.Call(func=ast.Name(id="invert"), args=[inner]):
                part = self.condition(inner)
                return _Part(pc.invert(part.arrow), part.names, self._not_absent(inner))
            case ast.Call(func=ast.Name(id="if_else"), args=[test, inner, ast.Constant(value=None)]):
                known, part = self.condition(test), self.condition(inner)
                names = known.names | part.names
                return _Part(pc.if_else(known.arrow, part.arrow, pa.scalar(None, pa.bool_())), names, part.sql)
        raise ValueError(ast.dump(node))

    def _joined(self, node: ast.BoolOp) -> _Part:
        import sqlalchemy as sa

        parts = [self.condition(value) for value in node.values]
        names = frozenset().union(*(part.names for part in parts))
        known = [part.sql for part in parts if part.sql is not None]
        arrow = parts[0].arrow
        if isinstance(node.op, ast.And):  # of several conditions that all hold, any may be left out
            for part in parts[1:]:
                arrow = pc.and_kleene(arrow, part.arrow)
            return _Part(arrow, names, sa.and_(*known) if known else None)
        for part in parts[1:]:
            arrow = pc.or_kleene(arrow, part.arrow)
        return _Part(arrow, names, sa.or_(*known) if len(known) == len(parts) else None)

    def _comparison(self, left: ast.expr, compared: type[ast.cmpop], right: ast.expr) -> _Part:
        compare = _COMPARISONS[compared]
        if isinstance(left, ast.Name):
            value = self._value(right)
            arrow, name = compare(pc.field(left.id), pc.scalar(value)), left.id
        elif isinstance(right, ast.Name):
            value = self._value(left)
            arrow, name = compare(pc.scalar(value), pc.field(right.id)), right.id
            compare = _turned(compare)
        else:
            raise ValueError(ast.dump(left))  # noqa: TRY004 - what is no comparison of a column is not understood
        return _Part(arrow, frozenset({name}), self._compared(self._columns[name], compare, value))

    def _compared(self, column: Column, compare: Callable[[Any, Any], Any], value: Any) -> Any:
        """Return a comparison of a column with a value, where the database keeps every row that Arrow keeps."""
        import sqlalchemy as sa

        kind, plain = column.type, value.as_py() if isinstance(value, pa.Scalar) else value
        if column.compare is None or isinstance(plain, bool):
            return None
        if pa.types.is_string(kind):
            return sa.literal(plain) == column.compare if isinstance(plain, str) and compare is operator.eq else None
        whole = pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        if isinstance(plain, int) and abs(plain) < EXACT:
            allowed = whole or (pa.types.is_float64(kind) and compare is not operator.ne)
            return compare(column.compare, sa.literal(plain)) if allowed else None
        if isinstance(plain, float) and abs(plain) < EXACT and compare is not operator.ne:
            # a decimal of up to 15 digits is told from every other by its float, which Arrow compares
            fits = pa.types.is_float64(kind) or pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.precision <= 15)
            return compare(column.compare, sa.literal_column(repr(plain))) if fits else None
        if isinstance(value, pa.Scalar) and value.type == kind and compare is not operator.ne and not getattr(plain, "microsecond", 0):
            # zones are UTC here and in the session; casts in MySQL round fractions of a second
            text = str(plain).removesuffix("+00:00")
            return compare(
                column.compare, sa.cast(sa.literal(text), sa.Date() if pa.types.is_date(kind) else sa.DateTime(kind.tz is not None))
            )
        return None

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="moment"), args=[ast.Constant(value=str(text))]):
                return _moment(text)
        value = ast.literal_eval(node)
        return float(value) if type(value) is int and next(self._floats) else value

    def _absent(self, name: str, *, nan: bool) -> _Part:
        column = self._columns[name]
        arrow = pc.is_null(pc.field(name), nan_is_null=True) if nan else pc.field(name).is_null()
        maybe_nan = pa.types.is_floating(column.type)
        return _Part(arrow, frozenset({name}), None if maybe_nan else column.value.is_(None))

    def _not_absent(self, node: ast.expr) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="is_null"), args=[ast.Name(id=name), *_]):
                return self._columns[name].value.is_not(None)
        return None

    def _member(self, name: str, values: list[Any]) -> _Part:
        import sqlalchemy as sa

        column = self._columns[name]
        arrow = pc.field(name).isin(values)
        texts = pa.types.is_string(column.type) and all(isinstance(value, str) for value in values)
        whole = pa.types.is_integer(column.type) and all(type(value) is int for value in values)
        sql = None
        if column.compare is not None and values and (texts or whole):
            sql = column.compare.in_([sa.literal(value) for value in values])
        return _Part(arrow, frozenset({name}), sql)


def _is_whole(node: ast.expr) -> bool:
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(inner, ast.Constant) and type(inner.value) is int


def _moment(text: str) -> pa.Scalar:
    found = _MOMENT.fullmatch(text)
    assert found is not None
    day, clock, fraction, zone = found.groups()
    if clock is None:
        return pa.scalar(date.fromisoformat(day))
    if len(fraction or "") > 7:
        raise ValueError(text)
    unit = {0: "s", 4: "ms", 7: "us"}[len(fraction or "")]
    moment = datetime.fromisoformat(f"{day} {clock}{fraction or ''}{'+00:00' if zone else ''}")
    return pa.scalar(moment, pa.timestamp(unit, "UTC" if zone else None))


def _turned(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the comparison that holds with the sides exchanged."""
    turned = {operator.lt: operator.gt, operator.le: operator.ge, operator.gt: operator.lt, operator.ge: operator.le}
    return turned.get(compare, compare)
