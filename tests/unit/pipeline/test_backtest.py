from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet
import pytest
import torch
from tests.forecast_tables import recipe, sales

import deepseek
from deepseek.artifacts import Bundle, StageCache
from deepseek.cli import main
from deepseek.errors import InputError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.analysis.horizons import horizon_facts, naive_forecast
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backtest")
    pyarrow.parquet.write_table(sales(), folder / "sales.parquet")
    return {**recipe(str(folder / "sales.parquet")), "model": {"type": "nlinear"}}, folder


@pytest.mark.parametrize("training", ["expanding", "sliding"])
def test_each_origin_is_trained_on_its_past_and_measured_on_what_came_next(given, training):
    value, folder = given
    found = deepseek.backtest(value, origins=3, training=training, out=folder / training)
    assert [one.test_from for one in found.origins] == ["2024-01-09 12:00:00", "2024-01-10 00:00:00", "2024-01-10 12:00:00"]
    assert [one.until for one in found.origins][:2] == [one.test_from for one in found.origins][1:]
    begins = [one.train_from for one in found.origins]
    assert begins == ["2024-01-01 00:00:00"] * 3 if training == "expanding" else begins[1] == "2024-01-01 12:00:00"
    assert all(one.facts.windows == 2 * (12 - 3 + 1) for one in found.origins)
    said = json.loads((found.folder / "backtest.json").read_text())
    assert said["whole"]["mse"]["model"] == pytest.approx(np.mean([one.facts.mse("model") for one in found.origins]))
    assert "Origin by origin" in (found.folder / "backtest.html").read_text()


def test_an_origin_knows_nothing_of_what_came_after(given, tmp_path):
    """With another future the first origin's model is the same, to the bit."""
    value, _ = given
    table = sales()
    late = np.arange(table.num_rows) % 240 >= 216
    table = table.set_column(2, "sold", pyarrow.array(np.asarray(table["sold"]) + 100.0 * late))
    pyarrow.parquet.write_table(table, tmp_path / "sales.parquet")
    other = {**value, "data": {**value["data"], "source": str(tmp_path / "sales.parquet")}}
    first = [deepseek.backtest(one, origins=3, out=tmp_path / str(place)) for place, one in enumerate((value, other))]
    weights = [TorchBackend(Bundle.open(one.folder / "origins" / "001")).model.state_dict() for one in first]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert first[0].origins[0].facts.mse("model") == first[1].origins[0].facts.mse("model")
    assert first[0].origins[2].facts.mse("model") != first[1].origins[2].facts.mse("model")


def test_origins_with_other_spreads_are_measured_in_one_unit(tmp_path):
    """Training periods of sales that grow have ever larger spreads: in those each, the same error would be ever smaller."""
    table = sales()
    hour = np.arange(table.num_rows) % 240
    sold = np.asarray(table["sold"]) * (1 + hour / 24)
    gone = (hour >= 228) & (hour % 2 == 0)
    column = pyarrow.array([None if lost else value for lost, value in zip(gone, sold, strict=True)])
    pyarrow.parquet.write_table(table.set_column(2, "sold", column), tmp_path / "sales.parquet")
    value = {**recipe(str(tmp_path / "sales.parquet")), "model": "nlinear"}
    found = deepseek.backtest(value, origins=3, out=tmp_path / "runs")
    dataset = make_dataset(load_recipe(value), StageCache(tmp_path / "runs" / ".cache"))
    errors = []
    for number, one in enumerate(found.origins):
        begins = np.arange(204 + 12 * number, 216 + 12 * number - 3 + 1)
        places = np.concatenate([240 * shop + begins for shop in (0, 1)])
        filled = np.where(gone, np.roll(sold, 1), sold)  # every other hour is gone: the one before it is carried forward
        apart = np.where(gone, np.nan, sold)[places[:, None] + np.arange(3)] - filled[places - 1][:, None]
        errors.append(apart / dataset.preparation().spec.std[0])
        assert one.facts.mse("repeat last") == pytest.approx(np.nanmean(errors[-1] ** 2), rel=1e-5)
    whole = np.concatenate(errors)
    assert found.whole.mse("repeat last") == pytest.approx(np.nanmean(whole**2), rel=1e-5)
    assert found.whole.squared["repeat last"] == pytest.approx(np.nanmean(whole**2, axis=0), rel=1e-5)
    assert found.whole.mae("repeat last") == pytest.approx(np.nanmean(np.abs(whole)), rel=1e-5)


def test_errors_of_all_steps_are_the_runs_metrics(given):
    value, folder = given
    run = deepseek.run(value, out=folder / "runs")
    dataset = make_dataset(load_recipe(value), StageCache(folder / "runs" / ".cache"))
    facts = horizon_facts(TorchBackend(Bundle.open(run.bundle)).model, dataset.open("test"), season=24)
    assert facts.mse("model") == pytest.approx(run.metrics["test"]["scaled_mse"], rel=1e-6)
    assert facts.mae("model") == pytest.approx(run.metrics["test"]["scaled_mae"], rel=1e-6)
    assert list(facts.squared) == ["model", "repeat last"]  # a day is longer than the twelve hours of the context


def test_naive_forecasts_repeat_the_last_season():
    history = torch.arange(10.0).reshape(1, 5, 2)
    assert naive_forecast(history, 3, season=1)[0].tolist() == [[8.0, 9.0]] * 3
    assert naive_forecast(history, 3, season=2)[0].tolist() == [[6.0, 7.0], [8.0, 9.0], [6.0, 7.0]]


def test_more_origins_than_the_test_period_holds_are_refused(given, tmp_path):
    with pytest.raises(InputError, match="13 origins were asked for, and the test period holds 12 times the horizon of 3 steps"):
        deepseek.backtest(given[0], origins=13, out=tmp_path)


def test_other_tasks_have_no_origins(tmp_path):
    with pytest.raises(InputError, match="only the recipe of a forecast"):
        deepseek.backtest({"data": {"source": "x.csv", "target": "y"}}, out=tmp_path)


def test_the_verb_prints_a_row_for_each_origin(given, tmp_path, capsys):
    value, _ = given
    (tmp_path / "sales.yaml").write_text(json.dumps(value))
    assert main(["backtest", str(tmp_path / "sales.yaml"), "--origins", "2", "--training", "sliding", "--out", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:2] == ["from", "windows"]
    assert sum(line.startswith(("2024-", "all origins")) for line in printed) == 3
