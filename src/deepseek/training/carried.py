"""What a network carries from one step to the next besides its weights: the memory of encoders that read lanes of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from deepseek.data.loader import Loader
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
    # lanes that a rank does not read are zeros there, so that a sum puts them together, bit for bit
    whole = {name: tensor.float() if tensor.dtype == torch.bool else tensor.clone() for name, tensor in found.items()}
    sum_across(list(whole.values()), ranks)
    return {name: tensor.to(found[name].dtype) for name, tensor in whole.items()}


def own_lanes(loader: Loader) -> range | None:
    """Return the lanes that a rank's batches are of; nothing where its rows stand alone, or it reads all of them."""
    if loader.dataset.batch_rows is None or loader.ranks == 1:
        return None
    start, stop, _ = loader.share(0)
    return range(start, stop)  # a batch is a window of each lane, in their order


class CarriedBefore:
    """What a network remembers before a step, for a step that has to begin anew: its failed attempt may have remembered already.

    Args:
        model: The network.
        lanes: In how many lanes it reads; nothing where its rows stand alone.
    """

    def __init__(self, model: nn.Module, lanes: int | None) -> None:
        self._lanes = lanes or 0
        self._encoders = [encoder for _, encoder in remembering(model)] if lanes is not None else []
        self._before: list[dict[str, Tensor]] = []

    def keep(self) -> None:
        """A step begins."""
        if self._encoders:
            self._before = [{key: tensor.clone() for key, tensor in each.carried(self._lanes).items()} for each in self._encoders]

    def put_back(self) -> None:
        """It begins anew."""
        for encoder, tensors in zip(self._encoders, self._before, strict=True):
            encoder.carry(tensors)


def carry(model: nn.Module, tensors: Mapping[str, Tensor], *, own: range | None = None) -> None:
    """Give a model back what `carried_of` returned; every rank is given all of it.

    Args:
        model: The network.
        tensors: What was carried.
        own: The lanes that this rank reads, which it alone takes up, so that the next sum over the ranks has each lane once; all where not
            given.
    """
    for name, encoder in remembering(model):
        found = {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        if found:
            encoder.carry(found, own)
