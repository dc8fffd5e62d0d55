"""A report says what its run measured, finds what is wrong with it, and says what it cannot tell."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.data.examples.customers import customers
from deepseek.errors import BundleError, InputError
from deepseek.reporting.numbers import number

QUICK = ("train.max_steps=30", "model={type: mlp, width: 32}", "train.precision=fp32", "seed=1")


def trained(folder, table, target, *overrides, name="job"):
    pa.csv.write_csv(table, folder / f"{name}.csv")
    return deepseek.train(folder / f"{name}.csv", target=target, out=folder / "runs", overrides=[*QUICK, *overrides], progress=False).run


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A run whose model is blind where `group` is `<i>odd`: there the target is a coin's."""
    folder = tmp_path_factory.mktemp("binary")
    random = np.random.default_rng(0)
    rows = 2_400
    x, group = random.standard_normal(rows), random.choice(["<i>odd", "plain", "other"], rows, p=[0.2, 0.5, 0.3])
    y = np.where(group == "<i>odd", random.random(rows) < 0.5, x > 0)
    noise = random.standard_normal(rows)
    table = pa.table({"x": x, "group": group, "<b>noise": noise, "y": np.where(y, "yes", "no")})
    return trained(folder, table, "y", "train.max_steps=150")


@pytest.fixture(scope="module")
def written(binary):
    return deepseek.report(binary)


@pytest.fixture(scope="module")
def page(written):
    return written.output.read_text(encoding="utf-8")


def test_the_page_is_whole_and_says_what_the_run_measured(binary, written, page):
    measured = json.loads((binary / "metrics.json").read_text())["metrics"]
    assert {(one.split, one.metric): one.value for one in written.facts.figures} == {
        (split, name): value for split in ("validation", "test") for name, value in measured[split].items()
    }
    for name, value in measured["test"].items():
        assert f"<span>{name} on test rows</span><b>{number(value)}</b>" in page
    assert written.output == binary / "report.html"
    assert page.count("<script>") == 1
    assert "https://" not in page


def test_intervals_hold_the_values(written):
    assert all(one.low <= one.value <= one.high for one in written.facts.figures)
    assert all(one.low < one.high for one in written.facts.figures if one.metric == "auc")


def test_the_blind_spot_is_found_first_and_noise_is_not(written):
    found = written.facts.rows.slices.found
    assert found[0].name == "group = <i>odd"
    assert found[0].error > 3 * found[0].others
    assert not any("noise" in one.name for one in found)


def test_importance_tells_what_the_model_relies_on(written):
    columns = [name for name, *_ in written.facts.rows.importance.columns]
    assert columns[0] == "x"
    assert {"x", "group", "<b>noise"} <= set(columns)


def test_the_confusion_matrix_is_that_of_the_predictions(binary, written):
    rows = written.facts.rows
    assert rows.looked_at == rows.of == sum(map(sum, rows.answers.confusion))
    right = sum(rows.answers.confusion[n][n] for n in range(2)) / rows.of
    assert right == pytest.approx(next(one.value for one in written.facts.figures if (one.split, one.metric) == ("test", "accuracy")))
    assert rows.answers.roc[0].area == pytest.approx(next(f.value for f in written.facts.figures if (f.split, f.metric) == ("test", "auc")))


def test_examples_are_wrong_and_the_surest_first(written):
    examples = written.facts.rows.examples
    assert examples
    assert all(one.truth != one.answer for one in examples)
    sure = [float(re.search(r"[\d.]+", one.measure).group()) for one in examples]
    assert sure == sorted(sure, reverse=True)
    table = pa.csv.read_csv(written.facts.data.files[0]["path"])
    assert all(dict(one.values)["x"] == str(table["x"][one.row].as_py()) for one in examples)


def test_columns_named_like_tags_are_text(page):
    assert "<b>noise" not in page
    assert "&lt;b&gt;noise" in page
    assert "<i>odd" not in page
    assert "group = &lt;i&gt;odd" in page


def test_without_examples_no_raw_row_is_in_the_page(binary, tmp_path):
    written = deepseek.report(binary, tmp_path / "bare.html", examples=False)
    assert written.facts.rows.examples == ()
    assert 'class="card"' not in written.output.read_text()


def test_fewer_rows_are_a_sample_and_the_metrics_stay(binary, written, tmp_path):
    few = deepseek.report(binary, tmp_path / "few.html", rows=50)
    assert (few.facts.rows.looked_at, few.facts.rows.of) == (50, written.facts.rows.of)
    assert [one.value for one in few.facts.figures] == [one.value for one in written.facts.figures]
    assert all(one.low <= one.value <= one.high for one in few.facts.figures)


def test_two_reports_of_a_run_are_the_same(binary, page, tmp_path):
    assert deepseek.report(binary, tmp_path / "again.html").output.read_text() == page


def test_a_changed_source_is_told_of_and_its_rows_left_out(binary, tmp_path):
    shutil.copytree(binary.parents[2], tmp_path / "w")
    run = tmp_path / "w" / "runs" / "job" / "001"
    origin = json.loads((run / "origin.json").read_text())
    source = tmp_path / "w" / "job.csv"
    for file in ("recipe.yaml", "resolved.yaml"):
        (run / file).write_text((run / file).read_text().replace(str(binary.parents[2]), str(tmp_path / "w")))
    (run / "origin.json").write_text(json.dumps(origin))
    assert deepseek.report(run).facts.missing == []
    source.write_text(source.read_text().replace("plain", "plane"))
    changed = deepseek.report(run)
    assert changed.facts.rows is None
    assert "changed since the run" in changed.facts.missing[0]
    assert "changed since the run" in changed.output.read_text()
    source.unlink()
    gone = deepseek.report(run)
    assert "cannot be had here" in gone.facts.missing[0]
    assert [one.value for one in gone.facts.figures] == [one.value for one in changed.facts.figures]


def test_rows_that_another_version_prepared_count_if_the_model_measures_the_same(binary, tmp_path):
    shutil.copytree(binary.parents[2], tmp_path / "w")
    run = tmp_path / "w" / "runs" / "job" / "001"
    for identity, values, missing in (("of another version", 1.0, 0), ("of another version", 0.9, 1)):
        data, metrics = (json.loads((run / name).read_text()) for name in ("data.json", "metrics.json"))
        metrics["metrics"]["test"]["auc"] *= values
        (run / "data.json").write_text(json.dumps(data | {"identity": identity}))
        (run / "metrics.json").write_text(json.dumps(metrics))
        facts = deepseek.report(run).facts
        assert len(facts.missing) == missing
        assert (facts.rows is None) == bool(missing)


def test_a_regression_has_errors_by_tenths_in_its_units(tmp_path):
    random = np.random.default_rng(0)
    x = random.standard_normal(400)
    run = trained(tmp_path, pa.table({"x": x, "y": 1_000 + 50 * x + random.standard_normal(400)}), "y")
    facts = deepseek.report(run).facts
    [values] = facts.rows.values
    mae = next(one.value for one in facts.figures if (one.split, one.metric) == ("test", "mae"))
    assert np.abs(np.array(values.predicted) - np.array(values.truth)).mean() == pytest.approx(mae, rel=1e-4)
    assert sum(rows for _, _, rows, _, _ in values.deciles) == facts.rows.of
    assert 900 < min(values.truth) < max(values.truth) < 1_200


def test_labels_have_a_row_each(tmp_path):
    random = np.random.default_rng(0)
    x = random.standard_normal((300, 2))
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "up": (x[:, 0] > 0).astype(int), "left": (x[:, 1] > 0.5).astype(int)})
    rows = deepseek.report(trained(tmp_path, table, ["up", "left"])).facts.rows
    assert [one.label for one in rows.labels] == ["up", "left"]
    assert rows.slices.error == "share of wrong labels"


def test_images_come_as_small_pictures(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = random.integers(0, 160, (240, 8, 8), dtype=np.uint8) + (30 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=images, y=labels)
    run = deepseek.train(tmp_path / "d.npz", target="y", out=tmp_path / "runs", overrides=["train.max_steps=2"], progress=False).run
    written = deepseek.report(run)
    assert len(written.facts.rows.answers.classes) == 3
    assert all(content[:2] == b"\xff\xd8" for one in written.facts.rows.examples for _, content in one.pictures)
    assert "data:image/jpeg;base64," in written.output.read_text()


def test_cleaners_weights_and_times_are_no_hindrance(tmp_path):
    table = customers(300)
    weight = pa.array(np.random.default_rng(0).random(300) + 0.5)
    run = trained(tmp_path, table.append_column("w", weight), "churned", "data.clean=[{type: missing, indicator: true}]", "data.weight=w")
    facts = deepseek.report(run).facts
    assert facts.missing == []
    assert next(one.role for one in facts.data.columns if one.name == "w") == "weight"
    assert not any("w = " in one.name for one in facts.rows.slices.found)


def test_a_weighted_run_s_page_agrees_with_its_metrics(tmp_path):
    random = np.random.default_rng(0)
    x, z, weight = random.standard_normal(900), random.standard_normal(900), random.exponential(1.0, 900)
    y = np.where(x + random.standard_normal(900) * (0.2 + (weight > 0.7)) > 0, "yes", "no")  # the heavy rows are the hard ones
    run = trained(tmp_path, pa.table({"x": x, "z": z, "w<": weight, "y": y}), "y", "data.weight='w<'")
    written = deepseek.report(run)
    rows, page = written.facts.rows, written.output.read_text()
    measured = {one.metric: one.value for one in written.facts.figures if one.split == "test"}
    weighed, counted = np.array(rows.answers.weighed), np.array(rows.answers.confusion)
    assert rows.answers.roc[0].area == pytest.approx(measured["auc"], rel=1e-6)
    assert rows.answers.brier == pytest.approx(measured["brier"], rel=1e-5)
    assert weighed.trace() / weighed.sum() == pytest.approx(measured["accuracy"], rel=1e-5)
    assert counted.trace() / counted.sum() != pytest.approx(measured["accuracy"], rel=1e-2)
    assert (rows.weighted_by, counted.sum()) == ("w<", rows.of)
    assert "weighted by w&lt;; whole numbers count rows" in page
    assert "shares of the true class weighted by w&lt;" in page


def test_an_unweighted_run_says_nothing_of_weights(page):
    assert "weighted by" not in page


def test_of_several_targets_an_example_s_error_names_its_own(tmp_path):
    random = np.random.default_rng(0)
    x = random.standard_normal(300)
    table = pa.table({"x": x, "near": x, "far": 100 * random.standard_normal(300)})
    for target, wanted in ((["near", "far"], r"error [+-][\d.]+ in (near|far)"), ("far", r"error [+-][\d.]+")):
        facts = deepseek.report(trained(tmp_path, table, target, name="several" if target == "far" else "one")).facts
        assert all(re.fullmatch(wanted, one.measure) for one in facts.rows.examples)
        for one in facts.rows.examples if target != "far" else ():
            column = one.measure.rpartition(" ")[2]
            true, said = (float(re.search(rf"{column} (\S+?)(,|$)", text).group(1)) for text in (one.truth, one.answer))
            assert float(one.measure.split()[1]) == pytest.approx(said - true, abs=0.02)


def test_what_is_no_finished_run_is_refused(tmp_path, binary):
    with pytest.raises(BundleError, match="is no run"):
        deepseek.report(tmp_path)
    (tmp_path / "001").mkdir()
    shutil.copy(binary / "recipe.yaml", tmp_path / "001")
    with pytest.raises(InputError, match="never finished"):
        deepseek.report(tmp_path / "001")
    with pytest.raises(InputError, match="is a folder"):
        deepseek.report(binary, tmp_path)
    with pytest.raises(InputError, match="0 rows"):
        deepseek.report(binary, rows=0)
