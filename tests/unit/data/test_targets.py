from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.utils.class_weight import compute_class_weight

from deepseek.data.targets import build_target, class_weights
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind


def fit(kind, **columns):
    target = build_target(kind, [Field(name, Kind.CATEGORY) for name in columns])
    target.observe(pa.record_batch(columns))
    target.finish()
    return target


def apply(target, **columns):
    return target.apply(pa.record_batch(columns))["target"]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([1, 0, 1], ("0", "1")),
        ([True, False, True], ("false", "true")),
        (["Yes", "No"], ("No", "Yes")),
        (["absent", "present"], ("absent", "present")),
        (["positive", "negative"], ("negative", "positive")),
        (["zebra", "ant"], ("ant", "zebra")),
        ([10, 9], ("9", "10")),
        ([-1.0, 1.0], ("-1", "1")),
    ],
)
def test_the_second_class_is_the_positive_one(values, classes):
    target = fit("binary", y=values)
    assert target.spec.classes == classes
    out = apply(target, y=values)
    assert out.dtype == np.float32
    assert out.tolist() == [
        float(classes.index(str(value).lower().removesuffix(".0") if not isinstance(value, str) else value)) for value in values
    ]


def test_classes_are_codes_in_the_order_of_their_values():
    target = fit("classes", y=[10, 9, 2, 10])
    assert target.spec.classes == ("2", "9", "10")
    assert target.spec.counts == (1, 1, 2)
    assert target.spec.integer_classes
    out = apply(target, y=pa.array([10, 2]))
    assert (out.dtype, out.tolist()) == (np.int64, [2, 0])
    assert apply(target, y=["9", "10"]).tolist() == [1, 2]
    assert not fit("classes", y=["a", "b"]).spec.integer_classes
    assert not fit("classes", y=["1", "2"]).spec.integer_classes
    assert fit("classes", y=[1.0, 2.0]).spec.integer_classes


@pytest.mark.parametrize("column", [[["b", "a"], [], ["b"]], ["b, a", "", "b"]])
def test_labels_come_as_lists_or_texts(column):
    target = fit("labels", y=column)
    assert (target.spec.classes, target.spec.counts, target.spec.rows) == (("a", "b"), (1, 2), 3)
    assert apply(target, y=column).tolist() == [[1, 1], [0, 0], [0, 1]]


def test_labels_come_as_columns_of_zero_and_one():
    target = fit("labels", a=[1, 0], b=[0, 0])
    assert (target.spec.classes, target.spec.counts) == (("a", "b"), (1, 0))
    assert apply(target, a=[True, False], b=[False, True]).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match=r"row 1 of the batch: the label 'b' is 2\.0"):
        apply(target, a=[1, 1], b=[0, 2])


def test_values_are_standardised_before_they_are_float32():
    target = fit("values", y=[1.0, 3.0])
    assert (target.spec.mean, target.spec.std, target.spec.rows) == ((2.0,), (1.0,), 2)
    assert apply(target, y=[7.5]).tolist() == [5.5]
    both = fit("values", y=[1.0, 3.0], z=[1.7e9 - 10, 1.7e9 + 10])
    assert both.spec.std == (1.0, 10.0)
    out = apply(both, y=[1], z=[1.7e9 + 5])
    assert (out.dtype, out.tolist()) == (np.float32, [[-1, 0.5]])


@pytest.mark.parametrize("rows", [1, 3, 70_001])
def test_a_value_that_never_changes_is_refused(rows):
    target = build_target("values", [Field(name, Kind.NUMBER) for name in "yz"])
    for start in range(0, rows, 65_536):
        count = min(65_536, rows - start)
        target.observe(pa.record_batch({"y": np.arange(start, start + count, dtype=float) + 1, "z": np.full(count, 0.1)}))
    with pytest.raises(DataError, match=f"all {rows} training rows of '{'y' if rows == 1 else 'z'}' are"):
        target.finish()


def test_values_closer_than_float64_tells_apart_are_refused():
    with pytest.raises(DataError, match="float64 hardly tells apart"):
        fit("values", y=[1.7e9, np.nextafter(1.7e9, 2e9)])
    fit("values", y=[1.7e9, 1.7e9 + 1e-5])


def test_missing_targets_are_marked():
    assert fit("values", y=[1.0, 2.0]).missing(pa.record_batch({"y": [1.0, None, float("nan")]})).tolist() == [False, True, True]
    assert fit("binary", y=["a", "b"]).missing(pa.record_batch({"y": ["a", None]})).tolist() == [False, True]
    assert fit("values", y=["1", "2"]).missing(pa.record_batch({"y": ["1", "", "nan"]})).tolist() == [False, True, True]


def test_infinite_values_are_an_error():
    with pytest.raises(DataError, match="row 1 of the batch: the target 'y' is inf"):
        fit("values", y=[1.0, 2.0]).missing(pa.record_batch({"y": [1.0, float("inf")]}))


def test_unseen_classes_are_marked_or_named():
    target = fit("classes", y=["a", "b"])
    batch = pa.record_batch({"y": ["a", "c", None]})
    assert target.unseen(batch).tolist() == [False, True, False]
    with pytest.raises(DataError, match="row 1 of the batch: 'c' is no class of 'y' that training knew"):
        target.apply(batch)
    labels = fit("labels", y=[["a"], ["b"]])
    assert labels.unseen(pa.record_batch({"y": [["a"], ["a", "c"], []]})).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("binary", ["a", "a"], "all 2 training rows of 'y' are 'a'"),
        ("binary", ["a", "b", "c"], "'y' has 3 classes"),
        ("classes", pa.array([], pa.string()), "no training row has a target"),
        ("labels", [[], []], "no training row of 'y' has a label"),
        ("labels", [1, 2], "a column of labels holds int64"),
    ],
)
def test_targets_that_cannot_be_learned(kind, values, message):
    with pytest.raises((DataError, ColumnError), match=message):
        fit(kind, y=values if isinstance(values, pa.Array) else pa.array(values))


def test_json_holds_everything():
    target = fit("classes", y=["a", "b", "b"])
    again = build_target("classes", [Field("y", Kind.CATEGORY)]).load_json(json.loads(json.dumps(target.to_json())))
    assert again.spec == target.spec
    assert apply(again, y=["b"]).tolist() == [1]


def test_balanced_weights_equal_scikit_learn():
    values = np.array([0] * 90 + [1] * 9 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=values)
    np.testing.assert_allclose(class_weights(fit("classes", y=values).spec, "balanced"), expected)


def test_weights_by_class():
    spec = fit("binary", y=["no", "yes"]).spec
    assert class_weights(spec, {"yes": 3}).tolist() == [1, 3]
    assert class_weights(fit("binary", y=[0, 1]).spec, {1: 2}).tolist() == [1, 2]
    with pytest.raises(InputError, match="maybe"):
        class_weights(spec, {"maybe": 3})
    with pytest.raises(InputError, match="kind 'values'"):
        class_weights(fit("values", y=[1.0, 2.0]).spec, "balanced")
