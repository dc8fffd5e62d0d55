from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.targets import TargetSpec
from deepseek.errors import DataError, ExportError, InputError
from deepseek.exporters.hard_rows import LONGEST_CHARACTERS, UNSEEN, hard_rows
from deepseek.exporters.parity import compare, require_parity
from deepseek.fields import Field, Kind, Schema
from deepseek.tasks.answers import answer_table

SCHEMA = Schema((Field("x", Kind.NUMBER), Field("word", Kind.TEXT), Field("photo", Kind.IMAGE)), ())
ROWS = pa.record_batch({"x": [0.1, 0.9, 0.7, None], "word": ["a", "bcd", None, ""], "photo": [b"1", b"2", b"3", b"4"]})


def predictor(change=lambda values: values, schema=SCHEMA):
    """A stand-in for a predictor, whose probability is x itself."""

    def decoded(batch):
        values = np.array([0.5 if value is None else value for value in batch["x"].to_pylist()], np.float32)
        return {"probability": change(np.stack((1 - values, values), axis=1))}

    def table(answers):
        return pa.table({"prediction": pa.array(np.where(answers["probability"][:, 1] > 0.5, "yes", "no"))})

    names = tuple(field.name for field in schema)
    return SimpleNamespace(decoded=decoded, table=table, schema=schema, columns=names, answers_masks=False)


def test_equal_predictors_agree():
    parity = compare(predictor(), predictor(), [ROWS.slice(0, 2), ROWS.slice(2), ROWS.slice(0, 0)])
    assert (parity.rows, parity.difference, parity.flipped) == (4, 0.0, 0)
    assert parity.cases["rows alone"] == 2
    assert parity.cases["no rows"] == 0
    require_parity(parity)


def test_the_worst_row_is_named_and_flips_are_counted():
    def wrong(values):
        return np.where(values == np.float32(0.7), np.float32(0.2), values)

    parity = compare(predictor(), predictor(wrong), [ROWS.slice(0, 1), ROWS.slice(1)])
    assert parity.flipped == 1
    assert parity.worst["row"] == 2
    assert parity.difference == pytest.approx(0.5)
    with pytest.raises(ExportError, match=r"differs by 0\.5, .*1 of 4 .*row is 2 of .*x=0\.7, word=None, photo=1 bytes"):
        require_parity(parity)
    assert "values" not in parity.to_json()["worst"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_a_difference(value):
    parity = compare(predictor(), predictor(lambda values: np.where(values > 0.8, np.float32(value), values)), [ROWS])
    assert parity.difference == np.inf
    assert compare(predictor(lambda values: values * np.nan), predictor(lambda values: values * np.nan), [ROWS]).difference == 0


def test_a_row_alone_is_compared_too():
    parity = compare(predictor(), predictor(lambda values: values + (len(values) == 1)), [ROWS])
    assert parity.worst["case"] == "rows alone"
    with pytest.raises(ExportError):
        require_parity(parity)


def test_another_shape_or_name_is_refused():
    with pytest.raises(ExportError, match=r"shape \[4, 1\]"):
        compare(predictor(), predictor(lambda values: values[:, :1]), [ROWS])
    other = predictor()
    other.decoded = lambda batch: {"score": np.zeros(batch.num_rows)}
    with pytest.raises(ExportError, match="score"):
        compare(predictor(), other, [ROWS])


def test_what_one_refuses_the_other_must_refuse():
    def strict(values):
        if len(values) > 1 and (values == 0.5).all():
            raise DataError("no gaps please")
        return values

    assert "missing values" not in compare(predictor(strict), predictor(strict), [ROWS]).cases
    with pytest.raises(ExportError, match="no gaps please"):
        compare(predictor(strict), predictor(), [ROWS])


def test_without_rows_there_is_nothing_to_compare():
    with pytest.raises(InputError, match="no row"):
        compare(predictor(), predictor(), [ROWS.slice(0, 0)])


def test_hard_rows_are_what_they_say():
    cases = dict(hard_rows(ROWS, SCHEMA, ("x", "word", "photo")))
    assert cases["missing values"]["x"].null_count == cases["missing values"]["word"].null_count == 4
    assert all(batch["photo"].null_count == (4 if case == "no files" else 0) for case, batch in cases.items())
    assert cases["no files"]["x"].to_pylist() == ROWS["x"].to_pylist()
    assert [cases["one value missing"][name].to_pylist()[place] for place, name in enumerate(("x", "word"))] == [None, None]
    assert cases["one value missing"]["x"][1].as_py() == 0.1
    assert cases["values never seen"]["word"].to_pylist() == [UNSEEN] * 4
    assert cases["values never seen"]["x"].to_pylist()[3] is None
    longest = cases["the longest text"]["word"].to_pylist()
    assert longest == [" ".join(["bcd"] * (LONGEST_CHARACTERS // 4))] * 2
    assert cases["empty texts"]["word"].to_pylist() == [""] * 4
    assert [case for case, _ in hard_rows(ROWS.select(["photo"]), SCHEMA, ("photo",))] == ["no files"]


def test_whole_numbers_and_encoded_texts_are_changed_too():
    words = pa.array(["a", "b", None, "a"]).dictionary_encode()
    counts = {"x": pa.array([3, -4, None, 2**62]), "small": pa.array([0, 1, 200, None], pa.uint8())}
    schema = Schema((Field("x", Kind.NUMBER), Field("small", Kind.CATEGORY), Field("word", Kind.CATEGORY)), ())
    changed = dict(hard_rows(pa.record_batch({**counts, "word": words}), schema, ("x", "small", "word")))["values never seen"]
    assert changed["x"].to_pylist() == [3001, -3999, None, 2**63 - 1]
    assert changed["small"].to_pylist() == [1, 255, 255, None]
    assert changed["word"].to_pylist() == [UNSEEN] * 4
    assert [changed[name].type for name in ("x", "small", "word")] == [pa.int64(), pa.uint8(), words.type]


@pytest.mark.parametrize("permutation", [None, [1, 0]])
def test_pictures_of_an_array_can_be_missing(permutation):
    kind = pa.fixed_shape_tensor(pa.uint8(), [2, 3], permutation=permutation)
    storage = pa.array([list(range(6))] * 4, kind.storage_type)
    rows = ROWS.set_column(ROWS.schema.get_field_index("photo"), "photo", pa.ExtensionArray.from_storage(kind, storage))
    cases = dict(hard_rows(rows, SCHEMA, ("x", "photo")))
    assert cases["no files"]["photo"].type == kind
    assert cases["no files"]["photo"].null_count == 4
    assert cases["missing values"]["photo"].storage.to_pylist() == storage.to_pylist()
    assert cases["missing values"]["x"].null_count == 4


def test_of_masks_the_place_is_named_at_which_answers_differ_most_and_few_pictures_are_compared():
    def answering(shift):
        def decoded(batch):
            second = np.full((batch.num_rows, 3, 4), 0.25, np.float32)
            second[:, 2, 1] += shift
            return {"probability": np.stack((1 - second, second), axis=1)}

        target = TargetSpec("mask", ("mask",), ("0", "1"), (2, 2), 2, shape=(3, 4))
        return SimpleNamespace(
            decoded=decoded,
            table=lambda answers: answer_table(target, answers),
            schema=Schema((Field("x", Kind.NUMBER),)),
            columns=("x",),
            answers_masks=True,
        )

    many = pa.record_batch({"x": np.arange(100.0)})
    parity = compare(answering(0.0), answering(0.5), [many])
    assert (parity.rows, parity.flipped) == (64, 64)
    assert parity.worst["expected"] == [0.75, 0.25]
    assert parity.worst["answered"] == [0.25, 0.75]
