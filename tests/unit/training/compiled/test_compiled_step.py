"""The compiled step against the ordinary one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.errors import InputError
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback


class Kill(Callback):
    def on_checkpoint(self, trainer):
        if trainer.state.step == 9:  # the batch after it is the epoch's last and smaller one
            raise KeyboardInterrupt


def make(small, *, net=None, folder=None, callbacks=(), **changes) -> Trainer:
    given = {
        "epochs": 100,
        "max_steps": 48,
        "batch_size": 20,  # five batches an epoch, the last of 16 rows
        "precision": "fp32",
        "optimizer": {"type": "adamw", "weight_decay": 0.1, "learning_rate": 0.01},
        "schedule": "cosine",
        "clip_norm": 0.3,
        "ema": 0.9,
    }
    settings = TrainSettings(**{**given, **changes})
    return Trainer(
        net or small.net(norm=True), small.task(), small.data(weighted=True), settings=settings, callbacks=callbacks, folder=folder
    )


def fit(small, **changes) -> Trainer:
    trainer = make(small, **changes)
    trainer.fit()
    return trainer


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    optimizer = {
        f"{index}/{key}": value
        for index, parameter in enumerate(trainer.model.parameters())
        for key, value in trainer.optimizer.state[parameter].items()
    }
    return {**trainer.model.state_dict(), **trainer.average.average, **optimizer}


def assert_same(a: Trainer, b: Trainer) -> None:
    for (name, x), y in zip(state(a).items(), state(b).values(), strict=True):
        assert torch.equal(x, y), name
    assert [entry["train_loss"] for entry in a.history] == [entry["train_loss"] for entry in b.history]


@pytest.mark.slow
def test_several_steps_a_call_are_single_ones_bit_for_bit_and_the_ordinary_ones_but_for_roundings(small):
    plain, single, several = fit(small), fit(small, compile="step", steps_per_call=1), fit(small, compile="step")
    assert [key[0] for key in single.step._programs] == [1]
    assert {key[0] for key in several.step._programs} == {1, 4}
    assert_same(single, several)
    for (name, a), b in zip(state(plain).items(), state(several).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, msg=name)
    assert np.isclose(plain.history[-1]["train_loss"], several.history[-1]["train_loss"], rtol=1e-5)
    assert not torch.equal(plain.model.hidden.weight, several.model.hidden.weight)  # or nothing was compiled


@pytest.mark.slow
def test_a_resumed_run_with_dropout_is_the_uninterrupted_one_and_may_go_on_uncompiled(small, tmp_path):
    def net():
        return small.net(dropout=0.3, norm=True)

    whole = fit(small, net=net(), compile="step", max_steps=16)
    assert whole.step.steps_per_call == 1  # each step's generator is seeded before it
    assert not torch.equal(fit(small, net=small.net(norm=True), max_steps=16).model.head.weight, whole.model.head.weight)
    for way in ("step", "off"):
        folder = tmp_path / way
        with pytest.raises(KeyboardInterrupt):
            fit(small, net=net(), compile="step", max_steps=16, folder=folder, checkpoint_every=9, callbacks=[Kill()])
        resumed = make(small, net=net(), compile=way, max_steps=16, folder=folder)
        resumed.fit(resume=True)
        assert resumed.state.step == 16
        if way == "step":
            assert_same(whole, resumed)
        else:  # other dropout masks, the same optimizer state
            assert resumed.optimizer.state[resumed.model.head.weight]["step"] == 16


def test_averaging_weights_by_hand_is_the_average(small):
    trainer = make(small)
    trainer._start(resume=False)
    shares = trainer.average.advance(3)
    assert shares == [1 - min(0.9, (1 + t) / (10 + t)) for t in (1, 2, 3)]
    assert trainer.average.updates == 3


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"precision": "bf16"}, {"l1": 0.1}, {"accumulate": 2}], ids=str)
def test_what_it_cannot_do_is_refused(small, changes):
    with pytest.raises(InputError, match="compile: step does not go with"):
        fit(small, compile="step", **changes)


def test_a_parameter_that_the_loss_does_not_use_is_refused(small):
    net = small.net()
    net.extra = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"does not depend on extra\.weight, extra\.bias"):
        fit(small, net=net, compile="step")


def test_a_callback_that_looks_at_every_step_gets_every_step(small):
    class Look(Callback):
        def on_step(self, trainer):
            pass

    assert make(small, callbacks=[Look()])._steps_per_call() == 1
    assert make(small)._steps_per_call() == 4
    assert make(small, steps_per_call=2)._steps_per_call() == 2


def test_auto_precision_is_float32(small):
    trainer = make(small, precision="auto", compile="step")
    trainer._start(resume=False)
    assert trainer.precision.name == "fp32"
