"""A server that looks for the fastest form of what it serves, and takes it up while it answers."""

import threading
import time

import httpx
import numpy as np
import pyarrow as pa
import pytest
from tests.live_server import HEADERS, PREDICT, ROW, serving, train, wait_for

import deepseek
from deepseek.artifacts import Bundle
from deepseek.errors import InputError
from deepseek.inference.backends.choice import SERVED, is_measured
from deepseek.inference.reading import read_export
from deepseek.recipe.sections import ServeSection
from deepseek.serving.fastest import FastestForms
from deepseek.serving.state import State

PATIENCE_S = 300
LOOKS = "looking for the fastest form"


@pytest.fixture
def run(tmp_path):
    return train(tmp_path, 0)


def described(server):
    with server.client() as client:
        return client.get("/v1/models/shop").json()


def chosen(run):
    return read_export(Bundle.open(run / "export" / SERVED)).backend


def measured(run):
    return is_measured(Bundle.open(run))


class Asking:
    """Asks again and again in a thread, and keeps what came."""

    def __init__(self, server):
        self.server, self.stopping, self.answers, self.bad = server, threading.Event(), [], []
        self.thread = threading.Thread(target=self.ask)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def ask(self):
        with httpx.Client(base_url=self.server.url, headers=HEADERS, timeout=60) as client:
            while not self.stopping.is_set():
                answer = client.post(PREDICT, json=ROW)
                (self.answers if answer.status_code == 200 else self.bad).append(answer.json())
                time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_takes_up_the_fastest_form_without_a_lost_request(run, keys, tmp_path, workers):
    with serving(run, keys, tmp_path, "--optimize", workers=workers) as server, Asking(server) as asking:
        before = described(server)
        wait_for(lambda: measured(run), PATIENCE_S, server.log)
        wait_for(lambda: all(described(server)["backend"] == chosen(run) for _ in range(5)), PATIENCE_S, server.log)
        after = described(server)
        seen = len(asking.answers)
        wait_for(lambda: len(asking.answers) > seen + 5, PATIENCE_S, server.log)
    assert not asking.bad
    assert before["version"] == after["version"]
    assert deepseek.load(run).backend.library == "torch"  # whoever predicts gets what he got before
    wanted = deepseek.load(run).predict([ROW])["probability_yes"][0].as_py()
    assert {answer["prediction"] for answer in asking.answers} == {deepseek.load(run).predict([ROW])["prediction"][0].as_py()}
    assert max(abs(answer["probabilities"]["yes"] - wanted) for answer in asking.answers) < 0.02
    with serving(run, keys, tmp_path, "--optimize") as server:  # the next one begins with it
        assert described(server)["backend"] == chosen(run)
        assert LOOKS not in server.log.read_text()


def test_arms_of_an_experiment_are_looked_after_too(run, keys, tmp_path):
    other = train(tmp_path, 1)
    begin = {"arms": {"new": str(other)}, "share": 0.5, "metric": "accuracy"}
    with serving(run, keys, tmp_path, "--optimize", "--state", str(tmp_path / "state")) as server, server.client() as client:
        assert client.post("/admin/models/shop/experiment", json=begin).is_success
        wait_for(lambda: measured(run) and measured(other), PATIENCE_S, server.log)
        version = Bundle.open(other).path.parent.name
        info = f'deepseek_model_info{{model="shop:new",version="{version}-'

        def has_it():
            lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(info)]
            return any(f'backend="{chosen(other)}"' in line and line.endswith(" 1") for line in lines)

        wait_for(has_it, PATIENCE_S, server.log)
        assert client.get("/admin/models/shop/experiment").json()["ended_at"] is None
        answers = [client.post(PREDICT, json=ROW, headers={"x-experiment-key": str(key)}).json() for key in range(40)]
        assert {answer["version"].partition("-")[0] for answer in answers} == {run.name, version}


def test_a_run_whose_rows_are_gone_is_served_as_it_is(run, keys, tmp_path):
    (tmp_path / ".cache").rename(tmp_path / "elsewhere")
    with serving(run, keys, tmp_path, "--optimize") as server:
        wait_for(lambda: "what runs the network stays as it is" in server.log.read_text(), PATIENCE_S, server.log)
        with server.client() as client:
            assert client.post(PREDICT, json=ROW).is_success
        assert described(server)["backend"] == "torch"
        assert server.stop() == 0


def test_a_server_that_stops_takes_its_search_with_it(run, keys, tmp_path):
    with serving(run, keys, tmp_path, "--optimize") as server:
        wait_for(lambda: LOOKS in server.log.read_text(), PATIENCE_S, server.log)
        assert server.stop() == 0
    assert not list((run / "export").glob("*")) or measured(run)


def test_where_nothing_can_be_exported_that_is_said(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("deepseek.serving.fastest._can_export", lambda: False)
    caplog.set_level("INFO", logger="deepseek.serving")
    state = State(tmp_path / "state")
    state.folder.mkdir()
    state.begin({"shop": str(run)})
    with FastestForms(state, ServeSection()) as forms:
        forms._thread.join(PATIENCE_S)
        assert not forms._thread.is_alive()
    assert "shop: what runs the network stays as it is" in caplog.text
    assert "deepseek-framework[deploy]" in caplog.text
    assert not (run / "export").exists()


@pytest.mark.parametrize("settings", [{"optimize": False}, {"backend": "torch"}])
def test_nothing_is_looked_for_where_that_is_not_wanted(run, tmp_path, settings):
    state = State(tmp_path / "state")
    state.folder.mkdir()
    state.begin({"shop": str(run)})
    with FastestForms(state, ServeSection.model_validate(settings)) as forms:
        forms._thread.join(PATIENCE_S)
        assert not forms._thread.is_alive()
    assert not (run / "export").exists()


@pytest.mark.parametrize("same", [True, False])
def test_what_changes_a_prediction_is_not_taken_where_none_may_change(run, monkeypatch, same):
    monkeypatch.setattr("deepseek.exporters.parity._flips", lambda *_: 1)
    made = deepseek.export(run, to={"type": "auto", "same_predictions": same})
    assert ("1 of 30 predictions are others" in made["refused"].get("onnxruntime", "")) == same
    assert {one["backend"] for one in made["timings"]} == {"torch"} or not same
    with pytest.raises(InputError, match="'auto' takes no settings but same_predictions"):
        deepseek.export(run, to={"type": "auto", "precision": "bf16"})


def test_numbers_are_answered_in_float32_where_none_may_change(tmp_path):
    draw = np.random.default_rng(0).normal(size=(200, 3))
    table = pa.table({"a": draw[:, 0], "b": draw[:, 1], "y": draw.sum(axis=1)})
    fast = ["train.max_steps=20", "train.precision=fp32", "model={type: mlp, depth: 1, width: 8}"]
    made = deepseek.export(
        deepseek.train(table, target="y", out=tmp_path, overrides=fast).run, to={"type": "auto", "same_predictions": True}
    )
    assert made["precision"] == "fp32"
    assert all("bf16" not in one["backend"] for one in made["timings"])
