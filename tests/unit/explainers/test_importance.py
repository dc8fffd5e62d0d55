"""Permutation importance is scikit-learn's, and shuffles just what belongs to a column."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.inspection import permutation_importance as reference
from sklearn.linear_model import LinearRegression

from deepseek.data.preparation import Preparation
from deepseek.errors import InputError
from deepseek.explainers.importance import column_shuffles, permutation_importance
from deepseek.fields import infer_schema

RANDOM = np.random.default_rng(0)


def test_it_is_scikit_learns():
    x = RANDOM.standard_normal((400, 3))
    y = x @ [3.0, 1.0, 0.0] + 0.1 * RANDOM.standard_normal(400)
    model = LinearRegression().fit(x, y)

    def shuffle(place):
        def shuffled(order):
            changed = x.copy()
            changed[:, place] = changed[order, place]
            return {"x": changed}

        return shuffled

    found = permutation_importance(lambda inputs: model.score(inputs["x"], y), {"x": x}, {n: shuffle(n) for n in range(3)}, repeats=30)
    expected = reference(model, x, y, n_repeats=30, random_state=0)
    assert [one.column for one in found] == [0, 1, 2]
    for one in found:
        assert one.mean == pytest.approx(expected.importances_mean[one.column], abs=4 * expected.importances_std[one.column] + 1e-3)
        assert one.low <= one.mean <= one.high


def test_of_a_loss_a_rise_is_importance():
    inputs = {"x": np.arange(50.0)}
    found = permutation_importance(
        lambda given: float(np.abs(given["x"] - np.arange(50)).mean()),
        inputs,
        {"x": lambda order: {"x": inputs["x"][order]}, "none": lambda order: {}},
        higher_is_better=False,
    )
    assert [one.column for one in found] == ["x", "none"]
    assert found[0].mean > 10
    assert (found[1].mean, found[1].low, found[1].high) == (0, 0, 0)


@pytest.mark.parametrize("repeats", [2, 5, 10, 11, 31])
def test_the_interval_is_students_whatever_the_number_of_shuffles(repeats):
    x, noise = np.arange(40.0), iter(np.random.default_rng(0).normal(size=repeats))
    (found,) = permutation_importance(
        lambda given: 0.0 if given["x"] is x else -next(noise), {"x": x}, {"x": lambda order: {"x": x[order]}}, repeats=repeats
    )
    drops = np.random.default_rng(0).normal(size=repeats)
    low, high = stats.t.interval(0.95, repeats - 1, loc=drops.mean(), scale=stats.sem(drops))
    assert (found.mean, found.low, found.high) == pytest.approx((drops.mean(), low, high), rel=1e-3)


def test_a_single_shuffle_has_no_interval_and_is_refused():
    with pytest.raises(InputError, match="repeats is 1"):
        permutation_importance(lambda _: 0.0, {"x": np.arange(3.0)}, {}, repeats=1)


@pytest.fixture
def prepared():
    table = pa.table(
        {
            "a": RANDOM.standard_normal(60),
            "b": [None, *RANDOM.standard_normal(59)],
            "city": RANDOM.choice(["x", "y", "z"], 60),
            "when": pa.array(np.datetime64("2024-01-01") + RANDOM.integers(0, 900, 60).astype("timedelta64[D]")),
            "y": RANDOM.choice(["no", "yes"], 60),
        }
    )
    schema, _ = infer_schema(table, ["y"], kinds={})
    preparation = Preparation(schema, clean=[{"type": "missing", "strategy": "median", "indicator": True}], target="binary")
    preparation.fit(lambda: iter(table.to_batches()))
    batch = next(batch for batch, _ in preparation.other_rows(iter(table.to_batches())))
    return preparation, batch, {name: np.asarray(array) for name, array in preparation.arrays(batch).items()}


def test_every_column_of_the_table_has_its_shuffle_and_no_other(prepared):
    preparation, batch, inputs = prepared
    assert set(column_shuffles(preparation, batch, inputs)) == {"a", "b", "city", "when"}


def test_a_shuffle_changes_its_column_alone_and_keeps_types(prepared):
    preparation, batch, inputs = prepared
    order = np.random.default_rng(1).permutation(60)
    shuffled = batch.set_column(0, batch.schema.field(0), batch.column(0).take(pa.array(order)))
    changed = {**inputs, **column_shuffles(preparation, batch, inputs)["a"](order)}
    for name, array in preparation.arrays(shuffled).items():
        np.testing.assert_array_equal(changed[name], array)
        assert changed[name].dtype == array.dtype
    assert any((changed[name] != inputs[name]).any() for name in inputs if inputs[name].dtype == np.float32)


def test_what_a_cleaner_made_of_a_column_is_shuffled_with_it(prepared):
    preparation, batch, inputs = prepared
    order = np.roll(np.arange(60), 1)
    changed = {**inputs, **column_shuffles(preparation, batch, inputs)["b"](order)}
    moved = [name for name in inputs if not np.array_equal(changed[name], inputs[name], equal_nan=True)]
    both = pa.table({name: batch[name].take(pa.array(order)) if name in ("b", "b_missing") else batch[name] for name in batch.schema.names})
    expected = preparation.arrays(both.combine_chunks().to_batches()[0])
    assert moved
    for name in inputs:
        np.testing.assert_array_equal(changed[name], np.asarray(expected[name]))
