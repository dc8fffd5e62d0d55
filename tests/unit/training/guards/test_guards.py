"""What is said when numbers break, leap or stand still, and that a batch cut into pieces for want of memory is the same batch."""

from __future__ import annotations

import copy
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.artifacts import StageCache
from deepseek.data.prepared import PreparedDataset
from deepseek.errors import NonFiniteError, TrainingError
from deepseek.pipeline.planning.subject import subject_of
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.pipeline.run import resolve
from deepseek.recipe import load_recipe
from deepseek.training import State, Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.json_lines import JsonLines
from deepseek.training.callbacks.loss_spikes import LEAST_KNOWN, LossSpikes
from deepseek.training.guards import post_mortem
from deepseek.training.guards.post_mortem import FILE
from deepseek.training.guards.stalls import _PACKAGE, _PLACES, waiting_for
from deepseek.training.remarks import Remarks


def settings(**changes) -> TrainSettings:
    return TrainSettings(
        **{"epochs": 2, "batch_size": 32, "precision": "fp32", "optimizer": {"type": "adam", "learning_rate": 0.01}, **changes}
    )


def damaged(small, row: int) -> PreparedDataset:
    whole = small.data()
    batch = whole.take(np.arange(len(whole)))
    batch.inputs["x"][row, 2] = float("nan")
    sources = np.arange(len(whole)) + 1000
    made = PreparedDataset.from_arrays(batch.inputs, batch.targets)
    made.source_rows = sources
    return made


def step_of(trainer: Trainer, row: int) -> int:
    trainer.peek()
    return next(step for step in range(trainer.loader.steps) if row in trainer.loader.rows(0, step))


def broken(small, folder, *, row=40, net=None, **changes) -> tuple[Trainer, NonFiniteError]:
    trainer = Trainer(net or small.net(dropout=0.2), small.task(), damaged(small, row), settings=settings(**changes), folder=folder)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit()
    return trainer, caught.value


def test_a_nan_is_traced_to_its_step_its_layer_and_its_rows(small, tmp_path):
    trainer, error = broken(small, tmp_path)
    step = step_of(trainer, 40)
    assert f"step {step + 1} was the first: the layer 'hidden' is the first to give NaN or infinity" in error.message
    assert "the input 'x' holds some, rows 1040" in error.message
    found = json.loads((tmp_path / FILE).read_text())
    assert found["bad_rows"] == [1040]
    assert found["layer"] == "hidden"
    assert sorted(found["rows"]) == sorted(trainer.loader.rows(0, step) + 1000)
    assert "no checkpoint was written before" in error.hint


def test_without_a_state_to_go_back_to_nothing_is_guessed(small, tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.training.trainer.first_weights", lambda _: {})
    assert "was the first" not in broken(small, tmp_path)[1].message
    assert not (tmp_path / FILE).exists()


def test_it_goes_back_to_the_last_checkpoint(small, tmp_path, capsys):
    probe = Trainer(small.net(), small.task(), small.data(), settings=settings())
    probe.peek()
    row = int(probe.loader.rows(0, 2)[0])
    trainer, error = broken(small, tmp_path, row=row, checkpoint_every=1)
    assert not trainer.guard.first_weights
    assert "step 3 was the first" in error.message
    assert f"rows {row + 1000}" in error.message
    assert "step-000002" in error.hint
    assert "going back to step 2" in capsys.readouterr().err
    assert trainer.state.step == 3


class Rootless(nn.Module):
    """Its outputs are numbers, and the gradient of a root at nothing is none."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        return (self.head(inputs["x"]) + (self.head.weight * 0.0).sum(dim=1).abs().sqrt()).unsqueeze(1)


def test_a_gradient_that_breaks_first_is_named(small, tmp_path):
    trainer = Trainer(Rootless(), small.task(), small.data(), settings=settings(), folder=tmp_path)
    with pytest.raises(NonFiniteError, match=r"step 1 was the first: the loss is a number, and the gradient of 'head.weight' is not"):
        trainer.fit()


class Failing(nn.Module):
    """Has no memory left once, at its n-th piece."""

    def __init__(self, net, at: int) -> None:
        super().__init__()
        self.net, self.left = net, at

    def forward(self, inputs):
        if self.training:
            self.left -= 1
            if not self.left:
                raise torch.OutOfMemoryError("out of memory")
        return self.net(inputs)


@pytest.mark.parametrize("at", [2, 4])
def test_pieces_made_smaller_in_the_midst_of_a_step_give_the_step_of_small_pieces_bit_for_bit(small, at):
    def fitted(net, accumulate):
        trainer = Trainer(net, small.task(), small.data(), settings=settings(accumulate=accumulate, max_steps=2))
        trainer.fit()
        return trainer

    backed_off, small_from_the_start = fitted(Failing(small.net(dropout=0.5), at), 2), fitted(Failing(small.net(dropout=0.5), 0), 4)
    assert backed_off.state.decisions["micro_batches"] == 4
    if at == 2:  # in the first step: every step is then one of four pieces
        assert all(map(torch.equal, backed_off.model.parameters(), small_from_the_start.model.parameters()))
        assert backed_off.history[-1]["train_loss"] == small_from_the_start.history[-1]["train_loss"]
    assert backed_off.history[-1]["train_loss"] == pytest.approx(small_from_the_start.history[-1]["train_loss"], rel=0.2)


class NoRoomForState(Callback):
    """Has no memory left for what the optimizer keeps, once."""

    def on_fit_start(self, trainer):
        update = trainer.step.update

        def fails(limits):
            trainer.step.update = update
            raise torch.OutOfMemoryError("out of memory")

        trainer.step.update = fails


@pytest.mark.parametrize("accumulate", [1, 2])
def test_memory_that_runs_out_behind_the_backward_pass_ends_training_and_counts_no_row(small, accumulate):
    given = settings(accumulate=accumulate, max_steps=2, clip=[{"type": "autoclip", "percentile": 50}])
    trainer = Trainer(small.net(), small.task(), small.data(), settings=given, callbacks=[NoRoomForState()])
    with pytest.raises(TrainingError, match="behind the backward pass"):
        trainer.fit()
    assert float(trainer.step.denominator) == 0
    assert trainer.step.adaptive.clip[0].made == 1


class Leap(Callback):
    def on_step(self, trainer):
        if trainer.state.step == 40:
            with torch.no_grad():
                trainer.model.head.weight.mul_(-80)


def events_of(small, folder, **changes) -> list[dict]:
    trainer = Trainer(
        small.net(),
        small.task(),
        small.data(),
        settings=settings(log_every=1, epochs=20, **changes),
        callbacks=[JsonLines(), Leap()],
        folder=folder,
    )
    trainer.fit()
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_leap_of_the_loss_is_named_with_its_steps(small, tmp_path, capsys):
    found = [event for event in events_of(small, tmp_path / "a") if event["event"] == "loss_spike"]
    assert found[0]["first_step"] == found[0]["noticed_at_step"] == 41
    assert found[0]["loss"] > 3 * found[0]["usual_loss"]
    assert "the training loss leapt to" in capsys.readouterr().err
    assert not [event for event in events_of(small, tmp_path / "b", loss_spikes=None) if event["event"] == "loss_spike"]


def test_a_loss_that_wavers_is_no_leap():
    said = Remarks()
    trainer = SimpleNamespace(state=State(), remarks=said, is_main=True)
    watch, random = LossSpikes(deviations=8.0), np.random.default_rng(0)
    watch.on_fit_start(trainer)

    def look(loss: float) -> None:
        trainer.state.step += 10
        trainer.state.loss_sum = (trainer.state.loss_sum[0] + 320 * loss, trainer.state.loss_sum[1] + 320)
        watch.on_log(trainer)

    for _ in range(200):
        look(1.0 + 0.1 * random.standard_normal())
    assert not said.since(0)
    look(2.5)
    assert said.since(0)[0].values["first_step"] == 2001
    for _ in range(LEAST_KNOWN):
        look(1.0)
    assert len(said.since(0)) == 1


def test_training_that_stands_still_is_reported_with_what_it_waits_for(small):
    data = small.data()
    trainer = Trainer(small.net(), small.task(), data, settings=settings(stall_s=0.05, epochs=1))
    take, until = data.take, time.monotonic() + 120

    def of_data():
        # what comes before, as libraries that are loaded, may take as long on a slow machine, and is said then, too
        return [remark for remark in trainer.remarks.since(0) if remark.values["waits_for"] == "data"]

    def slow(rows, **options):
        while trainer.state.decisions and not of_data() and time.monotonic() < until:
            threading.Event().wait(0.01)
        return take(rows, **options)

    data.take = slow
    trainer.fit()
    stall = of_data()[0]
    assert stall.event == "stall"
    assert "data/loader.py" in stall.values["line"]
    assert stall.values["seconds"] >= 0.05


def test_no_thread_looks_on_where_nobody_asks(small):
    names: list[str] = []

    class Look(Callback):
        def on_step(self, trainer):
            names.extend(thread.name for thread in threading.enumerate())

    for stall_s in (None, 60.0):
        Trainer(small.net(), small.task(), small.data(), settings=settings(stall_s=stall_s, epochs=1), callbacks=[Look()]).fit()
        assert ("deepseek-stalls" in names) is (stall_s is not None)
    assert "deepseek-stalls" not in [thread.name for thread in threading.enumerate()]


def test_elsewhere_is_said_to_be_elsewhere():
    assert waiting_for(None)[0] == "something outside of the steps"


def made_again(trainer: Trainer) -> list[torch.Tensor]:
    """Make all steps of a finished run again, as it is done to look for a NaN, and return the weights before."""
    before, last = [parameter.detach().clone() for parameter in trainer.model.parameters()], trainer.state.step
    trainer.state = copy.copy(trainer.state)
    assert post_mortem._rewind(trainer)
    assert trainer.state.step < last
    assert post_mortem._first_broken(trainer, last) is None
    return before


def test_steps_that_are_made_again_follow_the_metric_as_they_did(small):
    plateau = {"type": "plateau", "patience": 0, "min_delta": 100.0, "gamma": 0.5}
    wanted = settings(epochs=4, schedule=plateau, restore_best=False)
    trainer = Trainer(small.net(), small.task(), small.data(), small.data(seed=1), settings=wanted)
    trainer.fit()
    fallen = trainer.schedule.state_dict()
    assert fallen["scale"] < 0.5
    before = made_again(trainer)
    assert trainer.schedule.state_dict() == fallen
    assert all(map(torch.equal, before, trainer.model.parameters()))


def test_steps_that_are_made_again_remember_what_they_had_read(tmp_path):
    (tmp_path / "verse.txt").write_text("the king is dead, long live the queen, and all that she has read\n" * 60)
    recipe = load_recipe(
        {
            "name": "verse",
            "data": {"source": {"type": "corpus", "path": str(tmp_path / "verse.txt"), "piece": 40}, "split": {"on_leak": "ignore"}},
            "task": {"type": "language_modelling", "length": 16},
            "model": {"type": "transformer_xl", "width": 16, "depth": 2, "heads": 2, "mem_len": 16},
        }
    )
    dataset = make_dataset(recipe, StageCache(tmp_path / "cache"))
    subject = subject_of(resolve(recipe, dataset)[0], dataset)
    wanted = settings(batch_size=4, max_steps=5, restore_best=False)
    trainer = Trainer(subject.model, subject.model.task, subject.splits["train"], settings=wanted)
    trainer.fit()
    assert all(map(torch.equal, made_again(trainer), trainer.model.parameters()))


def test_a_rank_that_waits_for_others_says_so():
    for file in ("training/communication.py", "distributed/exchange/two_phase.py", "distributed/sync.py"):
        frame = SimpleNamespace(f_code=SimpleNamespace(co_filename=str(_PACKAGE / file), co_name="wait"), f_lineno=7, f_back=None)
        assert waiting_for(frame)[0] == "the other ranks"


def test_what_is_waited_for_is_told_by_files_that_are_there():
    assert all((_PACKAGE / place).exists() for place in _PLACES)
