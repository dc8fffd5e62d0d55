"""Series of numbers: every form they come in, scaling by training rows, what is missing, what is cut, what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.data.augment.series import Jitter
from deepseek.data.padding import as_arrays
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.transforms.series import SeriesTransform
from deepseek.data.transforms.series_files import holds_series, read_rows
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind, infer_schema

FIELD = Field("pulse", Kind.SERIES)
ONE = [[1.0, 2.0, 3.0], [4.0], None, [5.0, None, 7.0, 9.0]]


def batch(values, kind=None, root=None):
    metadata = {ROOT_KEY: str(root).encode()} if root is not None else None
    column = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return pa.RecordBatch.from_arrays([column], schema=pa.schema([pa.field("pulse", column.type, metadata=metadata)]))


def fitted(rows, **settings):
    transform = SeriesTransform((FIELD,), **settings)
    transform.observe(rows)
    transform.finish()
    return transform


def scaled(transform, rows):
    arrays = {name: torch.from_numpy(array) for name, array in as_arrays(transform.apply(rows)).items()}
    return transform.module()(arrays["pulse"], arrays["pulse_mask"])


def test_every_form_holds_the_same_series(tmp_path):
    steps = np.array([[1.0, 2.0], [3.5, np.nan], [5.0, 6.0]])
    np.save(tmp_path / "a.npy", steps)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3.5,\n\n5,6\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("1;2\n3.5;\n5;6\n", encoding="utf-8")
    lists = [[[1.0, 2.0], [3.5, None], [5.0, 6.0]]]
    forms = [
        pa.array(["a.npy"]),
        pa.array(["a.csv"]).dictionary_encode(),
        pa.array(["b.csv"]),
        pa.array(lists),
        pa.array(lists, pa.list_(pa.list_(pa.float32(), 2))),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([steps])),
    ]
    for column in forms:
        (found,) = read_rows(column, "pulse", tmp_path)
        np.testing.assert_array_equal(found, steps)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.int32()), pa.list_(pa.int64(), 3)])
def test_one_value_a_step_comes_as_plain_lists(kind):
    found = list(read_rows(pa.array([[1, 2, 3], None, [4, 5, 6]], kind), "pulse", None))
    np.testing.assert_array_equal(found[0], [[1.0], [2.0], [3.0]])
    assert found[1] is None
    assert holds_series(kind)


def test_slices_are_read_from_where_they_begin():
    whole = pa.array([[[1.0]], [[2.0], [3.0]], [[4.0]]])
    (found,) = read_rows(whole.slice(1, 1), "pulse", None)
    np.testing.assert_array_equal(found, [[2.0], [3.0]])


def test_what_cannot_be_read_says_why(tmp_path):
    (tmp_path / "words.csv").write_text("a,b\n1,two\n", encoding="utf-8")
    (tmp_path / "uneven.csv").write_text("1,2\n3\n", encoding="utf-8")
    np.save(tmp_path / "names.npy", np.array(["a"]))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY\x01\x00")
    names = ["words.csv", "uneven.csv", "names.npy", "objects.npy", "torn.npy", "absent.npy"]
    for name, found in zip(names, read_rows(pa.array(names), "pulse", tmp_path), strict=True):
        assert isinstance(found, str), name
        assert name in found
    (found,) = read_rows(pa.array([[[1.0, 2.0], [3.0]]]), "pulse", None)
    assert "1 to 2 values" in found
    with pytest.raises(ColumnError, match="holds no series"):
        list(read_rows(pa.array([1.0]), "pulse", None))


def test_values_are_scaled_by_training_steps_and_missing_ones_lie_at_the_mean():
    rows = batch(ONE)
    transform = fitted(rows, clip=None)
    known = np.array([1, 2, 3, 4, 5, 7, 9.0])
    x, mask = scaled(transform, rows)
    assert mask.sum(dim=1).tolist() == [3, 1, 1, 4]
    np.testing.assert_allclose(x[0, :3, 0], (known[:3] - known.mean()) / known.std(), rtol=1e-5)
    assert x[3, 1, 0] == 0, "a missing value is the mean"
    assert not x[0, 3:].any(), "nothing stands behind a row's end"
    plain, _ = scaled(fitted(rows, scaling="none", clip=None), rows)
    np.testing.assert_array_equal(plain[0, :3, 0], [1, 2, 3])


def test_a_bound_is_approached_and_keeps_the_order():
    rows = batch([[1.0, 2.0, 3.0, 1e9, 1e12]])
    x, _ = scaled(fitted(batch(ONE), clip=3.0), rows)
    assert (x[0, 1:, 0] >= x[0, :-1, 0]).all()
    assert x.max() <= 3.001


def test_far_values_lose_no_digits():
    far = batch([[1e9 + 0.25, 1e9 + 0.5], [1e9 + 0.75]])
    x, _ = scaled(fitted(far, clip=None), far)
    known = np.array([0.25, 0.5, 0.75])
    np.testing.assert_allclose(x[0, :, 0], (known[:2] - known.mean()) / known.std(), rtol=1e-5)


def test_a_row_without_a_series_is_known_to_have_none():
    rows = batch([*ONE, [], [None, None]])
    transform = fitted(rows)
    arrays = {name: torch.from_numpy(array) for name, array in as_arrays(transform.apply(rows)).items()}
    there = transform.module().present(arrays["pulse"], arrays["pulse_mask"])
    assert there.tolist() == [True, True, False, True, False, False]
    assert "no series" in " ".join(transform.warnings)


def test_where_it_must_be_there_its_absence_is_bad():
    rows = batch(ONE)
    transform = fitted(rows, missing="fail")
    assert transform.bad(rows).tolist() == [False, False, True, False]
    with pytest.raises(DataError, match="row 2 of the batch"):
        transform.apply(rows)


def test_steps_of_other_width_are_bad():
    transform = fitted(batch([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 5.0]]]))
    assert transform.width == 2
    assert transform.inputs[0].columns == ("pulse_0", "pulse_1")
    other = batch([[[1.0, 2.0, 3.0]], [[1.0, 2.0]]])
    assert transform.bad(other).tolist() == [True, False]
    with pytest.raises(DataError, match="3 values a step, and those of training have 2"):
        transform.apply(other)


@pytest.mark.parametrize(("keep", "wanted"), [("start", [0, 1, 2]), ("middle", [2, 3, 4]), ("end", [4, 5, 6])])
def test_long_series_are_cut_and_counted(keep, wanted):
    rows = batch([list(range(7)), [1, 2]], pa.list_(pa.float64()))
    transform = fitted(rows, steps=3, keep=keep, scaling="none", clip=None)
    assert transform.apply(rows)["pulse"].values[:3, 0].tolist() == wanted
    assert "50.0% of the training series" in transform.warnings[0]


def test_lists_and_paths_are_taken_for_series():
    table = pa.table({"a": [[1.0, 2.0]] * 3, "b": [[[1, 2]]] * 3, "c": ["x/1.npy", "x/2.csv", "y.NPY"], "d": ["a.npy", "b.png", "c"]})
    schema, why = infer_schema(table)
    assert [schema[name].kind for name in "abc"] == [Kind.SERIES] * 3
    assert schema["d"].kind is not Kind.SERIES
    assert why["c"] == "paths of series files"


def test_augmentations_that_bend_time_refuse_rows_of_unequal_length():
    spec = fitted(batch(ONE)).inputs[0]
    with pytest.raises(InputError, match="unequal length"):
        Jitter({"pulse": spec})
