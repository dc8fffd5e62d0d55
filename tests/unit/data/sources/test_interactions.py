"""The source of choices and negatives: rows, types, what is held out, and what cannot be used."""

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.sources import open_source
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.progress import collected_warnings
from deepseek.recipe import load_recipe

LOG = {
    "who": ["a", "b", "a", "c", "b", "a", None, "c"],
    "what": [7, 8, 9, 7, 9, 8, 7, 10],
    "when": ["2025-01-03", "2025-01-01", "2025-01-02", "2025-01-04", "2025-01-05", "2025-01-06", "2025-01-06", "2025-01-07"],
    "stars": [5, 4, 5, 1, 5, 5, 5, 4],
    "place": list("hwhhwwhh"),
}


@pytest.fixture
def made(tmp_path):
    pa.parquet.write_table(pa.table(LOG), tmp_path / "log.parquet")

    def make(**more):
        given = {"type": "interactions", "source": "log.parquet", "user": "who", "item": "what", "ratio": 2, **more}
        return open_source(given, folder=tmp_path)

    return make


def rows_of(source, **request):
    return pa.Table.from_batches(list(source.read(**request)), source.schema())


def test_choices_come_in_the_order_of_time_each_before_its_negatives(made):
    with collected_warnings() as warned:
        table = rows_of(made(time="when", carry=["place"]))
    choices = table.filter(pa.compute.equal(table["label"], 1))
    assert choices["when"].to_pylist() == sorted(when for who, when in zip(LOG["who"], LOG["when"], strict=True) if who)
    assert table["what"].type == pa.int64()
    assert table["label"].to_pylist()[:4] == [1, 1, 0, 1]  # at the first there is no other item, at the second one
    assert table["place"].to_pylist()[1] == table["place"].to_pylist()[2]
    assert "fewer negatives" in warned[0]


def test_rows_without_a_user_are_told_and_ratings_say_what_a_choice_is(made):
    source = made(positive="stars >= 4")
    table = rows_of(source)
    (aside,) = source.rejects()
    assert aside["line"].to_pylist() == [7]
    assert "who is missing" in aside["reason"].to_pylist()
    choices = table.filter(pa.compute.equal(table["label"], 1))
    assert ("c", 7) not in set(zip(choices["who"].to_pylist(), choices["what"].to_pylist(), strict=True))
    drawn = table.filter(pa.compute.equal(table["label"], 0))
    assert ("c", 7) not in set(zip(drawn["who"].to_pylist(), drawn["what"].to_pylist(), strict=True))  # disliked, but had


def test_the_last_choices_are_held_out(made):
    source = made(time="when", holdout="last", holdout_ratio=3)
    table = rows_of(source)
    assert source.given_split() == "split"
    choices = table.filter(pa.compute.equal(table["label"], 1)).to_pylist()
    parts = {(row["who"], str(row["when"])): row["split"] for row in choices}
    assert parts[("a", "2025-01-06")] == "test"
    assert parts[("a", "2025-01-03")] == "validation"
    assert parts[("a", "2025-01-02")] == "train"
    assert {part for (who, _), part in parts.items() if who != "a"} == {"train"}  # fewer than three


def test_weights_stand_beside_uniform_negatives(made):
    table = rows_of(made(weighted=True, ratio=1))
    weights = np.array(table["stands_for"].to_pylist())
    label = np.array(table["label"].to_pylist())
    assert (weights[label == 1] == 1).all()
    assert weights[label == 0].max() == 2  # four items, of which b and c have had two
    with pytest.raises(InputError, match="uniform"):
        made(weighted=True, how="popularity")


def test_its_fingerprint_follows_log_and_settings(made, tmp_path):
    first = made().fingerprint()
    assert made().fingerprint() == first
    assert made(seed=1).fingerprint() != first
    assert made(how="batch").fingerprint() != first
    pa.parquet.write_table(pa.table(LOG).slice(1), tmp_path / "log.parquet")
    assert made().fingerprint() != first
    assert made().files() == [tmp_path / "log.parquet"]


def test_what_cannot_be_used_is_refused(made, tmp_path):
    with pytest.raises(ColumnError, match="whoo"):
        made(user="whoo").schema()
    with pytest.raises(InputError, match="name each once"):
        made(carry=["who"])
    with pytest.raises(DataError, match="points in time"):
        rows_of(made(time="place"))
    pa.parquet.write_table(pa.table(LOG).filter(pa.array([False] * 8)), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="no row"):
        rows_of(made())


def test_a_nested_password_is_saved_nowhere(monkeypatch):
    monkeypatch.delenv("DEEPSEEK_PASSWORD", raising=False)
    log = {"type": "sql", "url": "postgresql://me:hush@localhost/shop", "table": "clicks"}
    source = {"type": "interactions", "source": log, "user": "who", "item": "what"}
    with collected_warnings():
        written = load_recipe({"data": {"source": source, "target": "label"}}).to_yaml()
    assert "hush" not in written
    monkeypatch.delenv("DEEPSEEK_PASSWORD", raising=False)
