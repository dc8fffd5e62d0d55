"""Layers whose training depends on how a batch is divided among ranks and micro-batches: batch statistics and dropout."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from deepseek.models.layers import QuickDropout, SharedDropout, StochasticDepth

STATISTICS_ROWS = 2
"""A variance needs two rows; with one, the normalised values are all zero, and PyTorch refuses."""


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether a model normalises by statistics of the rows that it is given at once."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def least_rows(model: nn.Module) -> int:
    """Return how many rows a model must be given at once to train: `STATISTICS_ROWS` where it normalises by them, else 1."""
    return STATISTICS_ROWS if has_batch_statistics(model) else 1


def keep_batch_statistics(model: nn.Module) -> None:
    """Put batch normalisations into evaluation, where they neither use nor gather what a batch is like."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def division_note(model: nn.Module, ranks: int, *, sharers: int | None = None) -> str | None:
    """Return what the user of several ranks should know of a model, or nothing where several ranks give the numbers of one.

    Args:
        model: The model.
        ranks: How many processes train it.
        sharers: How many of them share the rows of a batch among them; all where not given. Where each has all rows, it is 1.
    """
    modules = list(model.modules()) if ranks > 1 else []
    shared = ranks if sharers is None else sharers
    parts = {
        "batch statistics": shared > 1
        and any(isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm) for module in modules),
        "dropout": any(map(_drops, modules)),
    }
    if not any(parts.values()):
        return None
    present = " and ".join(name for name, there in parts.items() if there)
    return f"the model has {present}, which each of the {ranks} ranks has of its own: one rank would not give the same numbers"


def _drops(module: nn.Module) -> bool:
    """Say whether a module drops anything at random while training."""
    if isinstance(module, _DropoutNd | SharedDropout | QuickDropout | StochasticDepth):
        return bool(module.p > 0)
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0
    return any(getattr(module, name, 0.0) > 0 for name in ("token_dropout", "sense_dropout"))  # of texts, and of whole inputs
