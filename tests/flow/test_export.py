"""A run exported: the same answers, without torch, and nothing where they would be others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import deepseek
from deepseek.artifacts import Bundle
from deepseek.cli import main
from deepseek.cli.export import _lines
from deepseek.errors import BundleError, InputError, MissingExtraError
from deepseek.inference.backends import choice

QUICK = ["train.epochs=2", "train.batch_size=32", "model={type: mlp, width: 16, depth: 1}", "train.precision=fp32"]
PROBABILITIES = ("probability_no", "probability_yes")
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import deepseek
predictor = deepseek.load(sys.argv[1])
import pyarrow.parquet
pyarrow.parquet.write_table(predictor.predict(sys.argv[2]), sys.argv[3])
"""


def people(rows, seed=0):
    draw = np.random.default_rng(seed)
    age = draw.normal(40, 9, rows)
    city = draw.choice(["Oslo", "Rome", "Lima"], rows)
    note = [" ".join(draw.choice(["late", "paid", "twice", "happy", "left"], 3)) + f" {place}" for place in range(rows)]
    return pa.table(
        {"age": pa.array(age, mask=draw.random(rows) < 0.1), "city": city, "note": note, "left": np.where(age > 40, "yes", "no")}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    pa.parquet.write_table(people(300), folder / "people.parquet")
    recipe = {
        "name": "people",
        "data": {"source": str(folder / "people.parquet"), "target": "left", "fields": {"note": "text"}},
        "export": ["onnx"],
    }
    return deepseek.run(recipe, out=folder / "runs", overrides=QUICK)


def same(one, two):
    return all(np.allclose(one[name], two[name], atol=1e-5) for name in PROBABILITIES) and one["prediction"].equals(two["prediction"])


def test_a_recipe_exports_what_it_trained(run):
    document = json.loads((Path(run.run) / "export" / "onnx" / "export.json").read_text())
    assert document["parity"]["rows"] == 45
    assert {"rows alone", "no rows", "missing values", "the longest text"} <= set(document["parity"]["cases"])
    assert "values" not in document["parity"]["worst"]
    rows = people(50, seed=1)
    assert same(deepseek.load(run.run).predict(rows), deepseek.load(run.run, backend="onnxruntime").predict(rows))
    assert same(deepseek.load(run.run).predict(rows), deepseek.load(Path(run.run) / "export" / "onnx").predict(rows))


def test_a_resumed_run_exports_what_is_missing(run, tmp_path):
    target = Path(run.run) / "export" / "onnx"
    target.rename(tmp_path / "away")
    deepseek.run(run.run, resume=True, out=Path(run.run).parents[1])
    assert (target / "model.onnx").read_bytes() == (tmp_path / "away" / "model.onnx").read_bytes()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_export_is_answered_without_torch(run, backend, tmp_path):
    pa.parquet.write_table(people(40, seed=2), tmp_path / "rows.parquet")
    folder = Path(run.run) / "export" / "onnx"
    if backend == "openvino":
        folder = Path(deepseek.export(run.run, to="openvino", output=tmp_path / "openvino")["bundle"])
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / "answers.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = pa.parquet.read_table(tmp_path / "answers.parquet")
    assert same(deepseek.load(run.run, backend="torch").predict(str(tmp_path / "rows.parquet")), answers)


def test_an_export_is_measured_as_the_run_is(run):
    own = deepseek.evaluate(run.run, people(60, seed=3))["metrics"]
    exported = deepseek.evaluate(Path(run.run) / "export" / "onnx", people(60, seed=3))["metrics"]
    assert set(own) - set(exported) == {"loss"}
    assert all(value == pytest.approx(own[name], abs=1e-4) for name, value in exported.items())


def test_auto_keeps_the_fastest_and_a_run_is_answered_with_it(run, monkeypatch):
    monkeypatch.setattr("deepseek.exporters.fastest._ROUNDS", 1)
    made = deepseek.export(run.run, to="auto")
    names = {one["backend"] for one in made["timings"]}
    assert {"torch", "onnxruntime", "openvino"} <= names | set(made["refused"])
    best = next(one for one in made["timings"] if one["backend"] == made["chosen"])
    assert best["speed_up_1"] >= 1
    assert best["speed_up_32"] >= 1
    predictor = deepseek.load(run.run)
    assert predictor.bundle.path == Path(made["bundle"])
    assert predictor.opened.path == Path(run.bundle)
    monkeypatch.setattr(choice, "machine", lambda: "another processor")
    assert deepseek.load(run.run).bundle.path == Path(run.bundle)  # measured elsewhere tells nothing of this machine
    assert same(predictor.predict(people(30, seed=4)), deepseek.load(run.run).predict(people(30, seed=4)))


def test_what_an_export_does_not_hold_is_taken_from_the_run(run, monkeypatch):
    exported = Bundle.open(Path(run.run) / "export" / "onnx")
    monkeypatch.setattr(choice, "_chosen", lambda *_: (exported, "onnxruntime"))  # as if it had been found to be fastest
    predictor, rows = deepseek.load(run.run), people(40, seed=6)
    assert predictor.bundle.path == exported.path
    expected = deepseek.load(run.run, backend="torch").embed(rows)
    assert predictor.embed(rows).equals(expected)
    seen = deepseek.watch(run.run, rows)
    assert seen["files"][0]["rows"] == 40
    assert seen["model"] == str(run.bundle)


def test_an_export_keeps_what_is_known_of_the_training_rows(run):
    exported = Bundle.open(Path(run.run) / "export" / "onnx")
    assert exported.read("reference.json") == Bundle.open(run.bundle).read("reference.json")
    assert deepseek.watch(exported.path, people(40, seed=6))["files"][0]["rows"] == 40


def test_a_bundle_that_a_killed_run_left_behind_is_written_anew(run):
    bundle, before = Bundle.open(run.bundle), deepseek.load(run.run, backend="torch").predict(people(20, seed=8))
    (bundle.path / "half").write_bytes(b"of a process that was killed")
    (Path(run.run) / "metrics.json").unlink()
    deepseek.run(run.run, resume=True, out=Path(run.run).parents[1])
    assert same(deepseek.load(run.run, backend="torch").predict(people(20, seed=8)), before)


def test_fewer_bits_are_measured_by_the_metric(run, tmp_path):
    many = people(2000, seed=7)  # of few rows, two that change places are more of the metric than it may lose
    made = deepseek.export(run.run, to={"type": "openvino", "precision": "bf16"}, rows=many, output=tmp_path / "bf16")
    assert made["metric"]["lost"] <= made["metric"]["allowed"] == 0.001
    assert deepseek.load(tmp_path / "bf16").predict(people(5)).num_rows == 5


def test_the_command_line_says_how_well_it_agrees(run, tmp_path, capsys):
    pa.parquet.write_table(people(20, seed=5), tmp_path / "rows.parquet")
    assert main(["export", str(run.run), "--rows", str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["parity"]["rows"] == 20
    assert any("20 rows, largest difference" in line for _, line in _lines(said))
    assert main(["export", str(run.run), "--to", "onx"]) == 2
    assert "did you mean 'onnx'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"to": "torch", "quantize": "int8"}, "has no INT8"),
        ({"to": {"type": "auto", "precision": "bf16"}}, "takes no settings"),
        ({"rows": {"age": [1.0]}}, "lacks 'city', 'note'"),
        ({"rows": {"age": [], "city": [], "note": []}}, "no row to compare"),
    ],
)
def test_what_cannot_be_exported_is_refused(run, given, said, tmp_path):
    with pytest.raises(InputError, match=said):
        deepseek.export(run.run, output=tmp_path / "out", **given)
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_no_run(run, tmp_path):
    export = Path(run.run) / "export" / "onnx"
    with pytest.raises(InputError, match="is an export itself"):
        deepseek.export(export, to="openvino")
    with pytest.raises(InputError, match="has no such file"):
        deepseek.load(export, backend="torch")
    deepseek.export(run.run, output=tmp_path / "copy")
    with (tmp_path / "copy" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        deepseek.load(tmp_path / "copy")


def test_a_missing_library_is_named_with_its_install_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"deepseek-framework\[deploy\]"):
        deepseek.load(run.run, backend="onnxruntime")


def test_after_an_export_a_signal_is_handled_as_before(run):
    deepseek.export(run, to="auto")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
