"""A forecast from a long table to answers: trained, asked, measured, exported and read as a server does."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.forecast_tables import asked, recipe, sales
from tests.live_server import PREDICT, serving

import deepseek
from deepseek.cli import main
from deepseek.data.windows.tables import LatestWindows
from deepseek.errors import DataError, InputError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.serving.rows.answers import AnswerWriter
from deepseek.serving.rows.reader import RowReader

QUANTILES = {"type": "quantile", "levels": [0.1, 0.5, 0.9]}
MODELS = {
    "dlinear": ({"type": "dlinear", "kernel": 5}, "mse"),
    "nlinear": ({"type": "nlinear"}, QUANTILES),
    "series_rnn": ({"type": "series_rnn", "width": 8}, "mse"),
    "tft": ({"type": "tft", "width": 8, "heads": 2}, QUANTILES),
}


@pytest.fixture(scope="module", params=MODELS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    pa.parquet.write_table(sales(), folder / "sales.parquet")
    model, loss = MODELS[request.param]
    value = recipe(str(folder / "sales.parquet"), loss=loss)
    return deepseek.run({**value, "model": model}, out=folder / "runs")


def test_a_run_is_measured_in_both_units(run):
    assert {"scaled_mse", "scaled_mae", "rmse", "mae", "mase"} <= set(run.metrics["test"])
    assert all(np.isfinite(value) for value in run.metrics["test"].values())


def test_the_steps_ahead_come_as_a_long_table(run, tmp_path):
    answers = deepseek.load(run).predict(asked())
    assert answers.column_names[:4] == ["time", "shop", "step", "prediction"]
    assert answers["step"].to_pylist() == [1, 2, 3, 1, 2, 3]
    assert answers["shop"].to_pylist() == ["north"] * 3 + ["south"] * 3
    assert answers["time"][0].as_py().isoformat() == "2024-01-10T21:00:00"
    pa.parquet.write_table(asked(), tmp_path / "asked.parquet")
    assert main(["predict", str(run.run), str(tmp_path / "asked.parquet"), "--output", str(tmp_path / "out.parquet")]) == 0
    assert pa.parquet.read_table(tmp_path / "out.parquet").equals(answers)


def test_what_is_doubtful_of_the_steps_that_are_given_is_said(run, tmp_path):
    table = asked()
    price = [None if place % 240 > 238 else value for place, value in enumerate(table["price"].to_pylist())]
    shop = ["east" if one == "south" else one for one in table["shop"].to_pylist()]
    table = table.set_column(3, "price", pa.array(price)).set_column(1, "shop", pa.array(shop))
    first, second = deepseek.predict(run, table, tmp_path / "out.parquet")["warnings"]
    assert first.startswith("2 of 6 values of 'price' that are to be known ahead are missing")
    assert second.startswith("50% of the values of 'shop' in the rows were never seen in training")
    whole = sales().set_column(1, "shop", pa.array(["east" if one == "south" else one for one in sales()["shop"].to_pylist()]))
    assert deepseek.evaluate(run, whole)["warnings"] == ["50% of" + second.removeprefix("50% of")]


def test_a_frame_is_answered_with_a_frame(run):
    frame = deepseek.load(run).predict(asked().to_pandas())
    assert len(frame) == 6
    assert list(frame["step"]) == [1, 2, 3, 1, 2, 3]


def test_a_window_has_no_vector(run):
    with pytest.raises(InputError, match="the bundle forecasts"):
        deepseek.load(run).embed(asked())


def test_the_future_of_observed_columns_never_reaches_an_answer(run):
    """What stands behind the context in an observed column, or in the target, moves nothing; what is known ahead does."""
    predictor = deepseek.load(run)
    table = asked()
    before = predictor.predict(table)
    ahead = np.arange(table.num_rows) % 240 >= 237
    seen = pa.array(np.where(ahead, 1e6, np.nan_to_num(np.asarray(table["visitors"].to_numpy()))))
    assert predictor.predict(table.set_column(4, "visitors", seen)).equals(before)
    price = pa.array(np.asarray(table["price"]) + 2.0 * ahead)
    moved = predictor.predict(table.set_column(3, "price", price))
    linear = run.run.parents[2].name.startswith(("dlinear", "nlinear"))
    assert moved["prediction"].equals(before["prediction"]) == linear  # linear networks look at the targets' past only


def test_measuring_the_whole_table_agrees_with_the_run(run, tmp_path):
    """The windows of the test period, cut out of the table with their context, give the run's own figures."""
    table = sales()
    hours = np.arange(table.num_rows) % 240
    found = deepseek.load(run).evaluate(table.filter(pa.array(hours >= 204 - 12)))
    assert found["rows"] == 2 * (36 - 3 + 1)
    for name in ("scaled_mse", "mae", "mase"):
        assert found["metrics"][name] == pytest.approx(run.metrics["test"][name], rel=1e-5)


def test_an_export_answers_alike_without_torch(run):
    exported = deepseek.export(run, to="onnx")
    assert exported["parity"]["rows"] > 20
    one, two = deepseek.load(run).predict(asked()), deepseek.load(exported["bundle"]).predict(asked())
    assert np.allclose(one["prediction"], two["prediction"], atol=1e-3)


def test_a_server_reads_windows_and_answers_with_lists(run):
    predictor = deepseek.load(run)
    reader = RowReader(predictor.preparation)
    window = LatestWindows(asked(), predictor.preparation).rows(0, 1).to_pylist()[0]
    window["time"] = [moment.isoformat() for moment in window["time"]]
    rows = reader.read_json(orjson.dumps(window))
    answers = predictor.answer(rows.batch)
    written = AnswerWriter(answers.schema).write(answers)[0]
    assert json.loads(json.dumps(written))["prediction"] == pytest.approx(predictor.predict(asked())["prediction"].to_pylist()[:3])
    assert ("quantiles" in written) == ("quantile_0.1" in answers.column_names)
    example = reader.read([reader.example()])
    assert not example.bad
    assert predictor.answer(example.batch).num_rows == 1
    bad = reader.read([{**window, "sold": window["sold"][:-1]}])
    assert bad.bad[0][0]["allowed"].startswith("a list of 12 values, oldest first")


def test_a_real_server_answers_a_window(run, keys, tmp_path):
    if "nlinear" not in str(run.run):
        pytest.skip("one network is enough")
    predictor = deepseek.load(run)
    window = LatestWindows(asked(), predictor.preparation).rows(1, 2).to_pylist()[0]
    window["time"] = [moment.isoformat() for moment in window["time"]]
    with serving(run.run, keys, tmp_path) as server, server.client() as client:
        answer = client.post(PREDICT, json=window)
        assert answer.status_code == 200, answer.text
        short = client.post(PREDICT, json={**window, "price": window["price"][1:]})
    wanted = predictor.predict(asked())
    got = answer.json()
    assert got["prediction"] == pytest.approx(wanted["prediction"].to_pylist()[3:], rel=1e-5)
    assert got["quantiles"]["0.9"] == pytest.approx(wanted["quantile_0.9"].to_pylist()[3:], rel=1e-5)
    assert short.status_code == 422
    assert "a list of 15 values, oldest first" in short.text


def test_several_ways_to_ask_that_cannot_be_answered(run):
    with pytest.raises(DataError, match=r"the future of .price. is an input"):
        deepseek.load(run).predict(sales())


def test_interpretation_of_a_transformer(run):
    backend = deepseek.load(run).backend
    assert isinstance(backend, TorchBackend)
    network = backend.model.network
    if not hasattr(network, "interpretation"):
        pytest.skip("only the transformer says what it looks at")
    predictor = deepseek.load(run)
    from deepseek.data.batch import as_inputs

    told = network.interpretation(as_inputs(predictor.preparation.apply(LatestWindows(asked(), predictor.preparation).rows(0, 2))))
    assert {"sold", "visitors", "price", "position"} <= set(told.past)
    assert set(told.static) == {"region", "shop"}
    assert told.attention.shape == (2, 3, 15)


def test_a_report_shows_each_step_beside_the_naive_forecasts(run, tmp_path):
    page = deepseek.report(run, tmp_path / "report.html").output.read_text()
    assert "Step by step" in page
    assert "repeat last" in page


def test_what_network_and_batches_are_can_be_previewed(run, tmp_path, capsys):
    assert main(["preview", str(run.run), "--output", str(tmp_path / "preview.html"), "--out", str(run.run.parents[1])]) == 0
    printed = capsys.readouterr().out
    assert "history" in printed
    assert (tmp_path / "preview.html").is_file()


def test_runs_are_compared_by_their_metrics_and_overlapping_windows_by_no_interval(run):
    if "nlinear" not in str(run.run):
        pytest.skip("one network is enough")
    again = deepseek.run(run.run, overrides=["train.learning_rate=0.01"], out=run.run.parents[1])
    found = deepseek.compare([run, again])
    assert len(found["runs"]) == 2
    assert "windows overlap" in found["pairs"][0]["refused"]
