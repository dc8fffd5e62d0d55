"""Linear layers cut by columns and rows: every rank computes a part of each layer for the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from deepseek.distributed.devices import generator_state, seed_device, set_generator_state
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.base import Placement, Situation, Strategy, agree, called_in
from deepseek.distributed.strategies.chain import chain_of, composes
from deepseek.distributed.strategies.shards import Shards
from deepseek.errors import InputError

_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Identity, nn.Dropout)


class TensorParallel(Strategy):
    """Every rank has a part of each linear layer and computes it for all rows of a batch.

    Where one linear layer follows another with nothing but element-wise operations between them, the first is cut by its outputs and the
    second by its inputs, and the ranks talk once for both. Any other is cut by its outputs, which are then gathered. Convolutions,
    embeddings and normalisations stay whole on every rank, and so does a layer whose outputs are no multiple of the ranks.

    Source: Shoeybi et al., "Megatron-LM", 2019, https://arxiv.org/abs/1909.08053.
    """

    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Cut the linear layers.

        Raises:
            InputError: There is none that can be cut.
        """
        ranks = situation.ranks
        found = plan_of(model, situation)
        apart = dropouts_within(model, found, situation)
        if not found:
            raise InputError(
                f"strategy: tensor finds no linear layer in this model whose outputs are a multiple of {ranks.ranks} ranks",
                hint="take strategy: ddp or fsdp, or widths that the ranks divide",
            )
        agree(model, ranks)
        mesh = init_device_mesh(ranks.device.type, (ranks.ranks,))

        def distribute(body: nn.Module) -> None:
            body.to(ranks.device)
            parallelize_module(body, mesh, found)
            for name in apart:
                body.set_submodule(name, DrawnApart(body.get_submodule(name), ranks))

        together = RankContext(0, 1, ranks.device)  # every rank has all rows
        return Shards(model, ranks, row=situation.row, rows=together, distribute=distribute)


def plan_of(model: nn.Module, situation: Situation) -> dict[str, ParallelStyle]:
    """Return how each linear layer that can be cut is to be, by name.

    Args:
        model: The model.
        situation: What it is placed in.
    """
    called, ranks = called_in(model, situation.row.inputs), situation.ranks.ranks
    names = _names_of_own_weights(model)
    linears: dict[nn.Module, str] = {part: names[part] for part in called if type(part) is nn.Linear and part in names}
    plan: dict[str, ParallelStyle] = {}
    for first, *_, second in _runs(model, situation):
        fits = isinstance(first, nn.Linear) and first.out_features % ranks == 0 and {first, second} <= linears.keys()
        if fits and not {linears[first], linears[second]} & set(plan):
            plan[linears[first]], plan[linears[second]] = ColwiseParallel(), RowwiseParallel()
    for linear, name in linears.items():
        if name not in plan and isinstance(linear, nn.Linear) and linear.out_features % ranks == 0:
            plan[name] = ColwiseParallel(output_layouts=Replicate())
    return plan


def dropouts_within(model: nn.Module, plan: Mapping[str, ParallelStyle], situation: Situation) -> list[str]:
    """Return the names of what drops values between two layers that share theirs out: each rank has other values there.

    Args:
        model: The model.
        plan: What `plan_of` has returned for it.
        situation: What it is placed in.
    """
    names = {module: name for name, module in model.named_modules()}
    runs = [run for run in _runs(model, situation) if isinstance(plan.get(names[run[-1]]), RowwiseParallel)]
    between = [part for run in runs for part in run[1:-1] if isinstance(part, nn.Dropout) or getattr(part, "draws", False)]
    return list(dict.fromkeys(names[part] for part in between))  # a sequence in a chain is looked at twice


class DrawnApart(nn.Module):
    """Dropout of values of which every rank has its own: drawn alike they would fall in the same places of every part.

    What is drawn elsewhere goes on as if nothing had been drawn here but one number, and so stays the same on every rank.

    Args:
        dropout: The dropout.
        ranks: This process's place in the job.
    """

    def __init__(self, dropout: nn.Module, ranks: RankContext) -> None:
        super().__init__()
        self.dropout, self._ranks = dropout, ranks

    def forward(self, x: Tensor) -> Tensor:
        """Drop values while training."""
        if not self.training:
            return x
        device, seed = self._ranks.device, int(torch.randint(1 << 62, ())) + self._ranks.rank
        kept = torch.get_rng_state(), None if device.type == "cpu" else generator_state(device)
        torch.default_generator.manual_seed(seed)
        seed_device(seed, device)
        out: Tensor = self.dropout(x)
        torch.set_rng_state(kept[0])
        if kept[1] is not None:
            set_generator_state(kept[1], device)
        return out


def _runs(model: nn.Module, situation: Situation) -> Iterator[list[nn.Module]]:
    """Yield linear layers of which one follows the other, with the element-wise operations that lie between them.

    A sequence counts where it is called as such, and a chain where the model answers as it does: whoever calls the members one by one, or
    otherwise than its base, may do more in between.
    """
    called = called_in(model, situation.row.inputs)
    runs: list[Sequence[nn.Module]] = [part for part in called if isinstance(part, nn.Sequential) and _is_plain(part)]  # type: ignore[misc]
    runs += [[part.get_submodule(name) for name in run] for part in model.modules() for run in getattr(part, "column_row_runs", ())]
    chain: Sequence[nn.Module] = chain_of(model) or ()
    if chain and not composes(model, chain, situation.row):
        chain = ()
    for run in [chain, *runs]:
        met: list[nn.Module] = []
        for leaf in _flat(run):
            if type(leaf) is nn.Linear:
                if met:
                    yield [*met, leaf]
                met = [] if met else [leaf]
            elif met and (isinstance(leaf, _ELEMENTWISE) or getattr(leaf, "elementwise", False)):
                met.append(leaf)
            else:
                met = []


def _is_plain(part: nn.Sequential) -> bool:
    """Say whether a sequence does with its members what its base does."""
    return type(part).forward is nn.Sequential.forward


def _flat(run: Sequence[nn.Module] | nn.Sequential) -> Iterator[nn.Module]:
    for part in run:
        if type(part) is nn.Sequential:
            yield from _flat(part)
        else:
            yield part


def _names_of_own_weights(model: nn.Module) -> dict[nn.Module, str]:
    """Return the modules whose parameters are no other module's, by their names."""
    owners: dict[torch.nn.Parameter, set[nn.Module]] = {}
    for part in model.modules():
        for parameter in part.parameters(recurse=False):
            owners.setdefault(parameter, set()).add(part)
    alone = {part for part in model.modules() if all(len(owners[parameter]) == 1 for parameter in part.parameters(recurse=False))}
    return {part: name for name, part in model.named_modules() if part in alone}
