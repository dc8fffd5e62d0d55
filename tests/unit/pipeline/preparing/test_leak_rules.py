"""What becomes of near-twins across a split: told, refused, or left out of training, as the recipe says."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

from deepseek.artifacts import CACHE, StageCache
from deepseek.errors import DataError
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

ROWS = 600


@pytest.fixture
def table(tmp_path):
    """Forty test rows are training rows with other digits far behind the point; ten are the same to the last bit."""
    random = np.random.default_rng(0)
    x = random.standard_normal((ROWS, 3))
    part = np.array(["train"] * 400 + ["validation"] * 50 + ["test"] * 150)
    x[450:490] = x[:40] * (1 + 1e-7)
    x[490:500] = x[100:110]
    y = random.choice(["a", "b"], ROWS)
    columns = {"x": x[:, 0], "y": x[:, 1], "z": x[:, 2], "part": part, "label": y}
    pa.csv.write_csv(pa.table(columns), tmp_path / "points.csv")
    return tmp_path


def dataset(folder, **split):
    data = {"source": str(folder / "points.csv"), "target": "label", "split": {"column": "part", **split}}
    return make_dataset(load_recipe({"name": "points", "data": data}), StageCache(folder / "runs" / CACHE))


def rows_of(found, part):
    return set(np.asarray(found.open(part).source_rows).tolist())


def test_twins_are_told_with_examples(table):
    found = dataset(table)
    (warning,) = [one for one in found.warnings if "nearly" in one]
    assert "by the row, rounded, 50 of 150 test rows (33.3%)" in warning
    (twins,) = [one for one in found.document["twins"] if one["part"] == "test"]
    assert (twins["twins"], twins["looked_at"]) == (50, 150)
    assert all(one["row"] - 450 == one["training_row"] or one["row"] - 390 == one["training_row"] for one in twins["examples"])
    assert len(rows_of(found, "train")) == 400


def test_twins_can_be_refused(table):
    with pytest.raises(DataError, match=r"50 of 150 test rows"):
        dataset(table, on_leak="fail")


def test_twins_can_be_left_out_of_training_alone(table):
    found, plain = dataset(table, on_leak="drop"), dataset(table)
    assert rows_of(plain, "train") - rows_of(found, "train") == {*range(40), *range(100, 110)}
    assert rows_of(plain, "test") == rows_of(found, "test")
    assert rows_of(plain, "validation") == rows_of(found, "validation")
    assert any("50 training rows were left out" in one for one in found.warnings)
    assert found.document["rows"]["leaks"]["test_in_train"] == 0
    assert not any("are nearly a training row" in one for one in found.warnings)
    assert found.document["rows"]["split"]["left_out"] == 50


def test_statistics_do_not_know_of_rows_that_were_left_out(table):
    means = [dataset(table, on_leak=rule).preparation().target.spec.counts for rule in ("warn", "drop")]
    assert sum(means[0]) - sum(means[1]) == 50


def test_it_can_be_switched_off(table):
    found = dataset(table, on_leak="ignore")
    assert not found.document["twins"]
    assert not any("nearly" in one for one in found.warnings)
    assert found.document["rows"]["leaks"]["test_in_train"] == 10  # exact repeats are always counted


def test_without_twins_nothing_is_said(tmp_path):
    random = np.random.default_rng(1)
    x = random.standard_normal((300, 2))
    pa.csv.write_csv(pa.table({"x": x[:, 0], "y": x[:, 1], "label": random.choice(["a", "b"], 300)}), tmp_path / "points.csv")
    data = {"source": str(tmp_path / "points.csv"), "target": "label", "split": {"on_leak": "fail"}}
    found = make_dataset(load_recipe({"name": "points", "data": data}), StageCache(tmp_path / "runs" / CACHE))
    assert not any("nearly" in one for one in found.warnings)


def test_test_rows_of_their_own_are_compared(tmp_path):
    random = np.random.default_rng(2)
    x = random.standard_normal((400, 3))
    for name, values in (("points", x), ("later", np.concatenate([x[:30] * (1 + 1e-8), random.standard_normal((70, 3))]))):
        label = random.choice(["a", "b"], len(values))
        table = pa.table({"x": values[:, 0], "y": values[:, 1], "z": values[:, 2], "label": label})
        pa.csv.write_csv(table, tmp_path / f"{name}.csv")
    data = {"source": str(tmp_path / "points.csv"), "test": str(tmp_path / "later.csv"), "target": "label"}
    recipe = {"name": "points", "data": {**data, "split": {"train": 1, "validation": 0, "test": 0, "on_leak": "drop"}}}
    found = make_dataset(load_recipe(recipe), StageCache(tmp_path / "runs" / CACHE))
    assert 400 - len(rows_of(found, "train")) == 30


def test_categories_alone_are_compared_exactly_and_can_be_dropped(tmp_path):
    random = np.random.default_rng(3)
    names = [f"street {random.integers(40)} house {random.integers(50)} floor {random.integers(9)}" for _ in range(400)]
    part = ["train"] * 300 + ["validation"] * 20 + ["test"] * 80
    names[320:330] = names[:10]
    table = pa.table({"a": names, "b": names[::-1], "part": part, "label": random.choice(["u", "v"], 400)})
    table = table.set_column(1, "b", pa.array([name[::-1] for name in names]))
    pa.csv.write_csv(table, tmp_path / "points.csv")
    kinds = {"a": "category", "b": "category"}
    data = {"source": str(tmp_path / "points.csv"), "target": "label", "fields": kinds, "split": {"column": "part", "on_leak": "drop"}}
    found = make_dataset(load_recipe({"name": "points", "data": data}), StageCache(tmp_path / "runs" / CACHE))
    assert set(range(10)) <= set(range(300)) - rows_of(found, "train")
    assert found.document["rows"]["leaks"]["test_in_train"] == 0


def test_pictures_saved_again_are_found(tmp_path):
    random = np.random.default_rng(4)
    for part, count in (("train", 40), ("validation", 10), ("test", 20)):
        for number in range(count):
            seed = number if part == "test" and number < 8 else 1_000 * ["train", "validation", "test"].index(part) + number
            coarse = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
            pixels = np.kron(coarse, np.ones((4, 4), dtype=np.uint8))
            name = "cat" if number % 2 else "dog"
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True, exist_ok=True)
            noise = random.integers(0, 4, (24, 24)) if part == "test" else 0
            Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    data = {"source": str(tmp_path / "photos"), "target": "label"}
    found = make_dataset(load_recipe({"name": "photos", "data": data}), StageCache(tmp_path / "runs" / CACHE))
    (twins,) = [one for one in found.document["twins"] if one["part"] == "test"]
    assert (twins["what"], twins["twins"]) == ("the picture image", 8)
