"""A profile counts exactly, finds what was planted in a table, and nothing in one where nothing was."""

import datetime as dt
import decimal
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import deepseek
from deepseek.errors import DataError, UnknownNameError


def column(found, name):
    return next(part for part in found["columns"] if part["name"] == name)


def whats(found, grade=None):
    return " | ".join(finding["what"] for finding in found["findings"] if grade in (None, finding["grade"]))


def plain(rows=1200, seed=0):
    random = np.random.default_rng(seed)
    return {
        "age": random.normal(40, 12, rows),
        "visits": random.poisson(3, rows),
        "plan": random.choice(["free", "basic", "pro"], rows, p=[0.6, 0.3, 0.1]),
    }


def test_numbers_are_counted_exactly():
    values = np.append(np.random.default_rng(0).lognormal(0, 1, 3000), [0.0, 0.0, -5.0, 400.0])
    found = column(deepseek.profile({"x": pa.array([*values, None, None])}), "x")
    assert (found["min"], found["max"], found["missing"], found["zeros"], found["negative"]) == (-5, 400, 2, 2, 1)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(values.std())
    assert found["skew"] == pytest.approx((((values - values.mean()) / values.std()) ** 3).mean())
    assert found["beyond_3_sigma"] == (abs(values - values.mean()) > 3 * values.std()).sum()
    low, high = np.quantile(values, [0.25, 0.75])
    fences = low - 1.5 * (high - low), high + 1.5 * (high - low)
    assert found["beyond_fences"] == ((values < fences[0]) | (values > fences[1])).sum()
    assert found["quantiles"]["0.5"] == pytest.approx(np.median(values))
    assert sum(found["histogram"]["counts"]) == len(values)


def test_names_texts_times_and_repeats_are_measured():
    rows = 200
    table = {
        "city": ["Rome"] * 150 + ["Oslo"] * 50,
        "note": [f"a note of some words, number {number}" for number in range(rows - 1)] + ["да или нет, вот в чём вопрос тут"],
        "day": [f"2024-01-{1 + number % 9:02d}" for number in range(rows - 1)] + ["2024-02-01"],
        "key": [f"k{number:05d}" for number in range(rows)],
    }
    found = deepseek.profile(pa.table(table))
    assert column(found, "city")["most_common"][0] == {"value": "Rome", "rows": 150, "share": 0.75}
    note = column(found, "note")
    assert note["kind"] == "text"
    assert note["characters"]["max"] == max(map(len, table["note"]))
    assert list(note["scripts"]) == ["Latin", "Cyrillic"]
    day = column(found, "day")
    assert (day["first"], day["last"], day["days"]) == ("2024-01-01T00:00:00", "2024-02-01T00:00:00", 10)
    assert day["longest_gap"] == ["2024-01-10", "2024-01-31"]
    assert column(found, "key")["id_like"]
    assert found["repeated_rows"] == 0
    doubled = pa.concat_tables([pa.table(table), pa.table(table).slice(0, 30)])
    assert deepseek.profile(doubled)["repeated_rows"] == 30


def test_nothing_stands_out_in_a_plain_table():
    assert deepseek.profile(plain())["findings"] == []


def test_what_is_wrong_with_columns_is_found():
    rows = 1200
    table = plain() | {
        "empty": pa.nulls(rows, pa.float64()),
        "same": ["x"] * rows,
        "holes": [None if number % 10 < 7 else number / 7 for number in range(rows)],
        "rare": ["a"] * (rows - 3) + ["b"] * 3,
    }
    table["years"] = table["age"] * 2 + 1
    said = whats(deepseek.profile(pa.table(table)))
    for words in ("it is empty", "every row has the same value", "70% of its values", "are 'a'", "'age' and 'years' say nearly the same"):
        assert words in said, words


@pytest.mark.parametrize("kind", ["binary", "values"])
def test_relations_with_the_target_and_leaks_are_found(kind):
    random = np.random.default_rng(1)
    table = plain()
    goal = table["age"] + random.normal(0, 6, len(table["age"]))
    table["churned"] = np.where(goal > 40, "yes", "no") if kind == "binary" else goal
    assert deepseek.profile(table, target="churned")["target"]["leaks"] == []
    table["copy"] = np.where(table["churned"] == "yes", 7, 3) if kind == "binary" else goal * 2
    found = deepseek.profile(table, target="churned")
    assert found["target"]["kind"] == kind
    assert [leak["column"] for leak in found["target"]["leaks"]] == ["copy"]
    strength = {entry["column"]: abs(entry["value"]) for entry in found["target"]["associations"]}
    assert strength["age"] > 0.5
    assert strength["visits"] < 0.15
    assert "'copy' may give the target away" in whats(found, "high")


def test_values_that_are_missing_by_class_are_found_and_a_missing_that_says_the_class_is_a_leak():
    random = np.random.default_rng(0)
    table = plain()
    left = random.random(1200) < 0.3
    table["left"] = np.where(left, "yes", "no")
    table["often"] = pa.array([None if gone and one < 0.5 else 1.5 * one for gone, one in zip(left, random.random(1200), strict=True)])
    table["chance"] = pa.array([None if one < 0.2 else one for one in random.random(1200)])
    table["ended"] = pa.array([None if not gone else float(one) for gone, one in zip(left, random.integers(0, 99, 1200), strict=True)])
    found = deepseek.profile(table, target="left")
    surely = {entry["column"]: entry["adjusted_p"] < 0.01 for entry in found["target"]["missing_by_target"]}
    assert surely == {"ended": True, "often": True, "chance": False}
    assert [leak["column"] for leak in found["target"]["leaks"]] == ["ended"]
    assert next(entry for entry in found["target"]["missing_by_target"] if entry["column"] == "often")["by_class"]["no"] == 0


def test_planted_drift_is_found_the_worst_first():
    before, after = plain(seed=1), plain(seed=2)
    before["gone"] = after["fresh"] = np.arange(1200) % 7
    before["typed"], after["typed"] = np.linspace(0, 1, 1200), ["a word", "two words"] * 600
    after["age"] = after["age"] + 15
    after["plan"] = np.where(np.arange(1200) < 12, "enterprise", after["plan"])
    found = deepseek.profile(before, against=after)["drift"]
    verdicts = {entry["column"]: entry["verdict"] for entry in found["columns"]}
    wanted = {"gone": "column missing", "typed": "type changed", "age": "large drift", "plan": "new values"}
    assert verdicts == {**wanted, "fresh": "new column", "visits": "none"}
    assert list(verdicts) == ["gone", "typed", "age", "plan", "fresh", "visits"]
    assert next(entry for entry in found["columns"] if entry["column"] == "plan")["new_values"] == [{"value": "enterprise", "rows": 12}]


def test_more_missing_values_are_a_drift():
    before, after = plain(seed=1), plain(seed=2)
    after["age"] = pa.array([None if number % 5 == 0 else value for number, value in enumerate(after["age"])])
    found = deepseek.profile(before, against=after)["drift"]
    assert (found["columns"][0]["column"], found["columns"][0]["verdict"]) == ("age", "missing values")


def test_images_are_opened_and_bad_ones_named(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (20 + number, 10), (40 * number, 0, 0)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    found = deepseek.profile(tmp_path, target="label", output=tmp_path / "page.html")
    images = column(found, "image")
    assert images["unreadable"] == 1
    assert {item["value"] for item in images["sizes"]} == {f"{20 + number}×10" for number in range(4)}
    assert "cannot be read as image" in whats(found, "high")
    assert (tmp_path / "page.html").read_text().count("data:image/png") == 1


def test_the_page_says_what_was_found_and_escapes_it(tmp_path):
    table = plain() | {"<b>x": np.arange(1200.0), "same": ["<script>alert(1)</script>"] * 1200}
    table["churned"] = np.where(table["age"] > 40, "yes", "no")
    found = deepseek.profile(table, target="churned", against=plain(seed=3), output=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "<b>x" not in page
    for words in ("What to look at", "Drift", "Target", "Column by column", "What goes together", "column missing"):
        assert words in page
    json.dumps(found, allow_nan=False)


def test_wrong_names_and_empty_tables_are_refused():
    with pytest.raises(UnknownNameError, match="age"):
        deepseek.profile(plain(20), target="agee")
    with pytest.raises(DataError, match="no rows"):
        deepseek.profile(pa.table({"x": pa.array([], pa.int64())}))


def test_columns_of_every_type_are_profiled(tmp_path):
    rows = range(60)
    start = dt.datetime(2024, 1, 1)
    table = {
        "decimal": [decimal.Decimal(row) for row in rows],
        "duration": [dt.timedelta(seconds=row) for row in rows],
        "zoned": pa.array([start + dt.timedelta(hours=row) for row in rows], pa.timestamp("ns", "Europe/Rome")),
        "codes": pa.array([("a", "b", "c")[row % 3] for row in rows]).dictionary_encode(),
        "list": [[1.0] * (row % 4) for row in rows],
        "infinite": [float("inf") if row == 3 else float(row) for row in rows],
        "huge": [1e300 * (-1) ** row * (row + 1) for row in rows],
        "long": [2**62 + row for row in rows],
        "bytes": [b"no image"] * 60,
        "numbers as text": [f" {row % 31}.5" for row in rows],
        "goal": [3 * row + 1 for row in rows],
    }
    whole = pa.table(table)
    found = deepseek.profile(whole, target="goal", against=whole.slice(20), output=tmp_path / "page.html")
    json.dumps(found, allow_nan=False)
    assert column(found, "duration")["max"] == 59
    assert column(found, "zoned")["last"] == "2024-01-03T11:00:00"
    assert column(found, "list")["lengths"]["max"] == 3
    assert column(found, "infinite")["max"] == 59
    assert column(found, "bytes")["unreadable"] == 60
    assert column(found, "numbers as text")["kind"] == "number"
    assert [leak["column"] for leak in found["target"]["leaks"]] == ["decimal", "infinite"]


def test_a_rare_class_is_found_and_even_ones_are_not():
    even = {"x": np.arange(1000.0) % 17, "y": np.arange(1000) % 10}
    assert "only" not in whats(deepseek.profile(even, target="y"))
    rare = {"x": np.arange(1000.0) % 17, "y": ["yes" if number % 20 == 0 else "no" for number in range(1000)]}
    assert "only 50 rows (5.0%) are 'yes'" in whats(deepseek.profile(rare, target="y"), "medium")


def test_a_part_of_the_target_is_worth_a_question():
    random = np.random.default_rng(9)
    table = plain()
    table["spend"] = 10 * table["age"] + random.normal(0, 25, 1200)
    assert "'age' goes very closely together with the target" in whats(deepseek.profile(table, target="spend"), "medium")
