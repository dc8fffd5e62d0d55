"""A run brought to INT8: kept where the metric is, with what it costs; on training rows alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import deepseek
import deepseek.compression.onnx_int8
import deepseek.exporters.original
from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.cli import main
from deepseek.errors import BundleError, ExportError, InputError, RecipeError
from deepseek.pipeline.export_rows import rows_to_calibrate

QUICK = ["train.epochs=2", "train.batch_size=32", "model={type: mlp, width: 64, depth: 2}", "train.precision=fp32"]
ONE_EPOCH = ["train.epochs=1", *QUICK[1:]]  # no validation row has a say in which weights are kept


def people(rows, seed=0):
    draw = np.random.default_rng(seed)
    age, pay = draw.normal(40, 9, rows), draw.normal(size=rows)
    city = draw.choice(["Oslo", "Rome", "Lima"], rows)
    split = np.array(["train", "train", "validation", "test"])[np.arange(rows) % 4]
    return {"age": age, "pay": pay, "city": city, "split": split, "left": np.where(age + 5 * pay > 40, "yes", "no")}


def trained(folder, columns, overrides, **more):
    folder.mkdir()
    pa.parquet.write_table(pa.table(columns), folder / "people.parquet")
    recipe = {
        "name": "people",
        "data": {"source": str(folder / "people.parquet"), "target": "left", "split": {"column": "split"}},
        **more,
    }
    return deepseek.run(recipe, out=folder / "runs", overrides=overrides)


@pytest.fixture(autouse=True)
def _quick_measuring(monkeypatch, request):
    """One round of timing, and no process for each form's memory but where it is looked at."""
    monkeypatch.setattr("deepseek.exporters.fastest._ROUNDS", 1)
    monkeypatch.setattr("deepseek.exporters.fastest._LEAST_S", 0.0)
    if request.node.originalname != "test_the_table_holds_what_each_form_costs":
        monkeypatch.setattr("deepseek.pipeline.compress.peak_memory", lambda *_, **__: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("compress") / "data", people(600), QUICK)


def test_a_recipe_compresses_what_it_trained(tmp_path):
    compress = {"quantize": {"backend": "onnx", "max_drop": 0.05, "calibration_rows": 100}}
    made = trained(tmp_path / "data", people(600), QUICK, compress=compress)
    folder = Path(made.run) / "export" / "int8"
    said = json.loads((folder / "compression.json").read_text())
    assert {row["name"] for row in said["table"]} >= {"torch", "onnxruntime", said["chosen"]}
    assert said["calibration_rows"] == 100
    assert said["max_drop"] == 0.05
    rows = people(50, seed=1)
    before, after = deepseek.load(made.run, backend="torch").predict_proba(rows), deepseek.load(folder).predict_proba(rows)
    with progress.collected_warnings() as warned:
        assert deepseek.load(made.run, backend="onnxruntime").bundle.path == folder
    assert [line for line in warned if "int8" in line and "float32" in line]
    assert 0 < np.abs(before - after).max() < 0.05
    assert deepseek.load(made.run).bundle.path == Path(made.bundle)  # nothing answers in INT8 that was not asked to


def test_the_table_holds_what_each_form_costs(run, tmp_path, capsys):
    assert main(["compress", str(run.run), "--max-drop", "0.05", "--output", str(tmp_path / "out"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in value["table"]}
    assert {"torch", "onnxruntime", "openvino", "onnxruntime int8 static", "onnxruntime int8 dynamic", "openvino int8 static"} <= set(rows)
    kept = rows[value["chosen"]]
    assert value["chosen"] in {name for name in rows if "int8" in name}
    assert kept["weight_bytes"] < 0.5 * rows["onnxruntime"]["weight_bytes"]
    assert all(row["peak_memory"] > 1e7 and row["ms_1"] > 0 and row["ms_32"] > 0 for row in rows.values())
    assert rows["onnxruntime"]["lost"] == pytest.approx(0, abs=1e-4)
    assert kept["rows"] == 150
    assert (
        main(["compress", str(run.run), "--backend", "onnx", "--method", "static", "--max-drop", "0.05", "--output", str(tmp_path / "out")])
        == 0
    )
    printed = capsys.readouterr().out
    assert "onnxruntime int8 static" in printed
    assert "none of 3 layers" in printed


def test_the_report_of_a_run_shows_what_compressing_it_cost(tmp_path):
    run = trained(tmp_path / "data", people(600), QUICK)
    assert deepseek.report(run.run).facts.compressed == []
    assert "Compressed" not in (run.run / "report.html").read_text(encoding="utf-8")
    made = deepseek.compress(run.run, quantize={"backend": "onnx", "method": "dynamic", "max_drop": 0.05})
    written = deepseek.report(run.run)
    (told,) = written.facts.compressed
    assert told.kept == made["chosen"] == "onnxruntime int8 dynamic"
    assert [(form.name, form.metric, form.weight_bytes) for form in told.forms] == [
        (row["name"], row["metric"], row["weight_bytes"]) for row in made["table"]
    ]
    page = written.output.read_text(encoding="utf-8")
    assert all(f">{name}</th>" in page for name in ("torch", "onnxruntime", "onnxruntime int8 dynamic (kept)"))
    graph = Path(made["bundle"]) / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b" ")
    damaged = deepseek.report(run.run).facts
    assert damaged.compressed == []
    assert any("model.onnx" in reason for reason in damaged.missing)


def static(folder, run, **more):
    settings = {"backend": "onnx", "method": "static", "max_drop": 1.0, **more}
    return Path(deepseek.compress(run, quantize=settings, output=folder)["bundle"]) / "model.onnx"


def test_no_scale_hangs_on_rows_that_were_not_trained_on(tmp_path):
    columns = people(600)
    first = trained(tmp_path / "first", columns, ONE_EPOCH)
    held_out = columns["split"] != "train"
    shifted = {**columns, "age": columns["age"] + 500 * held_out, "pay": columns["pay"] - 90 * held_out}
    second = trained(tmp_path / "second", shifted, ONE_EPOCH)
    same = static(tmp_path / "one", first.run).read_bytes()
    assert static(tmp_path / "two", second.run).read_bytes() == same
    moved = {name: [value for value, out in zip(shifted[name], held_out, strict=True) if out] for name in shifted}
    calibrated = deepseek.compress(
        first.run,
        quantize={"backend": "onnx", "method": "static", "max_drop": 1.0},
        calibrate=pa.table(moved),
        output=tmp_path / "three",
    )
    assert (Path(calibrated["bundle"]) / "model.onnx").read_bytes() != same  # rows do matter: other ones move the scales


def test_of_many_rows_that_are_given_a_sample_is_taken_and_not_the_first(run, tmp_path):
    bundle, many = Bundle.open(run.bundle), {name: values for name, values in people(6000, seed=3).items() if name != "split"}
    many = {name: values[np.argsort(many["left"], kind="stable")] for name, values in many.items()}  # as files often are: class by class
    chosen = rows_to_calibrate(bundle, pa.table({**many, "age": np.arange(6000.0)}), 100)
    ages = np.concatenate([batch["age"].to_numpy() for batch in chosen()])
    assert len(ages) == 100
    assert (np.diff(ages) > 0).all()
    assert np.histogram(ages, bins=4, range=(0, 6000))[0].min() > 10
    few = rows_to_calibrate(bundle, pa.table(many), 10_000)
    assert pa.Table.from_batches(few()).equals(pa.table(many))
    dynamic = {"backend": "onnx", "method": "dynamic", "max_drop": 0.05}
    made = deepseek.compress(run, quantize=dynamic, rows=pa.table(many), output=tmp_path / "out")
    assert made["table"][0]["rows"] == 2000
    assert 0.5 < made["table"][0]["metric"] <= 1  # of one class alone there is no area under the curve
    assert json.loads((tmp_path / "out" / "export.json").read_text())["metric"]["split"] is None


@pytest.mark.parametrize(("split", "test", "said"), [("test", 0.3, "its test rows"), ("train", 0.0, "rows that it was trained on")])
def test_where_no_validation_row_judges_it_is_told_which_do(split, test, said, tmp_path):
    shares = f"data.split={{train: {1 - test}, validation: 0.0, test: {test}}}"
    made = trained(tmp_path / "data", people(300), [*ONE_EPOCH, shares, "data.drop=[split]"])
    with progress.collected_warnings() as warnings:
        kept = deepseek.compress(made.run, quantize={"backend": "onnx", "method": "dynamic", "max_drop": 1.0})
    assert len([warning for warning in warnings if said in warning]) == 1
    document = json.loads((Path(kept["bundle"]) / "export.json").read_text())
    assert document["metric"]["split"] == split


def test_what_loses_too_much_is_refused_and_nothing_is_kept(run, tmp_path, monkeypatch):
    measured = deepseek.exporters.original.Original.metric_of
    monkeypatch.setattr(
        "deepseek.exporters.original.Original.metric_of",
        lambda self, predictor: measured(self, predictor) - 0.2 * (predictor.bundle.path != self.bundle.path),
    )
    with pytest.raises(ExportError, match=r"auc loses more than 0.5 points in every trial: it was .* 2 of 3 layers in float32"):
        deepseek.compress(run, quantize={"backend": "onnx", "method": "static"}, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_layer_that_spoils_the_answers_falls_back(run, tmp_path, monkeypatch):
    """INT8 that is made wrong for one layer: the others stay in INT8, and the table names the one that does not."""
    made = deepseek.compression.onnx_int8.OnnxQuantizer._quantized
    bad = "network.trunk"

    def spoiled(self, floats):
        model = made(self, floats)
        layer = self.layers[0]
        if layer not in floats:
            import onnx

            scale = next(one for one in model.graph.initializer if one.name.endswith("_scale") and len(one.dims) == 1)
            scale.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(scale), scale.name))
        return model

    monkeypatch.setattr(deepseek.compression.onnx_int8.OnnxQuantizer, "_quantized", spoiled)
    value = deepseek.compress(run, quantize={"backend": "onnx", "method": "static", "max_drop": 0.02}, output=tmp_path / "out")
    assert len(value["floats"]) == 1
    assert value["floats"][0].startswith(bad)
    document = json.loads((tmp_path / "out" / "export.json").read_text())
    assert document["int8"]["sensitivity"][0]["layers"] == value["floats"]
    assert [trial["floats"] for trial in document["int8"]["trials"]] == [0, 1]
    with pytest.raises(ExportError, match="in every trial"):
        deepseek.compress(
            run, quantize={"backend": "onnx", "method": "static", "max_drop": 0.02, "fall_back": False}, output=tmp_path / "none"
        )


def test_auto_measures_int8_where_it_is_asked_to(run, tmp_path):
    value = deepseek.export(run, to="auto", quantize={"max_drop": 0.05}, output=tmp_path / "auto")
    names = {row["backend"] for row in value["timings"]} | set(value["refused"])
    assert {"torch", "onnxruntime", "openvino", "onnxruntime int8 static", "onnxruntime int8 dynamic", "openvino int8 static"} <= names


def test_a_format_in_int8_stands_beside_its_float32_and_is_not_taken_for_it(run, capsys):
    deepseek.compress(run, quantize={"backend": "onnx", "method": "dynamic", "max_drop": 0.05})
    deepseek.export(run, to="onnx")
    deepseek.export(run, to="onnx", quantize={"method": "dynamic", "max_drop": 0.05})
    exports = Path(run.run) / "export"
    assert {"int8", "onnx", "onnx-int8"} <= {path.name for path in exports.iterdir()}
    assert json.loads((exports / "onnx-int8" / "export.json").read_text())["precision"] == "int8"
    assert deepseek.load(run.run, backend="onnxruntime").bundle.path == exports / "onnx"  # the one with the arithmetic of training
    capsys.readouterr()
    for backend, is_told in (("onnxruntime", False), ("openvino", True)):
        deepseek.load(exports / "onnx-int8", backend=backend)
        assert ("compared with the original in onnxruntime, not in openvino" in capsys.readouterr().err) == is_told


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"quantize": "int4"}, RecipeError, "int8"),
        ({"quantize": {"metod": "static"}}, RecipeError, "method"),
        ({"quantize": {"max_drop": -1}}, RecipeError, "at least 0"),
        ({"quantize": {"method": "dynamic", "backend": "openvino"}}, InputError, "no dynamic INT8"),
        ({"calibrate": {"age": []}}, InputError, "lacks"),
    ],
)
def test_what_cannot_be_compressed_is_refused(run, given, error, said, tmp_path):
    with pytest.raises(error, match=said):
        deepseek.compress(run, output=tmp_path / "out", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_bundle_that_was_changed_is_refused(run, tmp_path):
    deepseek.compress(run, quantize={"backend": "onnx", "method": "dynamic", "max_drop": 1.0}, output=tmp_path / "out")
    for name in ("model.onnx", "compression.json", "export.json"):
        file = tmp_path / "out" / name
        whole = file.read_bytes()
        for damaged in (whole[:-1], whole.replace(b"0", b"1", 1)):
            file.write_bytes(damaged)
            with pytest.raises(BundleError, match=name.replace(".", r"\.")):
                deepseek.load(tmp_path / "out")
        file.write_bytes(whole)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({**manifest, "version": manifest["version"] + 1}))
    with pytest.raises(BundleError, match="this version reads up to"):
        deepseek.load(tmp_path / "out")
