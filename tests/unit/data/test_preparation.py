from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from deepseek.data.batch import as_inputs
from deepseek.data.cleaning.base import Cleaner
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.unknown_categories import Unknown
from deepseek.errors import ColumnError, DataError, InputError, RowError, UnknownNameError
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import family

SCHEMA = Schema(
    (
        Field("age", Kind.NUMBER),
        Field("town", Kind.CATEGORY),
        Field("at", Kind.TIMESTAMP),
        Field("note", Kind.BOXES),
        Field("id", Kind.ID),
        Field("y", Kind.BINARY),
    ),
    ("y",),
)


def table(rows, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 10, rows) + shift
    return pa.table(
        {
            "age": pa.array(age, mask=rng.random(rows) < 0.1),
            "town": pa.array(rng.choice(["Ulm", "Bonn", "Köln"], rows)),
            "at": pa.array((1.7e9 + rng.integers(0, 10**7, rows) + 1e5 * shift).astype(np.int64)).cast(pa.timestamp("s")),
            "note": pa.array(["text"] * rows),
            "id": pa.array(np.arange(rows)),
            "y": pa.array(rng.choice(["no", "yes"], rows, p=[0.8, 0.2])),
        }
    )


def batches(rows, size=64):
    return lambda: iter(rows.to_batches(max_chunksize=size))


def fitted(rows=None, **arguments):
    rows = table(300) if rows is None else rows
    return Preparation(SCHEMA, target="binary", **arguments).fit(batches(rows))


def test_the_road_from_table_to_tensors(tmp_path):
    rows = table(300)
    preparation = fitted(rows)
    data, counts = prepare(preparation, batches(rows)(), tmp_path, rows=np.arange(300) * 2, training=True)
    assert counts == {}
    assert len(data) == 300
    assert data.source_rows[7] == 14
    assert list(data.inputs) == list(preparation.inputs) == ["numbers", "categories", "timestamps"]
    assert preparation.left_out == {"note": "no transform turns boxes columns into arrays"}
    assert preparation.columns == ("age", "town", "at")
    batch = data.take([0, 299])
    expected = preparation.apply(rows.take([0, 299]).to_batches()[0])
    for name, array in expected.items():
        np.testing.assert_array_equal(batch.inputs[name].numpy(), array)
    assert batch.targets["target"].tolist() == [float(rows["y"][row].as_py() == "yes") for row in (0, 299)]
    assert list(preparation.graph()) == ["numbers", "timestamps"]


def test_no_statistic_moves_when_the_test_split_does(tmp_path):
    """Leakage: only what `fit` is given may be learned, whatever else is prepared afterwards."""
    preparation = fitted()
    before = json.dumps(preparation.to_json())
    prepare(preparation, batches(table(200, seed=1, shift=1000))(), tmp_path, rows=200, training=False)
    assert json.dumps(preparation.to_json()) == before
    assert json.dumps(fitted(table(300, shift=1000)).to_json()) != before


def test_json_round_trip_is_exact():
    preparation = fitted(
        transforms={"number": {"type": "number", "scaling": "quantile"}, "town": {"type": "category", "encoding": "one_hot"}}
    )
    again = Preparation.from_json(json.loads(json.dumps(preparation.to_json(), allow_nan=False)))
    assert json.dumps(again.to_json()) == json.dumps(preparation.to_json())
    batch = table(50, seed=3).drop_columns(["y", "note", "id"]).to_batches()[0]
    for name, array in preparation.apply(batch).items():
        np.testing.assert_array_equal(again.apply(batch)[name], array)
    for name, module in preparation.graph().items():
        x = torch.from_numpy(preparation.apply(batch)[name])
        assert torch.equal(again.graph()[name](x), module(x))


def test_one_row_is_served_as_in_its_batch():
    preparation = fitted(clean=[{"type": "missing"}, {"type": "outliers"}])
    batch = table(20, seed=4).to_batches()[0]
    whole = preparation.apply(batch)
    for row in range(20):
        for name, array in preparation.apply(batch.slice(row, 1)).items():
            np.testing.assert_array_equal(array, whole[name][row : row + 1])


def test_cleaners_work_in_order_and_their_columns_join():
    preparation = fitted(clean=[{"type": "missing", "indicator": True}])
    assert preparation.inputs["numbers"].columns == ("age",)  # nothing is missing any more
    assert "age_missing" in preparation.inputs["categories"].columns
    assert preparation.columns == ("age", "town", "at")


def test_rows_are_dropped_in_training_only_and_counted(tmp_path):
    rows = pa.concat_tables([table(100), table(100).slice(0, 30)])
    rows = rows.set_column(0, "age", pa.chunked_array([pa.array([1e6, *rows["age"].to_pylist()[1:]])]))
    preparation = fitted(rows, clean=[{"type": "duplicates", "columns": ["town", "at"]}, {"type": "outliers", "action": "drop"}])
    assert preparation.dropped == {"clean[0] duplicates": 30, "clean[1] outliers": 1}
    data, counts = prepare(preparation, batches(rows)(), tmp_path / "train", rows=130, training=True)
    assert (len(data), counts) == (99, preparation.dropped)
    assert data.source_rows.tolist() == list(range(1, 100))
    data, counts = prepare(preparation, batches(rows)(), tmp_path / "test", rows=130, training=False)
    assert (len(data), counts) == (130, {})


def test_rows_without_a_target_are_set_aside_and_counted(tmp_path):
    rows = table(100)
    y = rows["y"].to_pylist()
    rows = rows.set_column(5, "y", pa.array([None, *y[1:]]))
    preparation = fitted(rows)
    assert preparation.dropped == {"target missing": 1}
    assert preparation.target.spec.rows == 99
    data, counts = prepare(preparation, batches(rows)(), tmp_path, rows=100, training=False)
    assert (counts, data.source_rows[0]) == ({"target missing": 1}, 1)


def test_classes_unseen_in_training_fail_or_are_counted(tmp_path):
    rows = table(10, seed=1)
    rows = rows.set_column(5, "y", pa.array(["perhaps", *rows["y"].to_pylist()[1:]]))
    with pytest.raises(DataError, match="'perhaps' is no class"):
        prepare(fitted(), batches(rows)(), tmp_path / "a", rows=10, training=False)
    told = {}
    numbers = np.arange(100, 110)
    data, counts = prepare(
        fitted(),
        batches(rows)(),
        tmp_path / "b",
        rows=numbers,
        training=False,
        unseen="set_aside",
        set_aside=lambda reason, found: told.update({reason: found.tolist()}),
    )
    assert (len(data), counts) == (9, {"target class unseen in training": 1})
    assert told == {"target class unseen in training": [100]}


def test_a_split_of_which_no_row_is_left_is_refused(tmp_path):
    rows = table(10).set_column(5, "y", pa.array(["perhaps"] * 10))
    with pytest.raises(DataError, match=r"no row is left to prepare \(target class unseen in training: 10\)"):
        prepare(fitted(), batches(rows)(), tmp_path, rows=10, training=False, unseen="set_aside")


def test_a_weight_is_no_input(tmp_path):
    schema = Schema((Field("age", Kind.NUMBER), Field("w", Kind.NUMBER), Field("y", Kind.NUMBER)), ("y",))
    rows = pa.table({"age": [1.0, 2.0], "w": [0.5, 2.0], "y": [1.0, 2.0]})
    preparation = Preparation(schema, target="values", weight="w", clean=["missing"]).fit(batches(rows))
    assert preparation.columns == ("age",)
    data, _ = prepare(preparation, batches(rows)(), tmp_path / "a", rows=2, training=True)
    assert data.take([1]).weight.tolist() == [np.float32(2 / 1.25)]
    bad = rows.set_column(1, "w", pa.array([1.0, -1.0]))
    with pytest.raises(DataError, match=r"row 1 \(counted from 0\): the weight 'w' is -1\.0"):
        prepare(preparation, batches(bad)(), tmp_path / "b", rows=2, training=True)


@pytest.mark.parametrize("column", ["age", "y"])
@pytest.mark.parametrize("place", [3, 70, 199])
def test_a_value_is_named_with_its_row_of_the_table_whatever_the_batch_and_the_rows_before(tmp_path, column, place):
    """Also where rows before it have no target, and where the rows are some of a table's."""
    schema = Schema((Field("age", Kind.NUMBER), Field("y", Kind.NUMBER)), ("y",))
    values = {"age": [str(i) for i in range(200)], "y": [None if i < 3 else str(i) for i in range(200)]}
    preparation = Preparation(schema, target="values").fit(batches(pa.table(values)))
    values[column][place] = "much"
    bad = batches(pa.table(values))
    with pytest.raises(RowError, match=rf"row {place} \(counted from 0\).*much"):
        Preparation(schema, target="values").fit(bad)
    for training in (True, False):
        with pytest.raises(RowError, match=rf"row {place + 500} \(counted from 0\).*much"):
            prepare(preparation, bad(), tmp_path / str(training), rows=np.arange(500, 700), training=training)


@pytest.mark.parametrize("unit", [1.0, 1e-14, 1e-60, 1e30])
def test_only_the_ratios_of_weights_count(tmp_path, unit):
    schema = Schema((Field("age", Kind.NUMBER), Field("w", Kind.NUMBER), Field("y", Kind.NUMBER)), ("y",))
    rows = pa.table({"age": [1.0, 2.0, 3.0], "w": [unit, 2 * unit, 3 * unit], "y": [1.0, 2.0, 3.0]})
    preparation = Preparation(schema, target="values", weight="w").fit(batches(rows))
    again = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    for number, made in enumerate((preparation, again)):
        weight = prepare(made, batches(rows)(), tmp_path / str(number), rows=3, training=True)[0].take([0, 1, 2]).weight
        assert weight.tolist() == pytest.approx([0.5, 1.0, 1.5])


def test_weights_that_are_all_zero_are_refused():
    schema = Schema((Field("age", Kind.NUMBER), Field("w", Kind.NUMBER), Field("y", Kind.NUMBER)), ("y",))
    rows = pa.table({"age": [1.0, 2.0], "w": [0.0, 0.0], "y": [1.0, 2.0]})
    with pytest.raises(DataError, match="the weights 'w' of all training rows are 0"):
        Preparation(schema, target="values", weight="w").fit(batches(rows))


def test_a_pass_carries_values_from_batch_to_batch_and_leaves_the_original_alone():
    schema = Schema((Field("age", Kind.NUMBER),))
    clean = [{"type": "missing", "strategy": "forward_fill"}]
    rows = pa.table({"age": [1.0, None, None, 4.0, None]})
    preparation = Preparation(schema, clean=clean, transforms={"number": {"type": "number", "scaling": "none"}}).fit(batches(rows))
    whole = preparation.started().apply(rows.to_batches()[0])["numbers"]
    first, second = preparation.started(), preparation.started()  # two passes at the same time
    parts = []
    for batch in rows.to_batches(max_chunksize=2):
        parts.append(first.apply(batch)["numbers"])
        second.apply(pa.record_batch({"age": [9.0]}))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole.ravel().tolist() == [1, 1, 1, 4, 4]
    assert np.isnan(preparation.apply(pa.record_batch({"age": pa.array([None], pa.float64())}))["numbers"]).all()


def test_target_encoding_is_out_of_fold_in_training_alone(tmp_path):
    rows = table(300)
    preparation = fitted(rows, transforms={"category": {"type": "category", "encoding": "target"}})
    taken = {
        training: prepare(preparation, batches(rows, 50)(), tmp_path / str(training), rows=300, training=training)[0].take(np.arange(300))
        for training in (True, False)
    }
    assert len(np.unique(taken[False].inputs["categories_target"])) == 3
    assert len(np.unique(taken[True].inputs["categories_target"])) == 15
    again = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    data, _ = prepare(again, batches(rows)(), tmp_path / "again", rows=300, training=True)
    assert torch.equal(data.take(np.arange(300)).inputs["categories_target"], taken[True].inputs["categories_target"])


def test_target_encoding_without_a_target_is_an_error():
    schema = Schema((Field("town", Kind.CATEGORY),))
    with pytest.raises(InputError, match="learns from the target"):
        Preparation(schema, transforms={"town": {"type": "category", "encoding": "target"}}).fit(batches(table(10)))


def test_corrupt_images_are_set_aside_and_counted(tmp_path):
    for name in "abc":
        Image.new("RGB", (4, 4), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    paths = pa.field("photo", pa.string(), metadata={"deepseek.root": str(tmp_path)})
    rows = pa.table(
        [pa.array(["a.png", "b.png", "c.png"]), pa.array([1.0, 2.0, 3.0])], schema=pa.schema([paths, pa.field("y", pa.float64())])
    )
    schema = Schema((Field("photo", Kind.IMAGE), Field("y", Kind.NUMBER)), ("y",))
    preparation = Preparation(schema, target="values").fit(batches(rows))
    data, counts = prepare(preparation, batches(rows)(), tmp_path / "data", rows=3, training=True)
    assert counts == {"photo cannot be read": 1}
    assert data.source_rows.tolist() == [0, 2]
    assert data.take([1]).targets["target"].tolist() == [np.float32(1 / preparation.target.spec.std[0])]


class Carrying(Cleaner):
    """Counts the rows of a pass, to see that each pass begins anew and that nothing of it reaches production."""

    def __init__(self, *, limit: int = 5):
        self.limit, self.met = limit, 0

    def start(self):
        self.met = 0

    def apply(self, batch):
        return batch

    def drop(self, batch):
        first, self.met = self.met, self.met + batch.num_rows
        return np.arange(first, self.met) < self.limit

    def to_json(self):
        return {"met": self.met}

    def load_json(self, state):
        return self


def test_each_pass_begins_anew(tmp_path):
    if "carrying" not in family("cleaner").names():
        family("cleaner").register("carrying")(Carrying)
    rows = table(50)
    preparation = fitted(rows, clean=["carrying", "missing"])
    for attempt in range(2):
        data, counts = prepare(preparation, batches(rows, 7)(), tmp_path / str(attempt), rows=50, training=True)
        assert (len(data), counts) == (45, {"clean[0] carrying": 5})
    assert preparation.cleaners[0].met == 0


def test_nothing_to_learn_from_and_wrong_rows_are_errors(tmp_path):
    with pytest.raises(DataError, match="there is no training row"):
        fitted(table(0))
    with pytest.raises(InputError, match="10 rows came, 11 were announced"):
        prepare(fitted(), batches(table(10))(), tmp_path, rows=11, training=False)
    with pytest.raises(ColumnError, match="lacks the column 'town'"):
        fitted().apply(table(3).drop_columns(["town"]).to_batches()[0])
    with pytest.raises(UnknownNameError, match="wieght"):
        Preparation(SCHEMA, weight="wieght")


def test_rows_of_other_types_are_prepared_as_those_of_training(tmp_path):
    schema = Schema((Field("flag", Kind.BINARY), Field("code", Kind.CATEGORY), Field("p", Kind.NUMBER), Field("y", Kind.BINARY)), ("y",))
    rows = pa.table({"flag": [0, 1, 1], "code": ["1", "2", "x"], "p": ["1.5", "", "3"], "y": [True, False, True]})
    fitted = Preparation(schema, target="binary", clean=["missing"]).fit(batches(rows))
    preparation = Preparation.from_json(json.loads(json.dumps(fitted.to_json())))
    assert preparation.text_columns == ("code",)
    other = pa.record_batch({"flag": [False, True, True], "code": [1.0, 2.0, 3.0], "p": [1.5, None, 3.0], "y": ["True", "0", "1"]})
    wanted, made = preparation.apply(rows.to_batches()[0]), preparation.apply(other)
    assert made["numbers"].tolist() == wanted["numbers"].tolist()
    assert made["categories"][:, 0].tolist() == wanted["categories"][:, 0].tolist()
    assert made["categories"][:2, 1].tolist() == wanted["categories"][:2, 1].tolist()
    unknown = Unknown()
    preparation.watched(unknown).apply(other)
    assert len(unknown.warnings("rows")) == 1
    assert preparation.target.apply(preparation.typed(other))["target"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("learned", "asked", "wanted"),
    [
        ([True, False, None], ["TRUE", " false ", "maybe", "1", ""], ["true", "false", None, "true", None]),
        ([True, False, None], [1, 0, 2], ["true", "false", None]),
        ([7, 8, 7], ["7.0", "008", "n/a"], ["7", "8", None]),
        ([0.5, 8.0, 0.5], [".50", "8.00", "eight"], ["0.5", "8", None]),
        (["1.50", "x", "x"], ["1.50", "1.5", "x"], ["1.50", None, "x"]),
    ],
)
def test_one_value_that_is_none_of_the_type_changes_nothing_for_the_rows_around_it(learned, asked, wanted):
    schema = Schema((Field("flag", Kind.CATEGORY), Field("y", Kind.CATEGORY)), ("y",))
    rows = pa.table({"flag": learned, "y": ["a", "b", "a"]})
    preparation = Preparation(schema, target="classes").fit(batches(rows))
    known = ("", *preparation.transforms[0].vocabularies["flag"])
    made = preparation.apply(pa.record_batch({"flag": asked}))["categories"][:, 0]
    assert [known[code] or None for code in made] == wanted
    alone = [preparation.apply(pa.record_batch({"flag": [one]}))["categories"][0, 0] for one in asked]
    assert alone == made.tolist()


@pytest.mark.parametrize(
    "kind",
    [pa.date32(), pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("us", "Asia/Tokyo")],
)
@pytest.mark.parametrize(
    "asked",
    [
        ["2024-03-01", "2024-04-01 00:00", None, "soon", "2024-03-01 10:00"],
        pa.array([dt.date(2024, 3, 1), dt.date(2024, 4, 1), None, dt.date(2024, 5, 1), None]),
        pa.array([dt.datetime(2024, 3, 1), dt.datetime(2024, 4, 1), None, dt.datetime(2024, 3, 1, 10), None], pa.timestamp("ns")),
        pa.array([dt.datetime(2024, 3, 1), dt.datetime(2024, 4, 1), None, dt.datetime(2024, 5, 1), None], pa.timestamp("ms", "UTC")),
    ],
)
def test_dates_that_are_names_are_the_same_in_every_type(kind, asked):
    schema = Schema((Field("month", Kind.CATEGORY), Field("y", Kind.CATEGORY)), ("y",))
    months = pa.array([dt.datetime(2024, 3, 1), dt.datetime(2024, 3, 1), dt.datetime(2024, 4, 1)], pa.timestamp("us")).cast(kind)
    preparation = Preparation(schema, target="classes").fit(batches(pa.table({"month": months, "y": ["a", "b", "a"]})))
    made = preparation.apply(pa.record_batch({"month": asked}))["categories"][:, 0]
    assert made.tolist() == [1, 2, 0, 0, 0]


def test_text_among_numbers_is_named():
    schema = Schema((Field("p", Kind.NUMBER),))
    preparation = Preparation(schema, clean=["missing"]).fit(batches(pa.table({"p": [1.0, 2.0]})))
    with pytest.raises(DataError, match=r"'p' is a number, but row 1 of the batch holds 'much'"):
        preparation.apply(pa.record_batch({"p": ["1", "much"]}))


def test_texts_reach_the_batch_and_rows_set_aside_take_theirs_along(tmp_path):
    texts = ["good film", None, "bad film and a long one", "", "film film", "good"]
    rows = pa.table({"note": texts, "y": ["a", "b", "a", "b", "c", "a"]})
    schema = Schema((Field("note", Kind.TEXT), Field("y", Kind.CATEGORY)), ("y",))
    preparation = Preparation(
        schema, target="classes", transforms={"note": {"type": "text", "tokenizer": "word", "min_count": 1, "max_tokens": 4}}
    )
    preparation.fit(batches(rows.slice(0, 4)))
    assert preparation.warnings == (
        "33.3% of the training texts of 'note' have over 4 tokens and are cut (keep: start); raise max_tokens of the transform text "
        "to read more",
    )
    data, counts = prepare(preparation, batches(rows, 2)(), tmp_path, rows=6, training=False, unseen="set_aside")
    assert counts == {"target class unseen in training": 1}
    batch = data.take(np.arange(5))
    assert batch.inputs["note_mask"].sum(1).tolist() == [3, 2, 4, 1, 2]
    again = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    kept = as_inputs(again.apply(rows.take([0, 1, 2, 3, 5]).to_batches()[0]))
    assert torch.equal(batch.inputs["note"], kept["note"])
    assert torch.equal(batch.inputs["note_mask"], kept["note_mask"])
