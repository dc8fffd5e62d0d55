"""How a model is cut, what is refused, and what `auto` takes: all that needs no second process."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.distributed import RankContext
from deepseek.distributed.devices import Memory
from deepseek.distributed.strategies import Piece, Placement, Situation, automatic
from deepseek.distributed.strategies.automatic import Automatic, training_bytes
from deepseek.distributed.strategies.base import Everyone, called_in
from deepseek.distributed.strategies.chain import cuts_of
from deepseek.distributed.strategies.contract import Blocks
from deepseek.distributed.strategies.ddp import DataParallel
from deepseek.distributed.strategies.fsdp import FullySharded, blocks_of
from deepseek.distributed.strategies.horovod import Horovod, HorovodExchange, horovod, horovod_store
from deepseek.distributed.strategies.pipeline import PipelineParallel, stages_of
from deepseek.distributed.strategies.tensor import DrawnApart, TensorParallel, dropouts_within, plan_of
from deepseek.distributed.sync import GradientSync
from deepseek.errors import InputError
from deepseek.models.encoders.text_transformer import TransformerBlock
from deepseek.training import TrainSettings
from deepseek.training.placing import require_rows, strategy_note

ROW = Batch({"x": torch.zeros(1, 4)})


def situation(ranks=2, row=ROW):
    return Situation(ranks=RankContext(0, ranks), row=row, batch_rows=8)


@pytest.mark.parametrize(
    ("strategy", "ranks", "told"),
    [
        ("auto", 1, ""),
        ("ddp", 1, ""),
        ({"type": "pipeline", "micro_batches": 2}, 1, "strategy pipeline has nothing to share out on one device"),
        ("auto", 2, "2 devices, strategy ddp: it fits"),
    ],
    ids=str,
)
def test_how_a_model_is_shared_out_is_said_and_so_is_that_it_is_not(strategy, ranks, told):
    note = strategy_note(TrainSettings(strategy=strategy), RankContext(0, ranks), name="ddp", why="ddp: it fits")
    assert note.startswith(told)
    assert bool(note) is bool(told)


class TestCuts:
    @pytest.mark.parametrize(
        ("sizes", "parts", "cuts"), [([1, 1, 1, 1], 2, [2]), ([9, 1, 1, 1], 2, [1]), ([1, 2, 3, 4, 5], 3, [3, 4]), ([7], 1, [])]
    )
    def test_the_largest_part_is_as_small_as_can_be(self, sizes, parts, cuts):
        found = cuts_of(sizes, parts)
        assert found == cuts

    def test_a_piece_is_a_part_of_a_tensor(self):
        whole = torch.arange(12).reshape(3, 4)
        assert Piece((3, 4), (1, 2), (2, 2)).of(whole).tolist() == [[6, 7], [10, 11]]
        assert torch.equal(Piece.whole(whole.shape).of(whole), whole)


class TestBlocks:
    def test_members_of_lists_are_let_go_of_one_by_one(self):
        model = Blocks()
        assert blocks_of(model, ROW.inputs) == list(model.blocks)

    def test_a_block_that_is_only_read_or_shares_weights_is_not(self):
        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
                self.tied = nn.Linear(4, 4)
                self.tied.weight = self.layers[2].weight

            def forward(self, inputs):
                return self.layers[2](self.layers[0](inputs["x"]) @ self.layers[1].weight) + self.tied(inputs["x"])

        model = Reads()
        assert model.layers[1] not in called_in(model, ROW.inputs)
        assert blocks_of(model, ROW.inputs) == [model.layers[0]]


class TestTensor:
    def test_layers_in_a_row_are_cut_by_columns_and_rows_and_others_by_columns(self):
        model = Blocks()
        plan = {name: type(style).__name__ for name, style in plan_of(model, situation()).items()}
        assert [plan[f"blocks.{place}.0"] for place in range(6)] == ["ColwiseParallel", "RowwiseParallel"] * 3

    def test_a_transformer_says_which_of_its_layers_go_together(self):
        class Reader(nn.Module):
            def __init__(self, activation):
                super().__init__()
                self.block = TransformerBlock(8, 2, expansion=2.0, activation=activation, dropout=0.0)

            def forward(self, inputs):
                return self.block(inputs["x"].reshape(1, 2, 8), torch.ones(1, 1, 1, 2, dtype=torch.bool), None)

        row = Batch({"x": torch.zeros(1, 16)})
        plain = {name: type(style).__name__ for name, style in plan_of(Reader("gelu"), situation(row=row)).items()}
        assert (plain["block.feed_in"], plain["block.feed_out"]) == ("ColwiseParallel", "RowwiseParallel")
        for activation in ("swiglu", "geglu"):  # a gate's halves do not stay together where its columns are shared out
            gated = {name: type(style).__name__ for name, style in plan_of(Reader(activation), situation(row=row)).items()}
            assert set(gated.values()) == {"ColwiseParallel"}

    def test_a_model_without_linear_layers_is_refused(self):
        model = nn.Module()
        model.scale = nn.Parameter(torch.ones(4))
        model.forward = lambda inputs: inputs["x"] * model.scale
        with pytest.raises(InputError, match="no linear layer"):
            TensorParallel().place(model, situation())

    def test_what_is_dropped_of_a_ranks_own_values_is_its_own(self):
        """Drawn alike on every rank it would be the same columns of each part; what all ranks have must still be drawn alike."""
        model = nn.Sequential(_Take(), nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 4), nn.Dropout(0.5))
        assert dropouts_within(model, plan_of(model, situation()), situation()) == ["2"]
        drawn, after = [], []
        for rank in (0, 1, 0):
            torch.manual_seed(3)
            drawn.append(DrawnApart(model[2], RankContext(rank, 2))(torch.ones(1, 64)))
            after.append(model[4](torch.ones(1, 64)))
        assert torch.equal(drawn[0], drawn[2])
        assert not torch.equal(drawn[0], drawn[1])
        assert torch.equal(after[0], after[1])
        assert torch.equal(DrawnApart(model[2], RankContext(1, 2)).eval()(torch.ones(3)), torch.ones(3))

    def test_a_sequence_counts_only_where_it_is_called_as_one(self):
        """Whoever calls its members one by one, or otherwise, may look at what lies between them, of which a rank would have a part."""

        class Skipping(nn.Sequential):
            def forward(self, x):
                for part in self:
                    x = part(x) + x
                return x

        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.skipping = Skipping(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
                self.apart = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
                self.called = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

            def forward(self, inputs):
                x = self.skipping(inputs["x"])
                between = self.apart[1](self.apart[0](x))
                return self.called(self.apart[2](between) + between.mean())

        plan = {name: type(style).__name__ for name, style in plan_of(Reads(), situation()).items()}
        assert {name for name, style in plan.items() if style == "RowwiseParallel"} == {"called.2"}

    def test_a_chain_counts_only_where_the_model_answers_as_it_does(self):
        class Other(Blocks):
            def forward(self, inputs):
                x = inputs["x"]
                for block in self.blocks:
                    x = block(x) + x.mean()
                return x

        assert {type(style).__name__ for style in plan_of(Other(), situation()).values()} == {"ColwiseParallel"}


class _Take(nn.Module):
    def forward(self, inputs):
        return inputs["x"]


class TestPipeline:
    def test_stages_have_equal_weights_and_no_more_than_there_are(self):
        model = Blocks()
        stages = stages_of(model, 2, row=ROW)
        counts = [sum(parameter.numel() for part in stage for parameter in part.parameters()) for stage in stages]
        assert sum(counts) == sum(parameter.numel() for parameter in model.parameters())
        assert max(counts) <= 0.6 * sum(counts)
        with pytest.raises(InputError, match="6 blocks into 7"):
            stages_of(model, 7, row=ROW)

    def test_what_cannot_be_cut_is_refused_with_the_reason(self):
        with pytest.raises(InputError, match="does not say that it is a chain"):
            stages_of(nn.Linear(4, 2), 2, row=ROW)
        normed = Blocks()
        normed.blocks[1].append(nn.BatchNorm1d(8))
        with pytest.raises(InputError, match="batch normalisation"):
            stages_of(normed, 2, row=ROW)
        with pytest.raises(InputError, match="rows of one shape"):
            stages_of(Blocks(), 2, row=Batch({"x": torch.zeros(1, 4), "x_mask": torch.ones(1, 4, dtype=torch.bool)}))
        tied = Blocks()
        tied.blocks[4][0].weight = tied.blocks[1][0].weight
        with pytest.raises(InputError, match="share a weight"):
            stages_of(tied, 2, row=ROW)
        frozen = Blocks()
        frozen.blocks[:3].requires_grad_(False)
        with pytest.raises(InputError, match="nothing to train in stage 0"):
            stages_of(frozen, 2, row=ROW)
        with pytest.raises(InputError, match="needs 5 micro_batches"):
            PipelineParallel(micro_batches=4).place(Blocks(), situation(5))

    def test_a_chain_that_answers_otherwise_than_its_model_is_refused(self):
        class Other(Blocks):
            def forward(self, inputs):
                return super().forward(inputs) + 1.0

        with pytest.raises(InputError, match="do not answer as it does"):
            stages_of(Other(), 2, row=ROW)


class TestAutomatic:
    def test_whole_where_it_fits_else_in_parts(self, monkeypatch):
        model = Blocks()
        count = sum(parameter.numel() for parameter in model.parameters())
        assert training_bytes(model, state_factor=2) == 16 * count
        monkeypatch.setattr(automatic, "broadcast_message", lambda values, _: [int(value) for value in values])
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
        for free, kind in ((21 * count, DataParallel), (19 * count, FullySharded)):
            monkeypatch.setattr(automatic, "device_memory", lambda _, free=free: Memory(free, free))
            strategy, why = Automatic().choose(model, situation())
            assert isinstance(strategy, kind)
            assert "MiB" in why


def test_a_rank_without_rows_sends_one_through_that_does_not_count():
    model = Blocks()
    everyone = Everyone(model, ROW.inputs)
    out = everyone({"x": torch.zeros(0, 4)})
    assert out.shape == (0, 2)
    out.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_running_statistics_learn_nothing_of_a_row_that_does_not_count():
    """Nor is one row too few for them: a rank without rows in a small last batch has no other."""
    model = nn.Sequential(_Take(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=True).eval())
    everyone = Everyone(model.train(), {"x": torch.randn(1, 4)})
    model[3].eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    everyone.nothing().sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert model[2].training
    assert not model[3].training
    assert model[1].weight.grad is not None


class Follows(nn.Module):
    """Keeps a mean of its own, as layers of other libraries do, and reads a table that the backward pass wants as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, inputs):
        x = inputs["x"]
        if self.training:
            self.mean.lerp_(x.mean(dim=0), 0.1)
        return x * self.weight * self.table


def test_what_other_layers_follow_is_not_a_row_that_does_not_count():
    model = Follows().train()
    everyone = Everyone(model, {"x": torch.ones(1, 4)})
    out = everyone({"x": torch.ones(0, 4)})
    out.sum().backward()
    assert out.shape == (0, 4)
    assert model.weight.grad.tolist() == [0.0] * 4
    assert model.mean.tolist() == [0.0] * 4
    everyone({"x": torch.ones(2, 4)})
    assert model.mean.tolist() == pytest.approx([0.1] * 4)


def test_rows_are_shared_out_among_all_ranks_or_none():
    """Sums over rows go over all ranks: of a strategy in two dimensions they would count each row several times."""
    placement = Placement(Blocks(), RankContext(2, 4))
    require_rows(placement, "mine")
    placement.rows = RankContext(0, 1)
    require_rows(placement, "mine")
    placement.rows = RankContext(1, 2)
    with pytest.raises(InputError, match="mine shares out rows among 2 of 4 ranks"):
        require_rows(placement, "mine")


class TestHorovod:
    """At the adapter's edge, with a module that stands in for Horovod's; `tests/flow/test_horovod.py` asks itself, where it is there."""

    def test_without_the_library_it_says_what_to_install(self):
        with pytest.raises(InputError, match="needs Horovod") as caught:
            horovod()
        assert "pip install horovod" in caught.value.hint

    def test_buckets_are_summed_by_its_calls(self, monkeypatch):
        calls = []

        def allreduce_async_(tensor, *, name, op):
            calls.append((name, op))
            tensor.mul_(2.0)  # two ranks with the same rows
            return len(calls)

        engine = SimpleNamespace(
            is_initialized=lambda: True, size=lambda: 1, Sum="sum", allreduce_async_=allreduce_async_, synchronize=calls.append
        )
        monkeypatch.setitem(sys.modules, "horovod", SimpleNamespace(torch=engine))
        monkeypatch.setitem(sys.modules, "horovod.torch", engine)
        model = nn.Linear(2, 1)
        placement = Horovod().place(model, situation(1))
        assert isinstance(placement.exchange, HorovodExchange)
        sync = GradientSync(list(model.parameters()), exchange=placement.exchange)
        sync.zero()
        sync.arm(torch.tensor(3.0))
        model(torch.ones(3, 2)).sum().backward()
        assert float(sync.finish()) == 6.0
        assert model.weight.grad.tolist() == [[6.0, 6.0]]
        assert calls == [("deepseek.0", "sum"), 1]
        with pytest.raises(InputError, match="did not start these 2 ranks"):
            Horovod().place(model, situation(2))

    def test_ranks_that_it_started_find_a_store(self, monkeypatch):
        told = []
        engine = SimpleNamespace(
            init=lambda: None,
            rank=lambda: 0,
            size=lambda: 2,
            local_rank=lambda: 0,
            local_size=lambda: 2,
            broadcast_object=lambda value, root_rank, name: told.append((value, name)) or value,
        )
        monkeypatch.setitem(sys.modules, "horovod", SimpleNamespace(torch=engine))
        monkeypatch.setitem(sys.modules, "horovod.torch", engine)
        for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            monkeypatch.setenv(name, "unknown")
        store, rank, ranks = horovod_store()
        assert (rank, ranks, os.environ["LOCAL_WORLD_SIZE"]) == (0, 2, "2")
        store.set("key", "value")
        assert store.get("key") == b"value"
        ((_, port), name) = told[0]
        assert port > 0
        assert name  # else the library names it by the value's type, which is another on each rank, and all wait for ever
