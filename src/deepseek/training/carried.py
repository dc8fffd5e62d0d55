"""What a network carries from one step to the next besides its weights: the memory of encoders that read lanes of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from deepseek.distributed import RankContext, sum_across
from deepseek.models.encoders.causal import CausalTextEncoder


def remembering(model: nn.Module) -> Iterator[tuple[str, CausalTextEncoder]]:
    """Yield the encoders of a model that remember, by their names in it."""
    for name, module in model.named_modules():
        if isinstance(module, CausalTextEncoder) and module.remembers:
            yield name, module


@torch.no_grad()
def carried_of(model: nn.Module, lanes: int | None, ranks: RankContext) -> dict[str, Tensor]:
    """Return what all ranks remember, by name; to be called on every rank, as each has read lanes of its own.

    Args:
        model: The network.
        lanes: In how many lanes it reads; nothing where its rows stand alone.
        ranks: This process's place in the job.
    """
    if lanes is None:
        return {}
    found = {f"{name}/{key}": tensor for name, encoder in remembering(model) for key, tensor in encoder.carried(lanes).items()}
    if ranks.is_single:
        return found
    # lanes that a rank has not read are zeros there, so that a sum puts them together, bit for bit
    whole = {name: tensor.float() if tensor.dtype == torch.bool else tensor.clone() for name, tensor in found.items()}
    sum_across(list(whole.values()), ranks)
    return {name: tensor.to(found[name].dtype) for name, tensor in whole.items()}


def carry(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a model back what `carried_of` returned; every rank may be given all of it."""
    for name, encoder in remembering(model):
        own = {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        if own:
            encoder.carry(own)
