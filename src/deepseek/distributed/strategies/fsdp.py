"""Parameters, gradients and optimizer state cut into as many parts as there are ranks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils import _pytree as pytree

from deepseek.distributed.strategies.base import Placement, Situation, Strategy, agree, called_in
from deepseek.distributed.strategies.shards import Shards
from deepseek.errors import InputError


class FullySharded(Strategy):
    """Every rank keeps a part of each parameter, and a share of the rows; a block's parameters are whole only while it computes.

    Memory for parameters, gradients and optimizer state is divided by the ranks, for half as much again on the wire as with `ddp`.

    Source: Zhao et al., "PyTorch FSDP", 2023, https://arxiv.org/abs/2304.11277; Rajbhandari et al., "ZeRO", 2020,
    https://arxiv.org/abs/1910.02054.
    """

    formats = frozenset({"fp32", "bf16"})

    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Cut the parameters along their first dimension.

        Raises:
            InputError: A parameter has no dimension to be cut along.
        """
        ranks = situation.ranks
        if scalars := [name for name, parameter in model.named_parameters() if not parameter.ndim]:
            raise InputError(f"strategy: fsdp cannot cut {', '.join(scalars)}: a single number", hint="take strategy: ddp")
        agree(model, ranks)
        mesh = init_device_mesh(ranks.device.type, (ranks.ranks,))

        def distribute(body: nn.Module) -> None:
            for block in [*blocks_of(body, situation.row.inputs), body]:
                block.register_forward_hook(_of_its_own)  # before the hooks that `fully_shard` adds
                fully_shard(block, mesh=mesh, reshard_after_forward=True)
            for part in body.modules():
                if isinstance(part, FSDPModule):  # the step divides by itself, once, by the global denominator
                    part.set_gradient_divide_factor(1.0)
                    part.set_force_sum_reduction_for_comms(enable=True)

        return Shards(model, ranks, row=situation.row, rows=ranks, distribute=distribute)


def _of_its_own(_module: nn.Module, _given: object, out: object) -> object:
    """Return outputs in memory of their own: an operation in place on a view would silently lose the hook of the backward pass."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor._is_view() else tensor, out)  # noqa: SLF001 (no other way)


def blocks_of(model: nn.Module, row: Mapping[str, Tensor]) -> list[nn.Module]:
    """Return what is made whole and let go of by itself: the members of lists and sequences of modules, outermost ones, that are called.

    Args:
        model: The model.
        row: Inputs of a row.
    """
    called = called_in(model, row)
    found: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        for child in module.children():
            repeated = isinstance(module, nn.ModuleList | nn.Sequential) and child in called and any(True for _ in child.parameters())
            if repeated and child not in found:
                found.append(child)
            elif not repeated:
                visit(child)

    visit(model)
    shared = _shared(model)
    return [block for block in found if not any(parameter in shared for parameter in block.parameters())]


def _shared(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that stand under several names: they stay with the root, in whose forward pass all their uses lie."""
    seen: set[nn.Parameter] = set()
    twice: set[nn.Parameter] = set()
    for _, parameter in model.named_parameters(remove_duplicate=False):
        (twice if parameter in seen else seen).add(parameter)
    return twice
