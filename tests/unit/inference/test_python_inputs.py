"""Rows handed in from Python, and files that are rows, in every form that people have them in."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

import deepseek
from deepseek.data.sources.memory import MemorySource
from deepseek.errors import ColumnError, DataError, InputError

FEW = ["train.max_steps=2", "train.precision=fp32"]


@pytest.fixture(scope="module")
def table():
    random = np.random.default_rng(0)
    age = random.normal(40, 9, 80)
    columns = {"age": age, "plan": pd.Categorical(random.choice(list("abc"), 80)), "churned": np.where(age > 40, "yes", "no")}
    return pd.DataFrame(columns, index=range(500, 580))


@pytest.fixture(scope="module")
def run(tmp_path_factory, table):
    return deepseek.train(table, target="churned", out=tmp_path_factory.mktemp("runs"), overrides=FEW, progress=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("cat", "dog")):
        (folder / "classes" / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(np.full((8, 8, 3), 90 * number + index, np.uint8)).save(folder / "classes" / name / f"{index}.png")
    (folder / "flat").mkdir()
    for index in range(3):
        Image.fromarray(np.full((8, 8, 3), 60 * index, np.uint8)).save(folder / "flat" / f"{index}.png")
    (folder / "flat" / "list.md").write_text("no photo")
    trained = deepseek.train(folder / "classes", out=folder / "runs", overrides=[*FEW, "model=cnn"], progress=False)
    return folder / "flat", trained


def test_every_kind_of_table_gives_the_same_answers(run, table):
    predictor = deepseek.load(run)
    expected = predictor.predict(table)
    assert expected.index.tolist() == table.index.tolist()
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    frame = pl.from_arrow(arrow)
    for form in (arrow, Dataset(arrow), arrow.to_pydict(), arrow.to_pylist(), arrow.to_batches()[0]):
        answers = predictor.predict(form)
        assert isinstance(answers, pa.Table)
        assert np.array_equal(np.asarray(answers["probability_yes"]), expected.probability_yes)
    for form in (frame, frame.lazy()):
        answers = predictor.predict(form)
        assert isinstance(answers, pl.DataFrame)
        assert np.array_equal(answers["probability_yes"].to_numpy(), expected.probability_yes)


def test_one_row_in_every_form(run, table):
    predictor = deepseek.load(run)
    row = table.iloc[3]
    expected = predictor.predict(table).probability_yes.iloc[3]
    series = predictor.predict(row)
    assert series.index.tolist() == [503]
    assert series.probability_yes.iloc[0] == pytest.approx(expected, abs=1e-6)
    assert predictor.predict(row.to_dict())["probability_yes"][0].as_py() == pytest.approx(expected, abs=1e-6)


def test_what_is_no_row_is_said_plainly(run, table):
    predictor = deepseek.load(run)
    with pytest.raises(InputError, match="the Series 'plan' is neither a row nor the model's only column"):
        predictor.predict(table.plan)
    with pytest.raises(ColumnError, match=r"have no names; the model needs 'age', 'plan'"):
        predictor.predict(np.zeros((2, 2)))
    with pytest.raises(InputError, match="given as an array of one dimension"):
        predictor.predict(np.zeros(2))


def test_a_model_of_a_matrix_takes_matrices(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3))
    run = deepseek.train((x, x[:, 0] > 0), target="y", out=tmp_path, overrides=FEW, progress=False)
    predictor = deepseek.load(run)
    expected = np.asarray(predictor.predict(x)["probability_true"])
    for same in (x.tolist(), pd.DataFrame(x), pd.DataFrame(x, columns=["x0", "x1", "x2"])):
        answers = predictor.predict(same)
        assert np.array_equal(np.asarray(answers["probability_true"]), expected)


def test_a_datasets_own_split_is_kept_and_is_no_input(tmp_path, table):
    rows = Dataset.from_pandas(table, preserve_index=False)
    splits = DatasetDict(train=rows.select(range(50)), test=rows.select(range(50, 80)))
    run = deepseek.train(splits, target="churned", out=tmp_path, overrides=FEW, progress=False)
    predictor = deepseek.load(run)
    assert predictor.columns == ("age", "plan")
    measured = predictor.evaluate(splits["test"])
    assert measured["rows"] == 30
    assert measured["metrics"]["log_loss"] == pytest.approx(run.metrics["test"]["log_loss"], rel=1e-6)
    folds = deepseek.train(splits, target="churned", out=tmp_path, overrides=[*FEW, "data.split.folds=4"], progress=False)
    assert folds.metrics["test"] != run.metrics["test"]


def test_a_series_of_the_only_column(tmp_path, table):
    run = deepseek.train(table[["age", "churned"]], target="churned", out=tmp_path, overrides=FEW, progress=False)
    predictor = deepseek.load(run)
    for rows in (80, 2, 1):
        answers = predictor.predict(table.age.rename("anything").head(rows))
        assert answers.index.tolist() == table.index[:rows].tolist()
    assert predictor.predict(table.iloc[7]).index.tolist() == [507]


def test_the_predictor_measures_and_names_its_classes(run, table):
    predictor = deepseek.load(run)
    assert predictor.classes == ("no", "yes")
    assert "binary 'churned' from 2 columns" in repr(predictor)
    assert predictor.evaluate(table) == deepseek.evaluate(run, table)
    assert np.array_equal(predictor.predict_proba(table)[:, 1], predictor.predict(table).probability_yes)


def test_a_result_is_a_run_wherever_one_is_asked_for(run, table, tmp_path):
    assert np.array_equal(run.predict(table).probability_yes, deepseek.load(run.run).predict(table).probability_yes)
    assert deepseek.predict(run, table, tmp_path / "a.csv")["rows"] == len(table)
    assert repr(run).startswith(f"run {run.run}")
    assert "test: " in repr(run)
    assert "<th>accuracy</th>" in run._repr_html_()


def test_files_are_answered_by_name(photos, tmp_path):
    flat, run = photos
    output = tmp_path / "answers.csv"
    told = deepseek.predict(run, flat, output)
    answers = pd.read_csv(output)
    assert answers.file.tolist() == ["0.png", "1.png", "2.png"]
    assert told["warnings"] == ["1 files were passed over, which are no image: list.md"]
    predictor = deepseek.load(run)
    one = predictor.predict(flat / "1.png")
    assert one["file"].to_pylist() == [str(flat / "1.png")]
    assert one["probability_dog"][0].as_py() == pytest.approx(answers.probability_dog[1], abs=1e-6)
    assert predictor.predict(str(flat / "*.png")).num_rows == 3
    assert predictor.predict([flat / "2.png", flat / "0.png"])["file"].to_pylist() == [str(flat / "2.png"), str(flat / "0.png")]
    images = [Image.open(flat / f"{index}.png") for index in range(3)]
    assert np.allclose(np.asarray(predictor.predict({"image": images})["probability_dog"]), answers.probability_dog, atol=1e-6)
    with pytest.raises(DataError):
        predictor.predict(flat / "absent.png")


def test_a_model_of_a_frame_with_numbered_columns_takes_such_frames(tmp_path):
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(60, 3)))
    table["y"] = np.where(table[0] > 0, "yes", "no")
    predictor = deepseek.load(deepseek.train(table, target="y", out=tmp_path, overrides=FEW, progress=False))
    expected = predictor.predict(table).probability_yes
    assert predictor.predict(table[[2, 0, 1]]).probability_yes.equals(expected)
    assert predictor.predict(table.iloc[3]).probability_yes.iloc[0] == pytest.approx(expected[3], abs=1e-6)
    with pytest.raises(ColumnError, match="have no names; the model needs '0', '1', '2'"):
        predictor.predict(table[[0, 1]])


def test_only_the_columns_that_are_needed_are_read(run, table, monkeypatch):
    """A file may hold pictures beside the columns that the model was trained on."""
    asked = []
    read = MemorySource.read

    def recorded(self, *, columns=None, **given):
        asked.append(columns)
        return read(self, columns=columns, **given)

    predictor = deepseek.load(run)
    expected = predictor.evaluate(table)
    monkeypatch.setattr(MemorySource, "read", recorded)
    wide = table.assign(photo=[b"no photo"] * len(table))[["photo", "churned", "plan", "age"]]
    assert predictor.evaluate(wide) == expected
    predictor.predict(wide)
    assert [set(columns) for columns in asked] == [{"age", "plan", "churned"}, {"age", "plan"}]
