"""Whether a network's blocks reckon their activations again: as the settings say, or, with `auto`, where memory would not suffice."""

from __future__ import annotations

import os
from collections.abc import Callable

from torch import nn

from deepseek.data.batch import Batch
from deepseek.distributed import RankContext, broadcast_message
from deepseek.optim import OptimizerSpec
from deepseek.training.memory.needs import FREE_SHARE, UpdateMemory, free_bytes, step_growth, update_memory, weight_bytes
from deepseek.training.memory.recomputation import apply_recomputation, keep_activations, repeated_blocks
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Json
from deepseek.training.step import Loss


def choose_recomputation(
    model: nn.Module, loss: Loss, few: Callable[[], Batch], *, rows: int, spec: OptimizerSpec, settings: TrainSettings, ranks: RankContext
) -> Json:
    """Settle how many blocks reckon their activations again, and have them do it.

    Args:
        model: The network; changed in place.
        loss: As for `TrainingStep`.
        few: Returns some rows, on the model's device.
        rows: How many rows this rank computes at once.
        spec: The optimizer.
        settings: What is asked for.
        ranks: This process's place; rank 0 chooses, and the others are told.

    Returns:
        `activation_checkpointing`, 0 for none, and the reason where it was chosen.

    Raises:
        InputError: It is asked for, and the network has no repeated blocks.
    """
    wanted, reason = settings.activation_checkpointing, ""
    if wanted == "auto":
        every = 0
        if ranks.is_main:
            update = update_memory(model, spec, clip_norm=settings.clip_norm, clip=settings.clip, layer_rates=settings.layer_rates)
            every, reason = _needed(model, loss, few(), rows=rows, update=update, ranks=ranks)
        (every,) = broadcast_message([every], ranks)
    else:
        every = 0 if wanted == "off" else int(wanted)
    apply_recomputation(model, every)
    return {"activation_checkpointing": every, **({"activation_checkpointing_reason": reason} if reason else {})}


def _needed(model: nn.Module, loss: Loss, few: Batch, *, rows: int, update: UpdateMemory, ranks: RankContext) -> tuple[int, str]:
    keep_activations(model)
    device = next(model.parameters()).device
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.ranks)) if device.type == "cpu" else 1  # ranks share a processor's memory
    free = free_bytes(device) // here
    kept = update.state_bytes + update.rules_bytes + 2 * weight_bytes(model)  # beside the optimizer's, an average and the best weights
    standing = 0 if ranks.is_single else weight_bytes(model, trained=True)  # buffers of gradients are there before there are any
    wanted = kept + standing + step_growth(model, loss, few).peak(rows)
    said = f"{rows} rows take {wanted / 2**20:,.1f} MiB, {free / 2**20:,.1f} MiB are free, and a fifth stays so"
    if wanted <= (1 - FREE_SHARE) * free:
        return 0, said
    if not repeated_blocks(model):
        return 0, f"{said}; the network has no repeated blocks to reckon again"
    return 1, said
