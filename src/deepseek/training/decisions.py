"""Settles every `auto` setting before the first step, alike on every rank."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext, broadcast_message
from deepseek.optim import OptimizerSpec
from deepseek.training.autotune import Way, candidate_ways, choose_batch_size, choose_way, step_seconds, steps_within
from deepseek.training.memory_choice import choose_recomputation
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Json
from deepseek.training.step import Loss
from deepseek.training.step_memory import FEW

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

    few, known = partial(batch_of, FEW, longest=True), 256 if settings.batch_size == "auto" else settings.batch_size
    share = max(known // (ranks.ranks * settings.accumulate), 1)
    recomputed = choose_recomputation(model, loss, few, rows=share, spec=spec, settings=settings, ranks=ranks)
    decisions: Json = {"batch_size": settings.batch_size, "precision": settings.precision, "channels_last": settings.channels_last}
    if ranks.is_main:
        if settings.batch_size == "auto":
            most, twin = partial(batch_of, longest=True), copy.deepcopy(model)
            chosen = choose_batch_size(most, twin, loss, spec=spec, rows=len(train) // ranks.ranks)
            decisions |= {"batch_size": chosen["batch_size"] * ranks.ranks, "batch_size_reason": chosen["reason"]}
        wanted = "fp32" if settings.precision == "auto" and settings.compile == "step" else settings.precision
        ways = candidate_ways(model, ranks.device, precision=wanted, channels_last=settings.channels_last)
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
