"""Clipping by history, skipped steps and rates by layer in a training: switched on and off, resumed, in pieces, in fp16, over ranks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deepseek.data.prepared import PreparedDataset
from deepseek.errors import CheckpointError, InputError
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.json_lines import JsonLines

AUTO = {"type": "autoclip", "percentile": 50.0, "warmup": 2, "every": 3, "window": 12}
RATES = {"type": "gradient_variance", "every": 2, "warmup": 2}
EVERYTHING = {"clip": [{"type": "skip_spikes", "factor": 3.0, "warmup": 4, "every": 1}, AUTO, "agc"], "layer_rates": RATES}


class Kill(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, trainer):
        if trainer.state.step == self.step:
            raise KeyboardInterrupt


def trainer(small, folder=None, *, callbacks=(), net=None, data=None, **changes) -> Trainer:
    given = {"epochs": 6, "batch_size": 20, "precision": "fp32", "optimizer": {"type": "adamw", "learning_rate": 0.02}}
    settings = TrainSettings(**{**given, **changes})
    rows = data or small.data(weighted=True)
    return Trainer(net or small.net(), small.task(), rows, small.data(40, seed=1), settings=settings, callbacks=callbacks, folder=folder)


def weights(small, *args, **changes) -> list[torch.Tensor]:
    made = trainer(small, *args, **changes)
    made.fit()
    return [parameter.detach().clone() for parameter in made.model.parameters()]


def same(one, other) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    "clip", [AUTO, "agc", {"type": "zclip", "threshold": 0.5, "warmup": 2}, {"type": "norm", "max_norm": 0.01}], ids=str
)
def test_every_clipping_changes_the_weights(small, clip):
    assert not same(weights(small), weights(small, clip=[clip]))


def test_rates_by_layer_change_the_weights_and_bounds_of_1_do_not(small):
    plain = weights(small)
    assert not same(plain, weights(small, layer_rates=RATES))
    assert same(plain, weights(small, layer_rates={**RATES, "low": 1.0, "high": 1.0}))


def test_norm_over_the_model_is_clip_norm(small):
    for a, b in zip(weights(small, clip_norm=0.05), weights(small, clip=[{"type": "norm", "max_norm": 0.05}]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("killed_at", [5, 14])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_resumed_run_is_the_uninterrupted_one(small, tmp_path, killed_at, precision):
    whole = trainer(small, tmp_path / "a", precision=precision, **EVERYTHING)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        changes = {"callbacks": [Kill(killed_at)], "checkpoint_every": killed_at, "precision": precision, **EVERYTHING}
        trainer(small, tmp_path / "b", **changes).fit()
    resumed = trainer(small, tmp_path / "b", precision=precision, **EVERYTHING)
    resumed.fit(resume=True)
    assert same(whole.model.parameters(), resumed.model.parameters())
    ours, theirs = whole.step.adaptive.state_dict(), resumed.step.adaptive.state_dict()
    assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)
    assert ours["rates GradientVariance/made"] == 30


def test_a_checkpoint_without_its_histories_is_refused(small, tmp_path):
    trainer(small, tmp_path, **EVERYTHING).fit()
    with pytest.raises(CheckpointError, match="has histories of gradients"):
        trainer(small, tmp_path).fit(resume=True)
    with pytest.raises(CheckpointError, match="the checkpoint has histories of"):
        trainer(small, tmp_path, clip=["zclip"]).fit(resume=True)


def test_pieces_of_a_batch_are_the_batch(small):
    """Clipping sees the gradient of the whole batch; pieces add up in another order."""
    changes = {"clip": [AUTO, "agc"], "layer_rates": RATES, "optimizer": {"type": "sgd", "learning_rate": 0.05}}
    for a, b in zip(weights(small, **changes), weights(small, accumulate=4, **changes), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def spiky(small) -> PreparedDataset:
    """Rows of which a few are a thousand times too large, and wrongly labelled."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((400, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    bad = np.arange(100, 400, 50)
    x[bad], y[bad] = x[bad] * 1000.0, (y[bad] + 1) % 3
    return PreparedDataset.from_arrays({"x": x}, {"target": y})


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])  # the one decides on the device, the other waits for it
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_spikes_are_not_made_counted_and_named(small, tmp_path, capsys, optimizer, precision):
    clip = [{"type": "skip_spikes", "factor": 8.0, "warmup": 4}]
    moved: list[tuple[int, bool]] = []

    class Watch(Callback):
        def on_step(self, trainer):
            told = trainer.step.told().left_out.steps
            now = [parameter.detach().clone() for parameter in trainer.model.parameters()]
            state = [tensor.clone() for values in trainer.optimizer.state.values() for tensor in values.values() if torch.is_tensor(tensor)]
            if moved and told > moved[-1][0]:
                assert same(now, self.before)
                assert len(state) != len(self.state) or same(state, self.state)
            moved.append((told, True))
            self.before, self.state = now, state

    given = {"epochs": 4, "batch_size": 10, "precision": precision, "optimizer": {"type": optimizer, "learning_rate": 0.01}}
    data, callbacks = spiky(small), [Watch(), JsonLines()]
    made = trainer(small, tmp_path, data=data, callbacks=callbacks, clip=clip, **given)
    made.fit()
    left_out = made.step.told().left_out
    assert 6 <= left_out.steps <= 24  # at most six an epoch
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["spikes"] for line in lines if line["event"] == "log"][-1] == left_out.steps
    assert f"the last being step {left_out.last}: its gradient norm was" in capsys.readouterr().err


def test_events_tell_the_rates_and_how_often_it_was_clipped(small, tmp_path):
    trainer(small, tmp_path, callbacks=[JsonLines()], **EVERYTHING).fit()
    last = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines() if '"log"' in line][-1]
    assert set(last["layer_rates"]) == {"hidden", "head"}
    assert all(0.5 <= rate <= 2.3 for rate in last["layer_rates"].values())
    assert 0.0 < last["clipped_share"] <= 1.0


def test_both_ways_of_saying_it_are_one_too_many():
    with pytest.raises(InputError, match=r"train\.clip and train\.clip_norm are both given") as raised:
        TrainSettings(clip=["agc"], clip_norm=1.0)
    assert "{type: norm, max_norm: 1}" in raised.value.hint
    with pytest.raises(InputError, match=r"train\.clip_value"):
        TrainSettings(clip=("agc",), clip_value=1.0)


@pytest.mark.parametrize("changes", [{"clip": ["agc"]}, {"layer_rates": "gradient_variance"}], ids=str)
def test_the_compiled_step_refuses_it(small, changes):
    with pytest.raises(InputError, match="compile: step does not go with clip, layer_rates"):
        trainer(small, compile="step", **changes).fit()


def test_histories_survive_unfreezing(small):
    from deepseek.training.fine_tuning import FineTune

    tuned = {"fine_tune": FineTune(freeze="all", unfreeze_every=2), "clip": [{**AUTO, "per": "layer", "every": 5}], "layer_rates": RATES}
    seen: list[dict[str, float]] = []

    class Watch(Callback):
        def on_step(self, trainer):
            limits = dict(
                zip(trainer.step.adaptive.clip[0].parts.names, trainer.step.adaptive.clip[0].state["quantile"].tolist(), strict=True)
            )
            seen.append(limits)

    trainer(small, net=small.pretrained(), callbacks=[Watch()], **tuned).fit()
    assert len(seen[0]) < len(seen[-1])
    grown = next(place for place in range(1, len(seen)) if len(seen[place]) > len(seen[place - 1]))
    kept = set(seen[grown]) & set(seen[grown - 1])
    assert kept
    assert all(np.isfinite(seen[grown][name]) for name in kept)
    assert any(np.isinf(value) for name, value in seen[grown].items() if name not in kept)


@pytest.mark.parametrize("killed_at", [5, 10, 13])  # within an epoch, and between two: just before another block begins to train
@pytest.mark.parametrize("per", ["layer", "group"])
def test_a_run_that_unfreezes_is_resumed_bit_for_bit(small, tmp_path, per, killed_at):
    from deepseek.training.fine_tuning import FineTune

    changes = {
        "fine_tune": FineTune(freeze="all", unfreeze_every=1, layer_decay=0.5),
        "clip": [{**AUTO, "per": per}, {"type": "zclip", "warmup": 2, "per": per}, {"type": "skip_spikes", "warmup": 3}],
        "layer_rates": RATES,
        "epochs": 4,
    }
    whole = trainer(small, net=small.pretrained(), **changes)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer(small, tmp_path, net=small.pretrained(), callbacks=[Kill(killed_at)], checkpoint_every=killed_at, **changes).fit()
    resumed = trainer(small, tmp_path, net=small.pretrained(), **changes)
    resumed.fit(resume=True)
    assert same(whole.model.state_dict().values(), resumed.model.state_dict().values())
    ours, theirs = whole.step.adaptive.state_dict(), resumed.step.adaptive.state_dict()
    assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)


@pytest.mark.parametrize("clip", [{"type": "zclip", "warmup": 3, "per": "layer"}, {**AUTO, "per": "layer"}], ids=str)
def test_a_block_that_begins_later_trains_under_clipping(small, clip):
    from deepseek.training.fine_tuning import FineTune

    tuned = {"fine_tune": FineTune(freeze="all", unfreeze_every=1), "ema": None, "restore_best": False}
    made = trainer(small, net=small.pretrained(), clip=[clip], **tuned)
    before = {name: tensor.detach().clone() for name, tensor in made.model.named_parameters()}
    made.fit()
    moved = {name: float((tensor.detach() - before[name]).abs().max()) for name, tensor in made.model.named_parameters()}
    assert all(moved[f"encoder.layers.{block}.0.weight"] > 1e-2 for block in range(3))


@pytest.mark.parametrize(("optimizer", "pieces"), [("adamw", 1), ("sgd", 1), ("adamw", 4)])
def test_a_loss_that_is_not_a_number_is_left_out_with_its_step(small, optimizer, pieces):
    """The run goes on, its loss is that of the steps that were made, and neither weights nor their average take the batch in."""
    x = np.random.default_rng(0).standard_normal((96, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    x[7] = np.nan
    averages: list[tuple[int, list[torch.Tensor]]] = []

    class Watch(Callback):
        def on_step(self, trainer):
            kept = [tensor.clone() for tensor in trainer.average.average.values()]
            averages.append((trainer.step.told().left_out.steps, kept))

    given = {"clip": ["skip_spikes"], "epochs": 2, "accumulate": pieces, "ema": 0.5}
    data = PreparedDataset.from_arrays({"x": x}, {"target": y})
    made = trainer(small, data=data, callbacks=[Watch()], optimizer={"type": optimizer, "learning_rate": 0.01}, **given)
    made.fit()
    assert made.step.told().left_out.steps == 2
    assert [entry["step"] for entry in made.state.history] == [5, 10]
    assert all(0.0 < entry["train_loss"] < 2.0 for entry in made.state.history)
    assert all(bool(tensor.isfinite().all()) for tensor in [*made.model.parameters(), *averages[-1][1]])
    stood = [same(kept, before) for (count, kept), (known, before) in zip(averages[1:], averages[:-1], strict=True) if count > known]
    assert stood
    assert all(stood)
    assert sum(same(kept, before) for (_, kept), (_, before) in zip(averages[1:], averages[:-1], strict=True)) == len(stood)
