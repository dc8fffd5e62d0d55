"""The hostile user of the main job: every mistake is a correct run with counts and warnings, or an error that says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

import deepseek
from deepseek.artifacts import RunFolder
from deepseek.cli import main
from deepseek.inference.predictor import BATCH_ROWS

FAST = ["--set", "train.epochs=1", "--set", "model={type: mlp, depth: 1, width: 8}", "--set", "train.precision=fp32"]
ROWS = 120


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Run a verb with `--json`; its status and the one object on stdout."""

    def call(*arguments: object) -> tuple[int, dict]:
        status = main([*map(str, arguments), "--json"])
        return status, json.loads(capsys.readouterr().out)

    return call


def columns(seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    age, city = random.normal(40, 12, ROWS).round(3), random.choice(["Rome", "Oslo", "Lima"], ROWS)
    return {"age": age.tolist(), "city": city.tolist(), "y": np.where(age + 15 * (city == "Oslo") > 45, "yes", "no").tolist()}


def write(name: str, **more: object) -> str:
    table = {**columns(), **more}
    pa.csv.write_csv(pa.table({key: value for key, value in table.items() if value is not None}), name)
    return name


def trained(command, *arguments: object, fast: bool = True) -> dict:
    status, result = command("train", *arguments, *(FAST if fast else ()))
    assert status == 0, result
    return result


def refused(command, *arguments: object, status: int = 2) -> str:
    found, result = command(*arguments)
    assert found == status, result
    return f"{result['error']['message']} | {result['error']['hint']}"


def warning_about(result: dict, name: str) -> str:
    (found,) = [text for text in result["warnings"] if f"column {name!r}" in text]
    return found


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("word", [f"w{i % 100}" for i in range(ROWS)], "is taken for a category: 74 different names"),
        ("person", [f"Ann {chr(65 + i % 26)}. Smith{i}" for i in range(ROWS)], "it looks like an id (names of 3.0 words on average"),
        ("code", [f"c-{i}" for i in range(ROWS)], "it looks like an id (one word, different in every row)"),
        ("none", pa.nulls(ROWS, pa.string()), "is left out: empty"),
        ("same", ["x"] * ROWS, "is left out: constant"),
        ("huge", [1e300, *range(ROWS - 1)], "infinite or beyond the range of float32 and count as missing"),
        ("twin", ["A" if value == "yes" else "B" for value in columns()["y"]], "may give the target away"),
        ("finer", [f"{value}{i % 3}" for i, value in enumerate(columns()["y"])], "each of its values goes with one value of the target"),
        ("slashed", [f"{1 + i % 12:02}/{1 + i % 11:02}/2023" for i in range(ROWS)], "it is read as %d/%m/%Y"),
    ],
)
def test_a_doubtful_column_is_named(command, name, values, words):
    assert words in warning_about(trained(command, write("a.csv", **{name: values}), "-t", "y"), name)


@pytest.mark.parametrize("form", ["%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y", "%B %d, %Y", "%Y/%m/%d %H:%M"])
def test_the_kind_and_the_reading_of_dates_agree(command, form):
    dates = [(np.datetime64("2023-01-01") + i * 37 % 700).item().strftime(form) for i in range(ROWS)]
    run = Path(trained(command, write("a.csv", at=dates), "-t", "y")["run"])
    assert form in json.loads((run / "decisions.json").read_text())["chosen"]["data.fields.at"]["reason"]
    (forms,) = [
        part["state"]["forms"] for part in json.loads((run / "bundle/data.json").read_text())["transforms"] if "forms" in part["state"]
    ]
    assert forms == [form]


def test_a_run_whose_data_cannot_be_used_leaves_no_folder_and_takes_no_name(command):
    run = Path(trained(command, write("a.csv"), "-t", "y")["run"])
    write("a.csv", y=["yes"] * ROWS)
    status, result = command("train", "a.csv", "-t", "y")
    assert status != 0, result
    assert [*run.parent.iterdir()] == [run]
    assert RunFolder.open(Path("runs/a")).path == run


def test_rows_set_aside_are_kept_with_the_reason(command):
    y = columns()["y"]
    write("a.csv", y=[None] * 10 + y[10:])
    write("b.csv", y=["maybe", *y[1:]], extra=["x"] * ROWS)
    run = Path(trained(command, "a.csv", "-t", "y", "--test", "b.csv")["run"])
    kept = {file.stem: pq.read_table(file) for file in (run / "rejects/prepared").iterdir()}
    assert sum(kept[name].num_rows for name in ("train", "validation") if name in kept) == 10
    assert kept["test"].select(["check", "reason", "row", "y", "extra"]).to_pylist() == [
        {"check": "preparing test rows", "reason": "target class unseen in training", "row": 0, "y": "maybe", "extra": "x"}
    ]
    status, measured = command("evaluate", run, "b.csv")
    assert (status, measured["rows"], measured["set_aside"]) == (0, ROWS - 1, {"target class unseen in training": 1})


def test_a_value_that_cannot_be_read_is_named_with_its_row_of_all_that_were_given(command):
    run = Path(trained(command, write("a.csv"), "-t", "y")["run"])
    age = [str(i % 50) for i in range(5 * BATCH_ROWS)]
    age[-7] = "old"
    y = ["yes", "no"] * (len(age) // 2)
    write("b.csv", age=age, city=["x"] * len(age), y=y)
    words = f"'age' is a number, but row {len(age) - 7} (counted from 0) holds 'old'"
    assert words in refused(command, "predict", run, "b.csv", "-o", "answers.csv")
    assert words in refused(command, "evaluate", run, "b.csv")


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_a_value_among_training_rows_is_named_with_its_row_of_the_table(command, place):
    weight = ["1"] * ROWS
    weight[place] = "-1"
    write("a.csv", weight=weight)
    found = refused(command, "train", "a.csv", "-t", "y", "--set", "data.weight=weight", "--set", "train.epochs=1")
    assert f"row {place} (counted from 0): the weight 'weight' is -1.0" in found


def test_images_that_cannot_be_read_are_set_aside(command):
    for label in ("cat", "dog"):
        Path("images", label).mkdir(parents=True)
        for i in range(16):
            Image.fromarray(np.full((8, 8), 9 * i + 100 * (label == "dog"), dtype=np.uint8)).save(f"images/{label}/{i}.png")
    for i in range(4):
        Path(f"images/cat/bad{i}.png").write_bytes(b"no image")
    run = Path(
        trained(command, "images", "--set", "train.max_steps=1", "--set", "train.epochs=1", "--set", "train.precision=fp32", fast=False)[
            "run"
        ]
    )
    rows = [row for file in (run / "rejects/prepared").iterdir() for row in pq.read_table(file).to_pylist()]
    assert sorted(row["image"] for row in rows) == [f"cat/bad{i}.png" for i in range(4)]
    assert {row["reason"] for row in rows} == {"image cannot be read"}
    assert command("evaluate", run, "images")[1]["set_aside"] == {"input cannot be read": 4}
    assert "bad0.png" in refused(command, "predict", run, "images", "-o", "a.csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.csv", "-t", "z"], "unknown column 'z'; allowed: age, city, y"),
        (["a.csv", "-t", "y", "-t", "y"], "names a column twice"),
        (["a.csv", "-t", "y", "-t", "age"], "several targets are all numbers, or all 0 and 1, but 'y' holds string"),
        (["one.csv", "-t", "y"], "every row has the same target 'y': 'no'"),
        (["only.csv", "-t", "y"], "no column can be used as an input"),
        (["head.csv", "-t", "y"], "no rows"),
        (["empty.csv", "-t", "y"], "is empty"),
        (["double.csv", "-t", "y"], "more than one column named 'a'"),
        (["bar.csv", "-t", "y", "--set", "data.source={type: csv, path: bar.csv, delimiter: ';'}"], "is its delimiter another?"),
        (["a.csv", "-t", "y", "--test", "cityless.csv"], "the test rows lack 'city'; they have 'age', 'y'"),
        (["a.csv", "-t", "y", "--test", "old.csv"], "test rows: the column 'age' is a number, but row 0 (counted from 0) holds 'old'"),
        (["a.csv", "-t", "y", "--test", "maybe.csv"], "a row has the class 'maybe'; training knew 'no', 'yes'"),
        (["a.csv", "-t", "y", "--out", "a.csv"], "'a.csv', is a file"),
        (["a.csv", "-t", "y", "--set", "data.fields={y: number}"], "the column 'y' is a number, but"),
        (["a.csv", "-t", "y", "--set", "data.augment=[flip]"], "changes images, and no input is one"),
        (["a.csv", "-t", "y", "--set", "data.transforms={age: {type: image}}"], "which is no image"),
        (["a.csv", "-t", "y", "--set", "train.devices=1000"], "train.devices is 1000"),
        (["a.csv", "-t", "y", "--set", f"data.checks=[{{type: range, column: age, max: {10**30}}}]"], "64 bits"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(command, arguments, words):
    write("a.csv")
    write("one.csv", y=["no"] * ROWS)
    write("only.csv", age=None, city=None)
    write("cityless.csv", city=None)
    write("old.csv", age=["old"] * ROWS)
    write("maybe.csv", y=["maybe"] * ROWS)
    Path("bar.csv").write_text(Path("a.csv").read_text().replace(",", "|"))
    Path("head.csv").write_text("age,city,y\n")
    Path("empty.csv").touch()
    Path("double.csv").write_text("a,a,y\n1,2,yes\n3,4,no\n" * 9)
    assert words in refused(command, "train", *arguments, *(() if "--set" in arguments and "augment" in words else FAST))


def test_odd_names_go_through(command):
    target = 'tar.get "x", ü'
    odd = {"ünï cödé ✓": columns()["age"], "a.b=c": columns()["city"], "numbers": columns()["age"], target: columns()["y"], "y": None}
    run = trained(command, write("a.csv", **odd), "-t", target)["run"]
    assert command("predict", run, "a.csv", "-o", "b.csv")[1]["rows"] == ROWS


@pytest.mark.parametrize("rows", [1, 2, 5, 10, 20])
def test_few_rows_are_trained_on_with_a_warning_or_refused(command, rows):
    pa.csv.write_csv(pa.table({"x": np.arange(rows) * 1.5, "y": np.arange(rows) ** 2 + 0.5}), "a.csv")
    status, result = command("train", "a.csv", "-t", "y", *FAST)
    assert status == (0 if rows >= 5 else 2)
    if status == 0:
        assert any(f"there are only {1 if rows == 5 else ''}" in text for text in result["warnings"])


def test_a_bundle_that_was_changed_is_refused_also_with_its_hash(command):
    bundle = Path(trained(command, write("a.csv"), "-t", "y")["bundle"])
    for name, change in {
        "weights.safetensors": lambda data: data[:40],
        "data.json": lambda _: b"{}",
        "model.json": lambda d: d.replace(b"8", b"16"),
    }.items():
        shutil.copytree(bundle, f"edited-{name}")
        file, manifest = Path(f"edited-{name}", name), Path(f"edited-{name}", "manifest.json")
        file.write_bytes(change(file.read_bytes()))
        assert f"{name} was changed" in refused(command, "predict", file.parent, "a.csv", "-o", "b.csv")
        about = json.loads(manifest.read_text())
        about["files"][name] = deepseek.artifacts.sha256_file(file)
        manifest.write_text(json.dumps(about))
        assert "copy the bundle again" in refused(command, "predict", file.parent, "a.csv", "-o", "b.csv")


def test_answers_that_cannot_be_written_are_an_error(command):
    run = trained(command, write("a.csv"), "-t", "y")["run"]
    Path("folder.csv").mkdir()
    assert "is a folder" in refused(command, "predict", run, "a.csv", "-o", "folder.csv")
    assert "cannot be written" in refused(command, "predict", run, "a.csv", "-o", "a.csv/b.csv", status=1)


def test_tables_in_memory_of_every_make():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    overrides = [word for word in FAST if word != "--set"]
    frame = pandas.DataFrame(columns())
    frame["half"] = frame["age"].astype("float16")
    frame["count"] = pandas.array([1, None] * (ROWS // 2), dtype="Int64")
    frame["lasted"] = pandas.to_timedelta(np.arange(ROWS) * 7 % 50, unit="h")
    frame["city"] = frame["city"].astype("category")
    run = deepseek.train(frame, target="y", overrides=overrides, progress=False)
    few = frame.iloc[5:8]
    assert deepseek.load(run.run).predict(few).index.tolist() == few.index.tolist()
    assert len(deepseek.load(run.run).predict(frame.iloc[:0])) == 0
    words = polars.DataFrame(columns()).with_columns(polars.col("city", "y").cast(polars.Categorical))
    predictor = deepseek.load(deepseek.train({**columns(), "type": columns()["city"]}, target="y", overrides=overrides, progress=False).run)
    assert len(predictor.predict(words.with_columns(type="city"))) == ROWS
    assert predictor.predict([{"age": 3.0, "city": "Rome"}, {"type": "Oslo", "age": 1.0}]).num_rows == 2  # later records bring columns
    with pytest.raises(deepseek.DeepSeekError, match="a column is given as 'Rome'"):
        predictor.predict({"age": [1.0] * 4, "city": "Rome", "type": ["Rome"] * 4})


@pytest.mark.parametrize(
    "words", [["run", "bad.yaml"], ["run", "right.yaml"], ["train", "none.csv", "-t", "y"], ["train", "a.csv", "-t", "z"]]
)
def test_a_mistake_is_told_before_torch_is_imported(words):
    write("a.csv")
    Path("bad.yaml").write_text("data: {source: a.csv, target: y}\ntrain: {epocs: 3}\n")
    Path("right.yaml").write_text("data: {source: a.csv, target: z}\n")
    program = f"import sys; from deepseek.cli import main; status = main({words}); print(status, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
