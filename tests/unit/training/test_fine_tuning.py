"""Fine-tuning: what is frozen stays, what is unfrozen learns from its epoch on, and a resumed run trains what it would have."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from deepseek.errors import InputError
from deepseek.models.adapters import AdapterSettings, adapted_layers, load_adapters
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.checkpoints.files import list_checkpoints
from deepseek.training.fine_tuning import ADAPTERS_FILE, FineTune, FineTuning

BLOCKS = ("encoder.layers.0", "encoder.layers.1", "encoder.layers.2")


class Watch(Callback):
    """Keeps the weights of every validation, and whether the normalisations were still then."""

    def __init__(self):
        self.kept, self.still = [], []

    def on_validation(self, trainer):
        self.kept.append({name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()})
        self.still.append([not part.training for part in trainer.model.modules() if isinstance(part, nn.BatchNorm1d)])


class Kill(Callback):
    """Dies after the checkpoint of a step."""

    def __init__(self, step):
        self.step = step

    def on_checkpoint(self, trainer):
        if trainer.state.step == self.step:
            raise KeyboardInterrupt


def trainer(small, fine_tune, *, callbacks=(), folder=None, **changes):
    given = {"epochs": 4, "batch_size": 24, "precision": "fp32", "ema": None, "restore_best": False, "optimizer": {"type": "adamw"}}
    settings = TrainSettings(**{**given, "learning_rate": 0.02, "fine_tune": fine_tune, **changes})
    data, validation = small.data(), small.data(40, seed=1)
    return Trainer(small.pretrained(), small.task(), data, validation, settings=settings, callbacks=callbacks, folder=folder)


def moved(before, after):
    """Return which of the blocks changed, batch statistics among them."""
    return [any(not torch.equal(before[name], after[name]) for name in before if name.startswith(block)) for block in BLOCKS]


@pytest.mark.parametrize(
    ("freeze", "wanted"), [("none", [True, True, True]), ("all", [False] * 3), (1, [False, False, True]), (9, [True] * 3)]
)
def test_frozen_blocks_stay_to_the_bit_statistics_among_them(small, freeze, wanted):
    made = trainer(small, FineTune(freeze=freeze))
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    made.fit()
    after = made.model.state_dict()
    assert moved(before, after) == wanted
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_frozen_normalisations_stay_in_evaluation_over_validations(small):
    watch = Watch()
    trainer(small, FineTune(freeze=1), callbacks=[watch]).fit()
    assert watch.still == [[True, True, False]] * 4


def test_blocks_are_unfrozen_one_by_one_from_the_top(small):
    watch = Watch()
    made = trainer(small, FineTune(freeze="all", unfreeze_every=1), callbacks=[watch])
    first = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    made.fit()
    kept = [first, *watch.kept]
    steps = [moved(before, after) for before, after in pairwise(kept)]
    assert steps == [[False, False, False], [False, False, True], [False, True, True], [True, True, True]]


def test_what_trained_before_an_unfreezing_keeps_its_optimizers_state(small):
    made = trainer(small, FineTune(freeze="all", unfreeze_every=2))
    made.fit()
    steps = {
        name: int(made.optimizer.state[parameter]["step"]) for name, parameter in made.model.named_parameters() if parameter.requires_grad
    }
    assert steps["head.weight"] == made.state.step == 16
    assert steps["encoder.layers.2.0.weight"] == 8
    assert "encoder.layers.1.0.weight" not in steps


@pytest.mark.parametrize("step", [2, 4, 5, 9, 12])
@pytest.mark.parametrize(
    "fine_tune",
    [
        FineTune(freeze="all", unfreeze_every=1, layer_decay=0.5),
        FineTune(adapters=AdapterSettings(method="dora", rank=2, dropout=0.2), head_rate=2.0),
    ],
    ids=["unfreezing", "adapters"],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(small, tmp_path, fine_tune, step):
    whole = trainer(small, fine_tune, folder=tmp_path / "whole", checkpoint_every=1, keep=20)
    whole.fit()
    broken = {"folder": tmp_path / "broken", "checkpoint_every": 1, "keep": 20}
    with pytest.raises(KeyboardInterrupt):
        trainer(small, fine_tune, callbacks=[Kill(step)], **broken).fit()
    assert list_checkpoints(tmp_path / "broken" / "checkpoints")[-1].name == f"step-{step:06d}"
    resumed = trainer(small, fine_tune, **broken)
    resumed.fit(resume=True)
    wanted = whole.model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in resumed.model.state_dict().items())
    drop = {"seconds"}
    assert [{k: v for k, v in entry.items() if k not in drop} for entry in resumed.history] == [
        {k: v for k, v in entry.items() if k not in drop} for entry in whole.history
    ]


def test_rates_fall_from_block_to_block_and_the_head_has_its_own(small):
    made = trainer(small, FineTune(layer_decay=0.5, head_rate=3.0), schedule="constant", epochs=1)
    made.fit()
    rates = {id(parameter): group["lr"] for group in made.optimizer.param_groups for parameter in group["params"]}
    by_name = {name: rates[id(parameter)] for name, parameter in made.model.named_parameters()}
    assert by_name["head.weight"] == pytest.approx(0.06)
    assert [by_name[f"{block}.0.weight"] for block in BLOCKS] == pytest.approx([0.0025, 0.005, 0.01])
    assert made.history[-1]["learning_rate"] == pytest.approx(0.02)


def test_with_adapters_only_they_and_the_head_train_and_the_end_is_the_plain_network(small, tmp_path):
    settings = AdapterSettings(rank=2)
    made = trainer(small, FineTune(adapters=settings, keep_adapters=True), folder=tmp_path)
    names = set(small.pretrained().state_dict())
    trained = {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    assert trained == {"head.weight", "head.bias", *(f"{block}.0.{part}" for block in BLOCKS for part in ("lora_down", "lora_up"))}
    made.fit()
    after = made.model.state_dict()
    assert set(after) == names
    assert not list(adapted_layers(made.model))
    changed = {"head.weight", "head.bias", *(f"{block}.0.weight" for block in BLOCKS)}
    assert all(not torch.equal(before[name], after[name]) for name in changed)
    assert all(torch.equal(before[name], after[name]) for name in names if name not in changed)
    fresh = small.pretrained().eval()
    load_adapters(fresh, tmp_path / ADAPTERS_FILE)
    inputs = {"x": torch.randn(5, 4)}
    torch.testing.assert_close(fresh(inputs), made.model.eval()(inputs), rtol=1e-5, atol=1e-5)


def test_adapters_are_kept_by_themselves_only_where_asked_for(small, tmp_path):
    trainer(small, FineTune(adapters=AdapterSettings(rank=1)), folder=tmp_path, epochs=1).fit()
    assert not (tmp_path / ADAPTERS_FILE).exists()


def test_what_trains_is_told_and_kept(small):
    made = trainer(small, FineTune(freeze=1, unfreeze_every=3, layer_decay=0.5), epochs=1)
    made.fit()
    groups = made.state.decisions["fine_tune"]
    assert [group["name"] for group in groups] == ["head", *(f"encoder: layers.{place}" for place in (2, 1, 0))]
    assert [group["since"] for group in groups] == ["the first epoch", "the first epoch", "epoch 4", "epoch 7"]
    assert [group["learning_rate"] for group in groups] == pytest.approx([0.02, 0.01, 0.005, 0.0025])
    frozen = FineTuning(small.pretrained(), FineTune(freeze="all")).groups(0.1)
    assert [(group["trained"], group["since"]) for group in frozen[1:]] == [(0, None)] * 3
    adapted = FineTuning(small.pretrained(), FineTune(adapters=AdapterSettings(rank=1))).groups(0.1)
    assert [group["trained"] for group in adapted[1:]] == [8] * 3


def test_what_makes_no_sense_is_refused(small):
    with pytest.raises(InputError, match="nothing to fine-tune"):
        FineTuning(small.net(), FineTune())
    for wrong in (
        {"freeze": 0},
        {"freeze": "some"},
        {"unfreeze_every": 1},
        {"freeze": "all", "unfreeze_every": 0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.5},
        {"head_rate": 0.0},
        {"freeze": "all", "adapters": AdapterSettings()},
    ):
        with pytest.raises(InputError):
            FineTune(**wrong)
    with pytest.raises(InputError, match="compile: step does not go with"):
        trainer(small, FineTune(freeze="all", unfreeze_every=1), compile="step")
