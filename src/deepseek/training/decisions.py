"""Settles every `auto` setting before the first step, alike on every rank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext, broadcast_message
from deepseek.optim import OptimizerSpec
from deepseek.training.autotune import Way, candidate_ways, choose_batch_size, choose_way, step_seconds, steps_within
from deepseek.training.batch_dependence import least_rows
from deepseek.training.memory.choice import choose_recomputation
from deepseek.training.memory.needs import FEW
from deepseek.training.memory.recomputation import apply_recomputation
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Json
from deepseek.training.step import Loss

_FORMATS = ("fp32", "bf16", "fp16")


class _BatchOf(Protocol):
    """Returns so many training rows as a batch on the model's device: of usual length, or the longest."""

    def __call__(self, rows: int, *, longest: bool = False) -> Batch: ...


def decide(
    model: nn.Module, loss: Loss, train: PreparedDataset, *, settings: TrainSettings, spec: OptimizerSpec, ranks: RankContext
) -> Json:
    """Return what `batch_size`, `precision`, `channels_last`, recomputation and a time limit come to, with times and reasons.

    Rank 0 measures and the others are told, since each would measure something else. Blocks that are to reckon their activations again do
    so from here on: what is measured is measured with them.
    """

    def batch_of(rows: int, *, longest: bool = False) -> Batch:
        return train.take(rows_like(train, rows, longest=longest)).to(ranks.device)

    sized = _batch_size(model, loss, batch_of, rows=len(train), settings=settings, spec=spec, ranks=ranks)
    whole = int(sized["batch_size"])
    least = least_rows(model)  # pieces of a batch are no smaller, into however many it is to be cut
    held = max(-(-largest_share(min(whole, len(train)), ranks.ranks, settings.shares) // settings.accumulate), least)
    few = partial(batch_of, FEW, longest=True)
    recomputed = choose_recomputation(model, loss, few, rows=held, spec=spec, settings=settings, ranks=ranks)
    usual = partial(batch_of, max(whole // (ranks.ranks * settings.accumulate), least))
    way = _way(model, loss, usual, settings=settings, spec=spec, ranks=ranks)
    return {**sized, **way, "compile": settings.compile, **recomputed}


def _batch_size(
    model: nn.Module, loss: Loss, batch_of: _BatchOf, *, rows: int, settings: TrainSettings, spec: OptimizerSpec, ranks: RankContext
) -> Json:
    """Return the rows of the global batch, and on rank 0 why, where that was to be found out."""
    if settings.batch_size != "auto":
        return {"batch_size": settings.batch_size}
    every = settings.activation_checkpointing
    apply_recomputation(model, every if isinstance(every, int) else 0)
    size, why = 0, Json()
    if ranks.is_main:

        def most(rows: int) -> Batch:
            return batch_of(largest_share(rows * ranks.ranks, ranks.ranks, settings.shares), longest=True)

        chosen = choose_batch_size(most, copy.deepcopy(model), loss, spec=spec, rows=rows // ranks.ranks)
        size, why = chosen["batch_size"] * ranks.ranks, {"batch_size_reason": chosen["reason"]}
    (size,) = broadcast_message([size], ranks)
    return {"batch_size": size, **why}


def _way(
    model: nn.Module, loss: Loss, usual: Callable[[], Batch], *, settings: TrainSettings, spec: OptimizerSpec, ranks: RankContext
) -> Json:
    """Return number format and layout, and how many steps a time limit leaves; on rank 0 also what was measured, and why."""
    decided: Json = {"precision": _FORMATS[0], "channels_last": False}
    limit = 0
    if ranks.is_main:
        decided = choose_way(model, loss, usual(), spec=spec, ways=ways_of(settings, model, ranks.device))
        if settings.time_limit_s is not None:
            way = Way(decided["precision"], decided["channels_last"])
            limit = steps_within(settings.time_limit_s, step_seconds(model, loss, usual(), spec=spec, way=way))
    message = [_FORMATS.index(decided["precision"]), int(decided["channels_last"]), limit]
    precision, channels_last, limit = broadcast_message(message, ranks)
    return {**decided, "precision": _FORMATS[precision], "channels_last": bool(channels_last), "step_limit": limit}


def ways_of(settings: TrainSettings, model: nn.Module, device: torch.device | None) -> list[Way]:
    """Return the ways of running the step that settings leave open; a step that is compiled as a whole computes in float32.

    Args:
        settings: What is asked for.
        model: What is trained.
        device: Where; none for an accelerator that is not here.
    """
    precision = "fp32" if settings.precision == "auto" and settings.compile == "step" else settings.precision
    return candidate_ways(model, device, precision=precision, channels_last=settings.channels_last)


def largest_share(rows: int, ranks: int, shares: Literal["auto", "equal"] | Sequence[int]) -> int:
    """Return the most rows of a batch that any rank takes at first; shares that are measured begin as equal ones.

    Example:
        >>> largest_share(256, 2, "equal"), largest_share(256, 2, [3, 1])
        (128, 192)
    """
    most, whole = (1, ranks) if isinstance(shares, str) else (max(shares), sum(shares))
    return -(-rows * most // whole)


def rows_like(train: PreparedDataset, count: int, *, longest: bool) -> np.ndarray:
    """Return rows to measure with, int64 `[count]`: of texts, those of usual length for times, the longest for memory; else the first.

    Args:
        train: The rows.
        count: How many are wanted; where there are fewer they come again.
        longest: Whether the longest are wanted.
    """
    places = np.arange(count) % len(train)
    if not train.is_ragged:
        return places
    lengths = train.lengths(np.arange(len(train)))
    ranked: np.ndarray = np.argsort(-lengths if longest else np.abs(lengths - lengths.mean()), kind="stable")
    return ranked[places]
