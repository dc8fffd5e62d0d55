"""The callback that reports a training to a search, and stops where the search has seen enough."""

from __future__ import annotations

import pytest

from deepseek.errors import InputError, UnknownNameError
from deepseek.registry import family
from deepseek.search import Study
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.trial import PRUNED

pytest.importorskip("optuna")
MEDIAN = {"type": "median", "startup": 1}


def trained(small, spec, epochs=6, **changes):
    trainer = Trainer(
        small.net(),
        small.task(),
        small.data(),
        small.data(40, seed=1),
        settings=TrainSettings(epochs=epochs, batch_size=32, precision="fp32", **changes),
        callbacks=[family("callback").build(spec)],
    )
    trainer.fit()
    return trainer


def study_with_a_good_trial(path, pruner):
    study = Study({"x": (0.0, 1.0)}, trials=3, pruner=pruner, storage=path, name="s")
    good = study.ask()
    for step in range(1, 7):
        good.report(0.001 * step, step=step)
    study.tell(good, 0.001)
    return study


@pytest.mark.parametrize(("pruner", "steps"), [(MEDIAN, 3), ("none", 18)])
def test_a_trial_without_promise_saves_its_steps_and_only_with_a_pruner(small, tmp_path, pruner, steps):
    path = tmp_path / "study.db"
    with study_with_a_good_trial(path, pruner) as study:
        trial = study.ask()
        spec = {"type": "trial", "storage": str(path), "study": "s", "number": trial.number, "pruner": pruner, "metric": "loss"}
        trainer = trained(small, spec)
        assert trainer.state.step == steps
        assert (trainer.stopped_reason == PRUNED) == (pruner is MEDIAN)
        trial.pruned = trainer.stopped_reason == PRUNED
        record = study.tell(trial, trainer.history[-1]["loss"])
    assert record.state == ("pruned" if pruner is MEDIAN else "complete")
    assert list(record.reported.values()) == [entry["loss"] for entry in trainer.history]


def test_the_storage_may_be_a_secret(small, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY", str(tmp_path / "study.db"))
    with study_with_a_good_trial(tmp_path / "study.db", "none") as study:
        trial = study.ask()
        trained(small, {"type": "trial", "storage": "${ENV:STUDY}", "study": "s", "number": trial.number, "metric": "loss"}, epochs=1)
        assert list(study.trials[1].reported) == [1]


def test_what_is_not_there_is_told(small, tmp_path):
    path = tmp_path / "study.db"
    study_with_a_good_trial(path, "none").close()
    with pytest.raises(UnknownNameError, match="metric to tune for"):
        trained(small, {"type": "trial", "storage": str(path), "study": "s", "number": 0, "metric": "auk"})
    with pytest.raises(InputError, match="no trial 9"):
        trained(small, {"type": "trial", "storage": str(path), "study": "s", "number": 9})
