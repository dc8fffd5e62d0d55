from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.data.columns import spell
from deepseek.data.transforms.category import CategoryTransform
from deepseek.errors import ColumnError, DataError
from deepseek.fields import Field, Kind


def fit(values, target=None, **arguments):
    transform = CategoryTransform([Field("c", Kind.CATEGORY)], **arguments)
    transform.observe(pa.record_batch({"c": values}))
    if target is not None:
        transform.observe_target(np.asarray(target, dtype=float)[:, None])
    transform.finish()
    return transform


def codes(transform, values):
    return transform.apply(pa.record_batch({"c": values}))["categories"][:, 0].tolist()


def test_frequent_categories_come_first_and_unknown_ones_are_zero():
    transform = fit(["b", "a", "b", None])
    assert transform.vocabularies == {"c": ("b", "a")}
    assert transform.inputs[0].cardinalities == (3,)
    assert codes(transform, ["a", "b", None, "new"]) == [2, 1, 0, 0]


def test_rare_categories_share_the_code_of_unknown_ones():
    assert codes(fit(["a", "a", "b"], min_count=2), ["a", "b"]) == [1, 0]
    assert codes(fit(["a", "a", "b"], max_categories=1), ["a", "b"]) == [1, 0]


@pytest.mark.parametrize("values", [["1", "2"], [1, 2], [1.0, 2.0], pa.array(["1", "2"]).dictionary_encode()])
def test_whole_numbers_are_spelled_alike_in_every_type(values):
    assert codes(fit(["1", "1", "2"]), values) == [1, 2]


def test_booleans_and_fractions_are_spelled_plainly():
    assert fit([True, False, True]).vocabularies["c"] == ("true", "false")
    assert fit([0.5, 0.5, float("nan"), 2.0]).vocabularies["c"] == ("0.5", "2")


def test_lists_are_no_categories():
    with pytest.raises(ColumnError, match="'c' holds list"):
        fit([[1], [2]])


def test_one_hot_columns_are_made_inside_the_model():
    transform = fit(["b", "a", "b"], encoding="one_hot")
    assert transform.inputs[0].columns == ("c=b", "c=a")
    stored = transform.apply(pa.record_batch({"c": ["a", "new", "b", None]}))["categories_one_hot"]
    assert stored.dtype == np.int32
    assert transform.module()(torch.from_numpy(stored)).tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]


def test_target_means_are_shrunk_towards_the_overall_mean():
    transform = fit(["a", "a", "b", "b"], [1, 1, 0, 0], encoding="target", smoothing=2)
    means = transform.apply(pa.record_batch({"c": ["a", "b", "new"]}))["categories_target"][:, 0]
    np.testing.assert_allclose(means, [(2 + 2 * 0.5) / 4, (0 + 2 * 0.5) / 4, 0.5])


def test_training_rows_do_not_see_their_own_target():
    """On categories that say nothing, plain target encoding correlates with the target; out of fold it must not."""
    rng = np.random.default_rng(0)
    values, target = rng.integers(0, 500, 4000).astype(str).tolist(), rng.integers(0, 2, 4000)
    transform = fit(values, target, encoding="target", smoothing=1)
    batch = pa.record_batch({"c": values})
    leaking = np.corrcoef(transform.apply(batch)["categories_target"][:, 0], target)[0, 1]
    honest = np.corrcoef(transform.apply_training(batch, 0)["categories_target"][:, 0], target)[0, 1]
    assert leaking > 0.3
    assert honest < 0.05


def test_folds_follow_the_position_not_the_batch():
    values, target = list("abcab" * 20), np.arange(100) % 2
    transform = fit(values, target, encoding="target")
    whole = transform.apply_training(pa.record_batch({"c": values}), 0)["categories_target"]
    parts = [transform.apply_training(pa.record_batch({"c": values[s : s + 7]}), s)["categories_target"] for s in range(0, 100, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_target_encoding_without_a_target_is_an_error():
    with pytest.raises(DataError, match="saw no target"):
        fit(["a"], encoding="target")


def test_categories_met_once_train_the_unknown_code_where_unknown_ones_are_to_be_expected():
    names = [f"user{number}" for number in range(90)] + ["nobody"] * 10
    assert set(codes(fit(names), ["user1", "user2", "new"])) == {0}
    assert codes(fit(names), ["nobody"]) == [1]
    assert codes(fit(names, min_count=1), ["user1"])[0] > 0
    assert codes(fit(names[:40]), ["user1"])[0] > 0  # too few rows to tell
    assert codes(fit(["a"] * 999 + ["b"]), ["b"]) == [2]  # one in a thousand is no sign of more


@pytest.mark.parametrize(("learned", "asked"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_a_fraction_is_one_category_whatever_the_width_of_its_number(learned, asked):
    transform = CategoryTransform([Field("dose", Kind.BINARY)])
    transform.observe(pa.record_batch({"dose": np.array([0.1, 0.7, 0.7], learned)}))
    transform.finish()
    assert transform.vocabularies == {"dose": ("0.7", "0.1")}
    assert transform.apply(pa.record_batch({"dose": np.array([0.7, 0.1], asked)}))["categories"].ravel().tolist() == [1, 2]


def test_large_numbers_of_32_bits_are_spelled_as_they_are():
    assert spell(pa.array(np.array([16_777_216, 1e20, 0.1], np.float32)), "x")[0] == ["16777216", "1e+20", "0.1"]
