"""The source of choices and negatives: rows, types, what is held out, and what cannot be used."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
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


def test_rows_that_are_no_choices_make_no_item_popular(tmp_path):
    """Half of the log are bad ratings of one item by one user: it is not drawn for that where choices say what is."""
    draw = np.random.default_rng(0)
    log = {
        "user": [*np.repeat(np.arange(100), 3), *np.full(310, 100)],
        "item": [*draw.permuted(np.tile(np.arange(10), (100, 1)), axis=1)[:, :3].ravel(), *np.full(300, 10), *range(10)],
        "stars": [*np.full(300, 5), *np.full(300, 1), *np.full(10, 5)],
    }
    pa.parquet.write_table(pa.table(log), tmp_path / "log.parquet")
    for how in ("popularity", "batch", "hard"):
        given = {"type": "interactions", "source": "log.parquet", "user": "user", "item": "item", "positive": "stars >= 4"}
        table = rows_of(open_source({**given, "how": how, "ratio": 2, "power": 1.0, "hard_share": 1.0}, folder=tmp_path))
        drawn = np.asarray(table["item"])[np.asarray(table["label"]) == 0]
        assert len(drawn) == 600  # who rated all badly has had everything
        assert (drawn == 10).sum() <= (3 if how == "hard" else 0), how  # where a walk finds nothing new, any item may be drawn
