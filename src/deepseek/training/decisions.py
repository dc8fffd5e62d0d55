"""Settles every `auto` setting before the first step, alike on every rank."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext, broadcast_message
from deepseek.optim import OptimizerSpec
from deepseek.training.autotune import Way, candidate_ways, choose_batch_size, choose_way, step_seconds, steps_within
from deepseek.training.memory.choice import choose_recomputation
from deepseek.training.memory.needs import FEW
from deepseek.training.memory.recomputation import apply_recomputation
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Json
from deepseek.training.step import Loss

_FORMATS = ("fp32", "bf16", "fp16")


def decide(
    model: nn.Module, loss: Loss, train: PreparedDataset, *, settings: TrainSettings, spec: OptimizerSpec, ranks: RankContext
) -> Json:
    """Return what `batch_size`, `precision`, `channels_last`, recomputation and a time limit come to, with times and reasons.

    Rank 0 measures and the others are told, since each would measure something else. Blocks that are to reckon their activations again do
    so from here on: what is measured is measured with them.
    """

    def batch_of(rows: int, *, longest: bool = False) -> Batch:
        return train.take(rows_like(train, rows, longest=longest)).to(ranks.device)

    decisions: Json = {"batch_size": settings.batch_size, "precision": settings.precision, "channels_last": settings.channels_last}
    if settings.batch_size == "auto":
        every = settings.activation_checkpointing
        apply_recomputation(model, every if isinstance(every, int) else 0)
        decisions["batch_size"] = 0
        if ranks.is_main:
            twin = copy.deepcopy(model)

            def most(rows: int) -> Batch:
                return batch_of(largest_share(rows * ranks.ranks, ranks.ranks, settings.shares), longest=True)

            chosen = choose_batch_size(most, twin, loss, spec=spec, rows=len(train) // ranks.ranks)
            decisions |= {"batch_size": chosen["batch_size"] * ranks.ranks, "batch_size_reason": chosen["reason"]}
        (decisions["batch_size"],) = broadcast_message([decisions["batch_size"]], ranks)
    most_rows = largest_share(min(decisions["batch_size"], len(train)), ranks.ranks, settings.shares)
    held = -(-most_rows // settings.accumulate)
    few = partial(batch_of, FEW, longest=True)
    recomputed = choose_recomputation(model, loss, few, rows=held, spec=spec, settings=settings, ranks=ranks)
    if ranks.is_main:
        ways = ways_of(settings, model, ranks.device)
        share = max(int(decisions["batch_size"]) // (ranks.ranks * settings.accumulate), 1)
        decisions |= choose_way(model, loss, batch_of(share), spec=spec, ways=ways)
        decisions["step_limit"] = 0
        if settings.time_limit_s is not None:
            way = Way(decisions["precision"], decisions["channels_last"])
            decisions["step_limit"] = steps_within(settings.time_limit_s, step_seconds(model, loss, batch_of(share), spec=spec, way=way))
    else:
        decisions |= {"batch_size": 0, "precision": "fp32", "channels_last": False, "step_limit": 0}
    message = [decisions["batch_size"], _FORMATS.index(decisions["precision"]), decisions["channels_last"], decisions["step_limit"]]
    size, precision, channels_last, limit = broadcast_message([int(value) for value in message], ranks)
    settled = {
        "step_limit": limit,
        "batch_size": size,
        "precision": _FORMATS[precision],
        "channels_last": bool(channels_last),
        "compile": settings.compile,
    }
    return {**decisions, **settled, **recomputed}


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
