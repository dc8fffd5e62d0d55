"""Models that say they are a chain of modules, each taking what the one before returns, and where to cut one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch


@runtime_checkable
class Chained(Protocol):
    """A module that may be taken apart into modules whose composition is its forward pass."""

    def chain(self) -> Sequence[nn.Module] | None:
        """Return them in order, or nothing where it is no chain."""


def chain_of(model: nn.Module) -> list[nn.Module] | None:
    """Return the modules whose composition is a model's forward pass, or nothing where the model knows none.

    Args:
        model: The model; a plain `nn.Sequential` is its members.
    """
    if isinstance(model, Chained):
        found = model.chain()
        return None if found is None else list(found)
    return list(model) if type(model) is nn.Sequential else None


@torch.no_grad()
def walk(stages: Sequence[Sequence[nn.Module]], inputs: Mapping[str, Tensor], *, training: bool) -> list[Tensor]:
    """Return what each stage of a chain returns for some rows, in evaluation: the shapes that the stages tell each other.

    Args:
        stages: The modules of each.
        inputs: What the first takes.
        training: In which mode they are left.
    """
    met: list[Tensor] = []
    out: Mapping[str, Tensor] | Tensor = inputs
    for stage in stages:
        for block in stage:
            out = block.eval()(out)
            block.train(training)
        assert isinstance(out, Tensor)
        met.append(out.contiguous())
    return met


@torch.no_grad()
def composes(model: nn.Module, chain: Sequence[nn.Module], row: Batch) -> bool:
    """Say whether a chain's modules, one after the other, answer as the model does: a subclass may reckon otherwise than its base.

    Args:
        model: The model; stays in the mode it is in.
        chain: Its modules in order.
        row: A row or more of its inputs.
    """
    training = model.training
    model.eval()
    wanted: Tensor = model(row.inputs)
    (found,) = walk([chain], row.inputs, training=False)
    model.train(training)
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5, equal_nan=True)


def cuts_of(sizes: Sequence[int], parts: int) -> list[int]:
    """Return where to cut a sequence so that its largest part is as small as can be: the first places of all parts but the first.

    Args:
        sizes: What each element weighs, at least 0.
        parts: How many parts, at least 1 and at most as many as there are elements.

    Example:
        >>> cuts_of([5, 1, 1, 1, 5], 2)
        [2]
    """
    count = len(sizes)
    # best[k][i]: the largest part when the first i elements are cut into k parts, and where the last of them begins
    best: list[dict[int, tuple[int, int]]] = [{}, {i: (sum(sizes[:i]), 0) for i in range(1, count + 1)}]
    for made in range(2, parts + 1):
        row = {}
        for end in range(made, count + 1):
            options = [(max(best[made - 1][start][0], sum(sizes[start:end])), start) for start in range(made - 1, end)]
            row[end] = min(options)
        best.append(row)
    cuts, end = [], count
    for made in range(parts, 1, -1):
        end = best[made][end][1]
        cuts.append(end)
    return cuts[::-1]
