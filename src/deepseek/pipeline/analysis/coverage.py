"""Who is among the training rows, and how each group fares: counts, the target's rate and the errors by the values of a column."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from deepseek.data.landing import LandedTable
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.pipeline.analysis.predictions import Predictions
from deepseek.pipeline.analysis.quality import row_errors
from deepseek.pipeline.analysis.slices import feature_of
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.reporting.facts import CoverageFacts, GroupFact
from deepseek.statistics.intervals import Interval, bootstrap, wilson
from deepseek.statistics.slices import LEAST_ROWS, Feature, Group, group_errors

Groups = Mapping[str, Mapping[str, float] | None]
"""Columns, and of each the shares that its values should have, where they are known."""
_NO_KIND = Kind.CATEGORY


def check_groups(groups: Groups, names: list[str]) -> None:
    """See that columns are there, and that shares are shares.

    Args:
        groups: The columns and shares.
        names: The table's columns.

    Raises:
        UnknownNameError: A column is not there.
        InputError: A share is no share, or they add up to more than 1.
    """
    for name, shares in groups.items():
        if name not in names:
            raise UnknownNameError("column", name, names)
        given = list((shares or {}).values())
        if any(not 0 <= share <= 1 for share in given) or sum(given) > 1 + 1e-6:
            raise InputError(f"the expected shares of {name} are {dict(shares or {})}", hint="each is between 0 and 1, their sum at most 1")


def coverage_facts(spec: TargetSpec, predictions: Predictions, *, dataset: Dataset, table: pa.Table, groups: Groups) -> list[CoverageFacts]:
    """Return the groups of each column.

    Args:
        spec: The target.
        predictions: The asked rows.
        dataset: The run's dataset.
        table: The asked rows' values.
        groups: The columns, and the shares that are expected.

    Raises:
        UnknownNameError: A column is not there.
        InputError: A column has no values to go by, or shares are wrong.
    """
    check_groups(groups, table.column_names)
    train = dataset.open("train")
    assert train is not None, "a run has training rows"
    errors, what = row_errors(spec, predictions)
    rate, target = _target(spec, train)
    made = []
    for name, shares in groups.items():
        learned, asked = _features(dataset, train, table, name)
        found = {one.label: one for one in group_errors(errors, asked, weight=predictions.row_weights)}
        unlisted = int((learned.codes < 0).sum())
        facts = [_group(label, code, found[label], learned, target, shares) for code, label in enumerate(learned.labels)]
        facts += [_absent(label, share, len(learned.codes)) for label, share in (shares or {}).items() if label not in learned.labels]
        facts = [one for one in facts if one.training or one.looked_at or one.expected is not None]
        order = {label: place for place, label in enumerate(found)}
        facts.sort(key=lambda one: (one.verdict != "missing", order.get(one.name, -1)))
        made.append(CoverageFacts(name, rate, what, LEAST_ROWS, facts, unlisted))
    return made


def _features(dataset: Dataset, train: PreparedDataset, table: pa.Table, name: str) -> tuple[Feature, Feature]:
    """Return the values of the training rows and of the asked ones, cut alike."""
    source = LandedTable.open(dataset.landed["source"])
    numbers, back = np.unique(train.source_numbers(), return_inverse=True)
    batches = [batch.column(0) for batch in source.batches(rows=numbers, columns=[name])]
    learned = pa.chunked_array(batches, type=source.schema.field(name).type).combine_chunks().take(pa.array(back))
    asked = table[name].combine_chunks()
    schema = dataset.preparation().schema
    kind = schema[name].kind if name in schema.names else _NO_KIND
    if kind not in (Kind.NUMBER, Kind.TIMESTAMP, Kind.TEXT, Kind.BINARY):
        kind = Kind.CATEGORY
    both = feature_of(pa.concat_arrays([learned, asked.cast(learned.type)]), kind)
    if both is None:
        raise InputError(
            f"the column {name!r} of type {learned.type} has no values to form groups by", hint="name a column of names or numbers"
        )
    return Feature(both.codes[: len(learned)], both.labels), Feature(both.codes[len(learned) :], both.labels)


def _target(spec: TargetSpec, train: PreparedDataset) -> tuple[str, np.ndarray | None]:
    """Return what the target's rate is, and each training row's part in it, float64; nothing where there is no one number."""
    target = np.asarray(train.column("target"), dtype=np.float64)
    if spec.kind == "binary":
        return f"share of {spec.columns[0]} = {spec.classes[1]}", target
    if spec.kind == "values" and len(spec.columns) == 1:
        return f"mean {spec.columns[0]}", target * spec.std[0] + spec.mean[0]
    return "", None


def _group(
    label: str, code: int, found: Group, learned: Feature, target: np.ndarray | None, shares: Mapping[str, float] | None
) -> GroupFact:
    mine = learned.codes == code
    count, total = int(mine.sum()), len(learned.codes)
    expected = (shares or {}).get(label)
    return GroupFact(
        label,
        count,
        count / total,
        expected,
        _verdict(count, total, expected),
        None if target is None or not count else _ends(_rate(target[mine])),
        found.rows,
        None if found.error is None else _ends(found.error),
        found.others,
        found.p_value,
        found.surely_worse,
    )


def _absent(label: str, share: float, total: int) -> GroupFact:
    return GroupFact(label, 0, 0.0, share, _verdict(0, total, share), None, 0, None, math.nan, None, surely_worse=False)


def _verdict(count: int, total: int, expected: float | None) -> str:
    """Return how a group's share stands beside the expected one, where that cannot be chance."""
    if expected is None:
        return ""
    if not count:
        return "missing" if expected > 0 else ""
    share = wilson(count, total)
    return "rare" if share.high < expected else "frequent" if share.low > expected else ""


def _rate(values: np.ndarray) -> Interval:
    if np.isin(values, (0.0, 1.0)).all():
        return wilson(float(values.sum()), len(values))
    return bootstrap(values[:, None], lambda means: means[:, 0])


def _ends(one: Interval) -> tuple[float, float, float]:
    return one.value, one.low, one.high
