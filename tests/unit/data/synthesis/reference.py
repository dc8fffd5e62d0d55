"""The same features computed the plain way: for each question all rows are looked at, one by one, in Python."""

import statistics
from collections import Counter
from datetime import timedelta

from deepseek.data.synthesis.feature import Aggregated, Derived, Direct, Identity


class Reference:
    """Tables as lists of rows, and what each row knew when.

    `times` names each table's column of times (none for static ones), `later` by table the columns known later and the column that says
    when, `hidden` by table the columns known only after their row's time.
    """

    def __init__(self, tables, indexes, times, *, window=None, inclusive=True, later=(), hidden=()):
        self.tables, self.indexes, self.times = tables, indexes, times
        self.window, self.inclusive = window, inclusive
        self.later, self.hidden = dict(later), dict(hidden)

    def before(self, when, cutoff):
        return when is not None and (when <= cutoff if self.inclusive else when < cutoff)

    def there(self, table, row, cutoff):
        column = self.times[table]
        return column is None or self.before(row[column], cutoff)

    def in_window(self, table, row, cutoff):
        column = self.times[table]
        if self.window is None or column is None:
            return True
        edge = cutoff - timedelta(seconds=self.window)
        return row[column] > edge if self.inclusive else row[column] >= edge

    def parent(self, relation, row, cutoff):
        if row is None or row[relation.child_column] is None:
            return None
        found = [one for one in self.tables[relation.parent] if one[relation.parent_column] == row[relation.child_column]]
        return found[0] if found and self.there(relation.parent, found[0], cutoff) else None

    def children(self, path, row, cutoff):
        rows = [row]
        for relation in path:
            keys = [one[relation.parent_column] for one in rows if one is not None]
            rows = [
                one
                for one in self.tables[relation.child]
                if one[relation.child_column] in keys
                and self.there(relation.child, one, cutoff)
                and self.in_window(relation.child, one, cutoff)
            ]
        table = path[-1].child
        time, index = self.times[table], self.indexes[table]
        return sorted(rows, key=lambda one: (one[time] if time else 0, one[index]))

    def value(self, feature, row, cutoff):
        if isinstance(feature, Identity):
            return self.column(feature.table, feature.column, row, cutoff)
        if isinstance(feature, Direct):
            return self.value(feature.of, self.parent(feature.relationship, row, cutoff), cutoff)
        if isinstance(feature, Derived):
            return derive(feature.derivation.symbol, self.value(feature.of, row, cutoff), cutoff)
        assert isinstance(feature, Aggregated)
        rows = [] if row is None else self.children(feature.path, row, cutoff)
        if feature.where is not None:
            rows = [one for one in rows if self.value(feature.where.of, one, cutoff) == feature.where.value]
        if feature.aggregation.takes == "row_time":
            return aggregate(feature.aggregation.symbol, [one[self.times[feature.rows]] for one in rows], cutoff)
        return aggregate(
            feature.aggregation.symbol, [None if feature.of is None else self.value(feature.of, one, cutoff) for one in rows], cutoff
        )

    def column(self, table, column, row, cutoff):
        if row is None:
            return None
        known = self.later.get(table, {}).get(column)
        if known is not None and not self.before(row[known], cutoff):
            return None
        if column in self.hidden.get(table, ()) and not row[self.times[table]] < cutoff:
            return None
        return row[column]


def derive(symbol, value, cutoff):
    if value is None:
        return None
    if symbol == "TIME_SINCE":
        return (cutoff - value).total_seconds()
    return {"YEAR": value.year, "MONTH": value.month, "DAY": value.day, "WEEKDAY": value.weekday(), "HOUR": value.hour}[symbol]


def aggregate(symbol, values, cutoff):  # noqa: PLR0911
    known = [one for one in values if one is not None]
    if symbol == "COUNT":
        return len(values)
    if symbol in ("SUM", "NUM_TRUE"):
        return sum(known)
    if symbol == "NUM_UNIQUE":
        return len(set(known)) if values else None
    if symbol == "PERCENT_TRUE":
        return sum(known) / len(values) if values else None
    if symbol in ("FIRST", "LAST"):
        return values[0 if symbol == "FIRST" else -1] if values else None
    if symbol.startswith("TIME_SINCE"):
        return (cutoff - values[0 if symbol.endswith("FIRST") else -1]).total_seconds() if values else None
    if not known:
        return None
    if symbol == "MODE":
        counts = Counter(known)
        return min(one for one in counts if counts[one] == max(counts.values()))
    if symbol == "STD":
        return statistics.stdev(known) if len(known) > 1 else None
    if symbol == "SKEW":
        return skew(known)
    return {"MEAN": statistics.fmean, "MIN": min, "MAX": max, "MEDIAN": statistics.median}[symbol](known)


def skew(values):
    n = len(values)
    if n < 3:
        return None
    mean = statistics.fmean(values)
    squares, cubes = (sum((one - mean) ** power for one in values) for power in (2, 3))
    return 0.0 if squares == 0 else n * (n - 1) ** 0.5 / (n - 2) * cubes / squares**1.5
