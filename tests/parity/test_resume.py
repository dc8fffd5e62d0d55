"""A resumed run is the uninterrupted one, bit for bit, from any step."""

from __future__ import annotations

import errno
import json
import signal

import pytest
import torch

from deepseek.data.augment.base import Augmentation
from deepseek.data.batch import Batch
from deepseek.errors import CheckpointError, InputError
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.checkpoints import files
from deepseek.training.checkpoints.files import list_checkpoints


class Interrupt(Callback):
    """Sends a signal to this process in the middle of an epoch."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_step(self, trainer):
        if trainer.state.step == self.step:
            signal.raise_signal(self.number)


class Noise(Augmentation):
    def apply(self, batch, draw):
        return Batch({"x": batch.inputs["x"] + draw.uniform(len(batch), 4)}, batch.targets, batch.weight, batch.row)


class Kill(Callback):
    """Dies in the middle of an epoch, after the checkpoint of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, trainer):
        if trainer.state.step == self.step:
            raise KeyboardInterrupt


def trainer(small, folder, *, optimizer="adamw", callbacks=(), **changes) -> Trainer:
    given = {
        "epochs": 4,
        "batch_size": 20,
        "precision": "fp32",
        "optimizer": {"type": optimizer, "learning_rate": 0.02},
        "ema": 0.9,
        "schedule": {"type": "plateau", "patience": 0, "warmup_steps": 4, "min_delta": 0.05},
        "monitor": "log_loss",
        "clip_norm": 1.0,
    }
    return Trainer(
        small.net(dropout=0.3, norm=True),
        small.task(),
        small.data(weighted=True),
        small.data(40, seed=1),
        settings=TrainSettings(**{**given, **changes}),
        callbacks=callbacks,
        augment=[Noise({})],
        folder=folder,
    )


def without_time(history):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


def run(small, folder, *, killed_at: int | None = None, **changes) -> Trainer:
    if killed_at is not None:
        with pytest.raises(KeyboardInterrupt):
            trainer(small, folder, callbacks=[Kill(killed_at)], checkpoint_every=killed_at, **changes).fit()
        torch.rand(7)  # whoever resumes is another process with other generators
    last = trainer(small, folder, **changes)
    last.fit(resume=killed_at is not None)
    return last


def assert_same(a: Trainer, b: Trainer) -> None:
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    assert all(torch.equal(x, y) for x, y in zip(a.average.average.values(), b.average.average.values(), strict=True))
    assert without_time(a.history) == without_time(b.history)
    assert a.state.best == b.state.best
    assert a.schedule.state_dict() == b.schedule.state_dict()


@pytest.mark.parametrize("killed_at", [1, 5, 7, 13, 19])
def test_resume_is_the_uninterrupted_run(small, tmp_path, killed_at):
    assert_same(run(small, tmp_path / "a"), run(small, tmp_path / "b", killed_at=killed_at))


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad", "nadam", "radam"])
def test_for_every_optimizer(small, tmp_path, optimizer):
    assert_same(run(small, tmp_path / "a", optimizer=optimizer), run(small, tmp_path / "b", killed_at=8, optimizer=optimizer))


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"accumulate": 2}, {"precision": "fp16"}], ids=str)
def test_for_other_ways_of_running(small, tmp_path, changes):
    assert_same(run(small, tmp_path / "a", **changes), run(small, tmp_path / "b", killed_at=8, **changes))


def test_early_stopping_remembers(small, tmp_path):
    changes = {"early_stopping": {"patience": 2, "min_delta": 0.05}, "epochs": 12}
    straight = run(small, tmp_path / "a", **changes)
    assert straight.state.step < 60
    resumed = run(small, tmp_path / "b", killed_at=straight.state.step - 2, **changes)
    assert_same(straight, resumed)
    assert resumed.stopped_reason == straight.stopped_reason
    again = trainer(small, tmp_path / "b", **changes)
    again.fit(resume=True)
    assert again.state.step == straight.state.step


def test_a_finished_run_makes_no_more_steps(small, tmp_path):
    first = run(small, tmp_path)
    again = trainer(small, tmp_path)
    again.fit(resume=True)
    assert_same(first, again)


def test_only_the_newest_checkpoints_are_kept(small, tmp_path):
    run(small, tmp_path, keep=3, checkpoint_every=1)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-000018", "step-000019", "step-000020"]


@pytest.mark.parametrize("damage", ["truncate", "edit", "remove", "add"])
def test_a_damaged_checkpoint_is_refused_or_passed_over(small, tmp_path, damage):
    straight = run(small, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        trainer(small, tmp_path / "b", callbacks=[Kill(9)], checkpoint_every=3).fit()
    newest = list_checkpoints(tmp_path / "b" / "checkpoints")[-1]
    victim = newest / "model.safetensors"
    match damage:
        case "truncate":
            victim.write_bytes(victim.read_bytes()[:-9])
        case "edit":
            content = bytearray(victim.read_bytes())
            content[-1] ^= 1
            victim.write_bytes(content)
        case "remove":
            victim.unlink()
        case "add":
            (newest / "extra.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="step-000009"):
        trainer(small, tmp_path / "b").fit(resume=True)
    last = trainer(small, tmp_path / "b")
    last.fit(resume="auto")
    assert_same(straight, last)


def test_a_full_disk_ends_the_run_with_the_reason_and_it_goes_on_from_the_checkpoint_before(small, tmp_path, monkeypatch):
    straight = run(small, tmp_path / "a")
    folder = tmp_path / "b" / "checkpoints"

    def save_file(tensors, path):
        if len(list_checkpoints(folder)) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path)

    write = files.save_file
    with monkeypatch.context() as disk:
        disk.setattr(files, "save_file", save_file)
        with pytest.raises(CheckpointError, match="step-000009 cannot be written: the disk is full"):
            trainer(small, tmp_path / "b", checkpoint_every=3, keep=9).fit()
    assert sorted(path.name for path in folder.iterdir()) == ["step-000003", "step-000006"]
    last = trainer(small, tmp_path / "b")
    last.fit(resume=True)
    assert_same(straight, last)


def test_nothing_to_resume_from(small, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        trainer(small, tmp_path).fit(resume=True)
    trainer(small, tmp_path, epochs=1).fit(resume="auto")
    with pytest.raises(InputError, match="has checkpoints already"):
        trainer(small, tmp_path).fit()


@pytest.mark.parametrize("change", [{"batch_size": 16}, {"seed": 5}, {"optimizer": "sgd"}, {"ema": None}], ids=str)
def test_another_run_is_not_resumed(small, tmp_path, change):
    run(small, tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        trainer(small, tmp_path, **change).fit(resume=True)


def test_checkpoints_hold_tensors_and_json_only(small, tmp_path):
    run(small, tmp_path, epochs=1)
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert {path.suffix for path in newest.iterdir()} == {".json", ".safetensors"}
    assert json.loads((newest / "state.json").read_text())["state"]["step"] == 5


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_the_last_step_before_it_ends_the_run(small, tmp_path, number, ends):
    whole = trainer(small, tmp_path / "whole")
    whole.fit()
    with pytest.raises(ends):
        trainer(small, tmp_path / "cut", callbacks=[Interrupt(7, number)], checkpoint_every=None).fit()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (saved,) = list_checkpoints(tmp_path / "cut" / "checkpoints")
    assert "7" in saved.name
    resumed = trainer(small, tmp_path / "cut", checkpoint_every=None)
    resumed.fit(resume=True)
    assert [entry["loss"] for entry in resumed.history] == [entry["loss"] for entry in whole.history]
    assert all(map(torch.equal, whole.model.parameters(), resumed.model.parameters()))


def test_it_is_not_said_that_all_was_saved_where_the_disk_is_full(small, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(CheckpointError, match="disk is full"):
        trainer(small, tmp_path, callbacks=[Interrupt(7, signal.SIGINT)], checkpoint_every=None).fit()
