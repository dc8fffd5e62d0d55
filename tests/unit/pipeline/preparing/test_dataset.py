"""Kept stages are taken up only where nothing that they depend on changed, and what is done with rows is said."""

import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from deepseek.artifacts import StageCache
from deepseek.data.prepared import PreparedDataset
from deepseek.errors import DataError
from deepseek.pipeline.preparing import dataset as road
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

PLUGIN = '''
from deepseek.data.cleaning.base import Cleaner
from deepseek.registry import family
import pyarrow.compute as pc

@family("cleaner").register("scale_x_in_test")
class ScaleX(Cleaner):
    """Scales x."""

    def __init__(self) -> None:
        """Do nothing."""

    def apply(self, batch):
        return batch.set_column(batch.schema.get_field_index("x"), "x", pc.multiply(batch.column("x"), {factor}))

    def to_json(self):
        return {{}}

    def load_json(self, state):
        return self
'''


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    return pd.DataFrame({"x": x, "z": rng.normal(size=200), "y": (x > 0).astype(int)})


def make(folder, source, *, plugins=(), **data):
    if isinstance(source, pd.DataFrame):
        source.to_csv(folder / "a.csv", index=False)
        source = "a.csv"
    recipe = load_recipe({"plugins": list(plugins), "data": {"source": source, "target": "y", **data}}, folder=folder)
    return make_dataset(recipe, StageCache(folder / "cache"))


def warned(dataset, words):
    return [warning for warning in dataset.warnings if words in warning]


def test_a_file_that_changes_while_it_is_read_is_not_kept_as_what_it_was(tmp_path, table, monkeypatch):
    land = road.land

    def meanwhile(source, *given, **named):
        pd.concat([table, table]).to_csv(tmp_path / "a.csv", index=False)
        return land(source, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(road, "land", meanwhile)
        with pytest.raises(DataError, match="the files of the source changed while they were read"):
            make(tmp_path, table)
    assert make(tmp_path, table).document["rows"]["train"]["rows"] == 140


def test_an_edited_plugin_is_run_again(tmp_path, table):
    largest = []
    for factor in (1.0, 1000.0):
        (tmp_path / "p.py").write_text(PLUGIN.format(factor=factor))
        dataset = make(tmp_path, table, plugins=["p.py"], clean=["scale_x_in_test"])
        largest.append(float(PreparedDataset.open(dataset.folder / "train").take(np.arange(100)).inputs["numbers"].abs().max()))
    assert largest[1] > 100 * largest[0]


def test_other_keys_give_other_rows(tmp_path, table):
    table["k"] = np.arange(200) % 4
    kept = []
    for keys in ([0, 1, 2, 3], [0, 1, 2]):
        pd.DataFrame({"k": keys}).to_csv(tmp_path / "k.csv", index=False)
        dataset = make(tmp_path, table, checks=[{"type": "foreign_key", "column": "k", "table": "k.csv"}])
        kept.append(sum(dataset.document["rows"]["split"].values()))
    assert kept == [200, 150]


@pytest.mark.parametrize(("now", "same"), [({}, False), ({"now": "2024-02-01"}, True)])
def test_what_depends_on_the_time_of_day_is_not_kept(tmp_path, table, now, same):
    table["at"] = "2024-01-31"
    check = {"type": "freshness", "column": "at", "max_age": "100000d", **now}
    folders = {make(tmp_path, table, checks=[check]).folder for _ in range(2)}
    assert (len(folders) == 1) is same


def test_pictures_that_a_table_names_are_read_again_when_they_change(tmp_path):
    names = [str(tmp_path / f"{i}.png") for i in range(40)]
    means = []
    for level in (10, 200):
        for name in names:
            Image.fromarray(np.full((4, 4), level, dtype=np.uint8)).save(name)
        dataset = make(tmp_path, pd.DataFrame({"image": names, "y": np.arange(40) % 2}))
        means.append(float(PreparedDataset.open(dataset.folder / "train").take(np.arange(5)).inputs["image"].float().mean()))
    assert means == [10, 200]
    for name in names:
        os.utime(name, ns=(1, 1))
    assert make(tmp_path, pd.DataFrame({"image": names, "y": np.arange(40) % 2})).folder != dataset.folder


def test_a_test_file_of_training_rows_is_told(tmp_path, table):
    table.to_csv(tmp_path / "t.csv", index=False)
    dataset = make(tmp_path, table, test="t.csv")
    leaks = dataset.document["rows"]["leaks"]
    assert (leaks["test_in_train"], leaks["test_in_validation"]) == (170, 30)
    assert len(warned(dataset, "exactly the inputs")) == 1


def test_rows_that_differ_in_weight_alone_are_repeats(tmp_path, table):
    table = pd.concat([table, table], ignore_index=True)
    table["w"] = np.arange(len(table)) + 1.0
    assert make(tmp_path, table, weight="w").document["rows"]["leaks"]["test_in_train"] > 0


def test_the_split_that_a_source_gives_is_no_input(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "im" / split / label).mkdir(parents=True)
            for i in range(12):
                Image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8)).save(tmp_path / "im" / split / label / f"{i}.png")
    dataset = make(tmp_path, "im", target="label", split={"folds": 4, "fold": 1})
    assert dataset.preparation().columns == ("image",)


def test_rows_that_are_not_used_are_told(tmp_path, table):
    table["s"] = np.resize(["train", "val", "test", ""], 200)
    table.drop(columns="s").iloc[:50].to_csv(tmp_path / "t.csv", index=False)
    by_column = make(tmp_path, table, split={"column": "s"})
    assert warned(by_column, "50 of 200 rows are not used")
    assert not warned(by_column, "are test rows of the source")
    assert warned(make(tmp_path, table, test="t.csv", split={"column": "s"}), "50 of 200 rows are test rows of the source and are not used")
    folds = make(tmp_path, table.drop(columns="s"), test="t.csv", split={"folds": 4})
    assert warned(folds, "50 of 200 rows are test rows of the source and are not used")


def test_a_test_file_is_read_with_the_types_of_training(tmp_path, table):
    table["code"] = np.resize(["1.50", "2.50", "abc"], 200)
    table[table["code"] != "abc"].to_csv(tmp_path / "t.csv", index=False)
    dataset = make(tmp_path, table, test="t.csv")
    assert (PreparedDataset.open(dataset.folder / "test").take(np.arange(50)).inputs["categories"] > 0).all()
    assert not warned(dataset, "never seen in training")
    assert dataset.preparation().types["code"] == pa.string()


def test_unknown_categories_of_test_rows_are_told(tmp_path, table):
    table["code"] = np.resize(["a", "b", "c"], 200)
    table.assign(code="d").to_csv(tmp_path / "t.csv", index=False)
    assert warned(make(tmp_path, table, test="t.csv"), "100% of the values of 'code' in the test rows were never seen in training")


def test_nan_in_a_target_of_two_values_leaves_them_classes(tmp_path, table):
    given = pa.table({"x": table["x"].to_numpy(), "y": np.where(np.arange(200) % 40, table["y"], np.nan)})
    pa.parquet.write_table(given, tmp_path / "a.parquet")
    dataset = make(tmp_path, "a.parquet")
    assert dataset.task["type"] == "binary"
    assert warned(dataset, "target missing")


def test_numbers_written_as_text_are_cleaned_as_numbers(tmp_path, table):
    given = pa.table({"p": [str(value) if row else None for row, value in enumerate(table["x"])], "z": table["z"], "y": table["y"]})
    pa.parquet.write_table(given, tmp_path / "a.parquet")
    dataset = make(tmp_path, "a.parquet", clean=["missing", "outliers"])
    assert dataset.preparation().inputs["numbers"].columns == ("p", "z")
