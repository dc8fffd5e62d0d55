"""Activations reckoned again: the same numbers bit for bit, less memory, and a clear word where there is nothing to repeat."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deepseek.distributed import RankContext
from deepseek.errors import InputError
from deepseek.registry import family
from deepseek.training import Trainer, TrainSettings
from deepseek.training.decisions import decide
from deepseek.training.memory.live import LiveMemory
from deepseek.training.memory.recomputation import keep_activations, recompute_activations, repeated_blocks


class Blocks(nn.Module):
    """Three classes from four numbers by way of wide blocks, with batch statistics and dropout."""

    def __init__(self, depth: int = 4, *, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(16, 64),
                nn.BatchNorm1d(64) if norm else nn.LayerNorm(64),
                nn.ReLU(),
                nn.Dropout(0.3),
                nn.Linear(64, 16),
                nn.Tanh(),
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        x = self.first(inputs["x"])
        for block in self.blocks:
            x = x + block(x)
        return self.head(x).unsqueeze(1)


def gradients(net: Blocks, rows: int = 32) -> list[torch.Tensor]:
    torch.manual_seed(7)
    net.train()
    net.zero_grad()
    net({"x": torch.randn(rows, 4)}).square().sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


def saved_bytes(net: Blocks, rows: int = 64) -> int:
    kept: dict[int, int] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net({"x": torch.randn(rows, 4)})
    return sum(kept.values())


@pytest.mark.parametrize("every", [1, 2, 3])
def test_gradients_and_running_statistics_are_the_same_bit_for_bit(every):
    plain, less = Blocks(), Blocks()
    recompute_activations(less, every)
    assert all(map(torch.equal, gradients(plain), gradients(less)))
    assert all(torch.equal(tensor, less.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_less_is_kept_for_the_backward_pass_and_less_is_alive_at_the_peak():
    plain, half, less = Blocks(), Blocks(), Blocks()
    recompute_activations(half, 2)
    recompute_activations(less, 1)
    assert saved_bytes(less) < 0.5 * saved_bytes(plain)
    assert saved_bytes(less) < saved_bytes(half) < saved_bytes(plain)
    peaks = []
    for net in (plain, less):
        with LiveMemory() as memory:
            gradients(net, rows=512)
        peaks.append(memory.peak_bytes)
    assert peaks[1] < 0.6 * peaks[0]


def test_names_and_copies_stay_what_they_are_and_it_can_be_undone():
    net, plain = Blocks(), Blocks()
    recompute_activations(net, 1)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert [type(module).__name__ for module in net.modules()] == [type(module).__name__ for module in plain.modules()]
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.blocks[0][0].weight.zero_()
    assert not torch.equal(gradients(twin)[2], gradients(net)[2])
    keep_activations(net)
    assert saved_bytes(net) == saved_bytes(plain)
    assert type(net.blocks[0]) is nn.Sequential


def test_blocks_are_layers_of_layers_that_come_more_than_once():
    assert len(repeated_blocks(Blocks(3))) == 3
    assert repeated_blocks(Blocks(1)) == []
    stages = nn.Sequential(nn.Sequential(Blocks(1), Blocks(1)), nn.Sequential(Blocks(1), Blocks(1)))
    assert len(repeated_blocks(stages)) == 4
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def test_nothing_to_repeat_is_refused(small):
    with pytest.raises(InputError, match="needs repeated blocks"):
        recompute_activations(small.net(), 1)
    with pytest.raises(InputError, match="has 4") as caught:
        recompute_activations(Blocks(), 5)
    assert "1 to 4" in caught.value.hint


def settings(**changes) -> TrainSettings:
    return TrainSettings(
        **{"epochs": 2, "batch_size": 32, "precision": "fp32", "optimizer": {"type": "adam", "learning_rate": 0.01}, **changes}
    )


def trained(small, **changes) -> Trainer:
    trainer = Trainer(Blocks(), small.task(), small.data(), small.data(40, seed=1), settings=settings(**changes))
    trainer.fit()
    return trainer


def test_training_with_it_gives_the_same_weights_and_leaves_the_network_as_it_was(small):
    plain, less = trained(small), trained(small, activation_checkpointing=1)
    assert all(torch.equal(tensor, less.model.state_dict()[name]) for name, tensor in plain.model.state_dict().items())
    assert less.state.decisions["activation_checkpointing"] == 1
    assert type(less.model.blocks[0]) is nn.Sequential


def test_auto_looks_at_what_is_free(small, monkeypatch):
    assert trained(small, activation_checkpointing="auto").state.decisions["activation_checkpointing"] == 0
    monkeypatch.setattr("deepseek.training.memory.choice.free_bytes", lambda _: 20_000)
    tight = trained(small, activation_checkpointing="auto").state.decisions
    assert tight["activation_checkpointing"] == 1
    assert "free" in tight["activation_checkpointing_reason"]


def decided(small, monkeypatch, *, free: int, ranks: int = 1, **changes) -> dict:
    monkeypatch.setattr("deepseek.training.memory.choice.free_bytes", lambda _: free)
    monkeypatch.setattr("deepseek.training.decisions.broadcast_message", lambda values, _: values)
    monkeypatch.setattr("deepseek.training.memory.choice.broadcast_message", lambda values, _: values)
    spec, wanted = family("optimizer").build("adam"), settings(activation_checkpointing="auto", **changes)
    return decide(Blocks(), small.task().loss, small.data(20_000), settings=wanted, spec=spec, ranks=RankContext(0, ranks))


def test_auto_knows_the_size_of_the_batch_the_largest_share_and_who_else_is_there(small, monkeypatch):
    def taken(**changes) -> float:
        said = decided(small, monkeypatch, free=1 << 40, **changes)["activation_checkpointing_reason"]
        return float(said.partition(" take ")[2].partition(" MiB")[0])

    assert decided(small, monkeypatch, free=1 << 40, batch_size="auto")["batch_size"] == 256
    monkeypatch.setattr("deepseek.training.decisions.choose_batch_size", lambda *_, **__: {"batch_size": 1024, "reason": "chosen"})
    assert taken(batch_size="auto") == taken(batch_size=1024) > taken(batch_size=256)
    assert taken(batch_size=2048, ranks=2, shares=[3, 1]) > taken(batch_size=2048, ranks=2)
    said = decided(small, monkeypatch, free=1 << 30, batch_size=256, ranks=4)["activation_checkpointing_reason"]
    assert "256.0 MiB are free" in said


@pytest.mark.parametrize("compiled", ["step", "model"])
def test_a_compiler_decides_itself_what_it_keeps(small, compiled):
    with pytest.raises(InputError, match=f"activation_checkpointing does not go with compile: {compiled}"):
        Trainer(Blocks(), small.task(), small.data(), settings=settings(activation_checkpointing=1, compile=compiled))
