"""Trackers: what reaches a real one, and that none of them can touch training."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest
import torch

from deepseek.errors import MissingExtraError
from deepseek.registry import family
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks import tracker as module
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.mlflow import MLflow
from deepseek.training.callbacks.tensorboard import TensorBoard
from deepseek.training.callbacks.tracker import Tracker, flat
from deepseek.training.callbacks.wandb import WeightsAndBiases

RECIPE = "name: churn\nseed: 7\ntrain:\n  learning_rate: 0.01\n  callbacks:\n  - {type: mlflow, uri: 'http://u:${ENV:PASS}@host'}\n"


class Recorder(Tracker):
    """Keeps what it is told, and fails where it is asked to."""

    def __init__(self, *, fails: str = "") -> None:
        super().__init__()
        self.fails, self.calls, self.threads = fails, [], set()

    def _called(self, what, *values):
        self.threads.add(threading.current_thread())
        if self.fails == what:
            raise OSError("no server\nno traceback")
        self.calls.append((what, *values))

    def open(self, run):
        self._called("open", run)

    def log(self, step, values):
        self._called("log", step, dict(values))

    def close(self, *, failed):
        self._called("close", failed)


class Measured(Callback):
    def on_fit_end(self, trainer):
        trainer.final_metrics["test"] = {"accuracy": 0.5}
        trainer.final_metrics["validation"] = None


class Failing(Callback):
    def on_validation(self, trainer):
        raise ValueError("the user's own")


def trained(small, *callbacks, folder=None, resume=False, **changes):
    settings = TrainSettings(**{"epochs": 2, "batch_size": 32, "precision": "fp32", **changes})
    data, validation = small.data(), small.data(40, seed=1)
    trainer = Trainer(small.net(dropout=0.2), small.task(), data, validation, settings=settings, callbacks=callbacks, folder=folder)
    trainer.fit(resume=resume)
    return trainer


def test_a_tracker_is_told_everything_in_order_and_beside_the_loop(small, tmp_path):
    folder = tmp_path / "churn" / "003"
    folder.mkdir(parents=True)
    (folder / "resolved.yaml").write_text(RECIPE)
    tracker = Recorder()
    trainer = trained(small, Measured(), tracker, folder=folder)
    (_, run), *logged, (_, failed) = tracker.calls
    assert (run.name, run.group, run.resumed, run.step, failed) == ("churn/003", "churn", False, 0, False)
    assert run.config["seed"] == 7
    assert "${ENV:PASS}" in run.config["train"]["callbacks"][0]["uri"]
    names = {name for _, _, values in logged for name in values}
    assert {"train/loss", "train/learning_rate", "train/samples_per_s", "validation/accuracy", "final/test/accuracy"} <= names
    validated = [values["validation/accuracy"] for _, _, values in logged if "validation/accuracy" in values]
    assert validated == [entry["accuracy"] for entry in trainer.history]
    assert threading.main_thread() not in tracker.threads


@pytest.mark.parametrize("place", ["open", "log", "close"])
def test_a_tracker_that_fails_changes_nothing_but_one_warning(small, capsys, place):
    alone = trained(small)
    tracker = Recorder(fails=place)
    beside = trained(small, tracker)
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(tensor, beside.model.state_dict()[name])
    assert [entry["accuracy"] for entry in alone.history] == [entry["accuracy"] for entry in beside.history]
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "Recorder failed and is switched off; training goes on (OSError: no server)" in said
    assert tracker.calls[-1:] == [] or tracker.calls[-1][0] != place


def test_a_tracker_that_hangs_is_left_behind(small, capsys, monkeypatch):
    monkeypatch.setattr(module, "FINISH_S", 0.05)
    release = threading.Event()

    class Slow(Recorder):
        def log(self, step, values):
            release.wait(20)

    trained(small, Slow())
    release.set()
    assert "has not sent everything yet" in capsys.readouterr().err


def test_a_run_that_fails_is_closed_as_failed(small):
    tracker = Recorder()
    with pytest.raises(ValueError, match="the user's own"):
        trained(small, tracker, Failing())
    assert tracker.calls[-1] == ("close", True)


def test_a_resume_keeps_the_name_in_the_tracker(small, tmp_path):
    first, second = Recorder(), Recorder()
    trained(small, first, folder=tmp_path, epochs=1)
    trained(small, second, folder=tmp_path, epochs=1, resume=True)
    before, after = first.calls[0][1], second.calls[0][1]
    assert after.id == before.id
    assert (before.resumed, after.resumed, after.step) == (False, True, 3)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_told_before_training(name, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda library: None if library == name else find_spec(library))
    with pytest.raises(MissingExtraError, match="track"):
        family("callback").build(name)


def test_nested_values_become_paths():
    assert flat({"a": {"b": 1, "c": [2, 3]}, "d": [{"e": None}]}) == {"a.b": 1, "a.c": [2, 3], "d.0.e": None}


def test_mlflow_keeps_the_run_and_goes_on_with_it(small, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("DATABASE", str(tmp_path / "mlflow.db"))
    folder = tmp_path / "churn" / "001"
    folder.mkdir(parents=True)
    (folder / "resolved.yaml").write_text(RECIPE)
    options = {"project": "trees", "uri": "sqlite:///${ENV:DATABASE}", "tags": {"team": "risk"}}
    trainer = trained(small, Measured(), MLflow(**options), folder=folder)
    trained(small, Measured(), MLflow(**options), folder=folder, resume=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("trees").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["team"]) == ("churn/001", "FINISHED", "risk")
    assert run.data.params["train.learning_rate"] == "0.01"
    assert run.data.metrics["final/test/accuracy"] == 0.5
    history = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert [(point.step, point.value) for point in history] == [(entry["step"], entry["accuracy"]) for entry in trainer.history]


def log_records(content, block=32768, header=7):
    """The records of a LevelDB log, which is what a `.wandb` file is behind its first seven bytes."""
    place, part = header, b""
    content = bytes(header) + content
    while place + header <= len(content):
        if block - place % block < header:
            place += block - place % block
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        part += content[place + header : place + header + size]
        place += header + size
        if kind in (1, 4):  # whole, or the last piece
            yield part
            part = b""


def test_weights_and_biases_writes_a_run_offline(small, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    folder = tmp_path / "churn" / "001"
    folder.mkdir(parents=True)
    (folder / "resolved.yaml").write_text(RECIPE)
    trainer = trained(small, Measured(), WeightsAndBiases(project="trees", mode="offline", tags=("a",)), folder=folder)
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    until = time.monotonic() + 20
    while True:  # the library's own process writes the file, and may be a little behind
        records = [wandb_internal_pb2.Record.FromString(data) for data in log_records(path.read_bytes()[7:])]
        if any(record.HasField("exit") for record in records) or time.monotonic() > until:
            break
        time.sleep(0.1)
    (run,) = [record.run for record in records if record.HasField("run")][:1]
    assert (run.project, run.display_name, list(run.tags)) == ("trees", "churn/001", ["a"])
    assert json.loads(next(item.value_json for item in run.config.update if item.key == "seed")) == 7
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.HasField("history")
    ]
    accuracy = [row["validation/accuracy"] for row in rows if "validation/accuracy" in row]
    assert accuracy == pytest.approx([entry["accuracy"] for entry in trainer.history])
    assert any(row.get("final/test/accuracy") == 0.5 for row in rows)


@pytest.mark.parametrize("make", [lambda: MLflow(uri="http://127.0.0.1:9"), lambda: TensorBoard(path="/proc/nothing")])
def test_a_dead_server_or_a_folder_that_cannot_be_costs_a_warning(small, capsys, monkeypatch, make):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trainer = trained(small, make())
    assert trainer.stopped_reason == "finished"
    assert "is switched off; training goes on" in capsys.readouterr().err


def test_naming_a_tracker_loads_none_of_the_libraries():
    program = (
        "import sys; from deepseek.registry import family; [family('callback').build(n) for n in ('wandb', 'mlflow', 'tensorboard')];"
        "print({'wandb', 'mlflow', 'tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
