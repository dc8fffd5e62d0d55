"""Other spellings: put right where rows are read, the same in training and in production."""

import pyarrow as pa
import pytest

import deepseek
from deepseek.data.preparation import Preparation
from deepseek.data.sources import open_source
from deepseek.data.spellings import RespelledSource, respell
from deepseek.errors import ColumnError, DataError, UnknownNameError
from deepseek.fields import Field, Kind, Schema

SPELLINGS = {"plan": {"PRO": "pro", "Pro": "pro"}}


def test_values_are_put_right_and_others_left_alone():
    batch = pa.record_batch({"plan": ["PRO", "free", None, "Pro"], "n": [1, 2, 3, 4]})
    assert respell(batch, SPELLINGS).to_pydict() == {"plan": ["pro", "free", None, "pro"], "n": [1, 2, 3, 4]}
    coded = pa.record_batch({"plan": batch.column(0).dictionary_encode()})
    assert respell(coded, SPELLINGS).column(0).to_pylist() == ["pro", "free", None, "pro"]


def test_a_column_that_is_not_there_is_passed_over_and_one_of_numbers_refused():
    batch = pa.record_batch({"n": [1, 2]})
    assert respell(batch, SPELLINGS) is batch
    with pytest.raises(ColumnError, match="holds int64"):
        respell(batch, {"n": {"1": "2"}})


def test_a_source_reads_and_describes_itself_alike():
    source = RespelledSource(open_source(pa.table({"plan": pa.array(["PRO", "free"]).dictionary_encode()})), SPELLINGS)
    (batch,) = source.read()
    assert batch.schema.types == source.schema().types
    assert batch.column(0).to_pylist() == ["pro", "free"]


@pytest.mark.parametrize(
    ("column", "asked", "wanted"),
    [
        ("plan", pa.array([float("nan"), float("nan")]), [0, 0]),  # what pandas makes of a column of which nothing is known
        ("plan", pa.array(["Pro", None]), [1, 0]),
        ("code", pa.array([7, 8]), [1, 2]),
        ("price", pa.array([1.5, 2.5]), [1.5, 2.5]),
    ],
)
def test_rows_without_a_text_where_training_had_other_spellings_are_prepared(column, asked, wanted):
    rows = {"plan": ["pro", "pro", "free"], "code": ["seven", "seven", "8"], "price": ["1", "2", ""]}
    kinds = {"plan": Kind.CATEGORY, "code": Kind.CATEGORY, "price": Kind.NUMBER}
    meant = {"plan": {"Pro": "pro"}, "code": {"7": "seven"}, "price": {"n/a": ""}}
    preparation = Preparation(Schema(tuple(Field(name, kind) for name, kind in kinds.items())), spellings=meant)
    preparation.fit(lambda: iter(pa.table(rows).to_batches()))
    other = pa.record_batch({name: asked if name == column else values[:2] for name, values in rows.items()})
    arrays = preparation.apply(other)
    made = arrays["numbers"][:, 0] if column == "price" else arrays["categories"][:, list(rows).index(column)]
    assert made.tolist() == wanted


def table(rows, *, dotted):
    x = [float(number % 10) for number in range(rows)]
    names = ["high" if value > 4 else "low" for value in x]
    return pa.table({"x": x, "y": [f"{name}." if dotted else name for name in names]})


def test_test_rows_that_spell_the_classes_otherwise_are_measured(tmp_path):
    given = {"target": "y", "test": table(60, dotted=True), "out": tmp_path, "progress": False}
    few = ["train.epochs=1", "model=mlp", "train.precision=fp32"]
    with pytest.raises(DataError, match="another spelling") as refused:
        deepseek.train(table(120, dotted=False), overrides=few, **given)
    assert "data.spellings={y: {'low.': CLASS}}" in str(refused.value.hint)
    run = deepseek.train(table(120, dotted=False), overrides=[*few, "data.spellings={y: {'low.': low, 'high.': high}}"], **given)
    assert run.metrics["test"]["accuracy"] is not None
    again = deepseek.evaluate(run.run, table(60, dotted=True))
    assert again["rows"] == 60
    assert again["metrics"]["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])


def test_a_column_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="colour"):
        deepseek.train(table(40, dotted=False), target="y", out=tmp_path, overrides=["data.spellings={colour: {a: b}}"], progress=False)
