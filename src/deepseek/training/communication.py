"""How ranks exchange gradients in a run: the exchange that was asked for, what it keeps in checkpoints, and what it has sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from deepseek.distributed import RankContext
from deepseek.distributed.exchange import Exchange
from deepseek.distributed.strategies import Placement
from deepseek.errors import CheckpointError, InputError
from deepseek.registry import Spec, family, split_spec
from deepseek.training.settings import TrainSettings
from deepseek.training.state import seed_of

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

_OTHERS = "an exchange that keeps nothing: all_reduce, say, or qsgd without error_feedback; power_sgd always keeps its factors"
_EXCHANGE = 3
"""A stream of randomness, beside those of the trainer."""


def make_exchange(settings: TrainSettings, ranks: RankContext, placement: Placement) -> Exchange | None:
    """Return how ranks exchange gradients; nothing where there is one rank, or each has a part of the model and sums what it has.

    Args:
        settings: How is to be trained.
        ranks: This process's place in the job.
        placement: How the model is shared out, which may bring sums of its own.

    Raises:
        InputError: It does not go with the other settings.
    """
    if ranks.is_single or placement.shards:
        return None
    if placement.exchange is not None:
        if not is_plain(settings.communication):
            raise InputError(
                f"train.communication is {settings.communication!r}, and the strategy sums gradients by itself",
                hint="take strategy: ddp, or leave train.communication out",
            )
        return placement.exchange
    exchange: Exchange = family("exchange").build("all_reduce" if settings.communication == "auto" else settings.communication, ranks)
    if exchange.remembers and settings.precision == "fp16":
        raise InputError(
            "an exchange that keeps something from step to step does not go with precision: fp16, whose loss scale changes",
            hint=f"take precision: bf16 or fp32, or {_OTHERS}",
        )
    if exchange.remembers and settings.fine_tune is not None and settings.fine_tune.unfreeze_every is not None:
        raise InputError(
            "an exchange that keeps something from step to step does not go with fine_tune.unfreeze_every, which changes what is exchanged",
            hint=f"leave one of them out, or take {_OTHERS}",
        )
    return exchange


def is_plain(communication: Spec) -> bool:
    """Say whether gradients are summed as they are."""
    return communication == "auto" or split_spec("exchange", communication)[0] == "all_reduce"


def begin_exchange(exchange: Exchange | None, seed: int, step: int) -> None:
    """Tell an exchange that a step begins: what it draws follows from the run's seed, the step and the rank."""
    if exchange is not None:
        exchange.begin(seed_of(seed, _EXCHANGE, step, exchange.context.rank))


@torch.no_grad()
def exchanged_of(exchange: Exchange | None) -> dict[str, Tensor]:
    """Return what the exchanges of all ranks keep, as `RANK/NAME`; on rank 0, and nothing on others. To be called on every rank."""
    if exchange is None or not exchange.remembers:
        return {}
    rank, ranks = exchange.context.rank, exchange.context.ranks
    found: dict[str, Tensor] = {}
    for name, tensor in exchange.own_state().items():
        parts = [torch.empty_like(tensor) for _ in range(ranks)] if rank == 0 else None
        dist.gather(tensor.contiguous(), parts, dst=0)
        found |= {f"{place}/{name}": part.cpu() for place, part in enumerate(parts or ())}  # one rank's at a time on the device
    return found


def resume_exchange(exchange: Exchange | None, tensors: Mapping[str, Tensor]) -> None:
    """Give an exchange back what `exchanged_of` returned.

    Raises:
        CheckpointError: It was kept by another exchange, or by another number of ranks.
    """
    own = exchange.own_state() if exchange is not None else {}
    context = exchange.context if exchange is not None else RankContext()
    wanted = {f"{rank}/{name}": tensor.shape for rank in range(context.ranks) for name, tensor in own.items()}
    if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        ranks = len({name.partition("/")[0] for name in tensors})
        kept = f"what {ranks} ranks kept between steps" if ranks else "nothing that ranks kept between steps"
        raise CheckpointError(
            f"the checkpoint holds {kept}, which this run's exchange of gradients on {context.ranks} of them cannot take up",
            hint="resume with the same train.communication on as many devices, or start a new run",
        )
    if exchange is not None and own:
        start = f"{context.rank}/"
        exchange.load_own_state({name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)})


def exchange_figures(trainer: Trainer) -> dict[str, Any]:
    """Return what ranks have sent so far, and how they divide a batch, for the log; nothing where there is one rank."""
    if trainer.exchange is None:
        return {}
    traffic = trainer.exchange.traffic
    return {"sent_bytes": round(traffic.sent_bytes), "sent_share": round(traffic.share, 6), "shares": list(trainer.loader.shares)}


def exchange_words(trainer: Trainer) -> str | None:
    """Return a line on what was saved, or nothing where gradients travelled as they are."""
    exchange = trainer.exchange
    if exchange is None or not exchange.lossy:
        return None
    traffic = exchange.traffic
    return f"gradients: {traffic.sent_bytes / 1e6:,.1f} MB sent by a rank, {traffic.share:.1%} of what float32 takes"
